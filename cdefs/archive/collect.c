/* Take in what the scanner hands out: whole events, each with its place in the text, its container and its terms. */
#include "archive/archive_impl.h"

#define LONGEST_TEXT (1 << 20) /* lines that are no records stand together up to so many bytes */

void archive_free(struct archive_text *a)
{
    void *parts[] = {a->event, a->piece, a->term, a->group, a->tally, a->serials, a->info, a->by_number,
                     a->group_slot, a->tally_slot, a->info_slot};

    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        free(parts[i]);
    *a = (struct archive_text){.text = NULL};
}

static int add_piece(struct archive_text *a, struct archive_event *e, uint32_t off, uint32_t len)
{
    struct archive_piece *last = e->pieces ? &a->piece[e->piece + e->pieces - 1] : NULL;

    e->size += len;
    a->reach = off + len > a->reach ? off + len : a->reach;
    if (last && last->off + last->len == off) {
        last->len += len;
        return 1;
    }
    if (!archive_room(&a->piece, &a->piece_room, a->pieces, sizeof(*a->piece)))
        return 0;
    a->piece[a->pieces++] = (struct archive_piece){off, len};
    e->pieces++;
    return 1;
}

static struct archive_event *new_event(struct archive_text *a, uint32_t first)
{
    if (!archive_room(&a->event, &a->event_room, a->events, sizeof(*a->event)))
        return NULL;
    struct archive_event *e = &a->event[a->events++];
    *e = (struct archive_event){.first = first, .behind = first, .piece = a->pieces, .term = a->terms};
    return e;
}

static int text_line(struct archive_text *a, uint32_t off, uint32_t len)
{
    struct work w = WORK_OF(ARCHIVE_HOLDER_TEXT);
    uint32_t group = archive_group(a, &w);
    struct archive_event *e = a->events ? &a->event[a->events - 1] : NULL;

    if (group == NONE)
        return 0;
    if (!e || e->group != group || e->first + e->size != off || e->size + len > LONGEST_TEXT) {
        e = new_event(a, off);
        if (!e)
            return 0;
        e->group = group;
        e->ms = a->last_ms;
    }
    return add_piece(a, e, off, len);
}

/* The event that a scanner gave this number to; NONE: it is of another segment. */
static uint32_t by_number(const struct archive_text *a, uint32_t number)
{
    uint32_t at = number - a->first_number;
    return at < a->numbers && a->by_number[at] < a->events ? a->by_number[at] : NONE;
}

static int remember(struct archive_text *a, uint32_t number)
{
    if (!a->numbers)
        a->first_number = number;
    if (!archive_room(&a->by_number, &a->number_room, a->numbers, sizeof(*a->by_number)))
        return 0;
    a->by_number[a->numbers++] = a->events;
    return 1;
}

static int head_of_line(const struct auditns_points *p, uint32_t l, struct work *w, int64_t *ms, uint64_t *serial)
{
    struct auditns_head head;
    uint32_t len = p->l_len[l];
    const char *line = p->buf + p->l_off[l];

    if (len && line[len - 1] == '\n')
        len--;
    if (!auditns_head(line, len, &head))
        return 0;
    w->node = (struct span){line + head.node_off, head.node_len};
    *ms = head.ms;
    *serial = head.serial;
    return 1;
}

static int is_kernels(uint32_t type)
{
    return !(type >= AUDIT_FIRST_OWN && type <= AUDIT_LAST_OWN) && !(type >= AUDIT_FIRST_DAEMON && type <= AUDIT_LAST_DAEMON);
}

static int count_span(struct archive_text *a, uint32_t group, uint32_t kind, struct span s, uint64_t count, int64_t ms)
{
    return archive_count(a, group, kind, s.len ? (uint32_t)(s.at - a->text) : 0, s.len, count, ms);
}

static uint64_t number_in(struct span s)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < s.len && i < 12 && s.at[i] >= '0' && s.at[i] <= '9'; i++)
        value = value * 10 + (uint64_t)(s.at[i] - '0');
    return value;
}

/* What a line is counted for beside its terms. */
static int count_line(struct archive_text *a, uint32_t group, const char *body, const char *end, uint32_t type, int64_t ms)
{
    if (!archive_count(a, group, ARCHIVE_TALLY_TYPE, type, 0, 1, ms))
        return 0;
    if (type == TYPE_LOGIN)
        return count_span(a, group, ARCHIVE_TALLY_LOGIN, archive_field(body, end, "auid", 4), 1, ms);
    if (type == AUDIT_CONTAINER_LOST) {
        uint64_t count = number_in(archive_field(body, end, "count", 5));
        return count_span(a, group, ARCHIVE_TALLY_LOSS, archive_field(body, end, "source", 6), count ? count : 1, ms);
    }
    if (type != AUDIT_CONTAINER_INFO)
        return 1;
    if (span_is(archive_field(body, end, "reason", 6), "entry", 5) &&
        !count_span(a, group, ARCHIVE_TALLY_ENTRY, archive_field(body, end, "entry-how", 9), 1, ms))
        return 0;
    return archive_note_info(a, body, end, group);
}

