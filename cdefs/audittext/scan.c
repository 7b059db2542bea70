/* The block scanner: lines of audit text -> points where a record may be inserted.
 * tests/reference/audittext.py does the same, readably, and says what each rule is for. State is kept between calls, in
 * offsets of the block that begins where the last one was consumed, so no line is ever looked at twice. */
#include "audittext/scan_impl.h"

/* a record of an event that was decided before; c is NULL where hardly anything of that is remembered */
static uint32_t late_record(struct auditns_points *p, const char *buf, const struct head *h, struct auditns_closed *c,
                            uint32_t line, uint32_t end)
{
    if (!c)
        return AUDITNS_LINE_LATE;
    if (h->type & TYPE_OWN)
        c->own = 1;
    else if (c->recno < 0xffff)
        c->recno++;
    if ((h->type & 0xffff) == TYPE_OBJ_PID) {
        uint32_t flags = AUDITNS_P_TARGET | AUDITNS_P_LATE | (c->own ? AUDITNS_P_OWN : 0);
        uint32_t i = add_point(p, h, line, end, flags, AUDITNS_LINE_LATE, (uint16_t)c->recno);
        target_fields(p, i, buf, buf + line + h->body, buf + h->stop);
    }
    return AUDITNS_LINE_LATE;
}

/* Whether an event that waits for ours may be one of a system call all the same: a LOGIN, a USER_* record. In plain text
 * such records have ours each, in text that holds some already one does for both. */
static int takes_syscall(const struct auditns_scan *s, const struct auditns_event *e)
{
    return s->ours && !e->ended && !e->syscall;
}

/* Whether a record stands behind the SYSCALL of its event, and names no process (kernel/auditsc.c, audit_log_exit). */
static int is_part(uint32_t number)
{
#define PART(type) (1ull << ((type) - TYPE_SYSCALL))
    const uint64_t parts = PART(TYPE_PATH) | PART(TYPE_SOCKETCALL) | PART(TYPE_SOCKADDR) | PART(TYPE_CWD) |
                           PART(TYPE_EXECVE) | PART(TYPE_FD_PAIR) | PART(TYPE_EOE) | PART(TYPE_BPRM_FCAPS) |
                           PART(TYPE_MMAP) | PART(TYPE_PROCTITLE) | PART(TYPE_OPENAT2);

    return number - TYPE_SYSCALL < 64 && parts >> (number - TYPE_SYSCALL) & 1;
}

/* Whether a record is of an event that was decided, of which `c` is remembered. */
static int is_late(const struct auditns_scan *s, const struct head *h, const struct auditns_closed *c)
{
    if (!c)
        return is_part(h->type & 0xffff) && was_answered(s, h);
    return (h->type & 0xffff) != TYPE_SYSCALL && !(h->type & TYPE_SINGLE);
}

