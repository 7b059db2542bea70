/* The usual round in three calls: quick.py says which it is. */
#include <stdint.h>
#include <sys/types.h>
#include "text_decl.h"

int auditns_quick_read(struct auditns_quick *q)
{
    int64_t got = auditns_stream_read(q->stream, q->fd);

    if (got <= 0)
        return 0;
    q->bytes += (uint64_t)got;
    return auditns_stream_scan(q->stream, q->scan, q->points, UINT32_MAX, 0) < 0 ? -1 : 1;
}

/* Whether the points are of the events that come next, without a hole. auditd counts its own (1200 to 1299) by itself. */
static int in_order(const struct auditns_quick *q)
{
    const struct auditns_points *p = q->points;

    if (!p->n || p->n > AUDITNS_QUICK || q->scan->changes != q->changes)
        return 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (p->serial[i] != q->next + i || (p->rtype[i] >= 1200 && p->rtype[i] < 1300))
            return 0;
    return 1;
}

int64_t auditns_quick_join(struct auditns_quick *q, const char *frames, uint64_t len, int64_t now)
{
    struct auditns_points *p = q->points;
    const struct auditns_known *k = q->touched->known;
    int64_t size;

    q->quiet = !len || auditns_follow(q->touched, frames, len, 0);
    if (!q->quiet || !in_order(q))
        return -1;
    size = auditns_join(q->touched, p, (uint32_t)q->stream->consumed, q->careful, now, q->choice, q->tails, q->out, q->room);
    if (size < 0)
        return -1;
    q->next += p->n;
    q->ms = p->ms[p->n - 1];
    q->answered += p->n;
    q->events += p->subjects;
    for (int kind = 0; kind < 4; kind++)
        q->counted[kind] += k->counted[kind];
    return size;
}
