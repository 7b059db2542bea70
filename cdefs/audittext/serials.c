/* Which events of this host have not come: holes in the serials, in the order in which the text has them. Several CPUs
 * write events at the same time, so one whose first record is late, or whose end is, is no hole once its system call
 * has come; one that never comes stays a hole for good. */
#include "audittext/scan_impl.h"

#define FARTHEST (1 << 24)          /* a step further than this is another sequence: another boot, another host */
#define FIRST_DAEMON 1200           /* auditd numbers its own events itself */
#define LAST_DAEMON 1299

static void drop_holes(struct auditns_serials *q, uint32_t from, uint32_t count)
{
    q->holes -= count;
    memmove(&q->hole[from], &q->hole[from + count], (q->holes - from) * sizeof(*q->hole));
}

/* A hole at place `at`; where there is no room the oldest one counts as lost. */
static void add_hole(struct auditns_serials *q, uint32_t at, struct auditns_hole hole)
{
    if (q->holes == AUDITNS_MAX_HOLES) {
        if (q->lost < q->hole[0].until)
            q->lost = q->hole[0].until;
        if (!at)
            return; /* it is the oldest itself, or a part of that */
        drop_holes(q, 0, 1);
        at--;
    }
    memmove(&q->hole[at + 1], &q->hole[at], (q->holes++ - at) * sizeof(*q->hole));
    q->hole[at] = hole;
}

static void fill_hole(struct auditns_serials *q, uint32_t serial)
{
    for (uint32_t i = 0; i < q->holes; i++) {
        struct auditns_hole *hole = &q->hole[i], before = *hole;
        uint32_t at = serial - hole->first;

        if (at >= hole->count)
            continue;
        before.count = at;
        hole->first = serial + 1;
        hole->count -= at + 1;
        if (!hole->count)
            drop_holes(q, i, 1);
        if (before.count)
            add_hole(q, i, before);
        return;
    }
}

void serial_came(struct auditns_scan *s, const struct head *h, int principal)
{
    struct auditns_serials *q = &s->serials;
    uint32_t type = h->type & 0xffff, serial = (uint32_t)h->serial;

    if (h->type & TYPE_OWN || (type >= FIRST_DAEMON && type <= LAST_DAEMON) || h->serial > UINT32_MAX)
        return;
    int32_t step = (int32_t)(serial - q->high);
    if (!q->began || q->node != h->node || step > FARTHEST || step < -FARTHEST) {
        *q = (struct auditns_serials){.began = 1, .node = h->node, .high = serial - 1, .lost = s->now};
        step = 1;
    }
    if (step <= 0) {
        if (principal && q->holes)
            fill_hole(q, serial);
        return;
    }
    q->high = serial;
    if (step > 1)
        add_hole(q, q->holes, (struct auditns_hole){serial - (uint32_t)step + 1, (uint32_t)step - 1, s->now});
    if (!principal)
        add_hole(q, q->holes, (struct auditns_hole){serial, 1, s->now});
}

int64_t auditns_missing_before(const struct auditns_scan *s)
{
    const struct auditns_serials *q = &s->serials;
    int64_t newest = q->holes ? q->hole[q->holes - 1].until : 0;

    if (!q->began)
        return INT64_MAX;
    return newest > q->lost ? newest : q->lost;
}
