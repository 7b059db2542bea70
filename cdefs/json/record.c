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

struct argument {
    uint32_t number, order;
    size_t off, len; /* escaped, in `arguments` */
};

struct record {
    struct usual usual;
    char line[AUDITNS_MAX_LINE + PAD];
    struct out keys, values, arguments;
    struct field field[AUDITNS_MAX_LINE];
    struct value value[AUDITNS_MAX_LINE];
    struct argument argument[AUDITNS_MAX_LINE];
    uint32_t field_n, value_n, argument_n;
    struct { uint32_t round, field; } slots[SLOTS]; /* by name; those of another round are empty */
    uint32_t round, seed;
};

struct record *record_new(uint32_t seed)
{
    struct record *r = calloc(1, sizeof(*r));
    if (r) {
        r->seed = seed;
        usual_start(&r->usual, seed);
    }
    return r;
}

void record_free(struct record *r)
{
    if (!r)
        return;
    free(r->keys.at);
    free(r->values.at);
    free(r->arguments.at);
    free(r);
}

int record_failed(struct record *r)
{
    int failed = r->keys.failed || r->values.failed || r->arguments.failed;
    r->keys.failed = r->values.failed = r->arguments.failed = 0;
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
        o->len = (size_t)(put_value(o->at + o->len, v, n, kind, title, r->usual.bytes) - o->at);
}

static int kind_of(struct record *r, const char *name, size_t n)
{
    const struct name *found = name_find(&r->usual.names, name, n);
    return found ? found->kind : 0;
}

static size_t digits_at(const char *s, size_t n, uint32_t *number)
{
    size_t i = 0;
    *number = 0;
    for (; i < n && i < 8 && s[i] >= '0' && s[i] <= '9'; i++)
        *number = *number * 10 + (uint32_t)(s[i] - '0');
    return i && i < 8 ? i : 0;
}

/* a12 or a12[3]: an argument's number, else NONE */
static uint32_t argument_number(const char *s, size_t n)
{
    uint32_t number, piece;
    size_t used = n && s[0] == 'a' ? digits_at(s + 1, n - 1, &number) : 0;
    if (!used)
        return NONE;
    s += 1 + used;
    n -= 1 + used;
    if (!n)
        return number;
    used = s[0] == '[' ? digits_at(s + 1, n - 1, &piece) : 0;
    return used && n == used + 2 && s[n - 1] == ']' ? number : NONE;
}

