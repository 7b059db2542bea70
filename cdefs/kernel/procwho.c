/* Whose the processes of /proc are, and what they run: auditns_connector/sources/loginuids.py says what is read. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "kernel/procfs.h"
#include "kernel/procwho.h"

#define UNSET UINT32_MAX
#define NUMBER 64
#define DELETED " (deleted)"

/* The number that the file says, if it says one. */
static int number_in(int folder, const char *name, uint32_t *value)
{
    char text[NUMBER];
    int64_t len = procfs_text(folder, name, text, sizeof(text));
    uint64_t number = 0;

    if (len <= 0 || len == sizeof(text))
        return 0;
    len -= text[len - 1] == '\n';
    for (int64_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || number > UINT32_MAX)
            return 0;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *value = (uint32_t)number;
    return len > 0 && number <= UINT32_MAX;
}

/* Who never logged in has no session either (kernel/auditsc.c): of those one file is read. */
static int login_of(int folder, struct procfs_login *login)
{
    if (!number_in(folder, "loginuid", &login->auid))
        return 0;
    login->ses = UNSET;
    return login->auid == UNSET || number_in(folder, "sessionid", &login->ses);
}

static size_t program_of(int folder, int32_t pid, uint8_t *out)
{
    const size_t head = sizeof(struct procfs_program), more = sizeof(DELETED) - 1;
    char *path = (char *)out + head;
    ssize_t len = readlinkat(folder, "exe", path, PROCFS_MAX_PROGRAM - head);
    struct procfs_program program = {.pid = pid};

    if (len < 0)
        return 0; /* it has gone, or is a kernel thread */
    if ((size_t)len >= more && !memcmp(path + len - more, DELETED, more))
        len -= (ssize_t)more;
    program.size = (uint32_t)len;
    memcpy(out, &program, head);
    return head + (size_t)len;
}

size_t procfs_who(int root, const int32_t *pids, size_t count, struct procfs_login *logins, size_t *found,
                  uint8_t *programs, size_t room, size_t *done)
{
    size_t used = 0;

    *found = 0;
    for (*done = 0; *done < count && room - used >= PROCFS_MAX_PROGRAM; ++*done) {
        char name[16];
        int folder;

        snprintf(name, sizeof(name), "%d", pids[*done]);
        folder = openat(root, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
            continue;
        logins[*found].pid = pids[*done];
        *found += (size_t)login_of(folder, &logins[*found]);
        used += program_of(folder, pids[*done], programs + used);
        close(folder);
    }
    return used;
}
