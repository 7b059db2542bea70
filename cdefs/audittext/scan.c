/* The block scanner: lines of audit text -> points where a record may be inserted.
 * tests/reference/audittext.py does the same, readably, and says what each rule is for. State is kept between calls, in
 * offsets of the block that begins where the last one was consumed, so no line is ever looked at twice. */
#include "audittext/scan_impl.h"

static struct auditns_closed *closed_slot(struct auditns_scan *s, uint64_t serial)
{
    return &s->closed[serial % AUDITNS_CLOSED];
}

static void close_event(struct auditns_scan *s, const struct auditns_points *p, uint32_t i)
{
    struct auditns_event *e = &s->event[i];

    *closed_slot(s, e->serial) = (struct auditns_closed){
        .ms = e->ms, .serial = e->serial, .node = e->node, .recno = e->recno, .used = 1,
        .pid = e->told ? e->told : e->point != NONE && p->pid[e->point] > 0 ? p->pid[e->point] : 0};
    if (s->lone > i)
        s->lone = s->lone == i + 1 ? 0 : s->lone - 1;
    s->open--;
    memmove(e, e + 1, (s->open - i) * sizeof(*e));
    s->last = 0;
}

static void close_all(struct auditns_scan *s, const struct auditns_points *p, int64_t before)
{
    for (uint32_t i = 0; i < s->open;)
        if (s->event[i].seen <= before)
            close_event(s, p, i);
        else
            i++;
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

static uint32_t open_event(struct auditns_scan *s, const struct auditns_points *p, const struct head *h, uint32_t line,
                           const struct auditns_closed *former)
{
    if (s->open == AUDITNS_MAX_OPEN)
        close_event(s, p, 0);
    uint32_t i = s->open++;
    struct auditns_event *e = &s->event[i];
    begin_event(e, s, h);
    e->first = line;
    e->id = s->next_id++;
    if (former) {
        e->recno = (uint16_t)former->recno;
        e->told = former->pid;
    }
    if (s->next_id >= AUDITNS_LINE_LATE)
        s->next_id = 0;
    s->last = i;
    return i;
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
        target_fields(p, i, buf, buf + line + h->body, buf + h->stop);
    }
    return AUDITNS_LINE_LATE;
}

/* A record with a header; returns the number of its event. */
static uint32_t record(struct auditns_scan *s, struct auditns_points *p, const char *buf, const struct head *h,
                       uint32_t line, uint32_t end)
{
    uint32_t at = find_event(s, h);

    if (at == NONE) {
        struct auditns_closed *c = closed_slot(s, h->serial);
        if (!c->used || c->serial != h->serial || c->ms != h->ms || c->node != h->node)
            c = NULL;
        if (c && (h->type & 0xffff) != TYPE_SYSCALL && !is_single(h->type))
            return late_record(p, buf, h, c, line, end);
        at = open_event(s, p, h, line, c);
    }
    s->last = at;
    struct auditns_event *e = &s->event[at];
    uint32_t id = e->id;

    e->seen = s->now;
    if (h->type & OWN)
        s->patient = 1;
    int ended = follow(e, h);
    place(s, p, buf, e, h, line, end);
    if (e->told && e->point != NONE && p->pid[e->point] == e->told) { /* it has one where it was decided */
        p->flags[e->point] = 0;
        s->voids++;
        e->point = NONE;
        e->exec = 0;
    }
    if (ended)
        close_event(s, p, at);
    else if (e->lone)
        s->lone = at + 1;
    return id;
}

/* End all events that have had no record since. */
static void end_all(struct auditns_scan *s, struct auditns_points *p, const char *buf, int64_t before)
{
    if (s->whole)
        whole_end(s, p, buf, before);
    else
        close_all(s, p, before);
}

/* One whole line, newline included where it has one. 0: no memory. */
static int one_line(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t line, uint32_t end,
                    struct head *h)
{
    h->stop = end - (buf[end - 1] == '\n');
    int known = !s->in_long && end - line <= AUDITNS_MAX_LINE && parse_head(buf + line, buf + h->stop, h);

    s->records += (uint64_t)known;
    s->foreign += !known && h->stop > line && buf[line] != '\r';
    if (known)
        h->stop -= h->trail;

