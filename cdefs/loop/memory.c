#include <stdlib.h> /* tells whose library this is */

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "loop/memory.h"

void memory_keep(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
#endif
}

void memory_give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(1 << 20);
#endif
}
