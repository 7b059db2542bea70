/* The arguments of an event's EXECVE records: the kernel splits the list over several, and an argument that is too long
 * into pieces. The readable reference is Argv of emit/fields.py. */
#include <stdlib.h>
#include <sys/types.h>
#include "json/json_impl.h"

#define GAP 4096u /* so many arguments may be missing from a list whatever its size */
#define LENGTH 0xffffffffu

struct piece {
    uint32_t number, place, order; /* place: LENGTH for how long the whole is */
    size_t off, len;               /* in `text` */
};

void argv_free(struct argv *a)
{
    free(a->text.at);
    free(a->joined.at);
    free(a->piece);
}

void argv_begin(struct argv *a, size_t bytes)
{
    a->n = 0;
    a->text.len = 0;
    a->most = bytes < UINT32_MAX - GAP ? GAP + (uint32_t)bytes : UINT32_MAX;
}

static size_t digits_at(const char *s, size_t n, uint32_t *number)
{
    size_t i = 0;
    *number = 0;
    for (; i < n && i < 8 && s[i] >= '0' && s[i] <= '9'; i++)
        *number = *number * 10 + (uint32_t)(s[i] - '0');
    return i && i < 8 ? i : 0;
}

/* Whether a field is part of an argument: a12, a12[3] or a12_len. */
static int read_name(const struct argv *a, const char *s, size_t n, const char *v, size_t v_len, struct piece *piece)
{
    size_t used = n && s[0] == 'a' ? digits_at(s + 1, n - 1, &piece->number) : 0;
    if (!used || piece->number >= a->most)
        return 0;
    s += 1 + used;
    n -= 1 + used;
    piece->place = 0;
    if (!n)
        return 1;
    if (n == 4 && !memcmp(s, "_len", 4)) {
        piece->place = LENGTH;
        for (size_t i = 0; i < v_len; i++)
            if (v[i] < '0' || v[i] > '9')
                return 0;
        return v_len && v_len <= 9;
    }
    used = s[0] == '[' ? digits_at(s + 1, n - 1, &piece->place) : 0;
    return used && n == used + 2 && s[n - 1] == ']';
}

int argv_has(const struct argv *a, const char *s, size_t n, const char *v, size_t v_len)
{
    struct piece piece;
    return read_name(a, s, n, v, v_len, &piece);
}

static int grow(struct argv *a)
{
    uint32_t room = a->room ? 2 * a->room : 1024;
    struct piece *grown = realloc(a->piece, room * sizeof(*grown));
    if (!grown) {
        a->text.failed = 1;
        return 0;
    }
    a->piece = grown;
    a->room = room;
    return 1;
}

void argv_take(struct argv *a, const char *s, size_t n, const char *v, size_t v_len)
{
    struct piece piece;
    struct out *o = &a->text;
    size_t start = o->len;

    if (!read_name(a, s, n, v, v_len, &piece) || (a->n == a->room && !grow(a)) || !need(o, v_len + PAD))
        return;
    if (piece.place == LENGTH)
        put(o, v, v_len);
    else
        o->len = (size_t)(take_string(o->at + start, v, v_len) - o->at);
    piece.order = a->n;
    piece.off = start;
    piece.len = o->len - start;
    a->piece[a->n++] = piece;
}

static int in_order(const void *one, const void *other)
{
    const struct piece *a = one, *b = other;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    if (a->place != b->place)
        return a->place < b->place ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static void sort(struct argv *a)
{
    for (uint32_t i = 1; i < a->n; i++)
        if (in_order(&a->piece[i - 1], &a->piece[i]) > 0) {
            qsort(a->piece, a->n, sizeof(*a->piece), in_order);
            return;
        }
}

static uint32_t end_of(const struct argv *a, uint32_t i)
{
    uint32_t end = i + 1;
    while (end < a->n && a->piece[end].number == a->piece[i].number)
        end++;
    return end;
}

/* Whether the pieces from `i` up to `end` are all there, each once. */
static int whole(const struct argv *a, uint32_t i, uint32_t end)
{
    for (uint32_t place = 0; i < end && a->piece[i].place != LENGTH; i++)
        if (a->piece[i].place != place++)
            return 0;
    return 1;
}

/* The list of these pieces, null for those that are missing. */
static void put_pieces(struct argv *a, struct out *o, uint32_t i, uint32_t end)
{
    const char *before = "[";
    for (uint32_t next = 0; i < end && a->piece[i].place != LENGTH; i++) {
        put(o, before, 1);
        before = ",";
        if (a->piece[i].place > next)
            PUT(o, "null,");
        PUT(o, "\"");
        put_text(o, a->text.at + a->piece[i].off, a->piece[i].len);
        PUT(o, "\"");
        next = a->piece[i].place + 1;
    }
    PUT(o, "]");
}

/* The pieces from `i` up to `end`; a character may begin in one and end in the next. */
static void put_argument(struct argv *a, struct out *o, uint32_t i, uint32_t end)
{
    if (a->text.failed)
        return;
    if (!whole(a, i, end)) {
        put_pieces(a, o, i, end);
        return;
    }
    PUT(o, "\"");
    if (i + 1 == end || a->piece[i + 1].place == LENGTH) {
        put_text(o, a->text.at + a->piece[i].off, a->piece[i].len);
    } else {
        a->joined.len = 0;
        for (; i < end && a->piece[i].place != LENGTH; i++)
            put(&a->joined, a->text.at + a->piece[i].off, a->piece[i].len);
        put_text(o, a->joined.at, a->joined.len);
        a->text.failed |= a->joined.failed;
        a->joined.failed = 0;
    }
    PUT(o, "\"");
}

int argv_put(struct argv *a, struct out *o)
{
    uint32_t next = 0, end;

    sort(a);
    for (uint32_t i = 0; i < a->n; i = end) {
        end = end_of(a, i);
        if (a->piece[i].place == LENGTH)
            continue;
        put(o, next ? "," : "[", 1);
        for (; next < a->piece[i].number; next++)
            PUT(o, "null,");
        put_argument(a, o, i, end);
        next++;
    }
    if (next)
        PUT(o, "]");
    return next > 0;
}

int argv_length(struct argv *a, uint32_t *at, struct out *name, struct out *length)
{
    sort(a);
    for (; *at < a->n && !a->text.failed; ++*at) {
        const struct piece *piece = &a->piece[*at];
        if (piece->place != LENGTH || end_of(a, *at) != *at + 1)
            continue; /* of several the last one counts */
        name->len = 0;
        PUT(name, "a");
        put_number(name, piece->number, 1);
        PUT(name, "_len");
        PUT(length, "\"");
        put(length, a->text.at + piece->off, piece->len);
        PUT(length, "\"");
        ++*at;
        return 1;
    }
    return 0;
}
