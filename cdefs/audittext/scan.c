/* The block scanner: lines of audit text -> points where a record may be inserted.
 * tests/reference/audittext.py does the same, readably, and says what each rule is for. State is kept between calls, in
 * offsets of the block that begins where the last one was consumed, so no line is ever looked at twice. */
#include "audittext/scan_impl.h"

#define AWAITS 1              /* complete when the next line is not of it */
#define COMPLETE 2            /* the same, and at the end of the block unless records of ours may follow */

static struct auditns_closed *closed_slot(struct auditns_scan *s, uint64_t serial)
{
    return &s->closed[serial % AUDITNS_CLOSED];
}

static void remember(struct auditns_scan *s, int64_t ms, uint64_t serial, uint64_t node, uint32_t recno)
{
    struct auditns_closed *c = closed_slot(s, serial);
    c->ms = ms;
    c->serial = serial;
    c->node = node;
    c->recno = recno;
    c->used = 1;
}

static void close_event(struct auditns_scan *s, uint32_t i)
{
    struct auditns_event *e = &s->event[i];
    remember(s, e->ms, e->serial, e->node, e->recno);
    if (s->lone > i)
        s->lone = s->lone == i + 1 ? 0 : s->lone - 1;
    s->open--;
    memmove(e, e + 1, (s->open - i) * sizeof(*e));
    s->last = 0;
}

static void close_all(struct auditns_scan *s)
{
    while (s->open)
        close_event(s, 0);
}

static int same_event(const struct auditns_event *e, const struct head *h)
{
    return e->serial == h->serial && e->ms == h->ms && e->node == h->node;
}

static uint32_t find_event(const struct auditns_scan *s, const struct head *h)
{
    if (s->last < s->open && same_event(&s->event[s->last], h))
        return s->last;
    for (uint32_t i = s->open; i-- > 0;)
        if (same_event(&s->event[i], h))
            return i;
    return NONE;
}

static uint32_t open_event(struct auditns_scan *s, const struct head *h, uint32_t line, uint16_t recno)
{
    if (s->open == AUDITNS_MAX_OPEN)
        close_event(s, 0);
    uint32_t i = s->open++;
    struct auditns_event *e = &s->event[i];
    memset(e, 0, sizeof(*e));
    e->ms = h->ms;
    e->serial = h->serial;
    e->node = h->node;
    e->base = s->clock;
    e->first = line;
    e->id = s->next_id++;
    e->point = NONE;
    e->recno = recno;
    if (s->next_id >= AUDITNS_LINE_LATE)
        s->next_id = 0;
    s->last = i;
    return i;
}

static int is_single(uint32_t type)
{
    uint32_t number = type & 0xffff;
    return (type & OWN_LONE) || (number && (number < FIRST_EVENT || number >= FIRST_ANOM_MSG));
}

/* a record of an event that was decided before */
static uint32_t late_record(struct auditns_points *p, const char *buf, const struct head *h, struct auditns_closed *c,
                            uint32_t line, uint32_t end)
{
    if (!(h->type & OWN) && c->recno < 0xffff)
        c->recno++;
    if ((h->type & 0xffff) == TYPE_OBJ_PID) {
        uint32_t i = add_point(p, h, line, end, AUDITNS_P_TARGET | AUDITNS_P_LATE, AUDITNS_LINE_LATE,
                               (uint16_t)c->recno);
        target_fields(p, i, buf, buf + line + h->body, buf + end - 1);
    }
    return AUDITNS_LINE_LATE;
}

