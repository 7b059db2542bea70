/* Text on its way: put into one buffer, scanned where it lies. The buffer and its growth are reassemble.TextStream's. */
#include <stdint.h>
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
