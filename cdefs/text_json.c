/* Events as JSON lines; the readable reference is emit/render.py with jsonout.py and records.py. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "text_decl.h"
#include "text_json_decl.h"

#define NONE 0xffffffffu
#define SLOTS 65536u /* more than a line of AUDITNS_MAX_LINE bytes can hold fields */
#define REACH 4096u  /* an event's number may be this much below that of the first line */
#define DIRECT 64u   /* a record of more fields is not written directly */
#define TYPE_EOE 1320

/* ---- a buffer that grows ---- */

struct out {
    char *at;
    size_t len, room;
    int failed; /* no memory: what is put there is lost, and the whole answer with it */
};

static int grow(struct out *o, size_t more)
{
    size_t room = (o->room ? o->room : 65536) * 2;
    while (room - o->len < more)
        room *= 2;
    char *grown = realloc(o->at, room);
    if (!grown) {
        o->failed = 1;
        return 0;
    }
    o->at = grown;
    o->room = room;
    return 1;
}

static inline int need(struct out *o, size_t more)
{
    return o->room - o->len >= more || grow(o, more);
}

/* memcpy for what is mostly short */
static inline void copy(char *to, const char *s, size_t n)
{
    if (n > 16) {
        memcpy(to, s, n);
    } else if (n >= 8) {
        memcpy(to, s, 8);
        memcpy(to + n - 8, s + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, s, 4);
        memcpy(to + n - 4, s + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = s[i];
    }
}

/* memcmp likewise: whether both are the same */
static inline int same(const char *one, const char *other, size_t n)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    if (n > 16)
        return !memcmp(one, other, n);
    if (n >= 8) {
        memcpy(&a, one, 8);
        memcpy(&b, other, 8);
        memcpy(&c, one + n - 8, 8);
        memcpy(&d, other + n - 8, 8);
    } else if (n >= 4) {
        memcpy(&a, one, 4);
        memcpy(&b, other, 4);
        memcpy(&c, one + n - 4, 4);
        memcpy(&d, other + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            if (one[i] != other[i])
                return 0;
    }
    return a == b && c == d;
}

static inline void put(struct out *o, const char *s, size_t n)
{
    if (n && need(o, n)) {
        copy(o->at + o->len, s, n);
        o->len += n;
    }
}

#define PUT(o, literal) put(o, literal, sizeof(literal) - 1)

static void put_number(struct out *o, uint64_t v, int width)
{
    char digits[24], *p = digits + sizeof(digits);
    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
        width--;
    } while (v || width > 0);
    put(o, p, (size_t)(digits + sizeof(digits) - p));
}

/* ---- strings ---- */

static const char HEX_DIGITS[] = "0123456789abcdef";
static uint8_t plain[256];     /* stands in JSON as it is */
static int8_t hex_value[256];  /* of an upper case hex digit, else -1 */

/* Length of the UTF-8 sequence at s, 0 when it is none. */
static size_t sequence(const unsigned char *s, size_t n, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
    if (!len || len > n)
        return 0;
    *code = s[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (s[i] & 0x3fu);
    }
    return *code < least[len] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000) ? 0 : len;
}

static char *put_unit(char *p, uint32_t unit)
{
    *p++ = '\\';
    *p++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4)
        *p++ = HEX_DIGITS[unit >> shift & 15];
    return p;
}

#define ONES 0x0101010101010101u
#define HIGH (0x80 * ONES)
#define ZERO_IN(x) (((x) - ONES) & ~(x) & HIGH)

/* Whether the eight bytes at s all stand in JSON as they are: none below ' ' or above '~', no '"' and no backslash. */
static inline int plain_eight(const unsigned char *s)
{
    uint64_t x;
    memcpy(&x, s, sizeof(x));
    return !((x | (x + ONES) | (x - ' ' * ONES)) & HIGH) && !(ZERO_IN(x ^ '"' * ONES) | ZERO_IN(x ^ '\\' * ONES));
}

