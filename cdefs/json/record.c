/* The fields of any record, however odd; emit/fields.py is the readable reference. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/types.h>
#include "json/json_impl.h"

#define NONE 0xffffffffu
#define SLOTS 65536u /* more than a line of AUDITNS_MAX_LINE bytes can hold fields */

struct field {
    size_t name, name_len;     /* escaped, in `keys` */
    uint32_t hash, first, last; /* its values */
};

struct value {
    size_t off, len; /* JSON, in `values` */
    uint32_t next;
};

struct record {
    struct fast fast;
    char line[AUDITNS_MAX_LINE + PAD];
    struct out keys, values, aside, name;
    struct argv argv;
    struct field field[AUDITNS_MAX_LINE];
    struct value value[AUDITNS_MAX_LINE];
    uint32_t field_n, value_n;
    struct { uint32_t round, field; } slots[SLOTS]; /* by name; those of another round are empty */
    uint32_t round, seed;
};

struct record *record_new(uint32_t seed)
{
    struct record *r = calloc(1, sizeof(*r));
    if (r) {
        r->seed = seed;
        fast_start(&r->fast, seed);
    }
    return r;
}

void record_free(struct record *r)
{
    if (!r)
        return;
    free(r->keys.at);
    free(r->values.at);
    free(r->aside.at);
    free(r->name.at);
    argv_free(&r->argv);
    free(r);
}

int record_failed(struct record *r)
{
    int failed = r->keys.failed || r->values.failed || r->aside.failed || r->name.failed || r->argv.text.failed;
    r->keys.failed = r->values.failed = r->aside.failed = r->name.failed = r->argv.text.failed = 0;
    return failed;
}

static void begin_object(struct record *r)
{
    if (!++r->round) {
        memset(r->slots, 0, sizeof(r->slots));
        r->round = 1;
    }
}

static uint32_t name_hash(uint32_t h, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h ^ (h >> 15);
}

/* The field of that name in this object; a new one without values where there is none. */
static struct field *field_of(struct record *r, const char *name, size_t n)
{
    size_t start = r->keys.len;
    put_text(&r->keys, name, n);
    if (r->keys.failed)
        return NULL;
    size_t len = r->keys.len - start;
    uint32_t hash = name_hash(r->seed, r->keys.at + start, len), at = hash % SLOTS;
    for (; r->slots[at].round == r->round; at = (at + 1) % SLOTS) {
        struct field *f = &r->field[r->slots[at].field];
        if (f->hash == hash && f->name_len == len && !memcmp(r->keys.at + f->name, r->keys.at + start, len)) {
            r->keys.len = start;
            return f;
        }
    }
    r->slots[at].round = r->round;
    r->slots[at].field = r->field_n;
    struct field *f = &r->field[r->field_n++];
    *f = (struct field){start, len, hash, NONE, NONE};
    return f;
}

/* What was put into `values` since `start` is one more value of the field, or, with `only`, its only one. */
static void add_value(struct record *r, struct field *f, size_t start, int only)
{
    if (!f)
        return;
    uint32_t i = r->value_n++;
    r->value[i] = (struct value){start, r->values.len - start, NONE};
    if (only || f->first == NONE)
        f->first = i;
    else
        r->value[f->last].next = i;
    f->last = i;
}

static void put_one(struct record *r, struct out *o, const char *v, size_t n, int kind, int title)
{
    if (need(o, ROOM(n)))
        o->len = (size_t)(put_value(o->at + o->len, v, n, kind, title, r->fast.bytes) - o->at);
}

static int kind_of(struct record *r, const char *name, size_t n)
{
    const struct name *found = name_find(&r->fast.names, name, n);
    return found ? found->kind : 0;
}

static void put_fields(struct record *r, struct out *o, uint32_t from)
{
    if (r->keys.failed || r->values.failed)
        return;
    for (uint32_t i = from; i < r->field_n; i++) {
        struct field *f = &r->field[i];
        PUT(o, ",\"");
        put(o, r->keys.at + f->name, f->name_len);
        PUT(o, "\":");
        if (f->first != f->last)
            PUT(o, "[");
        for (uint32_t v = f->first; v != NONE; v = v == f->last ? NONE : r->value[v].next) {
            if (v != f->first)
                PUT(o, ",");
            put(o, r->values.at + r->value[v].off, r->value[v].len);
        }
        if (f->first != f->last)
            PUT(o, "]");
    }
}

