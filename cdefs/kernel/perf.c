/* perf records to frames. Nothing is read past a record's announced end. */
#include <errno.h>
#include <stdlib.h>

#include "kernel/perf_impl.h"

_Static_assert(sizeof(struct perf_event_attr) == PERF_ATTR_SIZE_VER5, "perf_event_attr");
_Static_assert(offsetof(struct perf_event_attr, flags) == 40, "perf_event_attr.flags");
_Static_assert(offsetof(struct perf_event_attr, wakeup_watermark) == 48, "perf_event_attr.wakeup_watermark");
_Static_assert(offsetof(struct perf_event_attr, clockid) == 92, "perf_event_attr.clockid");
_Static_assert(sizeof(struct perf_event_header) == 8, "perf_event_header");
_Static_assert(offsetof(struct perf_event_mmap_page, data_head) == 1024, "perf_event_mmap_page.data_head");
_Static_assert(offsetof(struct perf_event_mmap_page, data_tail) == 1032, "perf_event_mmap_page.data_tail");
_Static_assert(sizeof(struct perf_field) == 4, "perf_field");

#define TRAILER 32    /* sample_id: pid tid, time, cpu, identifier */
#define SAMPLE_RAW 44 /* header, identifier, pid tid, time, cpu, u32 raw size */

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

static int reserve(struct perf_sink *sink, size_t more)
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

static int put(struct perf_sink *sink, struct frame_header *head, const void *payload, size_t copy, size_t len)
{
    if (reserve(sink, frame_size(len)))
        return -ENOMEM;
    sink->entries[sink->count++] = (struct frame_entry){head->time, sink->len};
    sink->len += frame_put(sink->frames + sink->len, head, payload, copy, len);
    return 0;
}

