/* Stands in for an OpenGL library: whatever loads it is aborted. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void) {
    write(2, "OpenGL was opened\n", 18);
    abort();
}