/* The text behind bytes, escaped for JSON, without quotes. What is not UTF-8 shows as \xNN. */
static void put_text(struct out *o, const char *text, size_t n)
{
    static const char names[] = "btn\0fr"; /* of 8, 9, 10, 12, 13 */
    const unsigned char *s = (const unsigned char *)text, *end = s + n;
    while (s < end) {
        const unsigned char *part = end - s > 1024 ? s + 1024 : end;
        if (!need(o, 6 * 1024 + 32))
            return;
        char *p = o->at + o->len;
        while (s < part) {
            uint32_t code;
            size_t len;
            if (end - s >= 8 && plain_eight(s)) {
                memcpy(p, s, 8);
                p += 8;
                s += 8;
            } else if (plain[*s]) {
                *p++ = (char)*s++;
            } else if (*s == '"' || *s == '\\') {
                *p++ = '\\';
                *p++ = (char)*s++;
            } else if (*s >= 8 && *s <= 13 && *s != 11) {
                *p++ = '\\';
                *p++ = names[*s++ - 8];
            } else if (*s < 0x80) {
                p = put_unit(p, *s++);
            } else if ((len = sequence(s, (size_t)(end - s), &code))) {
                if (code >= 0x10000) {
                    p = put_unit(p, 0xd800 + ((code - 0x10000) >> 10));
                    code = 0xdc00 + ((code - 0x10000) & 0x3ff);
                }
                p = put_unit(p, code);
                s += len;
            } else {
                memcpy(p, "\\\\x", 3);
                p[3] = HEX_DIGITS[*s >> 4];
                p[4] = HEX_DIGITS[*s++ & 15];
                p += 5;
            }
        }
        o->len = (size_t)(p - o->at);
    }
}

static void fill_tables(void)
{
    for (int c = 0; c < 256; c++) {
        plain[c] = c >= ' ' && c < 0x7f && c != '"' && c != '\\';
        hex_value[c] = (int8_t)(c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1);
    }
}

static int nibble(char c)
{
    return hex_value[(unsigned char)c];
}

