/* The mapped perf rings of all CPUs, read together. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernel/perf_impl.h"
#include "kernel/clock.h"

#define MARGIN 16384u   /* more than the largest record the kernel writes (8 KiB of raw data) */
#define KEEP (4u << 20) /* buffers larger than this are given back after use */

struct ring {
    struct perf_event_mmap_page *page;
    uint8_t *data;
    uint64_t size;
    struct perf_tally tally;
    uint32_t cpu;
    int suspect;
};

struct perf_set {
    struct ring *rings;
    int count;
    struct perf_sink sink;
    uint8_t *sorted;
    size_t sorted_room;
    uint8_t bounces[2][PERF_RECORD_MAX]; /* for records that wrap around the end of a ring */
};

int perf_open(struct perf_event_attr *attr, int cpu)
{
    long fd = syscall(SYS_perf_event_open, attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

    return fd < 0 ? -errno : (int)fd;
}

int perf_redirect(int fd, int into)
{
    return ioctl(fd, _IO('$', 5), into) ? -errno : 0;
}

int perf_filter(int fd, const char *filter)
{
    return ioctl(fd, _IOW('$', 6, char *), filter) ? -errno : 0;
}

int perf_enable(int fd)
{
    return ioctl(fd, _IO('$', 0), 0) ? -errno : 0;
}

struct perf_set *perf_set_new(void)
{
    return calloc(1, sizeof(struct perf_set));
}

void perf_set_free(struct perf_set *set)
{
    int i;

    if (!set)
        return;
    for (i = 0; i < set->count; i++)
        munmap(set->rings[i].page, set->rings[i].size + (size_t)sysconf(_SC_PAGESIZE));
    free(set->rings);
    free(set->sink.frames);
    free(set->sink.entries);
    free(set->sorted);
    free(set);
}

int perf_set_add(struct perf_set *set, int fd, uint32_t cpu, uint32_t pages)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct ring *grown = realloc(set->rings, (size_t)(set->count + 1) * sizeof(*grown));
    void *map;

    if (!grown)
        return -ENOMEM;
    set->rings = grown;
    map = mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    set->rings[set->count] = (struct ring){.page = map, .data = (uint8_t *)map + page, .size = pages * page, .cpu = cpu};
    return set->count++;
}

void perf_set_drop(struct perf_set *set, int ring)
{
    struct ring *r = &set->rings[ring];

    munmap(r->page, r->size + (size_t)sysconf(_SC_PAGESIZE));
    set->count--;
    memmove(r, r + 1, (size_t)(set->count - ring) * sizeof(*r));
}

/* `len` bytes of the ring at `pos`, through `bounce` where they wrap. */
static const uint8_t *contiguous(const struct ring *ring, uint64_t pos, size_t len, uint8_t *bounce)
{
    uint64_t at = pos & (ring->size - 1);
    size_t first = ring->size - at;

    if (len <= first)
        return ring->data + at;
    memcpy(bounce, ring->data + at, first);
    memcpy(bounce + first, ring->data, len - first);
    return bounce;
}

/* The record at `pos`, or NULL when `head` is reached or it makes no sense. */
static const uint8_t *ring_record(const struct ring *ring, uint64_t pos, uint64_t head, uint8_t *bounce, size_t *size)
{
    uint8_t header[PERF_HEAD];
    struct perf_event_header h;

    *size = 0;
    if (head - pos < PERF_HEAD)
        return NULL;
    memcpy(&h, contiguous(ring, pos, PERF_HEAD, header), PERF_HEAD);
    if (h.size < PERF_HEAD || h.size & 7 || h.size > head - pos)
        return NULL;
    *size = h.size;
    return contiguous(ring, pos, h.size, bounce);
}

