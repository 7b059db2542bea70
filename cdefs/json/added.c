/* What ENRICHED format adds to a record; the readable reference is added() of emit/fields.py. */
#define _GNU_SOURCE
#include <sys/types.h>
#include "json/json_impl.h"

/* Whether " NAME=" stands at s. */
static int is_next(const char *s, const char *end)
{
    const char *p = s + 1;
    if (s >= end || *s != ' ')
        return 0;
    while (p < end && *p != ' ' && *p != '=' && *p != '"')
        p++;
    return p > s + 1 && p < end && *p == '=';
}

static const char *words_stop(const char *s, const char *end)
{
    for (; (s = memchr(s, ' ', (size_t)(end - s))); s++)
        if (is_next(s, end))
            return s;
    return end;
}

/* Where the quote that opens at v is closed; NULL where it is not. What a search to the end has not found is not looked for
 * again: who writes the text could make each of thousands of values look through all of it. */
static const char *quote_end(const char *v, struct added *in)
{
    const char *first = NULL, *end = in->end;

    if (in->no_quote && v >= in->no_quote)
        return NULL;
    for (const char *q = v + 1; q < end && (q = memchr(q, '"', (size_t)(end - q))); q++) {
        if (q + 1 == end || is_next(q + 1, end))
            return q;
        if (first && q[-1] == '=')
            return first;
        if (!first && q[1] == ' ')
            first = q;
    }
    if (!first)
        in->no_quote = v;
    return first;
}

/* The last " }" that closes what opens at v; NULL where there is none. */
static const char *brace_end(const char *v, struct added *in)
{
    if (in->no_brace && v >= in->no_brace)
        return NULL;
    for (const char *p = in->end - 1; p > v + 1; p--)
        if (*p == '}' && p[-1] == ' ' && (p + 1 == in->end || p[1] == ' '))
            return p - 1;
    in->no_brace = v;
    return NULL;
}

static void strip(const char **v, size_t *n)
{
    while (*n && **v == ' ') {
        ++*v;
        --*n;
    }
    while (*n && (*v)[*n - 1] == ' ')
        --*n;
}

static int begin_word(const char **at, const char *end, const char **name, size_t *name_len)
{
    const char *s = *at, *q;
    while (s < end && *s == ' ')
        s++;
    *at = *name = s;
    if (s == end)
        return ADDED_END;
    for (q = s; q < end && *q != ' ' && *q != '=';)
        q++;
    if (q == s || q == end || *q != '=')
        return ADDED_WORDS;
    *name_len = (size_t)(q - s);
    *at = q + 1;
    return ADDED_VALUE;
}

int next_added(const char **at, struct added *in, const char **name, size_t *name_len, const char **v, size_t *n)
{
    const char *end = in->end;
    int kind = begin_word(at, end, name, name_len);
    const char *stop;

    *v = *at;
    if (kind == ADDED_VALUE && *v < end && **v == '{' && (stop = brace_end(*v, in))) {
        *n = (size_t)(stop - ++*v);
        *at = stop + 2;
        return ADDED_OBJECT;
    }
    if (kind == ADDED_VALUE && *v < end && **v == '"' && (stop = quote_end(*v, in))) {
        *n = (size_t)(stop + 1 - *v);
        *at = stop + 1;
        return ADDED_QUOTED;
    }
    if (kind != ADDED_END) {
        *at = words_stop(*v, end);
        *n = (size_t)(*at - *v);
        strip(v, n);
    }
    return kind;
}

int next_braced(const char **at, struct added *in, const char **name, size_t *name_len, const char **v, size_t *n)
{
    const char *end = in->end;
    int kind = begin_word(at, end, name, name_len);
    const char *stop;

    *v = *at;
    if (kind == ADDED_END)
        return kind;
    stop = kind == ADDED_VALUE && *name_len == 4 && !memcmp(*name, "path", 4)
               ? NULL
               : memchr(*v, ' ', (size_t)(end - *v));
    *at = stop ? stop : end;
    *n = (size_t)(*at - *v);
    while (*n && (*v)[*n - 1] == ' ')
        --*n;
    return kind;
}
