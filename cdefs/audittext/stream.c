/* Text on its way: put into one buffer, scanned where it lies. The buffer and its growth are scanner.TextStream's. */
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/audittext.h"

int64_t auditns_stream_scan(struct auditns_stream *s, struct auditns_scan *scan, struct auditns_points *points,
                            uint64_t most, int mode)
{
    int64_t consumed;

    s->start += s->consumed;
    s->consumed = 0;
    if (s->end - s->scanned < most)
        most = s->end - s->scanned;
    points->buf = s->buf + s->start;
    points->len = (uint32_t)(s->scanned + most - s->start);
    consumed = auditns_scan(scan, points, points->buf, points->len, mode);
    if (consumed < 0)
        return consumed;
    s->scanned += most;
    s->consumed = (uint64_t)consumed;
    return consumed;
}

#define LITTLE (1u << 16) /* so much is moved to the front at once, where it is in the processor's cache */

int auditns_stream_room(struct auditns_stream *s, uint64_t size)
{
    uint64_t kept;

    s->start += s->consumed;
    s->consumed = 0;
    kept = s->end - s->start;
    if (s->end + size <= s->size && (!s->start || kept > LITTLE))
        return 1;
    if (kept + size > s->size)
        return 0;
    memmove(s->buf, s->buf + s->start, kept);
    s->scanned -= s->start;
    s->start = 0;
    s->end = kept;
    return 1;
}
