/* Events that are handed out whole, each when it has ended, with all its lines wherever they stand in the text.
 *
 * Lines are only noted as they come; the points are made when the event ends. What is noted is bounded: an event is cut
 * at `limit` bytes, at `most` open ones, and where SPAN times the limit of text have passed since it began, which is what
 * has to be kept for it. What comes of an event after that, or after its end, is handed out as a late event of the same
 * time and serial, which says whose it is.
 *
 * A record that is an event of its own as a rule may have a SYSCALL behind it (LOGIN, USER_* sent by an audited sendto),
 * and on a host of several CPUs others' records stand between: it is waited for as long as TURNS
 * lines or AUDITNS_PATIENT_MS. Where records of ours are awaited (s->awaits), every event that has ended is waited for so
 * long, and takes nothing but those. */
#include <stdlib.h>
#include "audittext/whole_impl.h"

#define SPAN 2
#define SUBJECTS 2 /* points of an event, but for its targets, that are in the arrays at one time */

int auditns_scan_whole(struct auditns_scan *s, struct auditns_points *p, uint64_t limit, uint32_t most)
{
    struct auditns_whole *w = calloc(1, sizeof(*w) + most * sizeof(*w->slot));

    if (!w)
        return 0;
    *w = (struct auditns_whole){.limit = limit, .most = most, .buckets = 1, .oldest = NONE, .newest = NONE, .lone = NONE,
                                .last = NONE, .noted_free = NONE};
    while (w->buckets < most)
        w->buckets *= 2;
    w->bucket = malloc(w->buckets * sizeof(*w->bucket));
    uint32_t room = 1;
    while (room < AUDITNS_CLOSED_WHOLE + 2 * most)
        room *= 2;
    w->decided = (struct auditns_memory){0, room, calloc(room, sizeof(*w->decided.closed)),
                                         calloc(room, sizeof(*w->decided.bucket))};
    for (uint32_t i = 0; i < most; i++)
        w->slot[i].chain = i + 1 < most ? i + 1 : NONE;
    auditns_scan_free(s);
    s->whole = w;
    if (!w->bucket || !w->decided.closed || !w->decided.bucket) {
        auditns_scan_free(s);
        return 0;
    }
    memset(w->bucket, 0xff, w->buckets * sizeof(*w->bucket));
    close_all(s, p, INT64_MAX);
    s->voids = s->in_long = s->line = s->searched = s->consumed = s->given = 0;
    p->n = p->line_n = p->used = p->line_used = p->total = p->line_total = 0;
    return 1;
}

/* ---- the table of open events ---- */

static uint32_t *bucket_of(struct auditns_whole *w, const struct auditns_event *e)
{
    return &w->bucket[(uint32_t)((e->serial * 0x9e3779b97f4a7c15u) >> 32) & (w->buckets - 1)];
}

static uint32_t find_slot(struct auditns_whole *w, const struct head *h)
{
    if (w->last != NONE && same_event(&w->slot[w->last].event, h))
        return w->last;
    struct auditns_event wanted = {.serial = h->serial};
    uint32_t i = *bucket_of(w, &wanted);
    while (i != NONE && !same_event(&w->slot[i].event, h))
        i = w->slot[i].chain;
    return i;
}

/* What is remembered of the event that a record is of; NULL: nothing. */
static const struct auditns_closed *former_of(const struct auditns_scan *s, const struct head *h)
{
    struct auditns_memory *m = &s->whole->decided;
    const struct auditns_closed *c = recall(m, h->serial, h->ms, h->node);
    return c && (s->ours || m->count - c->at <= AUDITNS_CLOSED_WHOLE) ? c : NULL;
}

