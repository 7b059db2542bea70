/* Records as they mostly are, put straight to where they belong: name=value words alone, each name once, most values
 * such that they stand in JSON as they are. */
#define _GNU_SOURCE
#include <sys/types.h>
#include "json/json_impl.h"

void fast_start(struct fast *u, uint32_t seed)
{
    u->names.seed = ((uint64_t)seed * 0x9e3779b97f4a7c15u) | 1;
    u->object = u->objects = 0;
    names_clear(&u->names);
    u->last = u->names.name;
}

static void begin_object(struct fast *u)
{
    if (!++u->objects || u->names.count == NAMES) {
        names_clear(&u->names);
        u->last = u->names.name;
        u->objects = 1;
    }
    u->object = u->objects;
}

/* An object within the one in hand, which `u->object` is to be again behind it; 0: that one would be forgotten. */
static int begin_inner(struct fast *u)
{
    if (u->objects == UINT32_MAX || u->names.count == NAMES)
        return 0;
    u->object = ++u->objects;
    return 1;
}

/* Whether a name has not been in this object before; now it has. */
static inline int is_first(struct fast *u, struct name *name)
{
    int first = name->object != u->object;
    name->object = u->object;
    return first;
}

static int is_called(const struct name *name, const char *text)
{
    return name->len == strlen(text) && !memcmp(name->said + 2, text, name->len);
}

/* The name at s, which is a word that is not empty; NULL where no plain one stands there. */
static inline struct name *name_at(struct fast *u, const char *s)
{
    struct name *name = u->last->next; /* records are alike */
    if (!name || !is_name(name, s)) {
        size_t n = 0;
        while (s[n] > ' ' && s[n] != '=')
            n++;
        if (s[n] != '=')
            return NULL;
        name = name_find(&u->names, s, n);
        if (!name && !(name = name_add(&u->names, s, n)))
            return NULL;
        u->last->next = name;
    }
    u->last = name;
    return name;
}

typedef int8_t signed_lanes __attribute__((vector_size(16)));

/* Copy what stands in JSON as it is and is not below `least`; returns how much that is. Up to 15 bytes more are read and
 * written. */
static inline size_t copy_plain(char *to, const char *s, int8_t least)
{
    for (size_t n = 0;; n += sizeof(lanes)) {
        signed_lanes x;
        memcpy(&x, s + n, sizeof(x));
        memcpy(to + n, &x, sizeof(x));
        unsigned stop = first_lane((lanes)((x < least) | (x == 0x7f) | (x == '"') | (x == '\\'))); /* not ASCII: below 0 */
        if (stop < sizeof(lanes))
            return n + stop;
    }
}

static inline int is_end(const char *s, const char *end)
{
    return *s == ' ' || s == end;
}

/* The value at *at, which is moved to its end. */
static inline char *copy_value(struct fast *u, char *to, const char **at, const char *end, int kind, int title)
{
    const char *v = *at;
    if (*v == '"') {
        size_t n = 1 + copy_plain(to + 1, v + 1, ' ');
        if (v[n] == '"' && is_end(v + n + 1, end)) {
            *at = v + n + 1;
            to[0] = to[n] = '"';
            return to + n + 1;
        }
    } else if (kind == AUDITNS_JSON_NUMERIC) {
        size_t n = copy_plain(to, v, '!');
        if (is_end(v + n, end) && is_number(v, n) && memcmp(v, "-0", 2)) {
            *at = v + n;
            return to + n;
        }
    } else if (kind != AUDITNS_JSON_UNTRUSTED) {
        size_t n = copy_plain(to + 1, v, '!');
        if (is_end(v + n, end) && n && *v != '(') { /* (null) */
            *at = v + n;
            to[0] = to[n + 1] = '"';
            return to + n + 2;
        }
    }
    *at = value_end(v, end);
    return put_value(to, v, (size_t)(*at - v), kind, title, u->bytes);
}

/* What stands in the braces of a plain "{ name=value ... }" at *at, which is moved behind it: each name once, no value in
 * quotes, and nothing behind it in the record that could close it as well. NULL: it is not plain. */
static char *put_braced(struct fast *u, char *to, const char **at, const char *end)
{
    static const char close[] = " }";
    const char *s = *at + 1, *stop = memmem(s, (size_t)(end - s), close, 2);
    uint32_t outer = u->object;
    char *begin = to;

    if (!stop || !is_end(stop + 2, end) || memmem(stop + 2, (size_t)(end - stop - 2), close, 2) || !begin_inner(u))
        return NULL;
    while (s < stop) {
        if (*s == ' ') {
            s++;
            continue;
        }
        struct name *name = name_at(u, s);
        if (!name || name->object == outer || !is_first(u, name))
            return NULL;
        memcpy(to, name->said, sizeof(name->said));
        to += name->len + 4;
        s += name->len + 1;
        if (*s == '"')
            return NULL;
        if (is_called(name, "path")) { /* it goes on up to the brace */
            const char *last = stop;
            while (last > s && last[-1] == ' ')
                last--;
            to = put_value(to, s, (size_t)(last - s), 0, 0, u->bytes);
            s = stop;
        } else {
            to = copy_value(u, to, &s, stop, 0, 0);
        }
    }
    if (to == begin)
        return NULL;
    u->object = outer;
    *begin = '{'; /* for the comma */
    *to = '}';
    *at = stop + 2;
    return to + 1;
}

/* Whether a value that ENRICHED format adds ends where one of the kernel's would, if a name follows it. */
static int is_plain_added(const char *v, const char *end)
{
    const char *quote = v < end && *v == '"' ? memchr(v + 1, '"', (size_t)(end - v - 1)) : NULL;
    if (v == end || *v == ' ')
        return 0;
    return *v != '"' || (quote && is_end(quote + 1, end));
}

/* All words up to `end`; those that ENRICHED format adds are strings. */
static char *put_words(struct fast *u, char *to, const char *s, const char *end, int added, int title)
{
    begin_object(u);
    while (s < end) {
        if (*s == ' ') {
            s++;
            continue;
        }
        struct name *name = name_at(u, s);
        if (!name || !is_first(u, name))
            return NULL;
        memcpy(to, name->said, sizeof(name->said));
        to += name->len + 4;
        s += name->len + 1;
        if (added && s < end && *s == '{')
            to = put_braced(u, to, &s, end);
        else if (added && !is_plain_added(s, end))
            return NULL;
        else
            to = copy_value(u, to, &s, end, added ? 0 : name->kind, title && is_called(name, "proctitle"));
        if (!to)
            return NULL;
    }
    return to;
}

char *put_fast(struct fast *u, char *to, const char *line, size_t n, int title)
{
    static const char key[] = ",\"enriched\":";
    const char *end = line + n, *added = memchr(line, 0x1d, n), *stop = added ? added : end;

    if (memchr(line, '\'', (size_t)(stop - line))) /* perhaps of msg='...' */
        return NULL;
    to = put_words(u, to, line, stop, 0, title);
    if (!to || !added)
        return to;
    struct name *name = name_find(&u->names, "enriched", 8);
    if (name && !is_first(u, name))
        return NULL;
    memcpy(to, key, sizeof(key) - 1);
    char *begin = to + sizeof(key) - 1;
    to = put_words(u, begin, added + 1, end, 1, 0);
    if (!to)
        return NULL;
    if (to == begin)
        to++;
    *begin = '{'; /* for the comma */
    *to = '}';
    return to + 1;
}