/* A record with a header; returns the number of its event. */
static uint32_t record(struct auditns_scan *s, struct auditns_points *p, const char *buf, const struct head *h,
                       uint32_t line, uint32_t end)
{
    struct auditns_event *e = find_open(s, h);

    if (e && e->turn && !is_awaited(e, h) && !takes_syscall(s, e)) {
        close_event(s, p, e);
        e = NULL;
    }
    if (h->type & TYPE_OWN)
        s->ours = 1;
    if (!e) {
        struct auditns_closed *c = find_closed(s, h);
        if (is_late(s, h, c))
            return late_record(p, buf, h, c, line, end);
        e = open_event(s, p, h, line, c);
    }
    uint32_t id = e->id;

    e->seen = s->now;
    if (h->type & TYPE_OWN) {
        s->patient = 1;
        if (e->titled)
            s->behind = 2;
    }
    e->turn = 0;
    follow_serial(s, e, h);
    int ended = follow(e, s, h);
    place(s, p, buf, e, h, line, end);
    if (e->placed && e->point != NONE && p->pid[e->point] == e->placed) { /* it has one where it was decided */
        p->flags[e->point] = 0;
        s->voids++;
        e->point = NONE;
        e->exec = 0;
    }
    if (ended)
        close_event(s, p, e);
    else if (e->lone)
        set_lone(s, e);
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

/* A line has come, of which `h` is the head, if it has one: close the events that it is not of. */
static void end_others(struct auditns_scan *s, struct auditns_points *p, uint32_t line, const struct head *h)
{
    struct auditns_event *lone = lone_open(s), *oldest;

    while ((oldest = first_open(s)) && line - oldest->first > AUDITNS_MAX_SPAN)
        close_event(s, p, oldest);
    if (s->lone && !goes_on(lone, h)) {
        if (lone->titled && !s->behind)
            s->behind = 1;
        if (s->awaits)
            wait_event(s, lone);
        else
            close_event(s, p, lone);
    }
    s->lone = 0;
    if (h && h->ms > s->clock) {
        s->clock = h->ms;
        while ((oldest = first_open(s)) && h->ms - oldest->base >= AUDITNS_OLDER_MS) /* none is older than those before it */
            close_event(s, p, oldest);
    }
}

/* Count a line, of which `h` is the head, if it has one; else `foreign`: others' text. */
static void count_line(struct auditns_scan *s, const struct head *h, int foreign)
{
    if (!h) {
        s->foreign += (uint64_t)foreign;
        return;
    }
    s->records++;
    s->changes += (h->type & 0xffff) == TYPE_CONFIG_CHANGE;
    s->logins += (h->type & 0xffff) == TYPE_LOGIN;
}

/* One whole line, newline included where it has one. 0: no memory. */
static int one_line(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t line, uint32_t end,
                    struct head *h)
{
    h->stop = end - (buf[end - 1] == '\n');
    int parsed = !s->in_long && parse_head(buf + line, buf + h->stop, h);

    count_line(s, parsed ? h : NULL, !s->in_long && h->stop > line && buf[line] != '\r');
    if (parsed)
        h->stop -= h->trail;
    if (parsed && !h->trail && buf[end - 1] != '\n')
        h->stop = before_cut_pid(buf, line + h->body, h->stop);

    if (!parsed && buf[end - 1] != '\n')
        end_all(s, p, buf, INT64_MAX); /* nothing may follow */
    s->in_long = 0;
    if (s->whole)
        return whole_line(s, p, buf, line, end, parsed ? h : NULL);
    end_others(s, p, line, parsed ? h : NULL);
    if (s->awaits)
        next_turn(s, p);
    if (!parsed) {
        add_line(p, line, end, AUDITNS_LINE_FOREIGN, line, 0);
        return 1;
    }
    uint32_t id = record(s, p, buf, h, line, end);
    add_line(p, line, end, id, line + h->body, h->type);
    return 1;
}

/* Each point may move on once a line, and once when lines are handed out. */
static int room(const struct auditns_scan *s, const struct auditns_points *p)
{
    if (s->whole)
        return whole_room(s, p);
    return p->cap - p->total >= 2 + p->total && p->line_cap - p->line_total >= 2;
}

/* Of the line that goes up to `end` or on from there, what is too much for a record is passed on in pieces of one size,
 * wherever reads cut it; 0: no room. */
static int long_line(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t end)
{
    while (end - s->line > AUDITNS_MAX_LINE) {
        if (!room(s, p))
            return 0;
        end_all(s, p, buf, INT64_MAX);
        add_line(p, s->line, s->line + AUDITNS_MAX_LINE, AUDITNS_LINE_FOREIGN, s->line, 0);
        s->foreign += !s->in_long;
        s->in_long = 1;
        s->line += AUDITNS_MAX_LINE;
    }
    return 1;
}

/* Whether the place of an open event stays as it is while a record of ours may still follow: what stands behind it waits
 * with it, up to the end of the event and no longer than that is waited for. */
static int is_placed(const struct auditns_scan *s, const struct auditns_points *p, const struct auditns_event *e)
{
    if (e->point == NONE || e->own)
        return 0;
    return e->ended || e->turn || (p->flags[e->point] & AUDITNS_P_HAS_TARGET && e->syscall && !s->at_end);
}

/* The first point of an event that is placed so, where ours are awaited; the end of the points where there is none. */
static uint32_t first_placed(struct auditns_scan *s, const struct auditns_points *p)
{
    uint32_t first = p->total;

    for (const struct auditns_event *e = s->awaits ? first_open(s) : NULL; e; e = next_open(s, e))
        if (is_placed(s, p, e) && e->point < first)
            first = e->point;
    return first;
}

/* The points of an open event wait, unless targets have come: then its place is behind us. */
static void defer_event(struct auditns_scan *s, struct auditns_points *p, struct auditns_event *e, uint32_t end)
{
    uint32_t own = e->point;
    int alone = !(p->flags[own] & AUDITNS_P_HAS_TARGET);

    if (!alone && e->syscall && !s->at_end) {
        e->placed = p->pid[own] > 0 ? p->pid[own] : 0;
        e->point = NONE;
        e->passed = 1;
        return;
    }
    for (uint32_t i = alone ? own : 0; i < (alone ? own + 1 : end); i++)
        if (p->flags[i] && p->event[i] == e->id) {
            uint32_t to = move_point(s, p, i);
            if (s->awaits)
                p->at[to] = s->line; /* behind what waits, too */
            e->point = i == own ? to : e->point;
        }
}

/* The points of open events wait behind those that are ready, in the order in which the events began; a target at the end
 * of the text does, where a record of ours may follow, for as long as no whole line comes: by then points that wait stand
 * behind it. Returns where the text ends that is handed out: at the first place that stays. */
static uint32_t defer_points(struct auditns_scan *s, struct auditns_points *p)
{
    uint32_t end = first_placed(s, p), held = end < p->total, last = s->patient && !held ? end : 0;

    while (last && !(p->flags[last - 1] & AUDITNS_P_TARGET && p->at[last - 1] == s->line))
        last--;
    for (struct auditns_event *e = first_open(s); e; e = next_open(s, e)) {
        if (e->point != NONE && e->point < end)
            defer_event(s, p, e, end);
        if (e->point == NONE && last && p->event[last - 1] == e->id && p->flags[last - 1])
            move_point(s, p, last - 1);
    }
    p->used = end;
    return held ? p->at[end] : s->line;
}

/* Hand out lines up to `end`; what is put in stands in them. */
static void hand_out_text(struct auditns_scan *s, struct auditns_points *p, uint32_t end)
{
    p->out_from = s->given;
    p->out_end = s->given = end > s->given ? end : s->given;
    for (uint32_t i = 0; i < p->used && (!p->flags[i] || p->at[i] <= p->out_from); i++)
        p->at[i] = p->out_from;
}

/* The text of points that wait is needed. */
static void keep_waiting(struct auditns_scan *s, const struct auditns_points *p)
{
    for (uint32_t i = p->used; i < p->total; i++)
        if (p->flags[i] && p->line_off[i] < s->consumed)
            s->consumed = p->line_off[i];
}

/* As hand_out_text, up to the first line of an event that is open: what stands in it and behind it waits. */
static void hand_out_decided(struct auditns_scan *s, struct auditns_points *p)
{
    uint32_t end = s->consumed;

    while (p->used && (!p->flags[p->used - 1] || p->at[p->used - 1] > end))
        p->used--;
    keep_waiting(s, p);
    hand_out_text(s, p, end);
}

static void hand_out(struct auditns_scan *s, struct auditns_points *p)
{
    p->used = p->total;
    p->line_used = p->line_total;
    p->listed = s->whole != NULL;
    if (s->whole) {
        s->consumed = s->given = p->out_end = whole_first(s);
        p->out_from = 0;
    } else {
        s->consumed = s->open ? first_open(s)->first : s->line;
        if (s->hold) {
            hand_out_decided(s, p);
        } else {
            hand_out_text(s, p, defer_points(s, p));
            keep_waiting(s, p);
        }
        while (p->line_used && p->l_off[p->line_used - 1] >= p->out_end)
            p->line_used--;
    }
    p->n = s->voids ? compact(s, p) : p->used;
    p->line_n = p->line_used;
    while (p->line_used && p->l_off[p->line_used - 1] >= s->consumed && !s->whole)
        p->line_used--;
    p->subjects = p->late = p->rest = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t is = p->flags[i];
        p->late += is & AUDITNS_P_LATE && !(is & AUDITNS_P_TARGET);
        p->rest += (is & AUDITNS_P_REST) != 0;
        p->subjects += is & (AUDITNS_P_SUBJECT | AUDITNS_P_NETFILTER) && !(is & AUDITNS_P_LATE);
    }
}

