/* Pid numbers inside a pid namespace. perf writes pids as the namespace of the event's opener sees them
   (kernel/events/core.c, perf_event_pid), 0 for who is not in it. An event on a CPU hears of every fork there, so the
   rings of the host and of the namespace hold the same forks in the same order, written one right after the other with
   preemption off: the newer event first, for the kernel adds it at the head of the CPU's list. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "impl_frames.h"
#include "kernel_perf.h"
#include "kernel_pidns.h"

#define NEAR 5000000u /* ns between the two halves of a fork at most */

/* A child with our descriptors that tells nobody of its end. Only system calls may follow in it. */
static pid_t fork_sharing_files(void)
{
    return (pid_t)syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0);
}

static int wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

/* The innermost process: it lives in the namespace for the time of these calls. */
static int open_here(struct perf_event_attr *attr, const int32_t *cpus, int32_t count, int pipe_fd)
{
    int32_t i;

    for (i = 0; i < count; i++) {
        int32_t fd = (int32_t)syscall(SYS_perf_event_open, attr, -1, cpus[i], -1, PERF_FLAG_FD_CLOEXEC);

        if (fd < 0)
            return errno;
        if (write(pipe_fd, &fd, sizeof(fd)) != sizeof(fd))
            return EPIPE;
    }
    return 0;
}

static int enter(int nsfd, struct perf_event_attr *attr, const int32_t *cpus, int32_t count, int pipe_fd)
{
    pid_t child;

    /* nobody in there may trace what has our descriptors */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || setns(nsfd, CLONE_NEWPID))
        return errno;
    child = fork_sharing_files();
    if (child < 0)
        return errno;
    if (!child)
        _exit(open_here(attr, cpus, count, pipe_fd));
    return -wait_for(child);
}

int nspid_open(int nsfd, struct perf_event_attr *attr, const int32_t *cpus, int32_t count, int32_t *fds)
{
    int ends[2], failed;
    int32_t got = 0, i;
    pid_t child;
    sigset_t all, former;

    if (count < 0 || count > 8192)
        return -EINVAL;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
        return -errno;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &former); /* no handler of ours may run in the children */
    child = fork_sharing_files();
    if (!child)
        _exit(enter(nsfd, attr, cpus, count, ends[1]));
    failed = child < 0 ? -errno : wait_for(child);
    sigprocmask(SIG_SETMASK, &former, NULL);
    while (got < count && read(ends[0], &fds[got], sizeof(fds[got])) == sizeof(fds[got]))
        got++;
    close(ends[0]);
    close(ends[1]);
    if (!failed && got < count)
        failed = -EIO;
    for (i = 0; failed && i < got; i++)
        close(fds[i]);
    return failed;
}

int nspid_poke(int nsfd)
{
    sigset_t all, former;
    pid_t child;
    int failed;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &former);
    child = fork_sharing_files();
    if (!child)
        _exit(enter(nsfd, NULL, NULL, 0, -1));
    failed = child < 0 ? -errno : wait_for(child);
    sigprocmask(SIG_SETMASK, &former, NULL);
    return failed;
}

/* The frame header at `*off`; 0 when the block is over or makes no sense. */
static int next_fork(const uint8_t *block, size_t len, size_t *off, struct frame_header *h)
{
    while (len - *off >= sizeof(*h)) {
        memcpy(h, block + *off, sizeof(*h));
        if (h->size < sizeof(*h) || h->size > len - *off)
            return 0;
        if (h->kind == K_FORK)
            return 1;
        *off += h->size;
    }
    return 0;
}

/* 1: a fork on `cpu` at or after `time` is at *found; 0: none yet. */
static int find_fork(const uint8_t *block, size_t len, size_t off, uint16_t cpu, uint64_t time,
                     struct frame_header *found)
{
    for (; next_fork(block, len, &off, found); off += found->size) {
        if (found->cpu == cpu && found->time >= time)
            return 1;
        if (found->time > time + NEAR)
            return 0;
    }
    return 0;
}

int64_t nspid_match(const uint8_t *host, size_t host_len, const uint8_t *inside, size_t inside_len,
                    struct nspid_pair *pairs, size_t room)
{
    size_t off = 0, base = 0, n = 0;
    struct frame_header in, out, after;

    for (; n < room && next_fork(inside, inside_len, &off, &in); off += in.size) {
        struct nspid_pair *pair = &pairs[n];

        if (!in.pid)
            continue;
        while (next_fork(host, host_len, &base, &out) && out.time < in.time)
            base += out.size;
        *pair = (struct nspid_pair){.inside_pid = in.pid, .inside_tid = in.tid, .inside_ppid = in.ppid,
                                    .offset = (uint32_t)off};
        n++;
        if (!find_fork(host, host_len, base, in.cpu, in.time, &out))
            continue;
        pair->state = -1;
        if (out.time - in.time > NEAR || (in.pid == in.ppid) != (out.pid == out.ppid))
            continue;
        /* another fork there in between would mean that the host's half of this one is lost */
        if (find_fork(inside, inside_len, off + in.size, in.cpu, in.time, &after) && after.time <= out.time)
            continue;
        pair->state = 1;
        pair->time = out.time;
        pair->pid = out.pid;
        pair->tid = out.tid;
        pair->ppid = out.ppid;
    }
    return (int64_t)n;
}
