/* The arrays of points and lines. */
#include "audittext/scan_impl.h"

#define VALUES(X) X(ms) X(exit) X(serial) X(flags) X(event) X(arch) X(hdr_len) X(node_len) X(aux1_len) X(aux2_len) \
    X(key_len) X(lead_len) X(trail_len) X(origin) X(pid) X(ppid) X(sysno) X(rtype) X(recno)
#define OFFSETS(X) X(at) X(hdr_off) X(node_off) X(line_off) X(aux1_off) X(aux2_off) X(key_off) X(trail_off)

/* drop what the last call handed out, and let the block begin where that ended */
void release(struct auditns_scan *s, struct auditns_points *p)
{
    uint32_t k = p->used, m = p->total - k, shift = s->consumed;
    if (k) {
#define MOVE(f) memmove(p->f, p->f + k, m * sizeof(*p->f));
        VALUES(MOVE)
        OFFSETS(MOVE)
    }
    if (shift)
        for (uint32_t i = 0; i < m; i++) {
#define SHIFT(f) p->f[i] -= shift;
            OFFSETS(SHIFT)
        }
    p->total = m;
    p->used = p->n = 0;

    uint32_t lk = p->line_used, lm = p->line_total - lk;
    if (lk) {
        memmove(p->l_off, p->l_off + lk, lm * sizeof(*p->l_off));
        memmove(p->l_event, p->l_event + lk, lm * sizeof(*p->l_event));
        memmove(p->l_body, p->l_body + lk, lm * sizeof(*p->l_body));
        memmove(p->l_len, p->l_len + lk, lm * sizeof(*p->l_len));
        memmove(p->l_type, p->l_type + lk, lm * sizeof(*p->l_type));
    }
    for (uint32_t i = 0; i < lm; i++) {
        p->l_off[i] -= shift;
        p->l_body[i] -= shift;
    }
    p->line_total = lm;
    p->line_used = p->line_n = 0;

    for (struct auditns_event *e = first_open(s); e; e = next_open(s, e)) {
        e->first -= shift;
        if (e->point != NONE)
            e->point -= k;
    }
    s->base += shift;
    s->given -= shift;
    s->line -= shift;
    s->searched -= shift;
    s->consumed = 0;
    p->out_from = p->out_end = s->given;
}

/* take the void points out of the ready ones */
uint32_t compact(struct auditns_scan *s, struct auditns_points *p)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < p->used; i++) {
        if (!p->flags[i]) {
            s->voids--;
            continue;
        }
        if (to != i) {
#define COPY(f) p->f[to] = p->f[i];
            VALUES(COPY)
            OFFSETS(COPY)
        }
        to++;
    }
    return to;
}

uint32_t move_point(struct auditns_scan *s, struct auditns_points *p, uint32_t i)
{
    uint32_t to = p->total++;
#define MOVE_ONE(f) p->f[to] = p->f[i];
    VALUES(MOVE_ONE)
    OFFSETS(MOVE_ONE)
    p->flags[i] = 0;
    s->voids++;
    return to;
}

uint32_t add_point(struct auditns_points *p, const struct head *h, uint32_t line, uint32_t at, uint32_t flags,
                   uint32_t event, uint16_t recno)
{
    uint32_t i = p->total++;
    p->ms[i] = h->ms;
    p->serial[i] = h->serial;
    p->flags[i] = flags | (h->node_len ? AUDITNS_P_NODE : 0);
    p->at[i] = at;
    p->line_off[i] = line;
    p->hdr_off[i] = line + h->hdr;
    p->hdr_len[i] = (uint16_t)h->hdr_len;
    p->node_off[i] = line + h->node_off;
    p->node_len[i] = (uint16_t)h->node_len;
    p->lead_len[i] = h->lead_len;
    p->trail_len[i] = h->trail;
    p->trail_off[i] = h->stop;
    p->origin[i] = 0;
    p->event[i] = event;
    p->rtype[i] = (uint16_t)h->type;
    p->recno[i] = recno;
    p->pid[i] = p->ppid[i] = p->sysno[i] = -1;
    p->arch[i] = 0;
    p->exit[i] = 0;
    p->aux1_off[i] = p->aux2_off[i] = p->key_off[i] = line;
    p->aux1_len[i] = p->aux2_len[i] = p->key_len[i] = 0;
    return i;
}

void add_line(struct auditns_points *p, uint32_t off, uint32_t end, uint32_t event, uint32_t body, uint32_t type)
{
    uint32_t i = p->line_total++;
    p->l_off[i] = off;
    p->l_len[i] = end - off;
    p->l_event[i] = event;
    p->l_body[i] = body;
    p->l_type[i] = (uint16_t)type;
}

void auditns_range(const struct auditns_points *p, uint32_t first, uint32_t end, struct auditns_range *range)
{
    struct auditns_range r = {INT64_MAX, INT64_MIN, UINT64_MAX, 0, 0};
    uint64_t seen[AUDITNS_MAX_RANGE / 64], found = 0;

    for (uint32_t i = first; i < end; i++) {
        r.first_ms = p->ms[i] < r.first_ms ? p->ms[i] : r.first_ms;
        r.last_ms = p->ms[i] > r.last_ms ? p->ms[i] : r.last_ms;
        r.low = p->serial[i] < r.low ? p->serial[i] : r.low;
        r.high = p->serial[i] > r.high ? p->serial[i] : r.high;
    }
    if (first < end && r.high - r.low < AUDITNS_MAX_RANGE) {
        memset(seen, 0, ((r.high - r.low) / 64 + 1) * sizeof(*seen));
        for (uint32_t i = first; i < end; i++) {
            uint64_t at = p->serial[i] - r.low, bit = (uint64_t)1 << at % 64;
            found += !(seen[at / 64] & bit);
            seen[at / 64] |= bit;
        }
        r.complete = found == r.high - r.low + 1;
    }
    *range = r;
}
