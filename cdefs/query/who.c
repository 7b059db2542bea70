/* Whose events are, by the records of ours in them; attribution/text_answers.py has the same rules, readably. */
#include <stdlib.h>
#include "query/query_impl.h"

#define MOST 64       /* records of ours in one event that are looked at */
#define MOST_ENTRY 256

struct said {
    const char *contid;
    size_t n;
    uint32_t record; /* of which it is; no number: of none */
    int named;       /* it says so; else it is about the subject */
};

struct event {
    struct said said[MOST];
    struct said described[MOST]; /* of which containers a CONTAINER_INFO tells */
    const char *entry; /* of the last one */
    size_t entry_n;
    uint32_t n, infos, entries, ours;
    int broken; /* something is missing of what they say */
};

static int field(const char *body, const char *end, const char *name, size_t len, const char **value, size_t *n)
{
    for (const char *s = body; s < end;) {
        const char *q = memchr(s, ' ', (size_t)(end - s));
        q = q ? q : end;
        if ((size_t)(q - s) >= len && !memcmp(s, name, len)) {
            *value = s + len;
            *n = (size_t)(q - s) - len;
            if (*n >= 2 && **value == '"' && (*value)[*n - 1] == '"') { /* as the child output quotes them */
                ++*value;
                *n -= 2;
            }
            return 1;
        }
        s = q + 1;
    }
    return 0;
}

#define FIELD(name, value, n) field(body, end, name, sizeof(name) - 1, value, n)

/* A number as ours have it; NONE where it is no such. */
static uint32_t decimal(const char *s, size_t n)
{
    uint32_t v = 0;
    if (!n || n > 6 || (n > 1 && *s == '0'))
        return NONE;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return NONE;
        v = v * 10 + (uint32_t)(s[i] - '0');
    }
    return v;
}

static void one_record(const struct auditns_points *p, uint32_t i, struct event *e, char *room)
{
    const char *end, *value, *body = body_of(p, i, room, &end);
    size_t n;

    if (!body)
        return;
    const char *stop = memchr(body, 0x1d, (size_t)(end - body));
    end = stop ? stop : end;
    if (p->l_type[i] == TYPE_CONTAINER_ID) {
        struct said *s = &e->said[e->n++];
        *s = (struct said){"", 0, NONE, 0};
        if (FIELD("contid=", &value, &n))
            *s = (struct said){value, n, NONE, 0};
        if (!FIELD("record=", &value, &n))
            return;
        s->named = n != 0;
        if (s->named)
            s->record = decimal(value, n);
        e->broken |= !s->named || !s->record || s->record == NONE;
    } else if (p->l_type[i] == TYPE_CONTAINER_INFO) {
        struct said *described = &e->described[e->infos++];
        *described = (struct said){"", 0, NONE, 0};
        if (FIELD("contid=", &value, &n))
            *described = (struct said){value, n, NONE, 0};
        if (!FIELD("entry=", &value, &n))
            return;
        e->entry = value;
        e->entry_n = n < MOST_ENTRY ? n : MOST_ENTRY;
        e->entries++;
    }
}

static int is_unknown(const struct said *s)
{
    return s->n == 1 && *s->contid == '?';
}

static int is_said(const struct event *e, const struct said *described)
{
    for (uint32_t k = 0; k < e->n; k++)
        if (e->said[k].n == described->n && !memcmp(e->said[k].contid, described->contid, described->n))
            return 1;
    return 0;
}

/* A container that a CONTAINER_INFO tells of is that of a CONTAINER_ID beside it. */
static void look_for_missing(struct event *e)
{
    for (uint32_t k = 0; k < e->infos; k++)
        e->broken |= !is_said(e, &e->described[k]);
}

/* What the records of ours in event e say of the process of record `recno`; NULL: nothing. *unclear: that is no answer. */
static const struct said *said_of(const struct event *e, uint32_t recno, int target, int *unclear)
{
    const struct said *found = NULL;

    *unclear = e->ours > MOST;
    for (uint32_t k = 0; k < e->n && !*unclear; k++) {
        const struct said *s = &e->said[k];
        if (s->named ? s->record != recno : target)
            continue;
        if (found && is_unknown(s))
            continue; /* that is no answer, and contradicts none */
        *unclear = found && !is_unknown(found) && (found->n != s->n || memcmp(found->contid, s->contid, s->n));
        found = s;
    }
    *unclear |= found ? found->n > AUDITNS_MAX_LINE : e->broken;
    return found;
}

/* What is said of one point: 0 for no memory. */
static int one_point(const struct auditns_points *p, uint32_t i, const struct event *e, struct auditns_strings *strings,
                     uint32_t *who, char *room)
{
    int target = (p->flags[i] & AUDITNS_P_TARGET) != 0, unclear;
    const struct said *found = said_of(e, p->recno[i], target, &unclear);

    *who = unclear ? AUDITNS_WHO_UNCLEAR : AUDITNS_WHO_HOST;
    if (!found || unclear)
        return 1;
    size_t n = found->n;
    memcpy(room, found->contid, n);
    room[n++] = 0;
    if (!target && e->entries == 1) { /* it is the subject that came in, or whom it made */
        memcpy(room + n, e->entry, e->entry_n);
        n += e->entry_n;
    }
    uint32_t number = intern(strings, room, n);
    *who = AUDITNS_WHO_FIRST + number - 1;
    return number != 0;
}

/* MOST + 2 times the bytes of a line: for bodies that are escaped, and for what is interned. */
#define ROOM ((MOST + 2) * AUDITNS_MAX_LINE)

int auditns_who(const struct auditns_points *p, struct auditns_strings *strings, uint32_t *who)
{
    uint32_t point = 0;
    char *rooms = NULL;
    int there = 1;

    for (uint32_t i = 0, stop; i < p->line_n && there; i = stop) {
        uint32_t number = p->l_event[i];
        struct event e;
        e.n = e.infos = e.entries = e.ours = 0;
        e.broken = 0;
        for (stop = i; stop < p->line_n && p->l_event[stop] == number; stop++) {
            uint32_t type = p->l_type[stop];
            if (type < AUDIT_FIRST_OWN || type > AUDIT_LAST_OWN || number == AUDITNS_LINE_FOREIGN)
                continue;
            if (!rooms && !(rooms = malloc(ROOM)))
                return 0;
            if (e.ours++ < MOST)
                one_record(p, stop, &e, rooms + (e.ours - 1) * AUDITNS_MAX_LINE);
        }
        look_for_missing(&e);
        for (; point < p->n && p->event[point] == number; point++)
            if (!e.ours)
                who[point] = AUDITNS_WHO_HOST;
            else if (there)
                there = one_point(p, point, &e, strings, &who[point], rooms + MOST * AUDITNS_MAX_LINE);
    }
    free(rooms);
    return there;
}