/* A record with a header; returns the number of its event. */
static uint32_t record(struct auditns_scan *s, struct auditns_points *p, const char *buf, const struct head *h,
                       uint32_t line, uint32_t end)
{
    uint32_t number = h->type & 0xffff, at = find_event(s, h);
    int single = is_single(h->type);
    const char *body = buf + line + h->body, *stop = buf + end - 1;

    if (at == NONE) {
        struct auditns_closed *c = closed_slot(s, h->serial);
        uint32_t recno = 0;
        if (c->used && c->serial == h->serial && c->ms == h->ms && c->node == h->node) {
            if (number != TYPE_SYSCALL && !single)
                return late_record(p, buf, h, c, line, end);
            recno = c->recno;
        }
        at = open_event(s, h, line, (uint16_t)recno);
    }
    s->last = at;
    s->changes += number == TYPE_CONFIG_CHANGE;
    struct auditns_event *e = &s->event[at];
    uint32_t id = e->id;

    if (h->type & OWN) {
        e->own = 1;
        s->patient = 1;
        if (e->point != NONE)
            p->flags[e->point] |= AUDITNS_P_OWN;
        if (e->lone)
            s->lone = at + 1;
        else if ((h->type & OWN_LONE) && !e->kernel)
            close_event(s, at);
        return id;
    }
    if (e->recno < 0xffff)
        e->recno++;
    uint32_t own = e->own ? AUDITNS_P_OWN : 0;

    if (single) {
        if (e->point == NONE) {
            uint32_t flags = own | AUDITNS_P_SINGLE | AUDITNS_P_SUBJECT;
            if (number == 1005 || (number >= 1100 && number < 1200) || (number >= FIRST_ANOM_MSG && number < 3000))
                flags |= AUDITNS_P_USER;
            e->point = add_point(p, h, line, end, flags, id, e->recno);
            subject_fields(p, e->point, buf, body, stop);
        }
        e->lone = !e->kernel || e->lone ? COMPLETE : 0;
        e->kernel = 1;
        s->lone = e->lone ? at + 1 : 0;
        return id;
    }
    if (e->lone != COMPLETE || number == TYPE_SYSCALL)
        e->lone = !e->kernel && (h->type & LONE) ? AWAITS : 0;

    if (number == TYPE_SYSCALL && !e->syscall) {
        uint32_t flags = own | AUDITNS_P_SUBJECT | AUDITNS_P_SYSCALL;
        if (e->point != NONE) { /* its place was taken by the record that came first */
            flags |= p->flags[e->point] & AUDITNS_P_HAS_TARGET;
            p->flags[e->point] = 0;
            s->voids++;
        }
        uint32_t i = add_point(p, h, line, end, flags, id, e->recno);
        subject_fields(p, i, buf, body, stop);
        if ((p->flags[i] & AUDITNS_P_SUCCESS) && is_exec(p->arch[i], p->sysno[i])) {
            p->flags[i] |= AUDITNS_P_EXEC;
            e->exec = 1;
        }
        e->point = i;
        e->syscall = 1;
    } else if (!e->kernel && number != TYPE_EOE) {
        uint32_t who = number == TYPE_NETFILTER_PKT ? AUDITNS_P_NETFILTER : AUDITNS_P_SUBJECT;
        who |= e->lone ? AUDITNS_P_SINGLE : 0;
        e->point = add_point(p, h, line, end, own | who, id, e->recno);
        subject_fields(p, e->point, buf, body, stop);
    }
    if (number != TYPE_EOE)
        e->kernel = 1;
    if (number == TYPE_OBJ_PID) {
        uint32_t i = add_point(p, h, line, end, own | AUDITNS_P_TARGET, id, e->recno);
        target_fields(p, i, buf, body, stop);
        if (e->point != NONE)
            p->flags[e->point] |= AUDITNS_P_HAS_TARGET;
    } else if (number == TYPE_PATH) {
        if (e->exec && !p->aux2_len[e->point])
            path_fields(p, e->point, buf, body, stop);
    } else if (number == TYPE_PROCTITLE) {
        e->lone = s->whole ? AWAITS : COMPLETE; /* its EOE, where there is one, mostly comes next */
    } else if (number == TYPE_EOE) {
        close_event(s, at);
        return id;
    }
    if (e->lone)
        s->lone = at + 1;
    return id;
}

static void add_line(struct auditns_points *p, uint32_t line, uint32_t event, uint32_t body, uint32_t type,
                     uint32_t next)
{
    uint32_t i = p->line_total++;
    p->l_off[i] = line;
    p->l_event[i] = event;
    p->l_body[i] = body;
    p->l_type[i] = (uint16_t)type;
    p->l_next[i] = next;
}

