/* The events that are open while lines are handed out in the order of the text, in the order in which they began, and what
 * is remembered of those that were decided. Slots are counted from 1. */
#include <stdlib.h>
#include "audittext/scan_impl.h"

#define BUCKETS (sizeof(((struct auditns_scan *)0)->bucket) / sizeof(uint16_t))

static uint16_t *bucket_of(struct auditns_scan *s, uint64_t serial)
{
    return &s->bucket[serial % BUCKETS];
}

static uint16_t slot_of(const struct auditns_scan *s, const struct auditns_event *e)
{
    return (uint16_t)(e - s->event + 1);
}

struct auditns_event *lone_open(struct auditns_scan *s)
{
    return event_at(s, s->lone);
}

void set_lone(struct auditns_scan *s, const struct auditns_event *e)
{
    s->lone = slot_of(s, e);
}

struct auditns_event *find_open(struct auditns_scan *s, const struct head *h)
{
    struct auditns_event *e = event_at(s, s->last);

    if (!e || !same_event(e, h))
        for (e = event_at(s, *bucket_of(s, h->serial)); e && !same_event(e, h); e = event_at(s, e->chain))
            ;
    if (e)
        s->last = slot_of(s, e);
    return e;
}

static struct auditns_memory memory_of(struct auditns_scan *s)
{
    return (struct auditns_memory){s->decided, AUDITNS_CLOSED, s->closed, s->closed_bucket};
}

struct auditns_closed *find_closed(struct auditns_scan *s, const struct head *h)
{
    struct auditns_memory m = memory_of(s);
    return recall(&m, h->serial, h->ms, h->node);
}

struct auditns_event *open_event(struct auditns_scan *s, const struct auditns_points *p, const struct head *h,
                                 uint32_t line, const struct auditns_closed *former)
{
    if (s->open == AUDITNS_MAX_OPEN)
        close_event(s, p, first_open(s));
    uint16_t slot = s->free;
    if (slot)
        s->free = event_at(s, slot)->chain;
    else
        slot = (uint16_t)++s->slots;
    struct auditns_event *e = event_at(s, slot);
    begin_event(e, s, h);
    e->first = line;
    e->id = s->next_id++;
    if (s->next_id >= AUDITNS_LINE_LATE)
        s->next_id = 0;
    if (former) {
        int copy = former->syscall && (h->type & 0xffff) == TYPE_SYSCALL; /* an event has one: readers may not see both */
        e->recno = (uint16_t)former->recno;
        e->placed = copy ? 0 : former->pid;
        e->own = !copy && former->own;
        e->former = 1;
    }
    uint16_t *bucket = bucket_of(s, h->serial);
    e->chain = *bucket;
    *bucket = slot;
    e->older = s->newest;
    *(s->newest ? &event_at(s, s->newest)->newer : &s->oldest) = slot;
    s->newest = s->last = slot;
    s->open++;
    return e;
}

static struct auditns_answered *answered_at(const struct auditns_scan *s, uint64_t serial)
{
    return &s->answered[serial % AUDITNS_CLOSED_WHOLE];
}

int was_answered(const struct auditns_scan *s, const struct head *h)
{
    const struct auditns_answered *one = s->answered ? answered_at(s, h->serial) : NULL;

    return one && one->used && one->serial == h->serial && one->ms == h->ms && one->node == h->node &&
           s->decided - one->at <= AUDITNS_CLOSED_WHOLE;
}

/* Where there is no memory for it, what comes of an event after long is answered once more. */
static void remember_answer(struct auditns_scan *s, const struct auditns_event *e, const struct auditns_closed *c)
{
    if (!s->answered)
        s->answered = calloc(AUDITNS_CLOSED_WHOLE, sizeof(*s->answered));
    if (s->answered)
        *answered_at(s, e->serial) = (struct auditns_answered){e->ms, e->serial, e->node, c->at, 1};
}

static void remember(struct auditns_scan *s, const struct auditns_points *p, const struct auditns_event *e)
{
    struct auditns_memory m = memory_of(s);
    struct auditns_closed *c = remember_event(&m, e, e->former);

    s->decided = m.count;
    c->recno = e->recno;
    c->own = e->own;
    c->syscall |= e->syscall;
    c->pid = e->placed ? e->placed : e->point != NONE && p->pid[e->point] > 0 ? p->pid[e->point] : 0;
    if (c->syscall)
        remember_answer(s, e, c);
}

void close_event(struct auditns_scan *s, const struct auditns_points *p, struct auditns_event *e)
{
    uint16_t slot = slot_of(s, e), *chain = bucket_of(s, e->serial);

    if (!is_ours_alone(e))
        remember(s, p, e);
    while (*chain != slot)
        chain = &event_at(s, *chain)->chain;
    *chain = e->chain;
    *(e->older ? &event_at(s, e->older)->newer : &s->oldest) = e->newer;
    *(e->newer ? &event_at(s, e->newer)->older : &s->newest) = e->older;
    e->turn = 0;
    e->chain = s->free;
    s->free = slot;
    s->open--;
    s->lone = s->lone == slot ? 0 : s->lone;
    s->last = s->last == slot ? 0 : s->last;
}

void wait_event(struct auditns_scan *s, struct auditns_event *e)
{
    e->turn = s->turn;
    e->heard = s->clock;
    s->recent[s->turn % TURNS] = slot_of(s, e);
    if (s->turn + TURNS - 1 < s->due)
        s->due = s->turn + TURNS - 1;
    if (s->clock + AUDITNS_PATIENT_MS < s->due_ms)
        s->due_ms = s->clock + AUDITNS_PATIENT_MS;
}

/* The event that waits behind a line. */
static struct auditns_event *waiting_at(struct auditns_scan *s, uint64_t turn)
{
    struct auditns_event *e = event_at(s, s->recent[turn % TURNS]);
    return e && e->turn == turn ? e : NULL;
}

void end_waiting(struct auditns_scan *s, const struct auditns_points *p)
{
    s->due = UINT64_MAX;
    s->due_ms = INT64_MAX;
    if (s->turn - s->settled > TURNS)
        s->settled = s->turn - TURNS;
    for (; s->settled < s->turn; s->settled++) {
        struct auditns_event *e = waiting_at(s, s->settled + 1);
        if (!e)
            continue;
        if (s->turn - s->settled < TURNS && s->clock - e->heard < AUDITNS_PATIENT_MS) {
            s->due = s->settled + TURNS;
            s->due_ms = e->heard + AUDITNS_PATIENT_MS;
            break;
        }
        close_event(s, p, e);
    }
}

void close_waiting(struct auditns_scan *s, const struct auditns_points *p)
{
    if (s->turn - s->settled > TURNS)
        s->settled = s->turn - TURNS;
    for (; s->settled + 1 < s->turn; s->settled++) { /* the event of the last line does not wait yet */
        struct auditns_event *e = waiting_at(s, s->settled + 1);
        if (e)
            close_event(s, p, e);
    }
}

void close_all(struct auditns_scan *s, const struct auditns_points *p, int64_t before)
{
    for (struct auditns_event *e = first_open(s), *next; e; e = next) {
        next = next_open(s, e);
        if (e->seen <= before)
            close_event(s, p, e);
    }
}