static uint32_t open_slot(struct auditns_scan *s, const struct head *h, uint64_t first)
{
    struct auditns_whole *w = s->whole;
    uint32_t i = w->free;
    struct slot *slot = &w->slot[i];
    const struct auditns_closed *c = former_of(s, h);

    w->free = slot->chain;
    *slot = (struct slot){.first = first, .line = NONE, .last = NONE, .older = w->newest, .newer = NONE, .points = SUBJECTS};
    begin_event(&slot->event, s, h);
    if (c) {
        slot->late = 1;
        slot->number = c->number;
        slot->called = c->syscall != 0;
        slot->ended = c->ended != 0;
        slot->cut = c->cut != 0;
        slot->rest = c->rest != 0;
        slot->pid = c->pid;
        slot->ppid = c->ppid;
        slot->event.recno = (uint16_t)c->recno;
        slot->event.lone = STAYS; /* what it belongs to was answered: nothing is to be gained by waiting */
    }
    uint32_t *bucket = bucket_of(w, &slot->event);
    slot->chain = *bucket;
    *bucket = i;
    if (w->newest != NONE)
        w->slot[w->newest].newer = i;
    else
        w->oldest = i;
    w->newest = i;
    w->open++;
    w->points += SUBJECTS;
    return i;
}

static void unlink_slot(struct auditns_whole *w, uint32_t i)
{
    struct slot *slot = &w->slot[i];
    uint32_t *chain = bucket_of(w, &slot->event);

    while (*chain != i)
        chain = &w->slot[*chain].chain;
    *chain = slot->chain;
    if (slot->older != NONE)
        w->slot[slot->older].newer = slot->newer;
    else
        w->oldest = slot->newer;
    if (slot->newer != NONE)
        w->slot[slot->newer].older = slot->older;
    else
        w->newest = slot->older;
    slot->chain = w->free;
    w->free = i;
    w->open--;
    slot->turn = 0;
    w->lines -= slot->lines;
    w->points -= slot->points;
    w->lone = w->lone == i ? NONE : w->lone;
    w->last = w->last == i ? NONE : w->last;
}

/* ---- lines ---- */

static int grow_noted(struct auditns_whole *w)
{
    uint32_t room = w->noted_room ? 2 * w->noted_room : 1024;
    struct noted *grown = realloc(w->noted, room * sizeof(*grown));

    if (!grown)
        return 0;
    for (uint32_t i = w->noted_room; i < room; i++)
        grown[i].next = i + 1 < room ? i + 1 : NONE;
    w->noted = grown;
    w->noted_free = w->noted_room;
    w->noted_room = room;
    return 1;
}

static void note(struct auditns_whole *w, struct slot *slot, uint64_t off, uint32_t len, uint32_t line, const struct head *h)
{
    uint32_t i = w->noted_free;
    struct noted *noted = &w->noted[i];

    w->noted_free = noted->next;
    *noted = (struct noted){off,     len,         h->stop - line, h->trail,    h->type, h->hdr, h->hdr_len,
                            h->body, h->lead_len, h->node_off,    h->node_len, NONE};
    if (slot->last == NONE)
        slot->line = i;
    else
        w->noted[slot->last].next = i;
    slot->last = i;
    slot->lines++;
    slot->bytes += len;
    w->lines++;
    if ((h->type & 0xffff) == TYPE_OBJ_PID) {
        slot->points++;
        w->points++;
    }
}

int whole_room(const struct auditns_scan *s, const struct auditns_points *p)
{
    const struct auditns_whole *w = s->whole;
    return p->line_cap - p->line_total >= w->lines + 2 && p->cap - p->total >= w->points + SUBJECTS + 2;
}

/* ---- the end of an event ---- */

