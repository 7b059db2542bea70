/* Written by cdefs/generate.py from auditns_connector/vocabulary: change it there. */

/* syscalls.py: X(arch, whether the call nr loads another program) */
#define EXEC_CALLS(X) \
    X(0xc000003e, nr == 59 || nr == 322 || nr == 1073742344 || nr == 1073742369) \
    X(0x40000003, nr == 11 || nr == 358) \
    X(0xc00000b7, nr == 221 || nr == 281) \
    X(0xc00000f3, nr == 221 || nr == 281) \
    X(0xc0000102, nr == 221 || nr == 281) \
    X(0x40000028, nr == 11 || nr == 387) \
    X(0x80000015, nr == 11 || nr == 362) \
    X(0xc0000015, nr == 11 || nr == 362) \
    X(0x80000016, nr == 11 || nr == 354) \
    X(0x16, nr == 11 || nr == 354)
