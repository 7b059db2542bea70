/* perf records to frames: one record, a plain buffer of them, and the mapped rings of all CPUs. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "impl_frames.h"
#include "kernel_perf.h"

_Static_assert(sizeof(struct perf_event_attr) == PERF_ATTR_SIZE_VER5, "perf_event_attr");
_Static_assert(offsetof(struct perf_event_attr, flags) == 40, "perf_event_attr.flags");
_Static_assert(offsetof(struct perf_event_attr, wakeup_watermark) == 48, "perf_event_attr.wakeup_watermark");
_Static_assert(offsetof(struct perf_event_attr, clockid) == 92, "perf_event_attr.clockid");
_Static_assert(sizeof(struct perf_event_header) == 8, "perf_event_header");
_Static_assert(offsetof(struct perf_event_mmap_page, data_head) == 1024, "perf_event_mmap_page.data_head");
_Static_assert(offsetof(struct perf_event_mmap_page, data_tail) == 1032, "perf_event_mmap_page.data_tail");
_Static_assert(sizeof(struct perf_field) == 4, "perf_field");

#define HEAD sizeof(struct perf_event_header)
#define TRAILER 32      /* sample_id: pid tid, time, cpu, identifier */
#define SAMPLE_RAW 44   /* header, identifier, pid tid, time, cpu, u32 raw size */
#define RECORD_MAX 65536
#define MARGIN 16384u   /* more than the largest record the kernel writes (8 KiB of raw data) */
#define KEEP (4u << 20) /* buffers larger than this are given back after use */

struct ring {
    struct perf_event_mmap_page *page;
    uint8_t *data;
    uint64_t size;
    uint64_t last;  /* time of the last record read */
    uint64_t told;  /* lost records told so far */
    uint64_t ahead; /* told from the counter before their LOST record came */
    uint32_t cpu;
    int suspect;
};

/* What a decoding pass writes to: frames and, for each, its time and place. */
struct sink {
    uint8_t *frames;
    size_t len, room;
    struct frame_entry *entries;
    size_t count, slots;
};

struct perf_set {
    struct ring *rings;
    int count;
    struct sink sink;
    uint8_t *sorted;
    size_t sorted_room;
    uint8_t bounces[2][RECORD_MAX]; /* for records that wrap around the end of a ring */
};

static uint64_t load(const uint8_t *at, size_t size)
{
    uint64_t value = 0;

    memcpy(&value, at, size < 8 ? size : 8);
    return value;
}

static int32_t load_pid(const uint8_t *at)
{
    int32_t pid;

    memcpy(&pid, at, sizeof(pid));
    return pid < 0 ? 0 : pid; /* -1: dead, or in another namespace */
}