static void remember(struct auditns_whole *w, const struct auditns_points *p, const struct slot *slot, int cut)
{
    const struct auditns_event *e = &slot->event;
    struct auditns_memory *m = &w->decided;
    struct auditns_closed *c = slot->late ? recall(m, e->serial, e->ms, e->node) : remember_event(m, e, 0);
    int pointed = e->point != NONE && p->pid[e->point] > 0, placed = slot->late && slot->pid > 0;

    if (!c)
        return; /* what it belongs to is not remembered any more */
    c->recno = e->recno;
    c->syscall |= e->syscall;
    c->ended |= e->ended;
    c->cut |= cut != 0;
    c->rest |= slot->late && e->kernel;
    c->number = slot->late ? slot->number : e->id;
    c->pid = placed ? slot->pid : pointed ? p->pid[e->point] : -1;
    c->ppid = placed ? slot->ppid : pointed ? p->ppid[e->point] : -1;
}

static void end_event(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t at, int cut)
{
    struct auditns_whole *w = s->whole;
    struct slot *slot = &w->slot[at];
    struct auditns_event *e = &slot->event;
    struct head h = {.ms = e->ms, .serial = e->serial, .node = e->node};
    uint32_t line = 0, end = 0;

    e->id = s->next_id++;
    if (s->next_id >= AUDITNS_LINE_LATE)
        s->next_id = 0;
    for (uint32_t i = slot->line, next; i != NONE; i = next) {
        struct noted *noted = &w->noted[i];
        line = (uint32_t)(noted->off - s->base);
        end = line + noted->len;
        h.stop = line + noted->stop;
        h.trail = noted->trail;
        h.type = noted->type;
        h.hdr = noted->hdr;
        h.hdr_len = noted->hdr_len;
        h.body = noted->body;
        h.lead_len = noted->lead_len;
        h.node_off = noted->node_off;
        h.node_len = noted->node_len;
        place(s, p, buf, e, &h, line, end);
        add_line(p, line, end, e->id, line + h.body, h.type);
        next = noted->next;
        noted->next = w->noted_free;
        w->noted_free = i;
    }
    if (slot->late)
        whole_late(p, slot, &h, line, end);
    s->cut += (uint64_t)(cut && !slot->late);
    if (cut && e->point != NONE)
        p->flags[e->point] |= AUDITNS_P_CUT;
    if (slot->late || !is_ours_alone(e))
        remember(w, p, slot, cut);
    unlink_slot(w, at);
}

/* There is no room to wait on for the event that is open longest. */
static void give_up(struct auditns_scan *s, struct auditns_points *p, const char *buf)
{
    const struct slot *slot = &s->whole->slot[s->whole->oldest];
    end_event(s, p, buf, s->whole->oldest, !slot->turn || !slot->event.ended);
}

void whole_end_waiting(struct auditns_scan *s, struct auditns_points *p, const char *buf, int64_t before)
{
    struct auditns_whole *w = s->whole;

    /* behind the last line nobody knows yet what comes next */
    for (uint64_t turn = w->settled + 1; s->awaits && turn < w->turn; turn++) {
        uint32_t at = w->recent[turn % TURNS];
        struct slot *slot = &w->slot[at];
        if (slot->turn == turn && slot->event.ended && slot->event.seen <= before)
            end_event(s, p, buf, at, 0);
    }
}

void whole_end(struct auditns_scan *s, struct auditns_points *p, const char *buf, int64_t before)
{
    struct auditns_whole *w = s->whole;

    whole_end_waiting(s, p, buf, before);
    for (uint32_t i = w->oldest, next; i != NONE; i = next) {
        next = w->slot[i].newer;
        if (w->slot[i].event.seen <= before)
            end_event(s, p, buf, i, 0);
    }
}

/* One more line has come: end the events that have been waited for long enough. */
static void end_patient(struct auditns_scan *s, struct auditns_points *p, const char *buf)
{
    struct auditns_whole *w = s->whole;

    for (; w->settled < w->turn; w->settled++) {
        uint32_t at = w->recent[(w->settled + 1) % TURNS];
        if (w->slot[at].turn != w->settled + 1)
            continue;
        if (w->turn - w->settled < TURNS && s->clock - w->slot[at].heard < AUDITNS_PATIENT_MS)
            break;
        end_event(s, p, buf, at, 0);
    }
    w->turn++;
}

