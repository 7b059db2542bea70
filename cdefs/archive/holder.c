/* Whose an event is, by the records of ours in it: the rules are those of attribution/text_answers.py. */
#include "archive/archive_impl.h"

#define MOST 64 /* records of ours in one event that are looked at */

const char *archive_body_end(const char *body, const char *end)
{
    const char *gs = memchr(body, 0x1d, (size_t)(end - body));
    return gs ? gs : end;
}

/* Where the value of a field stands that is not there, as none of one that is empty does. */
static const char nowhere[1];

struct span archive_field(const char *t, const char *end, const char *name, uint32_t len)
{
    struct words words = words_of(t, end);

    while (t < end) {
        const char *q = word_stop(&words, t);
        if ((size_t)(q - t) > len && t[len] == '=' && !memcmp(t, name, len))
            return (struct span){t + len + 1, (uint32_t)(q - t - len - 1)};
        t = q + 1;
    }
    return (struct span){nowhere, 0};
}

static int is_own(uint32_t type)
{
    return type >= AUDIT_FIRST_OWN && type <= AUDIT_LAST_OWN;
}

static const char *body_of(const struct auditns_points *p, uint32_t l, const char **end)
{
    const char *stop = p->buf + p->l_off[l] + p->l_len[l];

    while (stop > p->buf + p->l_body[l] && (stop[-1] == '\n' || stop[-1] == '\r'))
        stop--;
    *end = archive_body_end(p->buf + p->l_body[l], stop);
    return p->buf + p->l_body[l];
}

/* How many a list that was cut leaves out: "+N" at its end. */
static int is_rest(const char *p, const char *end)
{
    int digits = 0;

    if (p >= end || *p++ != '+')
        return 0;
    while (p + digits < end && digits < 8 && p[digits] >= '0' && p[digits] <= '9')
        digits++;
    return digits > 0 && digits < 8 && p + digits == end;
}

/* Goes over "?" or a number of 64 bits at *p; 0: there is neither. */
static int skip_link(const char **p, const char *end)
{
    const char *start = *p;
    uint64_t value = 0;

    if (start < end && *start == '?') {
        ++*p;
        return 1;
    }
    for (; *p < end && **p >= '0' && **p <= '9'; ++*p)
        if (*p - start == 20 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, **p - '0', &value))
            return 0;
    return *p > start;
}

/* Whether it is numbers of 64 bits, or "?", with ",^" or "," between; several: there is a "," without "^". */
static int is_contid(struct span s, int *several)
{
    const char *p = s.at, *end = s.at + s.len;

    *several = 0;
    for (;;) {
        if (!skip_link(&p, end))
            return 0;
        if (p == end)
            return 1;
        if (*p++ != ',')
            return 0;
        if (p < end && *p == '^')
            p++;
        else
            *several = 1;
        if (p < end && p[-1] == ',' && is_rest(p, end))
            return 1;
    }
}

static void settle(struct work *w, struct span contid)
{
    int several;

    w->contid = NO_SPAN;
    if (span_is(contid, "-1", 2))
        w->holder = ARCHIVE_HOLDER_HOST;
    else if (span_is(contid, "?", 1) || !contid.len || !is_contid(contid, &several))
        w->holder = ARCHIVE_HOLDER_UNKNOWN;
    else if (several)
        w->holder = ARCHIVE_HOLDER_SEVERAL;
    else {
        w->holder = ARCHIVE_HOLDER_CONTAINER;
        w->contid = contid;
    }
}

static int is_number(struct span s, uint32_t number)
{
    uint32_t value = 0;

    if (!s.len || s.len > 5)
        return 0;
    for (uint32_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return 0;
        value = value * 10 + (uint32_t)(s.at[i] - '0');
    }
    return value == number;
}

/* The contids of an event's CONTAINER_ID and CONTAINER_INFO records, and whether each of the first tells about which record
 * it is. */
struct contids {
    struct span id[MOST], info[MOST];
    uint32_t ids, infos;
    int cut;
};

static void note_contid(struct contids *c, uint32_t type, const char *body, const char *stop)
{
    struct span contid = unquoted(archive_field(body, stop, "contid", 6)), record = archive_field(body, stop, "record", 6);

    if (type == AUDIT_CONTAINER_INFO) {
        c->info[c->infos++] = contid;
        return;
    }
    c->id[c->ids++] = contid;
    if (record.at == nowhere)
        return;
    record = unquoted(record);
    c->cut |= !record.len || record.len > 6 || *record.at == '0';
    for (uint32_t i = 0; i < record.len; i++)
        c->cut |= record.at[i] < '0' || record.at[i] > '9';
}

/* Whether something is missing of what they say: then silence about a process does not mean the host. */
static int is_cut(const struct contids *c)
{
    int cut = c->cut;

    for (uint32_t i = 0; i < c->infos && !cut; i++) {
        uint32_t k = 0;
        while (k < c->ids && !same_span(c->info[i], c->id[k]))
            k++;
        cut = k == c->ids;
    }
    return cut;
}

/* What a CONTAINER_ID record says of the process of record `recno`; *one: how many contids have been said of it, -1 where
 * they contradict each other. */
static void note_said(const char *body, const char *stop, uint32_t recno, struct span *said, int *one)
{
    struct span record = unquoted(archive_field(body, stop, "record", 6)), contid;

    if (record.len && !is_number(record, recno))
        return;
    contid = unquoted(archive_field(body, stop, "contid", 6));
    if (*one && span_is(contid, "?", 1))
        return; /* that is no answer, and contradicts none */
    if (*one && !span_is(*said, "?", 1) && !same_span(contid, *said)) {
        *one = -1;
        return;
    }
    *said = contid;
    *one = 1;
}