typedef int (*next_field)(const char **at, struct added *in, const char **name, size_t *name_len, const char **v, size_t *n);

/* An object of what stands up to `end`: strings, a list of them where a name comes again, words without a name as
 * "text"; put into `aside`. An object in it is the last thing that was put there before, and is all there is of its
 * name up to there. */
static void put_object(struct record *r, const char *s, const char *end, next_field next)
{
    struct out *aside = &r->aside, *values = &r->values;
    struct added in = {end, NULL, NULL};
    uint32_t kept = r->field_n, value_n = r->value_n;
    size_t inner = aside->len, name_len, n, start;
    const char *name, *v, *at = s;
    int kind, words = 0;

    begin_object(r);
    while ((kind = next(&at, &in, &name, &name_len, &v, &n)) != ADDED_END) {
        start = values->len;
        if (kind == ADDED_WORDS) {
            words++;
            continue;
        }
        if (kind != ADDED_OBJECT)
            put_one(r, values, v, n, 0, 0);
        else if (!aside->failed)
            put(values, aside->at, inner);
        add_value(r, field_of(r, name, name_len), start, kind == ADDED_OBJECT);
    }
    if (words) {
        start = values->len;
        PUT(values, "\"");
        for (at = s; (kind = next(&at, &in, &name, &name_len, &v, &n)) != ADDED_END;)
            if (kind == ADDED_WORDS) {
                put_text(values, v, n);
                if (--words)
                    PUT(values, " ");
            }
        PUT(values, "\"");
        add_value(r, field_of(r, "text", 4), start, 1);
    }
    aside->len = 0;
    put_fields(r, aside, kept);
    if (!aside->failed && aside->len)
        aside->at[0] = '{'; /* for the comma */
    else
        PUT(aside, "{");
    PUT(aside, "}");
    r->field_n = kept;
    r->value_n = value_n;
}

/* What ENRICHED format adds: an object; one of its values may be an object. */
static void put_enriched(struct record *r, const char *s, const char *end)
{
    struct added in = {end, NULL, NULL};
    const char *name, *v, *at = s;
    size_t name_len, n;
    int kind;

    r->aside.len = 0;
    while ((kind = next_added(&at, &in, &name, &name_len, &v, &n)) != ADDED_END)
        if (kind == ADDED_OBJECT)
            put_object(r, v, v + n, next_braced);
    put_object(r, s, end, next_added);
}

/* A record in its parts: the fields, what stands in msg='...', and what ENRICHED format adds; NULL where there is none. */
struct parts {
    const char *fields, *stop, *message, *message_end, *enriched;
};

static struct parts parts_of(const char *s, const char *end)
{
    const char *enriched = memchr(s, 0x1d, (size_t)(end - s)), *stop = enriched ? enriched : end;
    const char *v = memchr(s, '\'', (size_t)(stop - s)) ? memmem(s, (size_t)(stop - s), "msg='", 5) : NULL;

    if (v && v != s && v[-1] != ' ')
        v = NULL;
    return (struct parts){s, v ? v : stop, v, stop, enriched};
}

static void put_words(struct record *r, const struct parts *p, size_t words)
{
    struct out *values = &r->values;
    size_t start = values->len, name_len, n;
    const char *name, *v, *at = p->fields;
    int kind;

    PUT(values, "\"");
    while ((kind = next_word(&at, p->stop, &name, &name_len, &v, &n)))
        if (kind == 2) {
            put_text(values, v, n);
            if (--words)
                PUT(values, " ");
        }
    PUT(values, "\"");
    add_value(r, field_of(r, "text", 4), start, 1);
}

static void put_arguments(struct record *r)
{
    size_t start = r->values.len;

    for (uint32_t at = 0; argv_length(&r->argv, &at, &r->name, &r->values); start = r->values.len)
        add_value(r, field_of(r, r->name.at, r->name.len), start, 1);
    if (argv_put(&r->argv, &r->values))
        add_value(r, field_of(r, "argv", 4), start, 1);
}