/* one whole line, newline included */
static void one_line(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t line, uint32_t end,
                     struct head *h)
{
    int known = !s->in_long && end - line <= AUDITNS_MAX_LINE && parse_head(buf + line, buf + end - 1, h);
    while (s->open && line - s->event[0].first > (s->whole ? AUDITNS_MAX_WHOLE : AUDITNS_MAX_SPAN))
        close_event(s, 0);
    if (end - line > AUDITNS_MAX_LINE) /* as where its start is passed on before its end has come */
        close_all(s);
    s->in_long = 0;
    if (s->lone && !(known && same_event(&s->event[s->lone - 1], h)))
        close_event(s, s->lone - 1);
    s->lone = 0;
    if (!known) {
        add_line(p, line, AUDITNS_LINE_FOREIGN, line, 0, s->next_id);
        return;
    }
    if (h->ms > s->clock) {
        s->clock = h->ms;
        for (uint32_t i = 0; i < s->open;)
            if (h->ms - s->event[i].base >= AUDITNS_OLDER_MS)
                close_event(s, i);
            else
                i++;
    }
    uint32_t next = s->next_id;
    uint32_t id = record(s, p, buf, h, line, end);
    add_line(p, line, id, line + h->body, h->type, next);
}

/* The last place up to s->consumed where no event has lines on both sides: numbers of events grow with their
 * first lines, so no line behind the place may have one below the next number at that time. */
static uint32_t whole_events(const struct auditns_scan *s, const struct auditns_points *p)
{
    uint32_t least = AUDITNS_LINE_LATE, place = s->consumed;
    if (place == s->line)
        return place;
    for (uint32_t i = p->line_total; i-- > 0;) {
        if (p->l_event[i] < least)
            least = p->l_event[i];
        if (p->l_off[i] <= s->consumed && least >= p->l_next[i])
            return s->line - p->l_off[i] > AUDITNS_MAX_WHOLE ? s->consumed : p->l_off[i];
    }
    return s->consumed;
}

int64_t auditns_scan(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t len, int mode)
{
    struct head head = {.text = NULL};

    release(s, p);
    while (s->searched < len) {
        const char *nl = memchr(buf + s->searched, '\n', len - s->searched);
        if (!nl)
            break;
        if (p->cap - p->total < 2 || p->line_cap - p->line_total < 2)
            return -1;
        uint32_t end = (uint32_t)(nl + 1 - buf);
        s->lines++;
        one_line(s, p, buf, s->line, end, &head);
        s->line = s->searched = end;
    }
    s->searched = len;
    if (mode == AUDITNS_MODE_AHEAD)
        return 0;
    if (s->line < len && (mode == AUDITNS_MODE_EOF || s->in_long || len - s->line > AUDITNS_MAX_LINE)) {
        /* the start of a line too long to be a record, or the unterminated end: passed on as it is */
        if (p->line_cap == p->line_total)
            return -1;
        close_all(s);
        add_line(p, s->line, AUDITNS_LINE_FOREIGN, s->line, 0, s->next_id);
        s->in_long = mode != AUDITNS_MODE_EOF;
        s->line = len;
    }
    if (mode != AUDITNS_MODE_MORE)
        close_all(s);
    else if (s->lone && s->event[s->lone - 1].lone == COMPLETE && !s->patient)
        close_event(s, s->lone - 1);
    s->consumed = s->open ? s->event[0].first : s->line;
    if (s->whole)
        s->consumed = whole_events(s, p);

    p->used = p->total;
    p->line_used = p->line_total;
    while (p->used && p->line_off[p->used - 1] >= s->consumed)
        p->used--;
    while (p->line_used && p->l_off[p->line_used - 1] >= s->consumed)
        p->line_used--;
    p->n = s->voids ? compact(s, p) : p->used;
    p->line_n = p->line_used;
    p->subjects = 0;
    for (uint32_t i = 0; i < p->n; i++)
        p->subjects += p->flags[i] & AUDITNS_P_SUBJECT;
    return s->consumed;
}
