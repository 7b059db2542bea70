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
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "kernel/clock.h"
#include "intake/intake_impl.h"

#define PATIENT 5000000       /* text that waits unread for this long is taken (ns) */
#define IMPATIENT 1000000     /* the same where a socket may be full before that */
#define QUICKLY_FULL (1 << 20) /* one that takes over for no more than this (bytes) */

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
    over = in->finishing && clock_now() > in->finishing;
    pthread_mutex_unlock(&in->lock);
    got = over ? 0 : in->reader->read(in->reader, in->stage + in->staged, STAGE - in->staged);
    now = clock_now();
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

/* The timer has come: text waits, and the loop has not read since it came the time before (`reads` times until then). */
static int is_late(struct intake *in, uint64_t *reads)
{
    uint64_t expired, now;
    ssize_t got = read(in->timer, &expired, sizeof(expired));

    pthread_mutex_lock(&in->lock);
    now = in->reads;
    pthread_mutex_unlock(&in->lock);
    if (got > 0 && readable(in) && (now == *reads || filled(in)))
        return 1;
    *reads = now;
    return 0;
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

/* It is the thread that is to be woken by text. */
static int reads_on(struct intake *in)
{
    int on;

    pthread_mutex_lock(&in->lock);
    on = in->apart && !in->ended;
    pthread_mutex_unlock(&in->lock);
    return on;
}

static void *serve(void *arg)
{
    struct intake *in = arg;
    struct epoll_event ready[3], text = {EPOLLIN | EPOLLEXCLUSIVE, {.fd = in->reader->fd}};
    uint64_t reads = 0;
    int reading = 0;

    for (;;) {
        int n = epoll_wait(in->epoll, ready, 3, -1), on;

        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd == in->quit)
                return NULL;
            if (ready[i].data.fd == in->timer && is_late(in, &reads))
                take_over(in);
        }
        while (take_once(in))
            ;
        on = reads_on(in);
        if (on != reading && !epoll_ctl(in->epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, text.data.fd, &text))
            reading = on;
    }
}

void intake_guard(struct intake *in, int on)
{
    struct itimerspec often = {0};

    if (!in->started)
        return;
    if (on)
        often.it_value.tv_nsec = often.it_interval.tv_nsec = in->patience;
    timerfd_settime(in->timer, 0, &often, NULL);
}

int intake_start(struct intake *in, uint64_t full)
{
    struct epoll_event timer = {EPOLLIN, {.fd = 0}}, quit = {EPOLLIN, {.fd = 0}};
    sigset_t all, former;
    int failed;

    in->full = full;
    in->patience = full && full < QUICKLY_FULL ? IMPATIENT : PATIENT;
    in->epoll = epoll_create1(EPOLL_CLOEXEC);
    in->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    in->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (in->epoll < 0 || in->quit < 0 || in->timer < 0)
        return -errno;
    timer.data.fd = in->timer;
    quit.data.fd = in->quit;
    if (epoll_ctl(in->epoll, EPOLL_CTL_ADD, in->quit, &quit) || epoll_ctl(in->epoll, EPOLL_CTL_ADD, in->timer, &timer))
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    failed = pthread_create(&in->thread, NULL, serve, in);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    in->started = !failed;
    intake_guard(in, 1);
    return -failed;
}
