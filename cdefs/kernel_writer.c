#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "kernel_writer.h"

enum { PLACES = 64 };

struct writer {
    pthread_mutex_t lock;
    pthread_cond_t news;
    int serving; /* the thread can write */
    int called;
    int64_t wrote;
    int64_t given; /* bytes of the blocks that are not written yet */
    size_t first, count;
    struct iovec blocks[PLACES]; /* a ring */
};

struct writer *writer_new(void)
{
    struct writer *w = calloc(1, sizeof(*w));
    pthread_condattr_t attr;

    if (!w)
        return NULL;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->news, &attr);
    pthread_condattr_destroy(&attr);
    return w;
}

void writer_free(struct writer *w)
{
    if (!w)
        return;
    pthread_cond_destroy(&w->news);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static struct timespec in(double seconds)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)seconds;
    t.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* Wait until something is given (1), or it is time to return (0). */
static int wait(struct writer *w, const struct timespec *end)
{
    int late = 0;

    while (!w->count && !w->called && !late) {
        if (end)
            late = pthread_cond_timedwait(&w->news, &w->lock, end) == ETIMEDOUT;
        else
            pthread_cond_wait(&w->news, &w->lock);
    }
    return w->count && !w->called;
}

/* The next blocks of no more than `room` bytes in all; how many they are. */
static size_t next(const struct writer *w, int64_t room, struct iovec *parts)
{
    size_t n;

    for (n = 0; n < w->count; n++) {
        parts[n] = w->blocks[(w->first + n) % PLACES];
        room -= (int64_t)parts[n].iov_len;
        if (room < 0)
            break;
    }
    return n;
}

/* `took` bytes are written; returns how many of them are of a block that is not whole. */
static int64_t settle(struct writer *w, int64_t took)
{
    while (w->count && took >= (int64_t)w->blocks[w->first].iov_len) {
        int64_t size = (int64_t)w->blocks[w->first].iov_len;

        took -= size;
        w->wrote += size;
        w->given -= size;
        w->first = (w->first + 1) % PLACES;
        w->count--;
    }
    return took;
}

int64_t writer_serve(struct writer *w, int fd, int64_t *room, double seconds)
{
    struct timespec end = in(seconds < 0 ? 0 : seconds);
    struct iovec parts[PLACES];
    int64_t before, part = 0;

    pthread_mutex_lock(&w->lock);
    w->serving = fd >= 0;
    while (!part && wait(w, seconds < 0 ? NULL : &end)) {
        size_t n = next(w, *room, parts);
        ssize_t took;

        if (!n)
            break;
        pthread_mutex_unlock(&w->lock);
        took = writev(fd, parts, (int)n);
        pthread_mutex_lock(&w->lock);
        if (took <= 0)
            break;
        before = w->given;
        part = settle(w, took);
        *room -= before - w->given;
    }
    w->serving = w->called = 0;
    w->first = w->count = 0;
    w->given = 0;
    pthread_mutex_unlock(&w->lock);
    return part;
}

int writer_give(struct writer *w, const char *data, size_t size, int64_t before)
{
    int taken, idle;

    pthread_mutex_lock(&w->lock);
    idle = !w->count;
    taken = w->serving && w->count < PLACES && before == w->given + w->wrote;
    if (taken) {
        /* writev only reads from there */
        w->blocks[(w->first + w->count++) % PLACES] = (struct iovec){(void *)(uintptr_t)data, size};
        w->given += (int64_t)size;
    }
    pthread_mutex_unlock(&w->lock);
    if (taken && idle) /* not before: the thread would wake up to wait for the lock */
        pthread_cond_signal(&w->news);
    return taken;
}

void writer_call(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->called = 1;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_signal(&w->news);
}

int64_t writer_wrote(struct writer *w)
{
    int64_t wrote;

    pthread_mutex_lock(&w->lock);
    wrote = w->wrote;
    w->wrote = 0;
    pthread_mutex_unlock(&w->lock);
    return wrote;
}
