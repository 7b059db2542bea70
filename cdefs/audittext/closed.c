/* What is remembered of events that were decided: the newest ones, in the order in which they were decided first. What comes
 * of one later changes what is remembered of it, and not for how long; so whoever reads a text that we have written
 * remembers each event for which we wrote no second record. */
#include "audittext/scan_impl.h"

static uint32_t *bucket_of(struct auditns_memory *m, uint64_t serial, int64_t ms)
{
    return &m->bucket[(uint32_t)(((serial ^ (uint64_t)ms << 20) * 0x9e3779b97f4a7c15u) >> 32) & (m->room - 1)];
}

static void forget(struct auditns_memory *m, struct auditns_closed *c)
{
    uint32_t which = (uint32_t)(c - m->closed) + 1, *chain = bucket_of(m, c->serial, c->ms);

    while (*chain != which)
        chain = &m->closed[*chain - 1].chain;
    *chain = c->chain;
    c->used = 0;
}

struct auditns_closed *recall(struct auditns_memory *m, uint64_t serial, int64_t ms, uint64_t node)
{
    uint32_t which = *bucket_of(m, serial, ms);

    for (struct auditns_closed *c; which; which = c->chain) {
        c = &m->closed[which - 1];
        if (c->serial == serial && c->ms == ms && c->node == node)
            return c;
    }
    return NULL;
}

struct auditns_closed *recall_number(struct auditns_memory *m, uint64_t serial, int64_t ms, uint32_t number)
{
    uint32_t which = *bucket_of(m, serial, ms);

    for (struct auditns_closed *c; which; which = c->chain) {
        c = &m->closed[which - 1];
        if (c->serial == serial && c->ms == ms && c->number == number)
            return c;
    }
    return NULL;
}

struct auditns_closed *remember_event(struct auditns_memory *m, const struct auditns_event *e, int again)
{
    struct auditns_closed *c = recall(m, e->serial, e->ms, e->node);
    uint32_t which;

    if (c && again)
        return c;
    if (c)
        forget(m, c);
    c = &m->closed[m->count & (m->room - 1)];
    which = (uint32_t)(c - m->closed) + 1;
    if (c->used)
        forget(m, c);
    uint32_t *bucket = bucket_of(m, e->serial, e->ms);
    *c = (struct auditns_closed){
        .ms = e->ms, .serial = e->serial, .node = e->node, .at = m->count++, .used = 1, .chain = *bucket, .kept = 1,
        .pid = -1, .ppid = -1};
    *bucket = which;
    return c;
}