/* Whether a record is of the event in a slot: to one that has ended, and others' lines have come since, comes what it waits
 * for alone. */
static int takes(const struct auditns_whole *w, const struct slot *slot, const struct head *h)
{
    return !slot->turn || !slot->event.ended || is_awaited(&slot->event, h) ||
           (slot->turn + 1 == w->turn && goes_on(&slot->event, h));
}

/* A line at `off` has come, of which `h` is the head, if it has one: end the events that it is not of. */
static void end_former(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint64_t off, const struct head *h)
{
    struct auditns_whole *w = s->whole;

    while (w->open && off - w->slot[w->oldest].first > SPAN * w->limit)
        give_up(s, p, buf);
    if (w->lone != NONE && !goes_on(&w->slot[w->lone].event, h))
        end_event(s, p, buf, w->lone, 0);
    w->lone = NONE;
    if (h && h->ms > s->clock) {
        s->clock = h->ms;
        while (w->open && s->clock - w->slot[w->oldest].event.base >= AUDITNS_OLDER_MS)
            end_event(s, p, buf, w->oldest, 0);
    }
    end_patient(s, p, buf);
}

/* The slot of the event that a record at `off` is of, opened where there is none. */
static uint32_t slot_for(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint64_t off, const struct head *h)
{
    struct auditns_whole *w = s->whole;
    uint32_t at = find_slot(w, h);

    if (at != NONE) {
        if (takes(w, &w->slot[at], h))
            return at;
        whole_end_waiting(s, p, buf, INT64_MAX);
    }
    if (!(h->type & TYPE_OWN) && former_of(s, h)) /* what is late comes behind all that ended before it */
        whole_end_waiting(s, p, buf, INT64_MAX);
    if (w->open == w->most)
        give_up(s, p, buf);
    return open_slot(s, h, off);
}

int whole_line(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t line, uint32_t end,
               const struct head *h)
{
    struct auditns_whole *w = s->whole;
    uint64_t off = s->base + line;

    end_former(s, p, buf, off, h);
    if (!h) {
        add_line(p, line, end, AUDITNS_LINE_FOREIGN, line, 0);
        return 1;
    }
    uint32_t at = slot_for(s, p, buf, off, h);
    struct slot *slot = &w->slot[at];
    if (w->noted_free == NONE && !grow_noted(w))
        return 0;
    note(w, slot, off, end - line, line, h);
    slot->event.seen = s->now;
    w->last = at;
    if (h->type & TYPE_OWN)
        s->patient = s->ours = 1;
    uint8_t lone = slot->event.lone;
    follow_serial(s, &slot->event, h);
    int ended = follow(&slot->event, s, h);
    int waits = !slot->late && slot->event.begun && slot->event.lone && (s->awaits || !slot->event.ended);
    w->recent[w->turn % TURNS] = at;
    slot->turn = waits ? w->turn : 0;
    slot->heard = s->clock;
    if (ended)
        end_event(s, p, buf, at, 0);
    else if (slot->bytes > w->limit)
        end_event(s, p, buf, at, 1);
    else if (slot->late)
        slot->event.lone = lone, w->lone = at;
    else if (slot->event.lone && !slot->turn)
        w->lone = at;
    return 1;
}

uint32_t whole_first(const struct auditns_scan *s)
{
    const struct auditns_whole *w = s->whole;
    return w->open ? (uint32_t)(w->slot[w->oldest].first - s->base) : s->line;
}

int64_t whole_oldest(const struct auditns_scan *s)
{
    const struct auditns_whole *w = s->whole;
    int64_t oldest = INT64_MAX;

    for (uint32_t i = w->oldest; i != NONE; i = w->slot[i].newer)
        oldest = w->slot[i].event.seen < oldest ? w->slot[i].event.seen : oldest;
    return oldest;
}