static int reserve(struct sink *sink, size_t more)
{
    if (sink->room - sink->len < more) {
        size_t room = sink->room ? sink->room * 2 : 65536;
        uint8_t *grown;

        while (room - sink->len < more)
            room *= 2;
        grown = realloc(sink->frames, room);
        if (!grown)
            return -ENOMEM;
        sink->frames = grown;
        sink->room = room;
    }
    if (sink->count == sink->slots) {
        size_t slots = sink->slots ? sink->slots * 2 : 1024;
        struct frame_entry *grown = realloc(sink->entries, slots * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        sink->entries = grown;
        sink->slots = slots;
    }
    return 0;
}

static int put(struct sink *sink, struct frame_header *head, const void *payload, size_t copy, size_t len)
{
    if (reserve(sink, frame_size(len)))
        return -ENOMEM;
    sink->entries[sink->count++] = (struct frame_entry){head->time, sink->len};
    sink->len += frame_put(sink->frames + sink->len, head, payload, copy, len);
    return 0;
}

static int put_text(struct sink *sink, struct frame_header *head, const uint8_t *text, size_t room)
{
    size_t len = strnlen((const char *)text, room);

    return put(sink, head, text, len, len + 1);
}

/* An integer field of raw data; 0 when it is not there. */
static uint64_t field(const uint8_t *raw, size_t len, struct perf_field f)
{
    return f.size <= 8 && (size_t)f.offset + f.size <= len ? load(raw + f.offset, f.size) : 0;
}

static int32_t field_pid(const uint8_t *raw, size_t len, struct perf_field f)
{
    int32_t pid = (int32_t)field(raw, len, f);

    return pid < 0 ? 0 : pid;
}

/* A __data_loc string: *room is how far it may reach, 0 when it lies outside. */
static const uint8_t *field_text(const uint8_t *raw, size_t len, struct perf_field f, size_t *room)
{
    uint32_t loc = (uint32_t)field(raw, len, f);
    size_t at = loc & 0xffff, size = loc >> 16;

    if (f.size != 4 || at > len || size > len - at)
        at = size = 0;
    *room = size;
    return raw + at;
}

static int sample(const struct perf_layout *layout, struct perf_counters *counters, const uint8_t *rec, size_t size,
                  uint32_t cpu, uint64_t time, struct sink *sink)
{
    struct frame_header head = {.source = S_PERF, .cpu = frame_cpu(cpu), .time = time};
    const uint8_t *raw = rec + SAMPLE_RAW, *text;
    size_t len = 0, room;
    uint64_t id, cgroup = 0;

    if (size >= SAMPLE_RAW)
        len = load(rec + SAMPLE_RAW - 4, 4);
    if (size < SAMPLE_RAW || len > size - SAMPLE_RAW || (layout->has_cgroup && size - SAMPLE_RAW - len < 8)) {
        counters->malformed++;
        return 0;
    }
    if (layout->has_cgroup)
        cgroup = load(raw + len, 8);
    id = field(raw, len, layout->common_type);
    counters->received++;
    head.pid = load_pid(rec + 16);
    head.tid = load_pid(rec + 20);
    if (id && id == layout->exec_id) {
        head.kind = K_EXEC;
        head.ppid = field_pid(raw, len, layout->exec_old_pid);
        head.cgroup = cgroup;
        text = field_text(raw, len, layout->exec_filename, &room);
        return put_text(sink, &head, text, room);
    }
    if (id && id == layout->exit_id) {
        head.kind = K_EXIT_SAMPLE;
        head.tid = field_pid(raw, len, layout->exit_pid);
        head.cgroup = cgroup;
        return put(sink, &head, NULL, 0, 0);
    }
    if (id && id == layout->attach_id) {
        head.kind = K_ATTACH;
        head.pid = 0; /* the sample's pid is who moves, not who is moved */
        head.tid = field_pid(raw, len, layout->attach_pid);
        head.arg = field(raw, len, layout->attach_root);
        head.cgroup = field(raw, len, layout->attach_id_field);
        text = field_text(raw, len, layout->attach_path, &room);
        return put_text(sink, &head, text, room);
    }
    if (id && id == layout->newtask_id) {
        head.kind = K_NEWTASK;
        head.ppid = head.pid;
        head.ptid = head.tid;
        head.pid = 0;
        head.tid = field_pid(raw, len, layout->newtask_pid);
        head.arg = field(raw, len, layout->newtask_flags);
        return put(sink, &head, NULL, 0, 0);
    }
    counters->unknown++;
    head.kind = K_UNKNOWN;
    head.arg = PERF_RECORD_SAMPLE;
    head.pid = head.tid = 0;
    return put(sink, &head, rec, size, size);
}

/* The 7 (dev, ino) pairs at `links` as the payload of NAMESPACES: the device of the first, and the inodes. */
static void namespaces_payload(const uint8_t *links, uint64_t payload[1 + PERF_NR_NAMESPACES])
{
    int i;

    payload[0] = load(links, 8);
    for (i = 0; i < PERF_NR_NAMESPACES; i++)
        payload[1 + i] = load(links + 16 * i + 8, 8);
}

static int is_namespaces(const uint8_t *rec, size_t size)
{
    return size >= 24 + 16 * PERF_NR_NAMESPACES + TRAILER && load(rec + 16, 8) >= PERF_NR_NAMESPACES &&
           (load(rec + 16, 8) <= (size - 24 - TRAILER) / 16);
}

/* Size of the record at `rec`, of which `len` bytes are there; 0 when it lies about its size. */
static size_t record_size(const uint8_t *rec, size_t len)
{
    struct perf_event_header h;

    if (len < HEAD)
        return 0;
    memcpy(&h, rec, HEAD);
    return h.size < HEAD || h.size & 7 || h.size > len ? 0 : h.size;
}

static uint64_t record_time(const uint8_t *rec, size_t size, uint64_t last)
{
    struct perf_event_header h;

    memcpy(&h, rec, HEAD);
    if (h.type == PERF_RECORD_SAMPLE)
        return size >= 32 ? load(rec + 24, 8) : last;
    return size >= HEAD + TRAILER ? load(rec + size - 24, 8) : last;
}

/* Smallest record of each kind we read, trailer included. */
static size_t record_least(uint32_t type)
{
    switch (type) {
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
        return HEAD + 24 + TRAILER;
    case PERF_RECORD_COMM:
    case PERF_RECORD_LOST:
    case PERF_RECORD_CGROUP:
        return HEAD + 16 + TRAILER;
    case PERF_RECORD_LOST_SAMPLES:
        return HEAD + 8 + TRAILER;
    }
    return HEAD;
}

/* One record. `next` is the one after it (NULL: not there yet); *merged is set when it was taken in too. */
static int record(const struct perf_layout *layout, struct perf_counters *counters, const uint8_t *rec, size_t size,
                  const uint8_t *next, size_t next_size, uint32_t cpu, uint64_t time, uint64_t last, uint64_t *ahead,
                  uint64_t *told, struct sink *sink, int *merged)
{
    struct perf_event_header h, n;
    struct frame_header head = {.source = S_PERF, .cpu = frame_cpu(cpu), .time = time};
    uint64_t payload[1 + PERF_NR_NAMESPACES], lost;

    memcpy(&h, rec, HEAD);
    if (size < record_least(h.type) || (h.type == PERF_RECORD_NAMESPACES && !is_namespaces(rec, size))) {
        counters->malformed++;
        return 0;
    }
    switch (h.type) {
    case PERF_RECORD_SAMPLE:
        return sample(layout, counters, rec, size, cpu, time, sink);
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
        head.kind = h.type == PERF_RECORD_FORK ? K_FORK : K_EXIT;
        head.pid = load_pid(rec + 8);
        head.ppid = load_pid(rec + 12);
        head.tid = load_pid(rec + 16);
        head.ptid = load_pid(rec + 20);
        counters->received++;
        if (h.type == PERF_RECORD_FORK && next) {
            memcpy(&n, next, HEAD);
            if (n.type == PERF_RECORD_NAMESPACES && is_namespaces(next, next_size) &&
                load_pid(next + 12) == head.tid) {
                counters->received++;
                *merged = 1;
                namespaces_payload(next + 24, payload);
                return put(sink, &head, payload, sizeof(payload), sizeof(payload));
            }
        }
        return put(sink, &head, NULL, 0, 0);
    case PERF_RECORD_COMM:
        head.kind = K_COMM;
        head.pid = load_pid(rec + 8);
        head.tid = load_pid(rec + 12);
        head.arg = (h.misc & PERF_RECORD_MISC_COMM_EXEC) != 0;
        counters->received++;
        return put_text(sink, &head, rec + 16, size - 16 - TRAILER);
    case PERF_RECORD_NAMESPACES:
        head.kind = K_NAMESPACES;
        head.pid = load_pid(rec + 8);
        head.tid = load_pid(rec + 12);
        counters->received++;
        namespaces_payload(rec + 24, payload);
        return put(sink, &head, payload, sizeof(payload), sizeof(payload));
    case PERF_RECORD_CGROUP:
        head.kind = K_CGROUP;
        head.cgroup = load(rec + 8, 8);
        counters->received++;
        return put_text(sink, &head, rec + 16, size - 16 - TRAILER);
    case PERF_RECORD_LOST:
    case PERF_RECORD_LOST_SAMPLES:
        lost = load(rec + (h.type == PERF_RECORD_LOST ? 16 : 8), 8);
        if (lost <= *ahead) {
            *ahead -= lost;
            return 0;
        }
        lost -= *ahead;
        *ahead = 0;
        *told += lost;
        counters->lost += lost;
        head.kind = K_LOST;
        head.arg = lost;
        head.cgroup = last;
        return put(sink, &head, NULL, 0, 0);
    case PERF_RECORD_THROTTLE: /* samples are left out from here on, nobody says how many */
        head.kind = K_LOST;
        head.cgroup = last;
        return put(sink, &head, NULL, 0, 0);
    case PERF_RECORD_UNTHROTTLE:
        return 0;
    }
    counters->received++;
    counters->unknown++;
    head.kind = K_UNKNOWN;
    head.arg = h.type;
    return put(sink, &head, rec, size, size);
}

/* The rest of a ring or buffer cannot be told apart any more: a loss of unknown size. */
static int desynchronised(struct perf_counters *counters, uint32_t cpu, uint64_t last, struct sink *sink)
{
    struct frame_header head = {.kind = K_LOST, .source = S_PERF, .cpu = frame_cpu(cpu), .time = last, .cgroup = last};

    counters->malformed++;
    return put(sink, &head, NULL, 0, 0);
}

int64_t perf_decode(const struct perf_layout *layout, struct perf_counters *counters, const uint8_t *buf, size_t len,
                    uint32_t cpu, uint64_t cut, uint64_t *last, uint8_t **frames, size_t *consumed)
{
    struct sink sink = {0};
    size_t off = 0, size, next;
    uint64_t ahead = 0, told = 0, time;
    int merged, failed = reserve(&sink, 8);

    while (!failed && off < len) {
        size = record_size(buf + off, len - off);
        if (!size) {
            failed = desynchronised(counters, cpu, *last, &sink);
            off = len;
            break;
        }
        time = record_time(buf + off, size, *last);
        if (time > cut)
            break;
        next = record_size(buf + off + size, len - off - size);
        merged = 0;
        failed = record(layout, counters, buf + off, size, next ? buf + off + size : NULL, next, cpu, time, *last,
                        &ahead, &told, &sink, &merged);
        *last = time;
        off += size + (merged ? next : 0);
    }
    free(sink.entries);
    *frames = sink.frames;
    *consumed = off;
    return failed ? failed : (int64_t)sink.len;
}

void perf_free(uint8_t *frames)
{
    free(frames);
}

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

/* The record at `pos`, or NULL when `head` is reached or it makes no sense (then *size is 0 too). */
static const uint8_t *ring_record(const struct ring *ring, uint64_t pos, uint64_t head, uint8_t *bounce, size_t *size)
{
    struct perf_event_header h;

    *size = 0;
    if (head - pos < HEAD)
        return NULL;
    memcpy(&h, contiguous(ring, pos, HEAD, bounce), HEAD);
    if (h.size < HEAD || h.size & 7 || h.size > head - pos)
        return NULL;
    *size = h.size;
    return contiguous(ring, pos, h.size, bounce);
}

static int ring_drain(struct ring *ring, const struct perf_layout *layout, struct perf_counters *counters,
                      uint64_t cut, struct sink *sink, uint8_t bounces[2][RECORD_MAX])
{
    uint64_t start = ring->page->data_tail, pos = start, time;
    uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);
    const uint8_t *rec, *next;
    size_t size, next_size;
    int merged, failed = 0, turn = 0;

    rec = ring_record(ring, pos, head, bounces[turn], &size);
    while (!failed && pos != head) {
        if (!rec) {
            failed = desynchronised(counters, ring->cpu, ring->last, sink);
            pos = head;
            break;
        }
        time = record_time(rec, size, ring->last);
        if (time > cut)
            break;
        turn ^= 1;
        next = ring_record(ring, pos + size, head, bounces[turn], &next_size);
        merged = 0;
        failed = record(layout, counters, rec, size, next, next_size, ring->cpu, time, ring->last, &ring->ahead,
                        &ring->told, sink, &merged);
        if (failed)
            break;
        ring->last = time;
        pos += size;
        if (merged) {
            pos += next_size;
            next = ring_record(ring, pos, head, bounces[turn], &next_size);
        }
        rec = next;
        size = next_size;
    }
    __atomic_store_n(&ring->page->data_tail, pos, __ATOMIC_SEQ_CST);
    /* A record is dropped only when less room than its size is left, and the room shrank until this very store:
       if there is plenty by the old tail and the newest head, nothing was dropped since the last drain. */
    head = __atomic_load_n(&ring->page->data_head, __ATOMIC_SEQ_CST);
    if (head - start > (ring->size > 2 * MARGIN ? ring->size - MARGIN : 0))
        ring->suspect = 1;
    return failed;
}

/* Buffers which one storm made large do not stay so. */
static void slim(struct perf_set *set)
{
    if (set->sink.room > KEEP) {
        free(set->sink.frames);
        free(set->sink.entries);
        set->sink = (struct sink){0};
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
    struct sink *sink = &set->sink;
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

int perf_set_suspect(struct perf_set *set, int ring)
{
    int suspect = set->rings[ring].suspect;

    set->rings[ring].suspect = 0;
    return suspect;
}

uint64_t perf_set_untold(struct perf_set *set, int ring, uint64_t total, uint64_t *last)
{
    struct ring *r = &set->rings[ring];
    uint64_t untold = total > r->told ? total - r->told : 0;

    *last = r->last;
    r->told += untold;
    r->ahead += untold;
    return untold;
}
