/* The thread that takes over from a loop that does not read; sources/intake.py says when. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include "intake/intake_impl.h"

#define PATIENCE 5 /* text that waits unread for this long is taken (ms) */

/* Put lines into the queue, or drop them. */
static void publish(struct intake *in, char *data, size_t len, int64_t now)
{
    struct extent extent = {0};
    struct intake_gap gap = {0};
    struct ring *ring;
    int full, last, failed;

    pthread_mutex_lock(&in->lock);
    full = in->cutter.dropping ? !queue_eased(&in->queue) : !queue_room(&in->queue, len, 0);
    last = !queue_room(&in->queue, len, 1);
    full |= last;
    pthread_mutex_unlock(&in->lock);
    len = cut_events(&in->cutter, data, len, full, last, &extent);
    if (!len)
        return;
    pthread_mutex_lock(&in->lock);
    ring = queue_room(&in->queue, len, 1);
    pthread_mutex_unlock(&in->lock);
    failed = ring ? ring_put(ring, data, len) : -ENOSPC;
    pthread_mutex_lock(&in->lock);
    if (!failed) {
        if (!in->cutter.dropping) {
            gap = in->cutter.gap;
            in->cutter.gap = (struct intake_gap){0};
        }
        failed = queue_add(&in->queue, ring, len, now, &extent, &gap) ? 0 : -ENOMEM;
        if (!failed)
            gap = (struct intake_gap){0};
    } else if (ring) {
        in->queue.failed = -failed; /* the disk is full, or broken: memory alone */
    }
    if (failed) {
        struct intake_gap lost = {extent.first, extent.last, extent.events, extent.records, extent.from_ms, extent.to_ms};
        gap_join(&in->cutter.gap, &gap);
        gap_join(&in->cutter.gap, &lost);
    }
    pthread_mutex_unlock(&in->lock);
}

/* Publish the whole lines of what is staged; `all`: and the rest. It is known then to which event each line belongs. */
static void publish_staged(struct intake *in, int64_t now, int all)
{
    const char *end = all ? NULL : memrchr(in->stage, '\n', in->staged);
    size_t whole = end ? (size_t)(end - in->stage) + 1 : all || in->staged > STAGE - LEAST ? in->staged : 0;
    size_t rest = in->staged - whole;

    if (!whole)
        return;
    publish(in, in->stage, whole, now); /* which moves what it keeps, but only within the part */
    memmove(in->stage, in->stage + whole, rest);
    in->staged = rest;
}

/* Read once; 0 where it is not the thread's turn (any more), or there is nothing. */
static int take_once(struct intake *in)
{
    int64_t got, now;
    int over;

    pthread_mutex_lock(&in->lock);
    if (!in->apart || in->ended) {
        pthread_mutex_unlock(&in->lock);
        return 0;
    }
    in->busy = 1;
    over = in->finishing && intake_now() > in->finishing;
    pthread_mutex_unlock(&in->lock);
    got = over ? 0 : in->reader->read(in->reader, in->stage + in->staged, STAGE - in->staged);
    now = intake_now();
    in->staged += got > 0 ? (size_t)got : 0;
    if (in->staged)
        publish_staged(in, now, got <= 0 && got != -EINTR && got != -EAGAIN);
    pthread_mutex_lock(&in->lock);
    in->bytes += got > 0 ? (uint64_t)got : 0;
    if (!got || (in->finishing && got == -EAGAIN))
        in->ended = 1;
    else if (got < 0 && got != -EAGAIN && got != -EINTR)
        in->ended = (int)got;
    in->busy = 0;
    in->staged_at = now;
    signal_news(in, in->queue.count || in->staged || in->ended || in->cutter.gap.records);
    pthread_mutex_unlock(&in->lock);
    return got > 0 || got == -EINTR;
}

static int readable(const struct intake *in)
{
    struct pollfd p = {in->reader->fd, POLLIN, 0};

    return poll(&p, 1, 0) > 0;
}

/* The socket's buffer is as full as is worth taking over for. */
static int filled(const struct intake *in)
{
    uint32_t info[SK_MEMINFO_VARS];
    socklen_t len = sizeof(info);

    return in->full && !getsockopt(in->reader->fd, SOL_SOCKET, SO_MEMINFO, info, &len) &&
           info[SK_MEMINFO_RMEM_ALLOC] >= in->full;
}

/* Text waits: does it go on waiting? 1: somebody has read meanwhile, 0: nobody, -1: the thread is to end. */
static int patience(struct intake *in)
{
    struct pollfd quit = {in->quit, POLLIN, 0};
    uint64_t reads;
    int since;

    pthread_mutex_lock(&in->lock);
    reads = in->reads;
    pthread_mutex_unlock(&in->lock);
    for (since = 0; since < PATIENCE && !filled(in); since += in->full ? 1 : PATIENCE)
        if (poll(&quit, 1, in->full ? 1 : PATIENCE) > 0)
            return -1;
    pthread_mutex_lock(&in->lock);
    since = reads != in->reads;
    pthread_mutex_unlock(&in->lock);
    return since;
}

static void take_over(struct intake *in)
{
    pthread_mutex_lock(&in->lock);
    if (!in->apart && !in->ended && !in->finishing) {
        in->apart = 1;
        in->takeovers++;
        in->cutter.middle = in->middle;
        in->cutter.kept = 1;
    }
    pthread_mutex_unlock(&in->lock);
}

static int ended(struct intake *in)
{
    int now;

    pthread_mutex_lock(&in->lock);
    now = in->ended;
    pthread_mutex_unlock(&in->lock);
    return now;
}

static void *serve(void *arg)
{
    struct intake *in = arg;
    struct epoll_event ready[2];

    for (;;) {
        int n = epoll_wait(in->epoll, ready, 2, -1), going;

        for (int i = 0; i < n; i++)
            if (ready[i].data.fd == in->quit)
                return NULL;
        going = patience(in);
        if (going < 0)
            return NULL;
        if (!going && readable(in))
            take_over(in);
        while (take_once(in))
            ;
        if (ended(in)) /* it would be readable for ever */
            epoll_ctl(in->epoll, EPOLL_CTL_DEL, in->reader->fd, NULL);
    }
}

int intake_start(struct intake *in, uint64_t full)
{
    /* exclusive: it is not for us while somebody else waits for it, who must have begun before */
    struct epoll_event text = {EPOLLIN | EPOLLEXCLUSIVE, {.fd = in->reader->fd}}, quit = {EPOLLIN, {.fd = 0}};
    sigset_t all, former;
    int failed;

    in->full = full;
    in->epoll = epoll_create1(EPOLL_CLOEXEC);
    in->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (in->epoll < 0 || in->quit < 0)
        return -errno;
    quit.data.fd = in->quit;
    if (epoll_ctl(in->epoll, EPOLL_CTL_ADD, in->quit, &quit) || epoll_ctl(in->epoll, EPOLL_CTL_ADD, in->reader->fd, &text))
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    failed = pthread_create(&in->thread, NULL, serve, in);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    in->started = !failed;
    return -failed;
}
