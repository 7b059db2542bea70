/* Written by cdefs/generate.py from auditns_connector/vocabulary: change it there. */

/* record_types.py: bits above the number of a type, and X(first, last, bits) for each range of them */
#define TYPE_OWN 0x10000u
#define TYPE_OWN_LONE 0x20000u
#define TYPE_LONE 0x40000u
#define TYPE_SINGLE 0x80000u
#define TYPE_USER 0x100000u
#define TYPE_RANGES(X) X(1, 1004, 0x80000u) X(1005, 1005, 0x180000u) X(1006, 1099, 0x80000u) X(1100, 1199, 0x180000u) X(1200, 1299, 0x80000u) X(2100, 2999, 0x180000u) X(3000, 65535, 0x80000u)

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

/* namespaces.py: links of /proc/PID/ns */
#define NS_LINK_NAMES "net\0uts\0ipc\0pid\0user\0mnt\0cgroup\0time\0time_for_children"
