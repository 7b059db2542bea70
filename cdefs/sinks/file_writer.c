#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "audittext/lines_impl.h"
#include "sinks/file_writer.h"

enum { PLACES = 64, COPY = 262144, COPIES = 4194304 };

struct writer {
    pthread_mutex_t lock;
    pthread_cond_t news;
    int serving; /* the thread is in writer_serve */
    int open;    /* and takes what comes */
    int called;
    int64_t limit;
    struct writer_news tally; /* since that was last asked */
    size_t first, count;
    size_t used;                 /* of copies */
    struct iovec blocks[PLACES]; /* a ring */
    char copies[COPIES];
};

struct writer *writer_new(int64_t limit)
{
    struct writer *w = calloc(1, sizeof(*w));
    pthread_condattr_t attr;

    if (!w)
        return NULL;
    w->limit = limit;
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

static int is_past(const struct timespec *end)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec != end->tv_sec ? now.tv_sec > end->tv_sec : now.tv_nsec >= end->tv_nsec;
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

/* The first block is a copy of ours. */
static int copied(const struct writer *w)
{
    const char *data = w->blocks[w->first].iov_base;

    return data >= w->copies && data < w->copies + COPIES;
}

static size_t pop(struct writer *w)
{
    size_t size = w->blocks[w->first].iov_len;

    w->tally.waits -= (int64_t)size;
    w->first = (w->first + 1) % PLACES;
    w->count--;
    return size;
}

/* `took` bytes are written; returns how many of them are of a block that is not whole. */
static int64_t settle(struct writer *w, int64_t took)
{
    while (w->count && took >= (int64_t)w->blocks[w->first].iov_len) {
        w->tally.kept += !copied(w);
        took -= (int64_t)pop(w);
    }
    return took;
}

/* The lines of those parts that are whole among the first `took` bytes. */
static int64_t whole_lines(const struct iovec *parts, size_t n, int64_t took)
{
    int64_t lines = 0;

    for (size_t i = 0; i < n && took >= (int64_t)parts[i].iov_len; i++) {
        lines += (int64_t)newlines(parts[i].iov_base, parts[i].iov_len);
        took -= (int64_t)parts[i].iov_len;
    }
    return lines;
}

int64_t writer_serve(struct writer *w, int fd, int64_t *room, double seconds, int open)
{
    struct timespec end = in(seconds < 0 ? 0 : seconds);
    struct iovec parts[PLACES];
    int64_t part = 0;

    pthread_mutex_lock(&w->lock);
    w->serving = 1;
    w->open = open && fd >= 0 && !w->called;
    while (!part && wait(w, seconds < 0 ? NULL : &end)) {
        size_t n = next(w, *room, parts);
        int64_t lines;
        ssize_t took;

        if (!n)
            break;
        pthread_mutex_unlock(&w->lock);
        took = writev(fd, parts, (int)n);
        lines = whole_lines(parts, n, took); /* now that the processor has them at hand */
        pthread_mutex_lock(&w->lock);
        if (took <= 0)
            break;
        part = settle(w, took);
        if (part < took) /* else they were taken back meanwhile, or there is no whole one */
            w->tally.lines += lines;
        w->tally.bytes += took - part;
        *room -= took - part;
        if (seconds >= 0 && is_past(&end))
            break;
    }
    w->serving = w->open = w->called = 0;
    pthread_mutex_unlock(&w->lock);
    return part;
}

static int has_room(const struct writer *w, size_t size)
{
    return size && w->open && w->count < PLACES && w->tally.waits + (int64_t)size <= w->limit;
}

static void append(struct writer *w, const char *data, size_t size)
{
    /* writev only reads from there */
    w->blocks[(w->first + w->count++) % PLACES] = (struct iovec){(void *)(uintptr_t)data, size};
    w->tally.waits += (int64_t)size;
}

/* To be called with the lock held, which it lets go of. */
static int given(struct writer *w, int taken)
{
    int alone = taken && w->count == 1;

    pthread_mutex_unlock(&w->lock);
    if (alone) /* not before: the thread would wake up to wait for the lock */
        pthread_cond_signal(&w->news);
    return taken;
}

/* To be called with the lock held. */
static int copy(struct writer *w, const char *data, size_t size)
{
    if (!w->count)
        w->used = 0;
    if (size > COPY || size > COPIES - w->used || !has_room(w, size))
        return 0;
    memcpy(w->copies + w->used, data, size);
    append(w, w->copies + w->used, size);
    w->used += size;
    return WRITER_COPIED;
}

int writer_copy(struct writer *w, const char *data, size_t size)
{
    pthread_mutex_lock(&w->lock);
    return given(w, w->tally.kept ? 0 : copy(w, data, size));
}

int writer_give(struct writer *w, const char *data, size_t size)
{
    int taken;

    pthread_mutex_lock(&w->lock);
    taken = copy(w, data, size);
    if (!taken && has_room(w, size)) {
        append(w, data, size);
        taken = WRITER_KEPT;
    }
    w->open = w->open && taken; /* what comes next comes after that which was refused */
    return given(w, taken);
}

void writer_call(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->called = 1;
    w->open = 0;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_signal(&w->news);
}

void writer_tell(struct writer *w, struct writer_news *news)
{
    pthread_mutex_lock(&w->lock);
    *news = w->tally;
    news->serving = w->serving;
    w->tally.bytes = w->tally.lines = w->tally.kept = 0;
    pthread_mutex_unlock(&w->lock);
}

size_t writer_take_back(struct writer *w, const char **data)
{
    size_t size = 0;

    pthread_mutex_lock(&w->lock);
    if (w->count) {
        *data = copied(w) ? w->blocks[w->first].iov_base : NULL;
        size = pop(w);
    }
    pthread_mutex_unlock(&w->lock);
    return size;
}
