/* Capabilities: capget(2), prctl(2), linux/capability.h. */
#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
#include "process/privileges.h"
#include "process/privileges_impl.h"

int privileges_bound(uint64_t keep)
{
    for (int cap = 0; cap < 64; cap++) {
        if (keep >> cap & 1)
            continue;
        /* EINVAL: the kernel has no such capability; those above it are none either */
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            return errno == EINVAL ? 0 : -errno;
    }
    return 0;
}

int privileges_keep(uint64_t keep)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data))
        return -errno;
    for (int half = 0; half < 2; half++) {
        uint32_t mask = (uint32_t)(keep >> (32 * half));

        data[half].permitted &= mask;
        data[half].effective &= mask;
        data[half].inheritable = 0;
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* EINVAL before Linux 4.3: there is no such set */
    return syscall(SYS_capset, &header, data) ? -errno : 0;
}

int privileges_drop(uint64_t keep)
{
    int failed = privileges_bound(keep);

    if (failed && failed != -EPERM)
        return failed;
    failed = privileges_keep(keep);
    if (failed)
        return failed;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}
