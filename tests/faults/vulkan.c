// Stands in for libvulkan.so.1, to see what the program makes of a GPU that fails. Every call reaches the real library, but
// those of the function FAULT_CALL are counted, and from number FAULT_FROM on (if it is not 0) they return FAULT_RESULT
// instead. The count is written to the file FAULT_COUNT, if it is set, when the program ends. REAL_VULKAN is the real library.
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*function)(void);
typedef function (*lookup)(void *, const char *);
// The intercepted functions take at most six arguments, all of them integers or pointers.
typedef intptr_t (*call)(intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t);

static const char *name;
static long from, result;
static atomic_long calls;
static lookup of_instance, of_device;
static call real;

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
    return from && number >= from ? result : real(a, b, c, d, e, f);
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
    return intercepted(asked, found);
}