/* Whether an event is complete at the end of the text that there is. */
static int ends_here(const struct auditns_scan *s, const struct auditns_event *e)
{
    return !s->awaits && e->lone == COMPLETE && (!s->patient || (e->titled && e->syscall && s->behind == 1 && !s->hold));
}

/* At the end of the text that there is: decide what is complete there. */
static void end_text(struct auditns_scan *s, struct auditns_points *p)
{
    int over = s->awaits == AUDITNS_AWAITS_HERE && !s->ours; /* with the waiting of those behind which others' lines stand */

    if (s->whole)
        return;
    struct auditns_event *lone = lone_open(s);
    if (over)
        close_waiting(s, p);
    if (lone && ends_here(s, lone))
        close_event(s, p, lone);
}

int64_t auditns_scan(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t len, int mode)
{
    struct head head = {.text = NULL};

    release(s, p);
    while (s->searched < len) {
        const char *nl = memchr(buf + s->searched, '\n', len - s->searched);
        if (!nl)
            break;
        uint32_t end = (uint32_t)(nl + 1 - buf);
        if (!long_line(s, p, buf, end) || !room(s, p))
            return -1;
        if (!one_line(s, p, buf, s->line, end, &head))
            return -2;
        s->lines++;
        s->line = s->searched = end;
    }
    s->searched = len;
    if (mode == AUDITNS_MODE_AHEAD)
        return 0;
    if (!long_line(s, p, buf, len) || !room(s, p))
        return -1;
    if (mode == AUDITNS_MODE_EOF && s->line < len) { /* the last line of all, without a newline */
        if (!one_line(s, p, buf, s->line, len, &head))
            return -2;
        s->line = len;
    }
    if (mode == AUDITNS_MODE_ENDED) {
        if (!room(s, p))
            return -1;
        whole_end_waiting(s, p, buf, INT64_MAX);
    } else if (mode != AUDITNS_MODE_MORE) {
        if (!room(s, p))
            return -1;
        end_all(s, p, buf, mode == AUDITNS_MODE_IDLE ? s->idle : INT64_MAX);
    } else {
        end_text(s, p);
    }
    hand_out(s, p);
    return s->consumed;
}

int64_t auditns_scan_oldest(struct auditns_scan *s)
{
    int64_t oldest = INT64_MAX;

    if (s->whole)
        return whole_oldest(s);
    for (const struct auditns_event *e = first_open(s); e; e = next_open(s, e))
        oldest = e->seen < oldest ? e->seen : oldest;
    return oldest;
}

uint32_t auditns_open_calls(struct auditns_scan *s, const struct auditns_points *p, struct auditns_call *calls)
{
    uint32_t found = 0;

    if (s->whole)
        return whole_open_calls(s, p, calls);
    for (const struct auditns_event *e = first_open(s); e && found < AUDITNS_MAX_PIDS; e = next_open(s, e))
        if (e->syscall && e->point != NONE)
            calls[found++] = (struct auditns_call){e->serial, p->pid[e->point]};
    return found;
}