static int count_event(struct archive_text *a, const struct auditns_points *p, uint32_t l, uint32_t end, uint32_t first,
                       uint32_t last, const struct archive_event *e, const struct work *w)
{
    for (uint32_t i = first; i < last; i++) {
        if (p->flags[i] & AUDITNS_P_SYSCALL &&
            !archive_count(a, e->group, ARCHIVE_TALLY_SYSCALL, (uint32_t)p->sysno[i], p->arch[i], 1, e->ms))
            return 0;
        if (!(p->flags[i] & AUDITNS_P_TARGET))
            continue;
        struct span target = archive_target(p, l, end, p->recno[i]);
        if (!same_span(target, w->contid) && !count_span(a, e->group, ARCHIVE_TALLY_TARGET, target, 1, e->ms))
            return 0;
    }
    if (e->flags & ARCHIVE_EVENT_EXEC && !count_span(a, e->group, ARCHIVE_TALLY_EXEC, w->exe, 1, e->ms))
        return 0;
    if (w->key.len && !span_is(w->key, "(null)", 6) && !count_span(a, e->group, ARCHIVE_TALLY_KEY, w->key, 1, e->ms))
        return 0;
    return !(e->flags & ARCHIVE_EVENT_FAILED) || count_span(a, e->group, ARCHIVE_TALLY_FAILED, w->key, 1, e->ms);
}

/* The point of an event that says when it was, and whose; NONE: it stands alone. */
static uint32_t subject_of(const struct auditns_points *p, uint32_t first, uint32_t last)
{
    for (uint32_t i = first; i < last; i++)
        if (p->flags[i] & (AUDITNS_P_SUBJECT | AUDITNS_P_NETFILTER | AUDITNS_P_LATE) && !(p->flags[i] & AUDITNS_P_TARGET))
            return i;
    return NONE;
}

/* Its lines [l, end), whose terms go to `w`. 0: no memory. */
static int take_lines(struct archive_text *a, const struct auditns_points *p, uint64_t base, uint32_t l, uint32_t end,
                      struct archive_event *e, struct work *w)
{
    for (uint32_t i = l; i < end; i++) {
        const char *body = p->buf + p->l_body[i], *stop = p->buf + p->l_off[i] + p->l_len[i];
        stop -= stop > body && stop[-1] == '\n';
        stop = archive_body_end(body, stop);
        uint32_t off = (uint32_t)(base + p->l_off[i]);
        if (!add_piece(a, e, off, p->l_len[i]) || !archive_line(a, w, body, stop, p->l_type[i]) ||
            !count_line(a, e->group, body, stop, p->l_type[i], e->ms))
            return 0;
        e->first = off < e->first ? off : e->first;
        if (p->buf[p->l_off[i]] == '{') /* in a string of JSON quotes are escaped */
            e->flags |= ARCHIVE_EVENT_OPAQUE;
    }
    return 1;
}

/* The lines [l, end) of one event, whose points are [first, last). */
static int take_event(struct archive_text *a, const struct auditns_points *p, uint64_t base, uint32_t l, uint32_t end,
                      uint32_t first, uint32_t last)
{
    struct work w = WORK_OF(ARCHIVE_HOLDER_HOST);
    struct archive_event *e;
    uint32_t subject = subject_of(p, first, last);
    uint64_t serial = 0;
    int64_t ms = 0;

    if (subject != NONE) {
        ms = p->ms[subject];
        serial = p->serial[subject];
        w.node = (struct span){p->buf + p->node_off[subject], p->node_len[subject]};
    } else if (!head_of_line(p, l, &w, &ms, &serial)) {
        ms = a->last_ms;
    }
    archive_holder(a, p, l, end, subject, &w);
    uint32_t origin = subject != NONE && p->flags[subject] & AUDITNS_P_LATE ? by_number(a, p->origin[subject]) : NONE;
    uint32_t group = origin == NONE ? archive_group(a, &w) : a->event[origin].group;
    if (group == NONE || !remember(a, p->l_event[l]) || !(e = new_event(a, (uint32_t)(base + p->l_off[l]))))
        return 0;
    e->group = group;
    e->ms = a->last_ms = ms;
    e->records = end - l;
    if (is_kernels(p->l_type[l]) && serial <= UINT32_MAX && !archive_note_serial(a, w.node, serial, ms))
        return 0;
    if (!take_lines(a, p, base, l, end, e, &w))
        return 0;
    e->behind = origin == NONE ? e->first : a->event[origin].behind;
    if (subject != NONE && p->flags[subject] & AUDITNS_P_EXEC)
        e->flags |= ARCHIVE_EVENT_EXEC;
    e->flags |= w.failed ? ARCHIVE_EVENT_FAILED : 0;
    a->records += e->records;
    if (!count_event(a, p, l, end, first, last, e, &w))
        return 0;
    e->terms = a->terms - e->term;
    return 1;
}

/* Types are terms too. */
static int type_terms(struct archive_text *a, const struct auditns_points *p, uint32_t l, uint32_t end)
{
    for (uint32_t i = l; i < end; i++) {
        char digits[8], *at = digits + sizeof(digits);
        uint32_t type = p->l_type[i];
        do
            *--at = (char)('0' + type % 10);
        while (type /= 10);
        if (!archive_add_term(a, ARCHIVE_TERM_TYPE, at, (uint32_t)(digits + sizeof(digits) - at)))
            return 0;
    }
    a->event[a->events - 1].terms += end - l;
    return 1;
}

int archive_take(struct archive_text *a, const struct auditns_points *p, uint64_t base)
{
    uint32_t point = 0;

    for (uint32_t l = 0, end; l < p->line_n; l = end) {
        uint32_t number = p->l_event[l];
        end = l + 1;
        a->lines++;
        if (number >= AUDITNS_LINE_LATE) {
            if (!text_line(a, (uint32_t)(base + p->l_off[l]), p->l_len[l]))
                return 0;
            continue;
        }
        for (; end < p->line_n && p->l_event[end] == number; end++)
            a->lines++;
        uint32_t first = point;
        while (point < p->n && p->event[point] == number)
            point++;
        if (!take_event(a, p, base, l, end, first, point) || !type_terms(a, p, l, end))
            return 0;
    }
    return 1;
}