static int ring_drain(struct ring *ring, const struct perf_layout *layout, struct perf_counters *counters,
                      uint64_t cut, struct perf_sink *sink, uint8_t bounces[2][PERF_RECORD_MAX])
{
    uint64_t start = ring->page->data_tail, pos = start;
    uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);
    struct perf_place place = {.cpu = ring->cpu};
    int failed = 0, turn = 0;

    place.rec = ring_record(ring, pos, head, bounces[turn], &place.size);
    while (pos != head) {
        if (!place.rec) {
            failed = perf_desynchronised(counters, ring->cpu, ring->tally.last, sink);
            pos = head;
            break;
        }
        place.time = perf_record_time(place.rec, place.size, ring->tally.last);
        if (place.time > cut)
            break;
        turn ^= 1;
        place.next = ring_record(ring, pos + place.size, head, bounces[turn], &place.next_size);
        ring->tally.merged = 0;
        failed = perf_record(layout, counters, &place, &ring->tally, sink);
        if (failed)
            break;
        ring->tally.last = place.time;
        pos += place.size;
        if (ring->tally.merged) {
            pos += place.next_size;
            place.next = ring_record(ring, pos, head, bounces[turn], &place.next_size);
        }
        place.rec = place.next;
        place.size = place.next_size;
    }
    __atomic_store_n(&ring->page->data_tail, pos, __ATOMIC_SEQ_CST);
    /* A record is dropped only when less room than its size is left, and the room shrank until this very store:
       if there is plenty by the old tail and the newest head, nothing was dropped since the last drain. */
    head = __atomic_load_n(&ring->page->data_head, __ATOMIC_SEQ_CST);
    if (head - start > (ring->size > 2 * MARGIN ? ring->size - MARGIN : 0))
        ring->suspect = counters->suspect = 1;
    return failed;
}

/* Buffers which one storm made large do not stay so. */
static void slim(struct perf_set *set)
{
    if (set->sink.room > KEEP) {
        free(set->sink.frames);
        free(set->sink.entries);
        set->sink = (struct perf_sink){0};
    }
    if (set->sorted_room > KEEP) {
        free(set->sorted);
        set->sorted = NULL;
        set->sorted_room = 0;
    }
}

int64_t perf_set_drain(struct perf_set *set, const struct perf_layout *layout, struct perf_counters *counters,
                       uint64_t cut, uint8_t **frames)
{
    struct perf_sink *sink = &set->sink;
    struct frame_entry *spare;
    size_t i, len = 0;
    int r, failed = 0, sorted = 1;

    slim(set);
    sink->len = sink->count = 0;
    for (r = 0; r < set->count && !failed; r++)
        failed = ring_drain(&set->rings[r], layout, counters, cut, sink, set->bounces);
    if (failed)
        return failed;
    *frames = sink->frames;
    for (i = 1; i < sink->count && sorted; i++)
        sorted = sink->entries[i - 1].time <= sink->entries[i].time;
    if (sorted)
        return (int64_t)sink->len;
    if (set->sorted_room < sink->len) {
        free(set->sorted);
        set->sorted_room = 0;
        set->sorted = malloc(sink->room);
        if (!set->sorted)
            return -ENOMEM;
        set->sorted_room = sink->room;
    }
    spare = malloc(sink->count * sizeof(*spare));
    if (!spare)
        return -ENOMEM;
    entries_order(sink->entries, spare, sink->count);
    free(spare);
    for (i = 0; i < sink->count; i++) {
        const uint8_t *frame = sink->frames + sink->entries[i].off;
        uint32_t size;

        memcpy(&size, frame, sizeof(size));
        memcpy(set->sorted + len, frame, size);
        len += size;
    }
    *frames = set->sorted;
    return (int64_t)len;
}

int64_t perf_look(struct perf_look *look)
{
    look->cut = look->upto ? look->upto : (uint64_t)clock_now();
    look->clock_due = clock_look(look->clock);
    return perf_set_drain(look->set, look->layout, look->counters, look->cut, &look->frames);
}

int perf_set_suspect(struct perf_set *set, int ring)
{
    int suspect = set->rings[ring].suspect;

    set->rings[ring].suspect = 0;
    return suspect;
}

uint64_t perf_set_unreported(struct perf_set *set, int ring, uint64_t total, uint64_t *last)
{
    struct ring *r = &set->rings[ring];
    uint64_t unreported = total > r->tally.reported ? total - r->tally.reported : 0;

    *last = r->tally.last;
    r->tally.reported += unreported;
    r->tally.ahead += unreported;
    return unreported;
}
