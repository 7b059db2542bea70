/* Pid numbers inside a pid namespace. perf writes pids as the namespace of the event's opener sees them
   (kernel/events/core.c, perf_event_pid), 0 for who is not in it. An event on a CPU hears of every fork there, so the
   rings of the host and of the namespace hold the same forks in the same order, written one right after the other with
   preemption off: the newer event first, for the kernel adds it at the head of the CPU's list. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames/frames_impl.h"
#include "kernel/perf.h"
#include "kernel/pidns.h"

#define NEAR 5000000u /* ns between the two halves of a fork at most */

/* What a helper is to do, and what came of it. */
struct errand {
    int nsfd;
    struct perf_event_attr *attr; /* NULL: only be born and end */
    const int32_t *cpus;
    int32_t count;
    int32_t *fds;
    int32_t got;
    int failed; /* errno */
};

/* The innermost process: it lives in the namespace for the time of these calls. */
static int open_here(void *arg)
{
    struct errand *e = arg;

    for (; e->attr && e->got < e->count; e->got++) {
        long fd = syscall(SYS_perf_event_open, e->attr, -1, e->cpus[e->got], -1, PERF_FLAG_FD_CLOEXEC);

        if (fd < 0) {
            e->failed = errno;
            break;
        }
        e->fds[e->got] = (int32_t)fd;
    }
    return 0;
}

/* A child that has our memory and descriptors, while we wait for its end: nothing is copied, and of its end nobody is
   reported. Only system calls may follow in it. */
static int run_child(int (*work)(void *), struct errand *e)
{
    char stack[16384] __attribute__((aligned(16)));
    int pid = clone(work, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_FILES, e);

    if (pid < 0)
        return errno;
    while (waitpid(pid, NULL, __WALL) < 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* The outer one: setns() with CLONE_NEWPID is about children yet to be made. */
static int enter(void *arg)
{
    struct errand *e = arg;

    e->failed = setns(e->nsfd, CLONE_NEWPID) ? errno : run_child(open_here, e);
    return 0;
}

static int run_errand(struct errand *e)
{
    sigset_t all, former;
    int failed;

    /* nobody in there may trace what has our memory and descriptors; core dumps of ours end with it */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former); /* no handler of ours may run in the children */
    failed = run_child(enter, e);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    return failed ? -failed : -e->failed;
}

int nspid_open(int nsfd, struct perf_event_attr *attr, const int32_t *cpus, int32_t count, int32_t *fds)
{
    struct errand e = {.nsfd = nsfd, .attr = attr, .cpus = cpus, .count = count, .fds = fds};
    int failed = run_errand(&e);
    int32_t i;

    for (i = 0; failed && i < e.got; i++)
        close(fds[i]);
    return failed;
}

int nspid_poke(int nsfd)
{
    struct errand e = {.nsfd = nsfd};

    return run_errand(&e);
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
