/* The scan of /proc at the start: everything that one process costs is system calls, and these are kept few. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "frames/frames_impl.h"
#include "kernel/procfs.h"
#include "kernel/procscan.h"

#define TEXT 8192
#define MAX_TIDS 4096
#define MAX_NSPIDS 64
#define MAX_COMM 256
#define LINKS (NS_TYPES + 1)

_Static_assert(sizeof(struct frame_process) == 8 * LINKS + 16, "frame_process");
_Static_assert(sizeof(struct frame_header) + sizeof(struct frame_process) + 4 * (MAX_TIDS + MAX_NSPIDS) + MAX_COMM +
               TEXT + 8 <= PROCFS_MAX_FRAME, "PROCFS_MAX_FRAME");

static const char LINK_NAMES[] = NS_LINK_NAMES;

struct one {
    struct frame_process about;
    int32_t tids[MAX_TIDS], nspids[MAX_NSPIDS];
    char comm[MAX_COMM], cgroup[TEXT], text[TEXT];
    long threads, ppid;
    uint64_t start;
};

enum outcome { READ, GONE, HARD };

static int is_gone(int error)
{
    return error == ENOENT || error == ESRCH;
}

static enum outcome failed(struct procfs_scan *scan, int64_t error)
{
    if (is_gone((int)error)) {
        scan->vanished++;
        return GONE;
    }
    scan->denied++;
    return READ;
}

/* The number at *at, which ends at a space or the end; 0 where there is none. */
static int number(const char **at, const char *end, int64_t *value)
{
    const char *s = *at, *digits;
    int minus;

    while (s < end && *s == ' ')
        s++;
    minus = s < end && *s == '-';
    digits = s += minus;
    for (*value = 0; s < end && *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(*value, 10, value) || __builtin_add_overflow(*value, *s - '0', value))
            return 0;
    if (s == digits || (s < end && *s != ' ' && *s != '\n' && *s != '\t'))
        return 0;
    *value = minus ? -*value : *value;
    *at = s;
    return 1;
}

/* The comm of "pid (comm) state ppid ...": it may hold anything, ")" too. Returns what is behind it, or NULL. */
static const char *take_comm(struct one *p, int32_t pid, const char *s, size_t len)
{
    const char *close, *comm;
    int64_t value;

    if (len < 2)
        return NULL;
    for (close = s + len - 2; close > s && (close[0] != ')' || close[1] != ' '); close--)
        ;
    comm = memchr(s, ' ', len);
    if (close == s || !comm || comm + 1 >= close || comm[1] != '(' || !number(&s, comm, &value) || value != pid)
        return NULL;
    comm += 2;
    if (comm > close || close - comm > MAX_COMM)
        return NULL;
    p->about.comm_size = (uint16_t)(close - comm);
    memcpy(p->comm, comm, p->about.comm_size);
    return close + 2;
}

/* /proc/PID/stat: behind the comm are a letter and numbers. */
static int take_stat(const struct procfs_scan *scan, struct one *p, int32_t pid, const char *s, size_t len)
{
    const char *end = s + len;
    int64_t value, threads = 0;

    s = take_comm(p, pid, s, len);
    if (!s || s >= end)
        return 0;
    p->about.state = (uint8_t)*s;
    for (s++; s < end && *s != ' '; s++)
        ;
    for (int field = 1; field <= 19; field++) {
        if (!number(&s, end, &value))
            return 0;
        if (field == 1)
            p->ppid = (long)value;
        else if (field == 17)
            threads = value;
    }
    p->threads = (long)threads;
    value = (int64_t)((uint64_t)value * scan->tick) - scan->boot_offset;
    p->start = value < 0 ? 0 : (uint64_t)value;
    return 1;
}

static const char *line_of(const char *text, size_t len, const char *start)
{
    const char *found = memmem(text, len, start, strlen(start));

    return found ? found + strlen(start) : NULL;
}

/* /proc/PID/status: whether it is a process, and its numbers in all its pid namespaces. */
static enum outcome take_status(struct procfs_scan *scan, struct one *p, int32_t pid, size_t len)
{
    const char *end = p->text + len, *tgid = line_of(p->text, len, "\nTgid:\t"), *s, *stop;
    int64_t value;

    stop = tgid ? memchr(tgid, '\n', (size_t)(end - tgid)) : NULL;
    if (!stop || !number(&tgid, stop, &value)) {
        scan->malformed++;
        return READ;
    }
    if (value != pid)
        return GONE;
    s = line_of(p->text, len, "\nNSpid:\t");
    stop = s ? memchr(s, '\n', (size_t)(end - s)) : NULL;
    while (stop && s < stop && p->about.nspids < MAX_NSPIDS) {
        if (!number(&s, stop, &value)) {
            scan->malformed++;
            p->about.nspids = 0;
            break;
        }
        p->nspids[p->about.nspids++] = (int32_t)value;
        while (s < stop && *s == '\t')
            s++;
    }
    return READ;
}

static int by_number(const void *one, const void *other)
{
    int32_t a = *(const int32_t *)one, b = *(const int32_t *)other;

    return a < b ? -1 : a > b;
}

