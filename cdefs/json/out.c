/* JSON text in a buffer that grows. */
#include <stdlib.h>
#include <sys/types.h>
#include "json/json_impl.h"

int out_grow(struct out *o, size_t more)
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

void put_number(struct out *o, uint64_t v, int width)
{
    char digits[24], *p = digits + sizeof(digits);
    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
        width--;
    } while (v || width > 0);
    put(o, p, (size_t)(digits + sizeof(digits) - p));
}

static const char HEX_DIGITS[] = "0123456789abcdef";

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

/* One character that does not stand in JSON as it is, or one byte of none; returns the end of both. */
static const unsigned char *escape_one(char **to, const unsigned char *s, size_t n)
{
    static const char names[] = "btn\0fr"; /* of 8, 9, 10, 12, 13 */
    char *p = *to;
    uint32_t code;
    size_t len = 1;
    if (*s == '"' || *s == '\\') {
        *p++ = '\\';
        *p++ = (char)*s;
    } else if (*s >= 8 && *s <= 13 && *s != 11) {
        *p++ = '\\';
        *p++ = names[*s - 8];
    } else if (*s < 0x80) {
        p = put_unit(p, *s);
    } else if ((len = sequence(s, n, &code))) {
        if (code >= 0x10000) {
            p = put_unit(p, 0xd800 + ((code - 0x10000) >> 10));
            code = 0xdc00 + ((code - 0x10000) & 0x3ff);
        }
        p = put_unit(p, code);
    } else {
        memcpy(p, "\\\\x", 3);
        p[3] = HEX_DIGITS[*s >> 4];
        p[4] = HEX_DIGITS[*s & 15];
        p += 5;
        len = 1;
    }
    *to = p;
    return s + len;
}

/* How many of eight bytes stand in JSON as they are, from the first on: none below ' ' or above '~', no '"' and no
 * backslash. What carries into a higher byte comes from one that does not. */
static inline unsigned plain_of(uint64_t x)
{
    uint64_t others = (x | (x + ONES) | (x - ' ' * ONES)) & HIGHS;
    others |= zeros(x ^ '"' * ONES) | zeros(x ^ '\\' * ONES);
    return others ? (unsigned)__builtin_ctzll(others) / 8 : 8;
}

char *escape(char *to, const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text, *end = s + n;
    while (s < end) {
        uint64_t x = eight_before((const char *)s, (const char *)end);
        unsigned plain = plain_of(x);
        put_eight(to, x);
        to += plain;
        s += plain;
        if (plain < 8 && s < end)
            s = escape_one(&to, s, (size_t)(end - s));
    }
    return to;
}

void put_text(struct out *o, const char *s, size_t n)
{
    if (need(o, 6 * n + 8))
        o->len = (size_t)(escape(o->at + o->len, s, n) - o->at);
}
