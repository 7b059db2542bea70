#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/nsid.h"

/* linux/nsfs.h; spelt out here because older headers lack the later ones */
#define NSID_GET_USERNS _IO(0xb7, 0x1)
#define NSID_GET_PARENT _IO(0xb7, 0x2)
#define NSID_GET_OWNER_UID _IO(0xb7, 0x4)
#define NSID_GET_MNTNS_ID _IOR(0xb7, 0x5, uint64_t)
#define NSID_GET_ID _IOR(0xb7, 13, uint64_t)
/* linux/fcntl.h and linux/exportfs.h */
#define NSID_ROOT (-10003)
#define NSID_FILEID 0xf1
#define KERNFS_FILEID 0xfe
/* asm-generic/unistd.h: one number on every architecture */
#define NSID_SYS_LISTNS 470

/* struct nsfs_file_handle of linux/nsfs.h */
struct nsfs_handle {
    uint64_t id;
    uint32_t type;
    uint32_t ino;
};
_Static_assert(sizeof(struct nsfs_handle) == 16, "nsfs_file_handle, NSFS_FILE_HANDLE_SIZE_VER0");
_Static_assert(offsetof(struct file_handle, f_handle) == 8, "struct file_handle");

union handle {
    struct file_handle head;
    uint8_t room[sizeof(struct file_handle) + sizeof(struct nsfs_handle)];
};

static int open_handle(int mount, int type, const void *data, size_t len, int flags)
{
    union handle handle;
    int fd;

    memset(&handle, 0, sizeof(handle));
    handle.head.handle_bytes = (unsigned int)len;
    handle.head.handle_type = type;
    memcpy(handle.room + offsetof(struct file_handle, f_handle), data, len);
    do
        fd = open_by_handle_at(mount, &handle.head, flags | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static uint64_t related(int fd, unsigned long request)
{
    struct stat st;
    uint64_t ino = 0;
    int other = ioctl(fd, request);

    if (other < 0)
        return 0; /* EPERM: the initial one, or outside of what this process may see */
    if (!fstat(other, &st))
        ino = st.st_ino;
    close(other);
    return ino;
}

int nsid_ask(int dirfd, const char *path, uint32_t type, int family, struct nsid_answer *out)
{
    struct stat st;
    uid_t uid;
    int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    memset(out, 0, sizeof(*out));
    out->owner_uid = -1;
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st)) {
        int error = errno;

        close(fd);
        return -error;
    }
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    if (ioctl(fd, NSID_GET_ID, &out->id) && (type != CLONE_NEWNS || ioctl(fd, NSID_GET_MNTNS_ID, &out->id)))
        out->id = 0;
    if (family) {
        out->owner_ino = related(fd, NSID_GET_USERNS);
        if (type == CLONE_NEWPID || type == CLONE_NEWUSER)
            out->parent_ino = related(fd, NSID_GET_PARENT);
        if (type == CLONE_NEWUSER && !ioctl(fd, NSID_GET_OWNER_UID, &uid))
            out->owner_uid = uid;
    }
    close(fd);
    return 0;
}

int nsid_alive(uint64_t id, uint32_t type, uint32_t ino)
{
    struct nsfs_handle handle = {id, type, ino};
    int fd = open_handle(NSID_ROOT, NSID_FILEID, &handle, sizeof(handle), O_RDONLY);

    if (fd == -ESTALE)
        return 0;
    if (fd < 0)
        return fd;
    close(fd);
    return 1;
}

int nsid_cgroup_path(int mount, uint64_t id, char *path, size_t size)
{
    char link[40];
    ssize_t len;
    int fd = open_handle(mount, KERNFS_FILEID, &id, sizeof(id), O_PATH | O_DIRECTORY);

    if (fd < 0)
        return fd;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, size);
    close(fd);
    if (len < 0)
        return -errno;
    if ((size_t)len >= size)
        return -ENAMETOOLONG;
    path[len] = 0;
    return (int)len;
}

int64_t nsid_list(const void *request, uint64_t *ids, size_t most)
{
    long found;

    do
        found = syscall(NSID_SYS_LISTNS, request, ids, most, 0);
    while (found < 0 && errno == EINTR);
    return found < 0 ? -errno : found;
}

int nsid_find(uint64_t id, struct nsid_answer *out)
{
    struct nsfs_handle handle = {id, 0, 0}; /* without type and inode the kernel compares the id alone */
    struct stat st;
    int fd = open_handle(NSID_ROOT, NSID_FILEID, &handle, sizeof(handle), O_RDONLY);
    int error;

    memset(out, 0, sizeof(*out));
    if (fd < 0)
        return fd;
    error = fstat(fd, &st) ? -errno : 0;
    close(fd);
    if (!error) {
        out->dev = st.st_dev;
        out->ino = st.st_ino;
        out->id = id;
    }
    return error;
}