static int by_number(const void *one, const void *other)
{
    const struct argument *a = one, *b = other;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* The arguments of an EXECVE as a list; pieces of one argument belong together. */
static void put_arguments(struct record *r)
{
    struct out *o = &r->values;
    for (uint32_t i = 1; i < r->argument_n; i++)
        if (r->argument[i - 1].number > r->argument[i].number) {
            qsort(r->argument, r->argument_n, sizeof(*r->argument), by_number);
            break;
        }
    for (uint32_t i = 0; i < r->argument_n; i++) {
        if (!i)
            PUT(o, "[\"");
        else if (r->argument[i].number != r->argument[i - 1].number)
            PUT(o, "\",\"");
        if (!r->arguments.failed)
            put(o, r->arguments.at + r->argument[i].off, r->argument[i].len);
    }
    PUT(o, "\"]");
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

/* What ENRICHED format adds: an object of strings, the last of a name counts. */
static void put_enriched(struct record *r, const char *s, const char *end)
{
    struct field *f = field_of(r, "enriched", 8);
    uint32_t kept = r->field_n, values = r->value_n;
    const char *name, *v;
    size_t name_len, n;
    int kind;

    if (!f)
        return;
    begin_object(r);
    while ((kind = next_word(&s, end, &name, &name_len, &v, &n)))
        if (kind == 1) {
            size_t start = r->values.len;
            put_one(r, &r->values, v, n, 0, 0);
            add_value(r, field_of(r, name, name_len), start, 1);
        }
    size_t start = r->arguments.len; /* put together aside, for it is made of what stands in `values` */
    put_fields(r, &r->arguments, kept);
    r->field_n = kept;
    r->value_n = values;
    size_t at = r->values.len;
    PUT(&r->values, "{");
    if (!r->arguments.failed && r->arguments.len > start)
        put(&r->values, r->arguments.at + start + 1, r->arguments.len - start - 1);
    PUT(&r->values, "}");
    add_value(r, f, at, 1);
}

static void put_any(struct record *r, const char *s, const char *end, int execve, int title)
{
    struct out *values = &r->values;
    const char *name, *v, *message = NULL, *message_end, *enriched;
    size_t name_len, n, start;
    int kind;

    r->field_n = r->value_n = r->argument_n = 0;
    r->keys.len = r->values.len = r->arguments.len = 0;
    begin_object(r);
    enriched = memchr(s, 0x1d, (size_t)(end - s));
    message_end = enriched ? enriched : end;
    v = memchr(s, '\'', (size_t)(message_end - s)) ? memmem(s, (size_t)(message_end - s), "msg='", 5) : NULL;
    if (v && (v == s || v[-1] == ' '))
        message = v;
    const char *stop = message ? message : message_end, *at = s;
    size_t words = 0; /* how many there are; they stand in `out` of the words, joined by spaces */
    struct out *joined = &r->arguments;
    while ((kind = next_word(&at, stop, &name, &name_len, &v, &n))) {
        uint32_t number = kind == 1 && execve ? argument_number(name, name_len) : NONE;
        if (kind == 2) {
            words++;
        } else if (number != NONE) {
            start = joined->len;
            if (need(joined, ROOM(n))) {
                char *stop_at = put_string(joined->at + start, v, n, 1, 0, r->usual.bytes);
                joined->len = stop_at ? (size_t)(stop_at - joined->at) : start;
            }
            r->argument[r->argument_n] = (struct argument){number, r->argument_n, start, joined->len - start};
            r->argument_n++;
        } else {
            start = values->len;
            put_one(r, values, v, n, kind_of(r, name, name_len),
                    title && name_len == 9 && !memcmp(name, "proctitle", 9));
            if (name_len == 4 && !memcmp(name, "type", 4)) /* the record's own is called so */
                add_value(r, field_of(r, "nstype", 6), start, 0);
            else
                add_value(r, field_of(r, name, name_len), start, 0);
        }
    }
    if (r->argument_n) {
        start = values->len;
        put_arguments(r);
        add_value(r, field_of(r, "argv", 4), start, 1);
    }
    if (words) {
        start = values->len;
        PUT(values, "\"");
        for (at = s; (kind = next_word(&at, stop, &name, &name_len, &v, &n));)
            if (kind == 2) {
                put_text(values, v, n);
                if (--words)
                    PUT(values, " ");
            }
        PUT(values, "\"");
        add_value(r, field_of(r, "text", 4), start, 1);
    }
    if (message) {
        message += 5;
        start = values->len;
        PUT(values, "\"");
        put_text(values, message, (size_t)(message_end - message) - (message_end > message && message_end[-1] == '\''));
        PUT(values, "\"");
        add_value(r, field_of(r, "msg", 3), start, 1);
    }
    if (enriched)
        put_enriched(r, enriched + 1, end);
}

void put_record(struct record *r, struct out *o, const char *s, size_t n, int execve, int title)
{
    while (n && (*s == ' ' || *s == '\r')) {
        s++;
        n--;
    }
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\r'))
        n--;
    memcpy(r->line, s, n);
    memset(r->line + n, 0, PAD);
    if (!need(o, ROOM(n)))
        return;
    char *end = execve ? NULL : put_usual(&r->usual, o->at + o->len, r->line, n, title);
    if (end) {
        o->len = (size_t)(end - o->at);
    } else {
        put_any(r, r->line, r->line + n, execve, title);
        put_fields(r, o, 0);
    }
}