static void put_any(struct record *r, const char *s, const char *end, int how)
{
    struct out *values = &r->values;
    struct parts p = parts_of(s, end);
    const char *name, *v, *at = s;
    size_t name_len, n, start, words = 0;
    int kind;

    r->field_n = r->value_n = 0;
    r->keys.len = r->values.len = 0;
    if (p.enriched)
        put_enriched(r, p.enriched + 1, end); /* first, and aside: names are distinguished in one object at a time */
    begin_object(r);
    while ((kind = next_word(&at, p.stop, &name, &name_len, &v, &n))) {
        if (kind == 2) {
            words++;
            continue;
        }
        if (how & JSON_ARGV && argv_has(&r->argv, name, name_len, v, n))
            continue;
        start = values->len;
        put_one(r, values, v, n, kind_of(r, name, name_len),
                how & JSON_TITLE && name_len == 9 && !memcmp(name, "proctitle", 9));
        if (name_len == 4 && !memcmp(name, "type", 4)) /* the record's own is called so */
            add_value(r, field_of(r, "nstype", 6), start, 0);
        else
            add_value(r, field_of(r, name, name_len), start, 0);
    }
    if (how & JSON_FIRST)
        put_arguments(r);
    if (words)
        put_words(r, &p, words);
    if (p.message) {
        p.message += 5;
        start = values->len;
        PUT(values, "\"");
        put_text(values, p.message,
                 (size_t)(p.message_end - p.message) - (p.message_end > p.message && p.message_end[-1] == '\''));
        PUT(values, "\"");
        add_value(r, field_of(r, "msg", 3), start, 1);
    }
    if (p.enriched) {
        start = values->len;
        if (!r->aside.failed)
            put(values, r->aside.at, r->aside.len);
        add_value(r, field_of(r, "enriched", 8), start, 1);
    }
}

/* What two characters stand for that a backslash begins; those of \u stay as they are. */
static char *unescape(char *to, const char *s, size_t n)
{
    static const char from[] = "nrtbf", what[] = "\n\r\t\b\f";
    const char *end = s + n, *at;

    while (s < end) {
        if (*s != '\\' || s + 1 == end || s[1] == 'u') {
            *to++ = *s++;
            continue;
        }
        at = memchr(from, s[1], sizeof(from) - 1);
        *to++ = at ? what[at - from] : s[1];
        s += 2;
    }
    return to;
}

struct body {
    const char *at, *end;
};

/* A body without what stands around it, with PAD behind it: where it is, or in `line`. */
static struct body take_line(struct record *r, const char *s, size_t n, int how)
{
    if (how & JSON_ESCAPED) {
        n = (size_t)(unescape(r->line, s, n) - r->line);
        s = r->line;
    }
    while (n && (*s == ' ' || *s == '\r')) {
        s++;
        n--;
    }
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\r'))
        n--;
    if ((how & (JSON_PADDED | JSON_ESCAPED)) == JSON_PADDED && s[n] == '\n')
        return (struct body){s, s + n};
    memmove(r->line, s, n);
    memset(r->line + n, 0, PAD);
    return (struct body){r->line, r->line + n};
}

void begin_arguments(struct record *r, size_t bytes)
{
    argv_begin(&r->argv, bytes);
}

void take_arguments(struct record *r, const char *s, size_t n, int how)
{
    struct body body = take_line(r, s, n, how);
    struct parts p = parts_of(body.at, body.end);
    const char *name, *v, *at = body.at;
    size_t name_len, v_len;
    int kind;

    while ((kind = next_word(&at, p.stop, &name, &name_len, &v, &v_len)))
        if (kind == 1)
            argv_take(&r->argv, name, name_len, v, v_len);
}

void put_record(struct record *r, struct out *o, const char *s, size_t n, int how)
{
    struct body body = take_line(r, s, n, how);
    size_t size = (size_t)(body.end - body.at);

    if (!need(o, ROOM(size)))
        return;
    char *end = how & JSON_ARGV ? NULL : put_fast(&r->fast, o->at + o->len, body.at, size, how & JSON_TITLE);
    if (end) {
        o->len = (size_t)(end - o->at);
    } else {
        put_any(r, body.at, body.end, how);
        put_fields(r, o, 0);
    }
}
