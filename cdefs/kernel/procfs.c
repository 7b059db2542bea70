/* Reading /proc costs mostly system calls; these spare what a call from Python adds to each. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "kernel/procfs.h"

int64_t procfs_text(int folder, const char *name, char *text, size_t room)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t got = 0;

    if (fd < 0)
        return -errno;
    /* seq_file gives what it has at once: a second call is needed only where the first filled its page */
    do {
        got = read(fd, text + len, room - len);
        if (got > 0)
            len += (size_t)got;
    } while ((got > 0 && len >= 4096 - 256 && len < room) || (got < 0 && errno == EINTR));
    if (got < 0) {
        int failed = errno;

        close(fd);
        return -failed;
    }
    close(fd);
    return (int64_t)len;
}

/* "type:[number]" -> number; 0 when it is not so */
static uint64_t link_inode(const char *link, size_t len)
{
    const char *s = memchr(link, ':', len), *end = link + len;
    uint64_t inode = 0;

    if (!s || end - s < 4 || s[1] != '[' || end[-1] != ']' || end - s > 22)
        return 0;
    for (s += 2; s < end - 1; s++) {
        if (*s < '0' || *s > '9')
            return 0;
        inode = inode * 10 + (uint64_t)(*s - '0');
    }
    return inode;
}

int procfs_links(int folder, const char *where, const char *names, int count, uint64_t *inodes, int *errors)
{
    int links = openat(folder, where, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char link[64];

    if (links < 0)
        return -errno;
    for (int i = 0; i < count; i++, names += strlen(names) + 1) {
        ssize_t len = readlinkat(links, names, link, sizeof(link));

        inodes[i] = 0;
        errors[i] = len < 0 ? errno : 0;
        if (len >= 0) {
            inodes[i] = link_inode(link, (size_t)len);
            if (!inodes[i])
                errors[i] = EBADMSG;
        }
    }
    close(links);
    return 0;
}
