/* Text on its way: read into one buffer, scanned where it lies. The buffer and its growth are reassemble.TextStream's. */
#include <errno.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>
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

int64_t auditns_stream_read(struct auditns_stream *s, int fd)
{
    ssize_t got;

    s->start += s->consumed;
    s->consumed = 0;
    if (s->start == s->end)
        s->start = s->scanned = s->end = 0;
    if (s->size - s->end < s->least)
        return -ENOBUFS;
    got = read(fd, s->buf + s->end, s->size - s->end);
    if (got < 0)
        return -errno;
    s->end += (uint64_t)got;
    return got;
}