    if (end - line > AUDITNS_MAX_LINE || (!known && buf[end - 1] != '\n'))
        end_all(s, p, buf, INT64_MAX); /* as where its start is passed on before its end has come; nothing may follow */
    s->in_long = 0;
    s->changes += known && (h->type & 0xffff) == TYPE_CONFIG_CHANGE;
    s->logins += known && (h->type & 0xffff) == TYPE_LOGIN;
    if (s->whole)
        return whole_line(s, p, buf, line, end, known ? h : NULL);
    while (s->open && line - s->event[0].first > AUDITNS_MAX_SPAN)
        close_event(s, p, 0);
    if (s->lone && !(known && same_event(&s->event[s->lone - 1], h)))
        close_event(s, p, s->lone - 1);
    s->lone = 0;
    if (!known) {
        add_line(p, line, end, AUDITNS_LINE_FOREIGN, line, 0);
        return 1;
    }
    if (h->ms > s->clock) {
        s->clock = h->ms;
        while (s->open && h->ms - s->event[0].base >= AUDITNS_OLDER_MS) /* none is older than those that began before it */
            close_event(s, p, 0);
    }
    uint32_t id = record(s, p, buf, h, line, end);
    add_line(p, line, end, id, line + h->body, h->type);
    return 1;
}

static int room(const struct auditns_scan *s, const struct auditns_points *p)
{
    if (s->whole)
        return whole_room(s, p);
    return p->cap - p->total >= 2 && p->line_cap - p->line_total >= 2;
}

/* What is left behind the last newline: 0 where it stays. */
static int rest_line(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t len, int mode,
                     struct head *h)
{
    if (s->line == len || (mode != AUDITNS_MODE_EOF && !s->in_long && len - s->line <= AUDITNS_MAX_LINE))
        return 1;
    if (!s->in_long && len - s->line <= AUDITNS_MAX_LINE) { /* the last line of all, without a newline */
        if (!one_line(s, p, buf, s->line, len, h))
            return 0;
    } else { /* the start of a line too long to be a record is passed on as it is */
        end_all(s, p, buf, INT64_MAX);
        add_line(p, s->line, len, AUDITNS_LINE_FOREIGN, s->line, 0);
        s->in_long = mode != AUDITNS_MODE_EOF;
    }
    s->line = len;
    return 1;
}

static void hand_out(struct auditns_scan *s, struct auditns_points *p)
{
    p->used = p->total;
    p->line_used = p->line_total;
    if (s->whole) {
        s->consumed = whole_first(s);
    } else {
        s->consumed = s->open ? s->event[0].first : s->line;
        while (p->used && p->line_off[p->used - 1] >= s->consumed)
            p->used--;
        while (p->line_used && p->l_off[p->line_used - 1] >= s->consumed)
            p->line_used--;
    }
    p->listed = s->whole != NULL;
    p->n = s->voids ? compact(s, p) : p->used;
    p->line_n = p->line_used;
    p->subjects = p->late = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!(p->flags[i] & (AUDITNS_P_SUBJECT | AUDITNS_P_NETFILTER)))
            continue;
        if (p->flags[i] & AUDITNS_P_LATE)
            p->late++;
        else
            p->subjects++;
    }
}

int64_t auditns_scan(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t len, int mode)
{
    struct head head = {.text = NULL};

    release(s, p);
    while (s->searched < len) {
        const char *nl = memchr(buf + s->searched, '\n', len - s->searched);
        if (!nl)
            break;
        if (!room(s, p))
            return -1;
        uint32_t end = (uint32_t)(nl + 1 - buf);
        if (!one_line(s, p, buf, s->line, end, &head))
            return -2;
        s->lines++;
        s->line = s->searched = end;
    }
    s->searched = len;
    if (mode == AUDITNS_MODE_AHEAD)
        return 0;
    if (!room(s, p))
        return -1;
    if (!rest_line(s, p, buf, len, mode, &head))
        return -2;
    if (mode != AUDITNS_MODE_MORE) {
        if (!room(s, p))
            return -1;
        end_all(s, p, buf, mode == AUDITNS_MODE_IDLE ? s->idle : INT64_MAX);
    } else if (!s->whole && s->lone && s->event[s->lone - 1].lone == COMPLETE && !s->patient) {
        close_event(s, p, s->lone - 1);
    }
    hand_out(s, p);
    return s->consumed;
}

int64_t auditns_scan_oldest(const struct auditns_scan *s)
{
    int64_t oldest = INT64_MAX;

    if (s->whole)
        return whole_oldest(s);
    for (uint32_t i = 0; i < s->open; i++)
        oldest = s->event[i].seen < oldest ? s->event[i].seen : oldest;
    return oldest;
}
