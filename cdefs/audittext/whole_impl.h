#ifndef AUDITNS_WHOLE_IMPL_H
#define AUDITNS_WHOLE_IMPL_H
/* What is kept of events that are handed out whole. */
#include "audittext/scan_impl.h"

struct noted {
    uint64_t off;
    uint32_t len, stop, trail, type, hdr, hdr_len, body, lead_len, node_off, node_len, next;
};

struct slot {
    struct auditns_event event;
    uint64_t first, bytes;
    uint32_t line, last, lines, points, older, newer, chain;
    uint32_t late, number;   /* of an event that was handed out before: which that was */
    uint8_t called, ended, cut, rest; /* and whether with its SYSCALL, with its end, and as in auditns_closed */
    int32_t pid, ppid;
    uint64_t turn;           /* the line that may have been its last, counted from 1; 0: its end is seen otherwise */
    int64_t heard;           /* the newest time in the text then (ms) */
};

struct auditns_whole {
    uint64_t limit;
    uint32_t most, open, buckets;
    uint32_t oldest, newest, free, lone, last;
    uint32_t lines, points;  /* what the open events have, and may make */
    uint32_t noted_room, noted_free;
    struct noted *noted;
    uint32_t *bucket;
    struct auditns_memory decided;
    uint64_t turn, settled;  /* lines that have come, and those of them that no event waits behind */
    uint32_t recent[TURNS];  /* by line: the slot of its event */
    struct slot slot[];
};

/* What is late belongs to a process that had its point before: its point says so, and nothing is put in there. An EOE alone says
 * nothing of anybody. */
void whole_late(struct auditns_points *p, const struct slot *slot, const struct head *h, uint32_t line, uint32_t end);

#endif