static enum outcome take_tids(struct procfs_scan *scan, struct one *p, int folder)
{
    int task = openat(folder, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long got;

    if (task < 0) {
        failed(scan, errno);
        return READ;
    }
    while ((got = syscall(SYS_getdents64, task, p->text, sizeof(p->text))) > 0)
        for (long at = 0; at < got;) {
            uint16_t size;
            int64_t value;

            memcpy(&size, p->text + at + 16, sizeof(size)); /* d_ino, d_off, d_reclen, d_type, d_name */
            const char *name = p->text + at + 19, *end = name + strlen(name);

            at += size;
            if (*name < '0' || *name > '9' || !number(&name, end, &value))
                continue;
            if (p->about.tids == MAX_TIDS) {
                close(task);
                return HARD;
            }
            p->tids[p->about.tids++] = (int32_t)value;
        }
    if (got < 0) {
        failed(scan, errno);
        p->about.tids = 0;
    }
    close(task);
    qsort(p->tids, p->about.tids, sizeof(*p->tids), by_number);
    return READ;
}

/* 1: something is given there */
static int take_links(struct procfs_scan *scan, struct one *p, int folder, const char *where)
{
    uint64_t inodes[LINKS];
    int errors[LINKS], denied = 0, any = 0;
    int error = procfs_links(folder, where, LINK_NAMES, LINKS, inodes, errors);

    if (error) {
        failed(scan, -error);
        return 0;
    }
    for (int i = 0; i < LINKS; i++) {
        scan->malformed += errors[i] == EBADMSG;
        denied |= errors[i] && errors[i] != EBADMSG && !is_gone(errors[i]);
        any |= !errors[i] || errors[i] == EBADMSG;
    }
    scan->denied += (uint64_t)denied;
    memcpy(p->about.ino, inodes, sizeof(p->about.ino));
    p->about.time_for_children = inodes[LINKS - 1];
    return any;
}

/* A leader that ended before its threads has no namespaces; the others do. */
static void links_of_thread(struct procfs_scan *scan, struct one *p, int folder)
{
    struct frame_process found = p->about;
    char where[32];

    for (uint32_t i = 0; i < p->about.tids; i++) {
        snprintf(where, sizeof(where), "task/%d/ns", p->tids[i]);
        if (take_links(scan, p, folder, where) && p->about.ino[0])
            break;
        p->about = found;
    }
}

static enum outcome take(struct procfs_scan *scan, struct one *p, int32_t pid, int folder)
{
    int64_t len = procfs_text(folder, "stat", p->text, sizeof(p->text));

    if (len < 0)
        return failed(scan, -len);
    if (len == sizeof(p->text))
        return HARD;
    if (!take_stat(scan, p, pid, p->text, (size_t)len)) {
        scan->malformed++;
        return GONE;
    }
    if (p->threads > 1 && take_tids(scan, p, folder) == HARD)
        return HARD;
    take_links(scan, p, folder, "ns");
    if (p->about.state == 'Z' && p->threads != 1)
        links_of_thread(scan, p, folder);
    len = procfs_text(folder, "cgroup", p->cgroup, sizeof(p->cgroup));
    if (len < 0)
        return failed(scan, -len);
    if (len == sizeof(p->cgroup))
        return HARD;
    p->about.present |= PROCESS_CGROUP;
    p->about.cgroup_size = (uint32_t)len;
    if (p->threads == 1 && scan->host_pid_ns && p->about.ino[NS_PID] == scan->host_pid_ns) {
        p->nspids[p->about.nspids++] = pid; /* one thread alone: this is it, and its number is known */
        return READ;
    }
    len = procfs_text(folder, "status", p->text, sizeof(p->text));
    if (len < 0)
        return failed(scan, -len);
    return len == sizeof(p->text) ? HARD : take_status(scan, p, pid, (size_t)len);
}

static size_t put(const struct procfs_scan *scan, const struct one *p, int32_t pid, uint64_t now, uint8_t *out)
{
    size_t tids = p->about.tids * sizeof(*p->tids), nspids = p->about.nspids * sizeof(*p->nspids);
    size_t len = sizeof(p->about) + tids + nspids + p->about.comm_size + p->about.cgroup_size;
    struct frame_header head = {.kind = K_PROCESS, .source = S_PROCFS, .cpu = CPU_UNKNOWN, .time = now, .pid = pid,
                                .tid = pid, .ppid = (int32_t)p->ppid, .cgroup = scan->ns_dev, .arg = p->start};
    size_t size = frame_put(out, &head, &p->about, sizeof(p->about), len);
    uint8_t *at = out + sizeof(head) + sizeof(p->about);

    at = mempcpy(at, p->tids, tids);
    at = mempcpy(at, p->nspids, nspids);
    at = mempcpy(at, p->comm, p->about.comm_size);
    memcpy(at, p->cgroup, p->about.cgroup_size);
    return size;
}

int64_t procfs_scan(struct procfs_scan *scan, const int32_t *pids, size_t count, size_t *done, uint8_t *out, size_t room,
                    int32_t *hard, size_t *hards)
{
    struct one *p = malloc(sizeof(*p));
    size_t used = 0;

    *hards = 0;
    if (!p)
        return -ENOMEM;
    for (*done = 0; *done < count && room - used >= PROCFS_MAX_FRAME; ++*done) {
        int32_t pid = pids[*done];
        struct timespec now;
        enum outcome outcome;
        char name[16];
        int folder;

        memset(&p->about, 0, sizeof(p->about));
        p->threads = p->ppid = 0;
        p->start = UINT64_MAX;
        clock_gettime(CLOCK_MONOTONIC, &now);
        snprintf(name, sizeof(name), "%d", pid);
        folder = openat(scan->root, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0) {
            outcome = failed(scan, errno);
        } else {
            outcome = take(scan, p, pid, folder);
            close(folder);
            scan->read += outcome == READ && p->start != UINT64_MAX;
        }
        if (outcome == HARD)
            hard[(*hards)++] = pid;
        else if (outcome == READ)
            used += put(scan, p, pid, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, out + used);
    }
    free(p);
    return (int64_t)used;
}
