// Stands in for libvulkan.so.1, to see what the program makes of a GPU that fails. Every call reaches the real library
// REAL_VULKAN, but those of the function FAULT_CALL are counted, and from number FAULT_FROM on (if it is not 0), or once the file
// anything matches the pattern FAULT_AFTER (if it is set), they return FAULT_RESULT instead. The count is written to the file FAULT_COUNT when the program ends. If FAULT_KIND is set, every
// adapter says that it is of that VkPhysicalDeviceType (2: discrete).
#include <dlfcn.h>
#include <glob.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void (*function)(void);
typedef function (*lookup)(void *, const char *);
// The intercepted functions take at most six arguments, all of them integers or pointers.
typedef intptr_t (*call)(intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t);

static const char *name;
static long from, result;
static atomic_long calls;
static lookup of_instance, of_device;
static call real;
static void (*properties)(void *, char *), (*properties_2)(void *, char *);

__attribute__((constructor)) static void open_real(void) {
    of_instance = (lookup)dlsym(dlopen(getenv("REAL_VULKAN"), RTLD_NOW), "vkGetInstanceProcAddr");
    name = getenv("FAULT_CALL");
    from = atol(getenv("FAULT_FROM"));
    result = atol(getenv("FAULT_RESULT"));
}

__attribute__((destructor)) static void write_count(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", atomic_load(&calls));
        fclose(file);
    }
}

static intptr_t counted(intptr_t a, intptr_t b, intptr_t c, intptr_t d, intptr_t e, intptr_t f) {
    long number = atomic_fetch_add(&calls, 1) + 1;
    const char *after = getenv("FAULT_AFTER");
    glob_t found = {0};
    int fails = (from && number >= from) || (after && glob(after, 0, NULL, &found) == 0);
    globfree(&found);
    return fails ? result : real(a, b, c, d, e, f);
}

// Where VkPhysicalDeviceProperties has deviceType, after four numbers of 32 bits; in the second form, after a header.
static void properties_of_kind(void *adapter, char *out) {
    properties(adapter, out);
    *(uint32_t *)(out + 16) = (uint32_t)atol(getenv("FAULT_KIND"));
}

static void properties_2_of_kind(void *adapter, char *out) {
    properties_2(adapter, out);
    *(uint32_t *)(out + 16 + 16) = (uint32_t)atol(getenv("FAULT_KIND"));
}

static function intercepted(const char *asked, function found) {
    if (!found || strcmp(asked, name)) return found;
    real = (call)found;
    return (function)counted;
}

static function device_lookup(void *device, const char *asked) {
    return intercepted(asked, of_device(device, asked));
}

function vkGetInstanceProcAddr(void *instance, const char *asked) {
    function found = of_instance(instance, asked);
    if (found && !strcmp(asked, "vkGetDeviceProcAddr")) {
        of_device = (lookup)found;
        return (function)device_lookup;
    }
    if (found && getenv("FAULT_KIND") && !strcmp(asked, "vkGetPhysicalDeviceProperties")) {
        properties = (void (*)(void *, char *))found;
        return (function)properties_of_kind;
    }
    if (found && getenv("FAULT_KIND") && !strncmp(asked, "vkGetPhysicalDeviceProperties2", 30)) {
        properties_2 = (void (*)(void *, char *))found;
        return (function)properties_2_of_kind;
    }
    return intercepted(asked, found);
}
