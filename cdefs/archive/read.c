/* Blocks read: what their tables say, and their text put back in its order. Tables may be damaged: everything is checked. */
#include "archive/archive_impl.h"

struct cursor {
    const uint8_t *at, *end;
    int64_t before;
    uint32_t group;
};

static int take_number(struct cursor *c, uint64_t *x)
{
    *x = 0;
    for (unsigned shift = 0; c->at < c->end && shift < 64; shift += 7) {
        uint8_t byte = *c->at++;
        *x |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return 1;
    }
    return 0;
}

/* The next part: where it belongs, how long it is there and here, and whether another of the same event follows. */
static int take_piece(struct cursor *c, uint64_t *off, uint64_t *len, uint64_t *here, int *more)
{
    uint64_t step, size;

    if (!take_number(c, &step) || !take_number(c, &size))
        return 0;
    int64_t at = (int64_t)((uint64_t)c->before + (step >> 1 ^ -(step & 1)));
    *off = (uint64_t)at;
    *len = size >> 2;
    *here = *len + (size >> 1 & 1);
    *more = (int)(size & 1);
    if (at < 0 || at > UINT32_MAX || !*len || *len > UINT32_MAX - *off)
        return 0;
    c->before = at + (int64_t)*len;
    return 1;
}

static int take_group(struct cursor *c)
{
    uint64_t step;

    if (!take_number(c, &step) || step > UINT32_MAX)
        return 0;
    c->group += (uint32_t)step;
    return 1;
}

int archive_open(const uint8_t *table, uint64_t len, uint32_t events, uint64_t text_len, uint32_t *starts,
                 uint32_t *positions, uint32_t *groups)
{
    struct cursor c = {table, table + len, 0, 0};
    uint64_t at = 0, off, size, here;
    int more;

    for (uint32_t i = 0; i < events; i++) {
        if (!take_group(&c))
            return 0;
        groups[i] = c.group;
        starts[i] = (uint32_t)at;
        positions[i] = UINT32_MAX;
        do {
            if (!take_piece(&c, &off, &size, &here, &more) || here > text_len - at)
                return 0;
            at += here;
            if (off < positions[i])
                positions[i] = (uint32_t)off;
        } while (more);
    }
    starts[events] = (uint32_t)at;
    return at == text_len && c.at == c.end;
}

static int cover(uint8_t *covered, uint64_t off, uint64_t len)
{
    for (uint64_t i = off; i < off + len;) {
        if (i % 8 == 0 && off + len - i >= 64) {
            if (eight((const char *)covered + i / 8))
                return 0;
            put_eight((char *)covered + i / 8, UINT64_MAX);
            i += 64;
        } else if (i % 8 == 0 && off + len - i >= 8) {
            if (covered[i / 8])
                return 0;
            covered[i / 8] = 255;
            i += 8;
        } else {
            if (covered[i / 8] >> i % 8 & 1)
                return 0;
            covered[i / 8] |= (uint8_t)(1 << i % 8);
            i++;
        }
    }
    return 1;
}

/* The part of text at `off` that lies in the window. */
static int put(const struct archive_window *w, uint64_t off, uint64_t size, const char *text, int compare)
{
    uint64_t from = off < w->begin ? w->begin : off, to = off + size < w->begin + w->len ? off + size : w->begin + w->len;

    if (from >= to)
        return 1;
    if (!cover(w->covered, from - w->begin, to - from))
        return 0;
    char *there = w->out + (from - w->begin);
    if (compare)
        return !memcmp(there, text + (from - off), to - from);
    memcpy(there, text + (from - off), to - from);
    return 1;
}

int archive_scatter(const uint8_t *table, uint64_t len, uint32_t events, const char *text, uint64_t text_len,
                    const struct archive_window *window, int compare)
{
    struct cursor c = {table, table + len, 0, 0};
    uint64_t at = 0, off, size, here;
    int more;

    for (uint32_t i = 0; i < events; i++) {
        if (!take_group(&c))
            return 0;
        do {
            if (!take_piece(&c, &off, &size, &here, &more) || here > text_len - at)
                return 0;
            if (!put(window, off, size, text + at, compare))
                return 0;
            at += here;
        } while (more);
    }
    return at == text_len && c.at == c.end;
}

uint64_t archive_next(const uint8_t *covered, uint64_t len, uint64_t at, int want)
{
    uint64_t whole = want ? 0 : UINT64_MAX; /* bytes without what is wanted */

    while (at < len) {
        if (at % 8 == 0 && len - at >= 64 && eight((const char *)covered + at / 8) == whole) {
            at += 64;
            continue;
        }
        if ((covered[at / 8] >> at % 8 & 1) == want)
            return at;
        at++;
    }
    return len;
}
