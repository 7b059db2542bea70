/* The values of some fields of whole events, each distinct one as a number. What a word and a value are is that of the
 * JSON (json/value.c). */
#include "json/json_impl.h"
#include "query/query_impl.h"

#define MORE (-1)
#define NARROW (-2)
#define NO_MEMORY (-3)

struct walk {
    struct auditns_values *v;
    const struct auditns_points *p;
    struct { const char *s; size_t n; } prefix[AUDITNS_MOST_COLUMNS]; /* of the event in hand, as it stands there */
    uint64_t used;   /* of the room, by bodies of this event that were escaped */
    uint32_t event;
    int rc;
};

static char *room(struct walk *w, uint64_t n)
{
    if (w->v->room_len - w->used >= n)
        return w->v->room + w->used;
    w->rc = NARROW;
    return NULL;
}

static void add(struct walk *w, uint32_t column, const char *s, size_t n)
{
    struct auditns_values *v = w->v;

    if (v->n == v->cap) {
        w->rc = MORE;
        return;
    }
    uint32_t number = intern(v->strings[column], s, n);
    if (!number) {
        w->rc = NO_MEMORY;
        return;
    }
    v->event[v->n] = w->event;
    v->column[v->n] = (uint8_t)column;
    v->number[v->n++] = number;
}

/* "/x" or, in hex, what begins with a slash. */
static int is_absolute(const char *s, size_t n)
{
    return n > 1 && (*s == '"' ? s[1] == '/' : s[0] == '2' && s[1] == 'F');
}

static void add_joined(struct walk *w, uint32_t column, const char *s, size_t n)
{
    size_t len = is_absolute(s, n) ? 0 : w->prefix[column].n;
    char *to = room(w, len + 1 + n);

    if (!to)
        return;
    if (len)
        memcpy(to, w->prefix[column].s, len);
    to[len] = 0;
    memcpy(to + len + 1, s, n);
    add(w, column, to, len + 1 + n);
}

static void one_value(struct walk *w, const struct auditns_field *f, const char *s, size_t n)
{
    if (f->where & AUDITNS_FIELD_PREFIX) {
        w->prefix[f->column].s = s;
        w->prefix[f->column].n = n;
    } else if (f->where & AUDITNS_FIELD_JOINED) {
        add_joined(w, f->column, s, n);
    } else {
        add(w, f->column, s, n);
    }
}

/* The words of one part of a body; of a repeated name the first counts. */
static void words(struct walk *w, uint64_t wanted, uint32_t where, const char *at, const char *end)
{
    const char *name, *value;
    size_t name_len, n;
    int kind;

    while (wanted && !w->rc && (kind = next_word(&at, end, &name, &name_len, &value, &n))) {
        for (uint64_t left = kind == 1 ? wanted : 0; left; left &= left - 1) {
            const struct auditns_field *f = &w->v->field[__builtin_ctzll(left)];
            if (f->len != name_len || *f->name != *name || memcmp(f->name, name, name_len) || !(f->where & where))
                continue;
            one_value(w, f, value, n);
            wanted &= ~(left & -left);
            break;
        }
    }
}

/* Where msg=' begins as a word. */
static const char *message_of(const char *body, const char *end)
{
    for (const char *s = body; s < end && (s = memchr(s, 'm', (size_t)(end - s))); s++)
        if (end - s >= 5 && !memcmp(s, "msg='", 5) && (s == body || s[-1] == ' '))
            return s;
    return NULL;
}

static void one_line(struct walk *w, uint32_t i, uint64_t wanted)
{
    const char *end;
    char *place = room(w, w->p->l_len[i]);
    const char *body = place ? body_of(w->p, i, place, &end) : NULL;

    if (!body)
        return;
    if (body == place)
        w->used += (uint64_t)(end - body); /* prefixes are looked at again */
    const char *stop = memchr(body, 0x1d, (size_t)(end - body));
    stop = stop ? stop : end;
    const char *message = message_of(body, stop);
    words(w, wanted, AUDITNS_FIELD_KERNEL, body, message ? message : stop);
    if (message && !w->rc)
        words(w, wanted, AUDITNS_FIELD_MESSAGE, message + 5, stop - (stop > message + 5 && stop[-1] == '\''));
}

/* The bodies of all EXECVE records of an event, whose lines are those from i on. */
static void add_argv(struct walk *w, uint32_t i, uint32_t stop)
{
    uint64_t n = 0;

    for (; i < stop; i++) {
        if (w->p->l_type[i] != TYPE_EXECVE)
            continue;
        const char *end;
        char *to = room(w, n + w->p->l_len[i] + 1);
        const char *body = to ? body_of(w->p, i, to + n, &end) : NULL;
        if (!to)
            return;
        if (!body)
            continue;
        memmove(to + n, body, (size_t)(end - body));
        n += (uint64_t)(end - body);
        to[n++] = 0;
    }
    if (n)
        add(w, w->v->argv, w->v->room + w->used, n - 1);
}

int auditns_values(struct auditns_values *v, const struct auditns_points *p)
{
    struct walk w = {.v = v, .p = p};

    v->n = 0;
    for (uint32_t i = 0, stop; i < p->line_n && !w.rc; i = stop) {
        uint32_t event = p->l_event[i];
        if (event == AUDITNS_LINE_FOREIGN) {
            stop = i + 1;
            continue;
        }
        int argv = v->argv != NONE;
        memset(w.prefix, 0, sizeof(w.prefix));
        w.used = 0;
        for (stop = i; stop < p->line_n && p->l_event[stop] == event; stop++) {
            uint64_t wanted = v->of_type[p->l_type[stop]];
            if (wanted && !w.rc)
                one_line(&w, stop, wanted);
        }
        for (uint32_t at = i; argv && at < stop && !w.rc; at++)
            if (p->l_type[at] == TYPE_EXECVE) {
                add_argv(&w, at, stop);
                break;
            }
        w.event++;
    }
    return w.rc;
}

void auditns_values_good(const struct auditns_values *v, uint32_t column, const uint8_t *verdict, uint8_t *good)
{
    for (uint32_t i = 0; i < v->n; i++)
        if (v->column[i] == column && verdict[v->number[i]])
            good[v->event[i]] = 1;
}
