/* Who reads: the loop itself as long as it keeps up, else a thread, which waits for nobody. sources/intake.py says more. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kernel/clock.h"
#include "intake/intake_impl.h"

#define ENDING 500000000 /* text that goes on coming is taken in for this long when it is to end (ns) */

static int64_t stream_read(struct reader *reader, char *to, size_t room)
{
    ssize_t got = read(reader->fd, to, room);

    if (got < 0 && errno == ECONNRESET)
        return 0;
    return got < 0 ? -errno : got;
}

struct reader *stream_reader(int fd)
{
    struct reader *r = calloc(1, sizeof(*r));

    if (r)
        *r = (struct reader){stream_read, fd};
    return r;
}

struct intake *intake_new(int fd, int kind, uint64_t memory, uint64_t disk, int spool)
{
    struct intake *in = calloc(1, sizeof(*in));

    if (!in)
        return NULL;
    pthread_mutex_init(&in->lock, NULL);
    in->epoll = in->quit = in->timer = -1;
    in->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    in->kind = kind;
    in->reader = kind == INTAKE_READLOG ? readlog_reader(fd) : stream_reader(fd);
    in->stage = malloc(STAGE);
    if (!queue_init(&in->queue, memory, disk, spool) || !in->reader || !in->stage || in->news < 0) {
        int failed = in->news < 0 ? errno : ENOMEM;
        intake_free(in);
        errno = failed;
        return NULL;
    }
    return in;
}

int intake_fileno(const struct intake *in)
{
    return in->news;
}