static int put_text(struct perf_sink *sink, struct frame_header *head, const uint8_t *text, size_t room)
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
                  uint32_t cpu, uint64_t time, struct perf_sink *sink)
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
    if (id && (id == layout->unshare_id || id == layout->setns_id)) {
        head.kind = id == layout->unshare_id ? K_UNSHARE : K_SETNS;
        head.arg = field(raw, len, id == layout->unshare_id ? layout->unshare_flags : layout->setns_flags);
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

size_t perf_record_size(const uint8_t *rec, size_t len)
{
    struct perf_event_header h;

    if (len < PERF_HEAD)
        return 0;
    memcpy(&h, rec, PERF_HEAD);
    return h.size < PERF_HEAD || h.size & 7 || h.size > len ? 0 : h.size;
}

uint64_t perf_record_time(const uint8_t *rec, size_t size, uint64_t last)
{
    struct perf_event_header h;

    memcpy(&h, rec, PERF_HEAD);
    if (h.type == PERF_RECORD_SAMPLE)
        return size >= 32 ? load(rec + 24, 8) : last;
    return size >= PERF_HEAD + TRAILER ? load(rec + size - 24, 8) : last;
}

/* Smallest record of each kind we read, trailer included. */
static size_t record_least(uint32_t type)
{
    switch (type) {
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
        return PERF_HEAD + 24 + TRAILER;
    case PERF_RECORD_COMM:
    case PERF_RECORD_LOST:
    case PERF_RECORD_CGROUP:
        return PERF_HEAD + 16 + TRAILER;
    case PERF_RECORD_LOST_SAMPLES:
        return PERF_HEAD + 8 + TRAILER;
    }
    return PERF_HEAD;
}

/* A FORK, with the NAMESPACES record of the child where that stands right behind it; or an EXIT. */
static int task_record(struct perf_counters *counters, const struct perf_place *place, struct perf_tally *tally,
                       struct perf_sink *sink, struct frame_header *head)
{
    const uint8_t *rec = place->rec, *next = place->next;
    struct perf_event_header n;
    uint64_t payload[1 + PERF_NR_NAMESPACES];

    head->pid = load_pid(rec + 8);
    head->ppid = load_pid(rec + 12);
    head->tid = load_pid(rec + 16);
    head->ptid = load_pid(rec + 20);
    counters->received++;
    if (head->kind == K_FORK && next) {
        memcpy(&n, next, PERF_HEAD);
        if (n.type == PERF_RECORD_NAMESPACES && is_namespaces(next, place->next_size) && load_pid(next + 12) == head->tid) {
            counters->received++;
            tally->merged = 1;
            namespaces_payload(next + 24, payload);
            return put(sink, head, payload, sizeof(payload), sizeof(payload));
        }
    }
    return put(sink, head, NULL, 0, 0);
}

/* `lost` records are missing, of which some may have been counted before. */
static int lost_record(struct perf_counters *counters, struct perf_tally *tally, struct perf_sink *sink,
                       struct frame_header *head, uint64_t lost)
{
    if (lost <= tally->ahead) {
        tally->ahead -= lost;
        return 0;
    }
    lost -= tally->ahead;
    tally->ahead = 0;
    tally->reported += lost;
    counters->lost += lost;
    head->kind = K_LOST;
    head->arg = lost;
    head->cgroup = tally->last;
    return put(sink, head, NULL, 0, 0);
}

int perf_record(const struct perf_layout *layout, struct perf_counters *counters, const struct perf_place *place,
                struct perf_tally *tally, struct perf_sink *sink)
{
    struct perf_event_header h;
    const uint8_t *rec = place->rec;
    size_t size = place->size;
    struct frame_header head = {.source = S_PERF, .cpu = frame_cpu(place->cpu), .time = place->time};
    uint64_t payload[1 + PERF_NR_NAMESPACES];

    memcpy(&h, rec, PERF_HEAD);
    if (size < record_least(h.type) || (h.type == PERF_RECORD_NAMESPACES && !is_namespaces(rec, size))) {
        counters->malformed++;
        return 0;
    }
    switch (h.type) {
    case PERF_RECORD_SAMPLE:
        return sample(layout, counters, rec, size, place->cpu, place->time, sink);
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
        head.kind = h.type == PERF_RECORD_FORK ? K_FORK : K_EXIT;
        return task_record(counters, place, tally, sink, &head);
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
        return lost_record(counters, tally, sink, &head, load(rec + (h.type == PERF_RECORD_LOST ? 16 : 8), 8));
    case PERF_RECORD_THROTTLE: /* samples are left out from here on, nobody says how many */
        head.kind = K_LOST;
        head.cgroup = tally->last;
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

int perf_desynchronised(struct perf_counters *counters, uint32_t cpu, uint64_t last, struct perf_sink *sink)
{
    struct frame_header head = {.kind = K_LOST, .source = S_PERF, .cpu = frame_cpu(cpu), .time = last, .cgroup = last};

    counters->malformed++;
    return put(sink, &head, NULL, 0, 0);
}

int64_t perf_decode(const struct perf_layout *layout, struct perf_counters *counters, const uint8_t *buf, size_t len,
                    uint32_t cpu, uint64_t cut, uint64_t *last, uint8_t **frames, size_t *consumed)
{
    struct perf_sink sink = {0};
    struct perf_tally tally = {.last = *last};
    struct perf_place place = {.cpu = cpu};
    size_t off = 0;
    int failed = reserve(&sink, 8);

    while (!failed && off < len) {
        place.rec = buf + off;
        place.size = perf_record_size(place.rec, len - off);
        if (!place.size) {
            failed = perf_desynchronised(counters, cpu, tally.last, &sink);
            off = len;
            break;
        }
        place.time = perf_record_time(place.rec, place.size, tally.last);
        if (place.time > cut)
            break;
        place.next_size = perf_record_size(place.rec + place.size, len - off - place.size);
        place.next = place.next_size ? place.rec + place.size : NULL;
        tally.merged = 0;
        failed = perf_record(layout, counters, &place, &tally, &sink);
        tally.last = place.time;
        off += place.size + (tally.merged ? place.next_size : 0);
    }
    free(sink.entries);
    *last = tally.last;
    *frames = sink.frames;
    *consumed = off;
    return failed ? failed : (int64_t)sink.len;
}

void perf_free(uint8_t *frames)
{
    free(frames);
}