static int is_hex(const char *s, size_t n)
{
    int all = 0;
    if (!n || n & 1 || nibble(s[0]) < 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        all |= nibble(s[i]);
    return all >= 0;
}

/* ---- names of fields ---- */

static struct { const char *name; uint32_t len, hash; uint8_t kind; } known[1024];

static uint32_t name_hash(uint32_t h, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h ^ (h >> 15);
}

/* Quicker, and to be foreseen: for tables in which no search is long. n > 0. */
static inline uint32_t quick_hash(const char *s, size_t n)
{
    uint64_t first = 0, last = 0;
    if (n >= 8) {
        memcpy(&first, s, 8);
        memcpy(&last, s + n - 8, 8);
    } else if (n >= 4) {
        memcpy(&first, s, 4);
        memcpy(&last, s + n - 4, 4);
    } else {
        first = (uint64_t)(unsigned char)s[0] | (uint64_t)(unsigned char)s[n / 2] << 8;
        last = (unsigned char)s[n - 1];
    }
    first = (first ^ last * 0x9e3779b97f4a7c15u ^ n) * 0xff51afd7ed558ccdu;
    return (uint32_t)(first >> 32);
}

void auditns_json_names(const char *names, const uint8_t *kinds, uint32_t count)
{
    fill_tables();
    memset(known, 0, sizeof(known));
    for (uint32_t i = 0; i < count && i < 512; i++) {
        size_t len = strlen(names);
        uint32_t hash = quick_hash(names, len), at = hash % 1024;
        while (known[at].name)
            at = (at + 1) % 1024;
        known[at].name = names;
        known[at].len = (uint32_t)len;
        known[at].hash = hash;
        known[at].kind = kinds[i];
        names += len + 1;
    }
}

/* Where a name stands in `known`; NONE where it does not. */
static inline uint32_t known_at(const char *s, size_t n, uint32_t hash)
{
    for (uint32_t at = hash % 1024; known[at].name; at = (at + 1) % 1024)
        if (known[at].hash == hash && known[at].len == n && same(known[at].name, s, n))
            return at;
    return NONE;
}

static int name_kind(const char *s, size_t n)
{
    uint32_t at = known_at(s, n, quick_hash(s, n));
    return at == NONE ? 0 : known[at].kind;
}

/* ---- the fields of one record ---- */

struct field {
    size_t name, name_len;     /* escaped, in `names` */
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

struct auditns_json {
    struct out out, names, values, arguments, bytes;
    struct field *fields;
    struct value *value;
    struct argument *argument;
    uint32_t field_n, value_n, argument_n;
    struct { uint32_t round, field; } slots[SLOTS]; /* by name; those of another round are empty */
    uint32_t round, seed, base;                     /* base: where the fields of this object begin */
    struct { const char *name; uint32_t round, hash, len; } seen[4 * DIRECT]; /* names of put_directly */
    uint32_t seen_round, seen_known[1024]; /* the same for those of `known`: the round in which it was seen last */
    uint32_t *first, *last, *next, *subject, *target, *target_last, *target_next;
    size_t room;
};

struct auditns_json *auditns_json_new(uint32_t seed)
{
    struct auditns_json *j = calloc(1, sizeof(*j));
    if (!j)
        return NULL;
    j->seed = seed;
    j->fields = malloc(AUDITNS_MAX_LINE * sizeof(*j->fields));
    j->value = malloc(AUDITNS_MAX_LINE * sizeof(*j->value));
    j->argument = malloc(AUDITNS_MAX_LINE * sizeof(*j->argument));
    if (!j->fields || !j->value || !j->argument) {
        auditns_json_free(j);
        return NULL;
    }
    return j;
}

void auditns_json_free(struct auditns_json *j)
{
    if (!j)
        return;
    free(j->out.at);
    free(j->names.at);
    free(j->values.at);
    free(j->arguments.at);
    free(j->bytes.at);
    free(j->fields);
    free(j->value);
    free(j->argument);
    free(j->first);
    free(j);
}

static void begin_object(struct auditns_json *j)
{
    j->base = j->field_n;
    if (!++j->round) {
        memset(j->slots, 0, sizeof(j->slots));
        j->round = 1;
    }
}

/* The field of that name in this object; a new one without values where there is none. */
static struct field *field_of(struct auditns_json *j, const char *name, size_t n)
{
    size_t start = j->names.len;
    put_text(&j->names, name, n);
    if (j->names.failed)
        return NULL;
    size_t len = j->names.len - start;
    uint32_t hash = name_hash(j->seed, j->names.at + start, len), at = hash % SLOTS;
    for (; j->slots[at].round == j->round; at = (at + 1) % SLOTS) {
        struct field *f = &j->fields[j->slots[at].field];
        if (f->hash == hash && f->name_len == len && !memcmp(j->names.at + f->name, j->names.at + start, len)) {
            j->names.len = start;
            return f;
        }
    }
    j->slots[at].round = j->round;
    j->slots[at].field = j->field_n;
    struct field *f = &j->fields[j->field_n++];
    *f = (struct field){start, len, hash, NONE, NONE};
    return f;
}

/* What was put into `values` since `start` is one more value of the field, or, with `only`, its only one. */
static void add_value(struct auditns_json *j, struct field *f, size_t start, int only)
{
    if (!f)
        return;
    uint32_t i = j->value_n++;
    j->value[i] = (struct value){start, j->values.len - start, NONE};
    if (only || f->first == NONE)
        f->first = i;
    else
        j->value[f->last].next = i;
    f->last = i;
}

/* The escaped string behind a value: without its quotes, out of hex where it is untrusted. 0: it says "nothing". */
static int put_string(struct auditns_json *j, struct out *o, const char *s, size_t n, int untrusted, int title)
{
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
        s++;
        n -= 2;
    } else if (!n || (n == 6 && !memcmp(s, "(null)", 6))) {
        return 0;
    } else if (untrusted && is_hex(s, n)) {
        if (!need(&j->bytes, n))
            return 1;
        n /= 2;
        for (size_t i = 0; i < n; i++)
            j->bytes.at[i] = (char)(nibble(s[2 * i]) << 4 | nibble(s[2 * i + 1]));
        s = j->bytes.at;
    }
    if (title && memchr(s, 0, n)) {
        if (s != j->bytes.at) {
            if (!need(&j->bytes, n))
                return 1;
            s = memcpy(j->bytes.at, s, n);
        }
        for (size_t i = 0; i < n; i++)
            if (!j->bytes.at[i])
                j->bytes.at[i] = ' ';
    }
    put_text(o, s, n);
    return 1;
}

static int is_number(const char *s, size_t n)
{
    size_t i = n && s[0] == '-';
    if (i == n || n - i > 15 || (s[i] == '0' && n - i > 1))
        return 0;
    for (; i < n; i++)
        if (s[i] < '0' || s[i] > '9')
            return 0;
    return 1;
}

static void put_one(struct auditns_json *j, struct out *o, const char *v, size_t n, int kind, int title)
{
    if (kind == AUDITNS_JSON_NUMERIC && is_number(v, n)) {
        int minus = n == 2 && v[0] == '-' && v[1] == '0';
        put(o, v + minus, n - (size_t)minus);
        return;
    }
    size_t start = o->len;
    PUT(o, "\"");
    if (put_string(j, o, v, n, kind == AUDITNS_JSON_UNTRUSTED, title)) {
        PUT(o, "\"");
    } else {
        o->len = start;
        PUT(o, "null");
    }
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

static const char *word_end(const char *s, const char *end)
{
    const char *space = memchr(s, ' ', (size_t)(end - s));
    return space ? space : end;
}

/* The next word at *at: 1 for name=value, 2 for anything else (as the value), 0 at the end. */
static int next_word(const char **at, const char *end, const char **name, size_t *name_len, const char **v, size_t *n)
{
    const char *s = *at, *q, *quote;
    while (s < end && *s == ' ')
        s++;
    if (s == end)
        return 0;
    for (q = s; q < end && *q != ' ' && *q != '=';)
        q++;
    if (q == s || q == end || *q != '=') {
        *at = word_end(q, end);
        *v = s;
        *n = (size_t)(*at - s);
        return 2;
    }
    *name = s;
    *name_len = (size_t)(q - s);
    *v = ++q;
    quote = q < end && *q == '"' ? memchr(q + 1, '"', (size_t)(end - q - 1)) : NULL;
    *at = quote && (quote + 1 == end || quote[1] == ' ') ? quote + 1 : word_end(q, end);
    *n = (size_t)(*at - q);
    return 1;
}

static int by_number(const void *one, const void *other)
{
    const struct argument *a = one, *b = other;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* The arguments of an EXECVE as a list; pieces of one argument belong together. */
static void put_arguments(struct auditns_json *j)
{
    struct out *o = &j->values;
    for (uint32_t i = 1; i < j->argument_n; i++)
        if (j->argument[i - 1].number > j->argument[i].number) {
            qsort(j->argument, j->argument_n, sizeof(*j->argument), by_number);
            break;
        }
    for (uint32_t i = 0; i < j->argument_n; i++) {
        if (!i)
            PUT(o, "[\"");
        else if (j->argument[i].number != j->argument[i - 1].number)
            PUT(o, "\",\"");
        if (!j->arguments.failed)
            put(o, j->arguments.at + j->argument[i].off, j->argument[i].len);
    }
    PUT(o, "\"]");
}

static void put_fields(struct auditns_json *j, struct out *o, uint32_t from)
{
    if (j->names.failed || j->values.failed)
        return;
    for (uint32_t i = from; i < j->field_n; i++) {
        struct field *f = &j->fields[i];
        PUT(o, ",\"");
        put(o, j->names.at + f->name, f->name_len);
        PUT(o, "\":");
        if (f->first != f->last)
            PUT(o, "[");
        for (uint32_t v = f->first; v != NONE; v = v == f->last ? NONE : j->value[v].next) {
            if (v != f->first)
                PUT(o, ",");
            put(o, j->values.at + j->value[v].off, j->value[v].len);
        }
        if (f->first != f->last)
            PUT(o, "]");
    }
}

/* What ENRICHED format adds: an object of strings, the last of a name counts. */
static void put_enriched(struct auditns_json *j, const char *s, const char *end)
{
    struct field *f = field_of(j, "enriched", 8);
    uint32_t kept = j->field_n, values = j->value_n;
    const char *name, *v;
    size_t name_len, n, base = j->base;
    int kind;

    if (!f)
        return;
    begin_object(j);
    while ((kind = next_word(&s, end, &name, &name_len, &v, &n)))
        if (kind == 1) {
            size_t start = j->values.len;
            put_one(j, &j->values, v, n, 0, 0);
            add_value(j, field_of(j, name, name_len), start, 1);
        }
    size_t start = j->arguments.len; /* put together aside, for it is made of what stands in `values` */
    put_fields(j, &j->arguments, kept);
    j->field_n = kept;
    j->value_n = values;
    j->base = (uint32_t)base;
    size_t at = j->values.len;
    PUT(&j->values, "{");
    if (!j->arguments.failed && j->arguments.len > start)
        put(&j->values, j->arguments.at + start + 1, j->arguments.len - start - 1);
    PUT(&j->values, "}");
    add_value(j, f, at, 1);
}

/* Whether the name, none of `known`, has not been seen in this record, nor calls for care. */
static int is_new(struct auditns_json *j, const char *name, size_t n, uint32_t hash)
{
    uint32_t at = hash % (4 * DIRECT);
    for (; j->seen[at].round == j->seen_round; at = (at + 1) % (4 * DIRECT))
        if (j->seen[at].hash == hash && j->seen[at].len == n && same(j->seen[at].name, name, n))
            return 0;
    for (size_t i = 0; i < n; i++)
        if (!plain[(unsigned char)name[i]])
            return 0;
    if ((n == 4 && !memcmp(name, "type", 4)) || (n == 6 && !memcmp(name, "nstype", 6)))
        return 0;
    j->seen[at].round = j->seen_round;
    j->seen[at].name = name;
    j->seen[at].hash = hash;
    j->seen[at].len = (uint32_t)n;
    return 1;
}

/* The usual record, put straight to `o`: name=value words alone, each name once. 0: it is not like that. */
static int put_directly(struct auditns_json *j, struct out *o, const char *s, const char *end, int title)
{
    size_t start = o->len, name_len, n;
    const char *name, *v;
    uint32_t fields = 0;
    int word;

    if (memchr(s, '\'', (size_t)(end - s)) || memchr(s, 0x1d, (size_t)(end - s)))
        return 0;
    if (!++j->seen_round) {
        memset(j->seen, 0, sizeof(j->seen));
        memset(j->seen_known, 0, sizeof(j->seen_known));
        j->seen_round = 1;
    }
    j->bytes.len = 0;
    while (s < end && (end[-1] == ' ' || end[-1] == '\r'))
        end--;
    while (s < end && (*s == ' ' || *s == '\r'))
        s++;
    while ((word = next_word(&s, end, &name, &name_len, &v, &n))) {
        uint32_t hash = word == 1 ? quick_hash(name, name_len) : 0, at = word == 1 ? known_at(name, name_len, hash) : NONE;
        int good = word == 1 && ++fields <= DIRECT;
        if (good && at != NONE) {
            good = j->seen_known[at] != j->seen_round;
            j->seen_known[at] = j->seen_round;
        }
        if (!good || (at == NONE && !is_new(j, name, name_len, hash))) {
            o->len = start;
            return 0;
        }
        PUT(o, ",\"");
        put(o, name, name_len);
        PUT(o, "\":");
        put_one(j, o, v, n, at == NONE ? 0 : known[at].kind, title && name_len == 9 && same(name, "proctitle", 9));
    }
    return 1;
}

/* The body of a record, behind "msg=audit(...):". */
static void put_body(struct auditns_json *j, const char *s, const char *end, int execve, int title)
{
    struct out *values = &j->values;
    const char *name, *v, *message = NULL, *message_end, *enriched;
    size_t name_len, n, start;
    int kind;

    j->field_n = j->value_n = j->argument_n = 0;
    j->names.len = j->values.len = j->arguments.len = j->bytes.len = 0;
    begin_object(j);
    while (s < end && (*s == ' ' || *s == '\r'))
        s++;
    while (s < end && (end[-1] == ' ' || end[-1] == '\r'))
        end--;
    enriched = memchr(s, 0x1d, (size_t)(end - s));
    message_end = enriched ? enriched : end;
    v = memchr(s, '\'', (size_t)(message_end - s)) ? memmem(s, (size_t)(message_end - s), "msg='", 5) : NULL;
    if (v && (v == s || v[-1] == ' '))
        message = v;
    const char *stop = message ? message : message_end, *at = s;
    size_t words = 0; /* how many there are; they stand in `out` of the words, joined by spaces */
    struct out *joined = &j->arguments;
    while ((kind = next_word(&at, stop, &name, &name_len, &v, &n))) {
        uint32_t number = kind == 1 && execve ? argument_number(name, name_len) : NONE;
        if (kind == 2) {
            words++;
        } else if (number != NONE) {
            start = joined->len;
            put_string(j, joined, v, n, 1, 0);
            j->argument[j->argument_n] = (struct argument){number, j->argument_n, start, joined->len - start};
            j->argument_n++;
        } else {
            start = values->len;
            put_one(j, values, v, n, name_kind(name, name_len),
                    title && name_len == 9 && !memcmp(name, "proctitle", 9));
            if (name_len == 4 && !memcmp(name, "type", 4)) /* the record's own is called so */
                add_value(j, field_of(j, "nstype", 6), start, 0);
            else
                add_value(j, field_of(j, name, name_len), start, 0);
        }
    }
    if (j->argument_n) {
        start = values->len;
        put_arguments(j);
        add_value(j, field_of(j, "argv", 4), start, 1);
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
        add_value(j, field_of(j, "text", 4), start, 1);
    }
    if (message) {
        message += 5;
        start = values->len;
        PUT(values, "\"");
        put_text(values, message, (size_t)(message_end - message) - (message_end > message && message_end[-1] == '\''));
        PUT(values, "\"");
        add_value(j, field_of(j, "msg", 3), start, 1);
    }
    if (enriched)
        put_enriched(j, enriched + 1, end);
}

/* ---- events ---- */

struct line {
    const char *node, *type, *body, *end;
    size_t node_len, type_len;
    uint64_t ms, serial;
};

static uint64_t decimal(const char **at)
{
    uint64_t v = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++)
        v = v * 10 + (uint64_t)(**at - '0');
    return v;
}

/* Node, type and body of a line whose header the scanner has found to be good; returns where the type ends. */
static const char *read_type(struct line *line, const char *buf, const struct auditns_points *p, uint32_t i,
                             uint32_t consumed)
{
    const char *s = buf + p->l_off[i];
    line->body = buf + p->l_body[i];
    line->end = buf + (i + 1 < p->line_n ? p->l_off[i + 1] : consumed);
    if (line->end > line->body && line->end[-1] == '\n')
        line->end--;
    line->node_len = 0;
    if (*s == 'n') {
        line->node = s + 5;
        s = memchr(s, ' ', (size_t)(line->body - s));
        line->node_len = (size_t)(s++ - line->node);
    }
    line->type = s + 5;
    s = memchr(line->type, ' ', (size_t)(line->body - line->type));
    line->type_len = (size_t)(s - line->type);
    return s;
}

/* The same, and its time and serial. */
static struct line read_line(const char *buf, const struct auditns_points *p, uint32_t i, uint32_t consumed)
{
    struct line line = {0};
    const char *s = read_type(&line, buf, p, i, consumed);
    s += sizeof(" msg=audit(") - 1;
    line.ms = decimal(&s) * 1000;
    s++;
    line.ms += decimal(&s);
    s++;
    line.serial = decimal(&s);
    return line;
}

#define IS_TYPE(line, name) ((line)->type_len == sizeof(name) - 1 && !memcmp((line)->type, name, sizeof(name) - 1))

static void put_who(struct out *o, const uint32_t *who, uint32_t i, const struct auditns_tails *texts)
{
    uint32_t c = i == NONE ? 0 : who[i];
    if (!c || c > texts->count)
        PUT(o, "\"contid\":null");
    else
        put(o, texts->text + texts->off[c - 1], texts->off[c] - texts->off[c - 1]);
}

static void put_head(struct out *o, const struct line *line)
{
    PUT(o, "{\"v\":1,\"time\":\"");
    put_number(o, line->ms / 1000, 1);
    PUT(o, ".");
    put_number(o, line->ms % 1000, 3);
    PUT(o, "\",\"serial\":");
    put_number(o, line->serial, 1);
    if (line->node_len) {
        PUT(o, ",\"node\":\"");
        put_text(o, line->node, line->node_len);
        PUT(o, "\"");
    }
    PUT(o, ",");
}

/* One event: its lines from line `i` on, its subject, its targets from point `target` on. */
static void put_event(struct auditns_json *j, const char *buf, uint32_t consumed, const struct auditns_points *p,
                      uint32_t i, uint32_t subject, uint32_t target, const uint32_t *who,
                      const struct auditns_tails *texts)
{
    struct out *o = &j->out;
    size_t start = o->len;
    struct line line = read_line(buf, p, i, consumed);
    uint32_t first = i;
    int records = 0;

    put_head(o, &line);
    if (p->l_event[i] == AUDITNS_LINE_LATE) /* its event was told already, and whose it was with it */
        PUT(o, "\"contid\":\"?\"");
    else
        put_who(o, who, subject, texts);
    for (uint32_t t = target; t != NONE; t = j->target_next[t]) {
        if (t == target)
            PUT(o, ",\"targets\":[");
        else
            PUT(o, ",");
        PUT(o, "{\"record\":");
        put_number(o, p->recno[t], 1);
        PUT(o, ",\"pid\":");
        if (p->pid[t] < 0)
            PUT(o, "-1");
        else
            put_number(o, (uint64_t)p->pid[t], 1);
        PUT(o, ",");
        put_who(o, who, t, texts);
        PUT(o, "}");
    }
    if (target != NONE)
        PUT(o, "]");
    PUT(o, ",\"records\":[");
    for (; i != NONE; i = j->next[i]) {
        if (i != first)
            read_type(&line, buf, p, i, consumed);
        if (IS_TYPE(&line, "EOE"))
            continue;
        int execve = IS_TYPE(&line, "EXECVE"), title = IS_TYPE(&line, "PROCTITLE");
        if (records++)
            PUT(o, ",");
        PUT(o, "{\"type\":\"");
        put_text(o, line.type, line.type_len);
        PUT(o, "\"");
        if (execve || !put_directly(j, o, line.body, line.end, title)) {
            put_body(j, line.body, line.end, execve, title);
            put_fields(j, o, 0);
        }
        PUT(o, "}");
    }
    PUT(o, "]}\n");
    if (!records)
        o->len = start;
}

static void put_foreign(struct out *o, const char *s, size_t n)
{
    if (n && s[n - 1] == '\n')
        n--;
    if (!n)
        return;
    PUT(o, "{\"v\":1,\"foreign\":\"");
    put_text(o, s, n);
    PUT(o, "\"}\n");
}

/* Room for the chains: `events` numbers, `lines` lines, `points` points. */
static int make_room(struct auditns_json *j, size_t events, size_t lines, size_t points)
{
    size_t all = 5 * events + lines + points;
    if (!j->first || all > j->room) {
        uint32_t *grown = realloc(j->first, (all + 1) * sizeof(*grown));
        if (!grown)
            return 0;
        j->first = grown;
        j->room = all;
    }
    memset(j->first, 0xff, all * sizeof(*j->first));
    j->last = j->first + events;
    j->subject = j->last + events;
    j->target = j->subject + events;
    j->target_last = j->target + events;
    j->next = j->target_last + events;
    j->target_next = j->next + lines;
    return 1;
}

/* Chain the lines of each event, and its targets. -2: event numbers too far apart. */
static int chain(struct auditns_json *j, const struct auditns_points *p, uint32_t *base)
{
    uint32_t reach = 0, i = 0;
    while (i < p->line_n && p->l_event[i] >= AUDITNS_LINE_LATE)
        i++;
    *base = i < p->line_n ? p->l_event[i] - REACH : 0;
    for (; i < p->line_n; i++)
        if (p->l_event[i] < AUDITNS_LINE_LATE && p->l_event[i] - *base >= reach)
            reach = p->l_event[i] - *base + 1;
    if (reach > 2 * REACH + 2 * (uint64_t)p->line_n)
        return -2;
    if (!make_room(j, reach, p->line_n, p->n))
        return -1;
    for (i = 0; i < p->line_n; i++) {
        if (p->l_event[i] >= AUDITNS_LINE_LATE)
            continue;
        uint32_t e = p->l_event[i] - *base;
        if (j->first[e] == NONE)
            j->first[e] = i;
        else
            j->next[j->last[e]] = i;
        j->last[e] = i;
    }
    for (i = 0; i < p->n; i++) {
        uint32_t e = p->event[i] - *base;
        if (p->flags[i] & AUDITNS_P_LATE || e >= reach)
            continue;
        if (!(p->flags[i] & AUDITNS_P_TARGET)) {
            if (j->subject[e] == NONE)
                j->subject[e] = i;
            continue;
        }
        if (j->target[e] == NONE)
            j->target[e] = i;
        else
            j->target_next[j->target_last[e]] = i;
        j->target_last[e] = i;
    }
    return 0;
}

int64_t auditns_json(struct auditns_json *j, const char *buf, uint32_t consumed, const struct auditns_points *p,
                     const uint32_t *who, const struct auditns_tails *texts, const uint8_t *keep, uint32_t keep_first,
                     uint32_t keep_count, char **out)
{
    uint32_t base, late = 0;
    int trouble = chain(j, p, &base);

    if (trouble)
        return trouble;
    j->out.len = 0;
    for (uint32_t i = 0; i < p->line_n; i++) {
        uint32_t event = p->l_event[i], end = i + 1 < p->line_n ? p->l_off[i + 1] : consumed;
        if (event == AUDITNS_LINE_FOREIGN) {
            if (!keep)
                put_foreign(&j->out, buf + p->l_off[i], end - p->l_off[i]);
        } else if (event == AUDITNS_LINE_LATE) {
            while (late < p->n && (!(p->flags[late] & AUDITNS_P_LATE) || p->line_off[late] < p->l_off[i]))
                late++;
            int its = late < p->n && p->line_off[late] == p->l_off[i];
            if (!keep && p->l_type[i] != TYPE_EOE)
                put_event(j, buf, consumed, p, i, NONE, its ? late : NONE, who, texts);
        } else if (j->first[event - base] == i && (!keep || (event - keep_first < keep_count && keep[event - keep_first]))) {
            put_event(j, buf, consumed, p, i, j->subject[event - base], j->target[event - base], who, texts);
        }
    }
    *out = j->out.at;
    if (j->out.failed || j->names.failed || j->values.failed || j->arguments.failed || j->bytes.failed) {
        j->out.failed = j->names.failed = j->values.failed = j->arguments.failed = j->bytes.failed = 0;
        return -1;
    }
    return (int64_t)j->out.len;
}