void intake_free(struct intake *in)
{
    uint64_t one = 1;

    if (in->started) {
        pthread_mutex_lock(&in->lock);
        in->ended = in->ended ? in->ended : 1; /* it looks for the descriptor below only where nothing is to be read */
        pthread_mutex_unlock(&in->lock);
        while (write(in->quit, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
        pthread_join(in->thread, NULL);
    }
    for (int i = 0; i < 4; i++) {
        int fd = (int[]){in->epoll, in->quit, in->news, in->timer}[i];
        if (fd >= 0)
            close(fd);
    }
    queue_free(&in->queue);
    free(in->reader);
    free(in->stage);
    pthread_mutex_destroy(&in->lock);
    free(in);
}

/* To be called with the lock held: what waits is to be read, or nothing does. */
void signal_news(struct intake *in, int waits)
{
    uint64_t value = 1;
    ssize_t done;

    if (waits == in->signalled)
        return;
    in->signalled = waits;
    done = waits ? write(in->news, &value, sizeof(value)) : read(in->news, &value, sizeof(value));
    (void)done; /* neither can fail: the counter is 0 or 1 */
}

/* To be called with the lock held. */
static void dropped(struct intake *in, struct intake_gap *gap)
{
    if (!gap->records)
        return;
    if (in->gaps < GAPS)
        in->reached[in->gaps++] = *gap;
    else
        gap_join(&in->reached[GAPS - 1], gap);
    in->dropped_events += gap->events;
    in->dropped_records += gap->records;
    *gap = (struct intake_gap){0};
}

/* The loop */

/* Make the front of the stream free; 0 where it needs more room. */
static int prepare(struct auditns_stream *s)
{
    s->start += s->consumed;
    s->consumed = 0;
    if (s->start == s->end)
        s->start = s->scanned = s->end = 0;
    return s->size - s->end >= s->least;
}

/* To be called with the lock held, where the queue is empty and the thread idle. What a netlink reader has received is read
 * to its end, for nobody is woken by it any more. */
static int64_t read_self(struct intake *in, struct auditns_stream *s, uint64_t most)
{
    uint64_t room = s->size - s->end;
    int64_t got;

    in->apart = 0;
    if (in->staged) {
        memcpy(s->buf + s->end, in->stage, in->staged);
        s->end += in->staged;
        got = (int64_t)in->staged;
        in->staged = 0;
        in->middle = 1;
        in->taken = in->staged_at;
        return got;
    }
    if (in->ended)
        return in->ended < 0 ? in->ended : 0;
    room = in->kind == INTAKE_STREAM && most < room ? most : room;
    got = in->reader->read(in->reader, s->buf + s->end, room);
    if (got == -EINTR)
        got = -EAGAIN;
    in->reads++;
    in->taken = 0;
    if (got > 0) {
        s->end += (uint64_t)got;
        in->middle = s->buf[s->end - 1] != '\n';
        in->bytes += (uint64_t)got;
        if (in->finishing && clock_now() > in->finishing)
            in->ended = 1;
    } else if (!got || (in->finishing && got == -EAGAIN)) {
        in->ended = 1;
        got = 0;
    }
    return got;
}

/* To be called with the lock held; it is let go of while the bytes are moved. */
static int64_t read_queue(struct intake *in, struct auditns_stream *s, uint64_t most)
{
    struct block *b = queue_head(&in->queue);
    struct ring *ring = b->ring;
    uint64_t at = b->at + b->off, size = b->size - b->off, room = s->size - s->end;
    int failed;

    size = size < room ? size : room;
    size = size < most ? size : most;
    b->reading = 1;
    dropped(in, &b->gap);
    in->taken = b->taken;
    pthread_mutex_unlock(&in->lock);
    failed = ring_get(ring, at, s->buf + s->end, (size_t)size);
    pthread_mutex_lock(&in->lock);
    b = queue_head(&in->queue); /* the list may have grown meanwhile */
    if (failed) {
        struct intake_gap lost = {b->extent.first, b->extent.last,    b->extent.events,
                                  b->extent.records, b->extent.from_ms, b->extent.to_ms};
        dropped(in, &lost);
        in->queue.failed = -failed;
        size = b->size - b->off;
    } else {
        s->end += size;
        in->middle = s->buf[s->end - 1] != '\n';
    }
    queue_read(&in->queue, size);
    return failed ? -EAGAIN : (int64_t)size;
}

int64_t intake_read_some(struct intake *in, struct auditns_stream *s, uint64_t most)
{
    int64_t got;

    if (!prepare(s))
        return -ENOBUFS;
    pthread_mutex_lock(&in->lock);
    if (in->queue.count) {
        got = read_queue(in, s, most);
    } else if (in->busy) {
        got = -EAGAIN;
    } else {
        if (in->apart)
            queue_rest(&in->queue);
        dropped(in, &in->cutter.gap);
        in->cutter.dropping = 0;
        got = read_self(in, s, most);
    }
    if (!in->busy)
        signal_news(in, in->queue.count || (in->apart && in->staged));
    pthread_mutex_unlock(&in->lock);
    return got;
}

int64_t intake_read(struct intake *in, struct auditns_stream *s)
{
    return intake_read_some(in, s, UINT64_MAX);
}

void intake_finish(struct intake *in)
{
    pthread_mutex_lock(&in->lock);
    if (!in->finishing)
        in->finishing = clock_now() + ENDING;
    pthread_mutex_unlock(&in->lock);
}

int intake_abandon(struct intake *in, struct intake_gap *gap)
{
    struct block *b;

    *gap = (struct intake_gap){0};
    pthread_mutex_lock(&in->lock);
    in->ended = in->ended ? in->ended : 1;
    for (int i = 0; in->busy && i < 100; i++) { /* what it has read is still to be put there */
        pthread_mutex_unlock(&in->lock);
        poll(NULL, 0, 1);
        pthread_mutex_lock(&in->lock);
    }
    while ((b = queue_head(&in->queue))) {
        struct intake_gap lost = {b->extent.first, b->extent.last,    b->extent.events,
                                  b->extent.records, b->extent.from_ms, b->extent.to_ms};
        gap_join(gap, &b->gap);
        gap_join(gap, &lost);
        queue_read(&in->queue, b->size - b->off);
    }
    if (!in->busy)
        gap_join(gap, &in->cutter.gap);
    in->dropped_events += gap->events;
    in->dropped_records += gap->records;
    pthread_mutex_unlock(&in->lock);
    return gap->records > 0;
}

int intake_dropped(struct intake *in, struct intake_gap *gap)
{
    int some;

    pthread_mutex_lock(&in->lock);
    some = in->gaps > 0;
    if (some) {
        *gap = in->reached[0];
        memmove(in->reached, in->reached + 1, (size_t)--in->gaps * sizeof(*gap));
    }
    pthread_mutex_unlock(&in->lock);
    return some;
}

void intake_tell(struct intake *in, struct intake_news *news)
{
    const struct block *b;

    pthread_mutex_lock(&in->lock);
    b = queue_head(&in->queue);
    *news = (struct intake_news){
        .taken = in->taken, .oldest = b ? b->begun : !in->busy && in->staged ? in->staged_at : 0, .bytes = in->bytes,
        .memory = in->queue.memory.tail - in->queue.memory.head, .spool = in->queue.spool.tail - in->queue.spool.head,
        .most = in->queue.most, .takeovers = in->takeovers, .dropped_events = in->dropped_events,
        .dropped_records = in->dropped_records, .apart = in->apart, .middle = in->middle, .gaps = in->gaps,
        .failed = in->queue.failed};
    pthread_mutex_unlock(&in->lock);
}

void intake_readlog_counts(const struct intake *in, struct readlog_counts *counts)
{
    *counts = (struct readlog_counts){0};
    if (in->kind == INTAKE_READLOG)
        readlog_counted(in->reader, counts);
}
