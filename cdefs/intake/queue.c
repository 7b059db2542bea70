/* Text that waits: blocks in their order, their bytes in memory first and then in a file. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "intake/intake_impl.h"

#define TOGETHER 10000000u /* text that came within this time is one block (ns) */
#define LARGEST 262144u    /* unless it is more than that */
#define BLOCKS 65536u      /* with more blocks than this time does not matter */
#define KEEP (1u << 20)    /* memory that stays when all is read */

int queue_init(struct queue *q, uint64_t memory, uint64_t disk, int spool)
{
    memset(q, 0, sizeof(*q));
    q->memory.limit = memory;
    q->memory.size = memory + RESERVE;
    q->memory.map = mmap(NULL, q->memory.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    q->spool.fd = spool;
    q->spool.limit = q->spool.size = spool < 0 ? 0 : disk;
    q->cap = 64;
    q->blocks = calloc(q->cap, sizeof(*q->blocks));
    if (q->memory.map == MAP_FAILED)
        q->memory.map = NULL;
    return q->memory.map && q->blocks;
}

void queue_free(struct queue *q)
{
    if (q->memory.map)
        munmap(q->memory.map, q->memory.size);
    free(q->blocks);
}

struct ring *queue_room(struct queue *q, uint64_t size, int reserve)
{
    const struct ring *m = &q->memory, *s = &q->spool;

    if (size <= m->limit && m->tail - m->head <= m->limit - size)
        return &q->memory;
    if (!q->failed && size <= s->limit && s->tail - s->head <= s->limit - size)
        return &q->spool;
    if (reserve && size <= m->size && m->tail - m->head <= m->size - size)
        return &q->memory;
    return NULL;
}

static int eased(const struct ring *r)
{
    return r->limit && r->tail - r->head <= r->limit - r->limit / 8;
}

int queue_eased(const struct queue *q)
{
    return eased(&q->memory) || (!q->failed && eased(&q->spool));
}

static int write_at(int fd, const char *data, size_t size, uint64_t at)
{
    while (size) {
        ssize_t done = pwrite(fd, data, size, (off_t)at);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done ? -errno : -ENOSPC;
        data += done;
        at += (uint64_t)done;
        size -= (size_t)done;
    }
    return 0;
}

static int read_at(int fd, char *to, size_t size, uint64_t at)
{
    while (size) {
        ssize_t done = pread(fd, to, size, (off_t)at);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done ? -errno : -EIO;
        to += done;
        at += (uint64_t)done;
        size -= (size_t)done;
    }
    return 0;
}

int ring_put(struct ring *ring, const char *data, size_t size)
{
    uint64_t at = ring->tail % ring->size;
    size_t part = size < ring->size - at ? size : ring->size - at;

    if (!ring->map) {
        int failed = write_at(ring->fd, data, part, at);
        return failed ? failed : write_at(ring->fd, data + part, size - part, 0);
    }
    memcpy(ring->map + at, data, part);
    memcpy(ring->map, data + part, size - part);
    return 0;
}

int ring_get(const struct ring *ring, uint64_t from, char *to, size_t size)
{
    uint64_t at = from % ring->size;
    size_t part = size < ring->size - at ? size : ring->size - at;

    if (!ring->map) {
        int failed = read_at(ring->fd, to, part, at);
        return failed ? failed : read_at(ring->fd, to + part, size - part, 0);
    }
    memcpy(to, ring->map + at, part);
    memcpy(to + part, ring->map, size - part);
    return 0;
}

static struct block *block_at(const struct queue *q, uint32_t number)
{
    return &q->blocks[(q->head + number) % q->cap];
}

static void join(struct extent *e, const struct extent *more)
{
    if (!more->events) {
        e->records += more->records;
        return;
    }
    if (!e->events) {
        uint64_t records = e->records;
        *e = *more;
        e->records += records;
        return;
    }
    e->last = more->last;
    e->to_ms = more->to_ms;
    e->events += more->events;
    e->records += more->records;
}

static int grow(struct queue *q)
{
    struct block *more = calloc(2 * (size_t)q->cap, sizeof(*more));

    if (!more)
        return 0;
    for (uint32_t i = 0; i < q->count; i++)
        more[i] = *block_at(q, i);
    free(q->blocks);
    q->blocks = more;
    q->head = 0;
    q->cap *= 2;
    return 1;
}

uint64_t queue_waits(const struct queue *q)
{
    return q->memory.tail - q->memory.head + q->spool.tail - q->spool.head;
}

int queue_add(struct queue *q, struct ring *ring, uint64_t size, int64_t now, const struct extent *extent,
              const struct intake_gap *gap)
{
    struct block *b = q->count ? block_at(q, q->count - 1) : NULL;

    if (b && !b->reading && !b->off && b->ring == ring && !gap->records && b->size + size <= LARGEST &&
        ((uint64_t)(now - b->begun) <= TOGETHER || q->count >= BLOCKS)) {
        b->size += size;
        b->taken = now;
        join(&b->extent, extent);
    } else {
        if (q->count == q->cap && !grow(q))
            return 0;
        *block_at(q, q->count++) = (struct block){
            .begun = now, .taken = now, .at = ring->tail, .size = size, .ring = ring, .extent = *extent, .gap = *gap};
    }
    ring->tail += size;
    if (queue_waits(q) > q->most)
        q->most = queue_waits(q);
    return 1;
}

struct block *queue_head(struct queue *q)
{
    return q->count ? block_at(q, 0) : NULL;
}

void queue_read(struct queue *q, uint64_t size)
{
    struct block *b = block_at(q, 0);

    b->off += size;
    b->ring->head += size;
    if (b->off < b->size)
        return;
    q->head = (q->head + 1) % q->cap;
    q->count--;
}

void queue_rest(struct queue *q)
{
    if (q->memory.tail > KEEP)
        madvise(q->memory.map, q->memory.size, MADV_DONTNEED);
    q->memory.head = q->memory.tail = 0;
    if (q->spool.tail && ftruncate(q->spool.fd, 0))
        q->failed = q->failed ? q->failed : errno; /* its space is not given back: use no more of it */
    q->spool.head = q->spool.tail = 0;
}
