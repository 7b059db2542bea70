/* Where records of ours are to stand apart, an event without a SYSCALL says nothing of its container; an event of ours with
 * event= does, a little later. */
#include "archive/archive_impl.h"

#define RECENT 4096

int archive_remember(struct archive_text *a, uint64_t serial, int64_t ms)
{
    if (!a->recent && !(a->recent = calloc(RECENT, sizeof(*a->recent))))
        return 0;
    struct archive_recent *r = &a->recent[serial % RECENT];
    *r = (struct archive_recent){.ms = ms, .serial = serial, .event = a->events - 1, .count = a->touched};
    memcpy(r->tally, a->touch, sizeof(r->tally));
    return 1;
}

static int number(const char **p, const char *end, uint64_t *value)
{
    const char *start = *p;

    for (*value = 0; *p < end && **p >= '0' && **p <= '9' && *p - start < 18; ++*p)
        *value = *value * 10 + (uint64_t)(**p - '0');
    return *p > start;
}

static int parse(struct span s, int64_t *ms, uint64_t *serial)
{
    const char *p = s.at, *end = s.at + s.len;
    uint64_t seconds, rest;

    if (!number(&p, end, &seconds) || seconds > 99999999999 || p == end || *p++ != '.')
        return 0;
    if (end - p < 4 || p[3] != ':' || !number(&p, p + 3, &rest))
        return 0;
    *ms = (int64_t)(seconds * 1000 + rest);
    return p < end && *p++ == ':' && number(&p, end, serial) && p == end;
}

static int same_host(const struct archive_text *a, uint32_t x, uint32_t y)
{
    const struct archive_group *g = &a->group[x], *h = &a->group[y];
    return g->node_len == h->node_len && !memcmp(a->text + g->node_off, a->text + h->node_off, g->node_len);
}

int archive_give(struct archive_text *a, struct span name, uint32_t group)
{
    uint64_t serial;
    int64_t ms;

    if (!a->recent || !parse(name, &ms, &serial))
        return 1;
    struct archive_recent r = a->recent[serial % RECENT];
    if (!r.count || r.serial != serial || r.ms != ms || !same_host(a, a->event[r.event].group, group))
        return 1;
    a->recent[serial % RECENT].count = 0;
    a->event[r.event].group = group;
    for (uint32_t i = 0; i < r.count; i++) {
        struct archive_tally *t = &a->tally[r.tally[i]];
        uint32_t kind = t->kind, value = t->value, length = t->length;
        t->count -= t->count > 0;
        if (!archive_count(a, group, kind, value, length, 1, ms))
            return 0;
    }
    return 1;
}
