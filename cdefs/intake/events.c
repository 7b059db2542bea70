/* Where there is no room for all text, whole events are left out: of those that have begun to be kept the rest is kept as
   well, and of those that have begun to be dropped the rest is dropped. Serials tell which is which: an event has begun if
   its serial is not above the greatest one that was seen. */
#define _GNU_SOURCE
#include <string.h>
#include "intake/intake_impl.h"

#define HEADER 400   /* a line's stamp ends before that */
#define NEAR 1048576 /* serials further apart are no sequence: another host's, or the daemon's own */

struct stamp {
    uint64_t serial;
    int64_t ms;
};

static int number(const char **at, const char *end, uint64_t *value)
{
    const char *s = *at;

    for (*value = 0; s < end && *s >= '0' && *s <= '9' && *value < UINT64_MAX / 16; s++)
        *value = *value * 10 + (uint64_t)(*s - '0');
    if (s == *at)
        return 0;
    *at = s;
    return 1;
}

/* The stamp of a line. */
static int stamp_of(const char *line, size_t len, struct stamp *found)
{
    const char *at = memmem(line, len < HEADER ? len : HEADER, "msg=audit(", 10), *end = line + len;
    uint64_t seconds, ms;

    if (!at)
        return 0;
    at += 10;
    if (!number(&at, end, &seconds) || at == end || *at++ != '.' || !number(&at, end, &ms) || at == end || *at++ != ':' ||
        !number(&at, end, &found->serial) || at == end || *at != ')' || seconds > INT64_MAX / 1001 || ms > 999)
        return 0;
    found->ms = (int64_t)(seconds * 1000 + ms);
    return 1;
}

void gap_join(struct intake_gap *gap, const struct intake_gap *more)
{
    if (!gap->events) { /* lines without a stamp, if anything */
        uint64_t records = gap->records;
        *gap = *more;
        gap->records += records;
        return;
    }
    if (more->events) {
        gap->last = more->last;
        gap->to_ms = more->to_ms;
    }
    gap->events += more->events;
    gap->records += more->records;
}

static void note(struct extent *e, const struct stamp *s)
{
    e->records++;
    if (!s)
        return;
    if (!e->events) {
        e->first = s->serial;
        e->from_ms = s->ms;
    } else if (s->serial <= e->last) {
        return;
    }
    e->last = s->serial;
    e->to_ms = s->ms;
    e->events++;
}

static void drop(struct intake_gap *gap, const struct stamp *s)
{
    struct extent e = {gap->first, gap->last, gap->events, gap->records, gap->from_ms, gap->to_ms};

    note(&e, s);
    *gap = (struct intake_gap){e.first, e.last, e.events, e.records, e.from_ms, e.to_ms};
}

/* Whether a line is kept. */
static int keeps(struct cutter *c, const struct stamp *s, int full, int last)
{
    if (!c->dropping) /* more of an event that was dropped may come late */
        return !s || !c->past.events || s->serial < c->past.first || s->serial > c->past.last;
    if (!s)
        return !full;
    if (c->begun && s->serial <= c->high && c->high - s->serial < NEAR)
        return !last; /* the rest of an event that was begun */
    if (full || (c->gap.events && s->serial <= c->gap.last))
        return 0;
    c->dropping = 0;
    c->past = c->gap;
    return 1;
}

size_t cut_events(struct cutter *c, char *data, size_t len, int full, int last, struct extent *extent)
{
    size_t kept = 0, off = 0;

    c->dropping |= full;
    while (off < len) {
        char *line = data + off, *end = memchr(line, '\n', len - off);
        size_t size = end ? (size_t)(end - line) + 1 : len - off;
        struct stamp s;

        if (!c->middle) {
            int stamped = stamp_of(line, size, &s);

            c->kept = keeps(c, stamped ? &s : NULL, full, last);
            if (c->kept)
                note(extent, stamped ? &s : NULL);
            else
                drop(&c->gap, stamped ? &s : NULL);
            if (c->kept && stamped && (!c->begun || s.serial > c->high || c->high - s.serial >= NEAR)) {
                c->begun = 1;
                c->high = s.serial;
            }
        }
        if (c->kept) {
            memmove(data + kept, line, size);
            kept += size;
        }
        c->middle = !end;
        off += size;
    }
    return kept;
}