void archive_holder(const struct archive_text *a, const struct auditns_points *p, uint32_t l, uint32_t end,
                    uint32_t subject, struct work *w)
{
    uint32_t own = 0, recno = subject == NONE ? 0 : p->recno[subject];
    struct span said = NO_SPAN;
    struct contids contids;
    int one = 0;
    (void)a;

    contids.ids = contids.infos = 0;
    contids.cut = 0;
    w->holder = ARCHIVE_HOLDER_HOST;
    w->contid = said;
    for (uint32_t i = l; i < end && one >= 0; i++) {
        if (!is_own(p->l_type[i]))
            continue;
        const char *stop, *body = body_of(p, i, &stop);
        if (i == l && subject == NONE) { /* it stands alone */
            struct span alone = unquoted(archive_field(body, stop, "contid", 6));
            if (alone.at != nowhere)
                settle(w, alone);
            return;
        }
        if (++own > MOST) {
            w->holder = ARCHIVE_HOLDER_UNKNOWN;
            w->contid = NO_SPAN;
            return;
        }
        if (p->l_type[i] == AUDIT_CONTAINER_ID || p->l_type[i] == AUDIT_CONTAINER_INFO)
            note_contid(&contids, p->l_type[i], body, stop);
        if (p->l_type[i] == AUDIT_CONTAINER_ID)
            note_said(body, stop, recno, &said, &one);
    }
    if (one > 0)
        settle(w, said);
    else if (one < 0 || is_cut(&contids))
        w->holder = ARCHIVE_HOLDER_UNKNOWN;
}

struct span archive_target(const struct auditns_points *p, uint32_t l, uint32_t end, uint32_t recno)
{
    struct span said = NO_SPAN;

    for (uint32_t i = l, own = 0; i < end && own < MOST; i++) {
        if (!is_own(p->l_type[i]))
            continue;
        own++;
        const char *stop, *body = body_of(p, i, &stop);
        if (p->l_type[i] == AUDIT_CONTAINER_ID && is_number(unquoted(archive_field(body, stop, "record", 6)), recno)) {
            said = unquoted(archive_field(body, stop, "contid", 6));
            if (!span_is(said, "?", 1))
                break;
        }
    }
    return said;
}

/* ---- groups ---- */

static uint64_t hash_span(uint64_t h, struct span s)
{
    uint32_t i = 0;

    for (; s.len - i >= 8; i += 8)
        h = mixed(h, eight(s.at + i));
    return mixed(mixed(h, eight_before(s.at + i, s.at + s.len)), s.len);
}

static struct span part(const struct archive_text *a, uint32_t off, uint32_t len)
{
    return (struct span){a->text + off, len};
}

static int is_group(const struct archive_text *a, uint32_t i, const struct work *w)
{
    const struct archive_group *g = &a->group[i];
    return g->holder == w->holder && same_span(part(a, g->contid_off, g->contid_len), w->contid) &&
           same_span(part(a, g->node_off, g->node_len), w->node);
}

static uint64_t hash_group(const struct archive_text *a, const struct work *w)
{
    return hash_span(hash_span(a->seed + w->holder, w->contid), w->node);
}

/* Twice the slots, all groups put in again. */
static int grow_slots(struct archive_text *a)
{
    uint32_t slots = a->group_slots ? 2 * a->group_slots : 1024;
    uint32_t *grown = malloc(slots * sizeof(*grown));

    if (!grown)
        return 0;
    memset(grown, 0xff, slots * sizeof(*grown));
    for (uint32_t i = 0; i < a->groups; i++) {
        const struct archive_group *g = &a->group[i];
        struct work w = {.holder = g->holder, .contid = part(a, g->contid_off, g->contid_len),
                         .node = part(a, g->node_off, g->node_len)};
        uint32_t at = (uint32_t)hash_group(a, &w) & (slots - 1);
        while (grown[at] != NONE)
            at = (at + 1) & (slots - 1);
        grown[at] = i;
    }
    free(a->group_slot);
    a->group_slot = grown;
    a->group_slots = slots;
    return 1;
}

uint32_t archive_group(struct archive_text *a, const struct work *w)
{
    if (a->last_group < a->groups && is_group(a, a->last_group, w))
        return a->last_group;
    if (2 * a->groups >= a->group_slots && !grow_slots(a))
        return NONE;
    uint32_t at = (uint32_t)hash_group(a, w) & (a->group_slots - 1);
    while (a->group_slot[at] != NONE) {
        if (is_group(a, a->group_slot[at], w))
            return a->last_group = a->group_slot[at];
        at = (at + 1) & (a->group_slots - 1);
    }
    if (!archive_room(&a->group, &a->group_room, a->groups, sizeof(*a->group)))
        return NONE;
    a->group[a->groups] = (struct archive_group){
        .holder = w->holder, .node_len = w->node.len, .contid_len = w->contid.len,
        .node_off = w->node.len ? (uint32_t)(w->node.at - a->text) : 0,
        .contid_off = w->contid.len ? (uint32_t)(w->contid.at - a->text) : 0,
        .first_ms = INT64_MAX, .last_ms = INT64_MIN};
    a->group_slot[at] = a->groups;
    return a->last_group = a->groups++;
}
