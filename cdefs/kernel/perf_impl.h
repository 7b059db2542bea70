/* Shared by the decoder of perf records and the reader of the rings, not seen by cffi. */
#ifndef AUDITNS_IMPL_PERF_H
#define AUDITNS_IMPL_PERF_H

#include "frames/frames_impl.h"
#include "kernel/perf.h"

#define PERF_HEAD sizeof(struct perf_event_header)
#define PERF_RECORD_MAX 65536

/* What a decoding pass writes to: frames and, for each, its time and place. */
struct perf_sink {
    uint8_t *frames;
    size_t len, room;
    struct frame_entry *entries;
    size_t count, slots;
};

/* A record, and the one behind it (NULL: not there yet). */
struct perf_place {
    const uint8_t *rec, *next;
    size_t size, next_size;
    uint64_t time;
    uint32_t cpu;
};

/* What is carried from record to record of one ring. */
struct perf_tally {
    uint64_t last;  /* time of the last record read */
    uint64_t reported; /* lost records reported so far */
    uint64_t ahead; /* of them: reported from the kernel's counter, before their LOST record came */
    int merged;     /* the last call took the next record in too */
};

/* Size of the record at `rec`, of which `len` bytes are there; 0 when it lies about its size. */
size_t perf_record_size(const uint8_t *rec, size_t len);
/* Its time, or `last` when it carries none. */
uint64_t perf_record_time(const uint8_t *rec, size_t size, uint64_t last);
/* Decode one whole record. 0 or -ENOMEM. */
int perf_record(const struct perf_layout *layout, struct perf_counters *counters, const struct perf_place *place,
                struct perf_tally *tally, struct perf_sink *sink);
/* Where records of a ring or buffer end cannot be determined any more: a loss of unknown size. */
int perf_desynchronised(struct perf_counters *counters, uint32_t cpu, uint64_t last, struct perf_sink *sink);

#endif
