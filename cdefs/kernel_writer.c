#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "kernel_writer.h"

struct writer {
    pthread_mutex_t lock;
    pthread_cond_t news;
    int ready;  /* the thread waits, and can write */
    int called;
    int64_t wrote;
    size_t size; /* of what was given and is not written yet */
    char block[64 * 1024];
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

    while (!w->size && !w->called && !late) {
        if (end)
            late = pthread_cond_timedwait(&w->news, &w->lock, end) == ETIMEDOUT;
        else
            pthread_cond_wait(&w->news, &w->lock);
    }
    return w->size > 0;
}

int64_t writer_serve(struct writer *w, int fd, int64_t *room, double seconds)
{
    struct timespec end = in(seconds < 0 ? 0 : seconds);
    ssize_t took = 0;
    int whole = 1;

    pthread_mutex_lock(&w->lock);
    w->ready = fd >= 0;
    while (whole && wait(w, seconds < 0 ? NULL : &end)) {
        whole = (int64_t)w->size <= *room;
        if (!whole)
            break;
        w->ready = 0;
        pthread_mutex_unlock(&w->lock);
        took = write(fd, w->block, w->size);
        pthread_mutex_lock(&w->lock);
        whole = took == (ssize_t)w->size;
        if (!whole)
            break;
        w->wrote += took;
        *room -= took;
        took = 0;
        w->size = 0;
        w->ready = 1;
    }
    w->ready = w->called = 0;
    w->size = 0;
    pthread_mutex_unlock(&w->lock);
    return took > 0 ? took : 0;
}

int writer_give(struct writer *w, const char *data, size_t size)
{
    int taken;

    pthread_mutex_lock(&w->lock);
    taken = w->ready && !w->size && size <= sizeof(w->block);
    if (taken) {
        memcpy(w->block, data, size);
        w->size = size;
    }
    pthread_mutex_unlock(&w->lock);
    if (taken) /* not before: the thread would wake up to wait for the lock */
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
