/* Words and values of a record, which has PAD behind it; emit/fields.py is the readable reference. */
#include <sys/types.h>
#include "json/json_impl.h"

static const char *word_end(const char *s, const char *end)
{
    const char *space = memchr(s, ' ', (size_t)(end - s));
    return space ? space : end;
}

const char *value_end(const char *v, const char *end)
{
    const char *quote = v < end && *v == '"' ? memchr(v + 1, '"', (size_t)(end - v - 1)) : NULL;
    return quote && (quote + 1 == end || quote[1] == ' ') ? quote + 1 : word_end(v, end);
}

int next_word(const char **at, const char *end, const char **name, size_t *name_len, const char **v, size_t *n)
{
    const char *s = *at, *q;
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
    *at = value_end(q, end);
    *n = (size_t)(*at - q);
    return 1;
}

int is_number(const char *v, size_t n)
{
    size_t minus = *v == '-';
    v += minus;
    n -= minus;
    if (n - 1 >= 15) /* none as well */
        return 0;
    if (*v == '0')
        return n == 1;
    unsigned first = digits_of(eight(v));
    return n <= 8 ? first >= n : first == 8 && digits_of(eight(v + 8)) >= n - 8;
}

/* The four bytes that eight upper case hex digits are; 0 where they are none. */
static inline int four_of(char *to, uint64_t x)
{
    uint64_t letter = x >> 6 & ONES, v = (x & 0x0f * ONES) + 9 * letter;
    uint64_t wrong = (x ^ (v + '0' * ONES + ('A' - '9' - 1) * letter)) | (v & 0x10 * ONES);
    if (wrong | (((v + 6 * ONES) >> 4 & ONES) ^ letter)) /* above 9 are the letters alone */
        return 0;
    v = (v << 4 | v >> 8) & 0x00ff00ff00ff00ff;
    v = (v | v >> 8) & 0x0000ffff0000ffff;
    v |= v >> 16;
    for (int i = 0; i < 4; i++)
        to[i] = (char)(v >> 8 * i);
    return 1;
}

/* Whether it is hex, which is put to `bytes`. */
static int from_hex(char *bytes, const char *s, size_t n)
{
    size_t i = 0;
    if (!n || n & 1)
        return 0;
    for (; n - i >= 8; i += 8)
        if (!four_of(bytes + i / 2, eight(s + i)))
            return 0;
    uint64_t behind = '0' * ONES & ~first_of(~(uint64_t)0, n - i);
    return four_of(bytes + i / 2, first_of(eight(s + i), n - i) | behind);
}

static void spaces_for_nul(char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t x;
        memcpy(&x, bytes + i, sizeof(x));
        x |= zeros(x) >> 2;
        memcpy(bytes + i, &x, sizeof(x));
    }
}

char *take_string(char *to, const char *v, size_t n)
{
    if (n >= 2 && v[0] == '"' && v[n - 1] == '"')
        return (char *)memcpy(to, v + 1, n - 2) + n - 2;
    if (!n || (n == 6 && !memcmp(v, "(null)", 6)))
        return to;
    if (from_hex(to, v, n))
        return to + n / 2;
    return (char *)memcpy(to, v, n) + n;
}

char *put_string(char *to, const char *v, size_t n, int untrusted, int title, char *bytes)
{
    if (n >= 2 && v[0] == '"' && v[n - 1] == '"') {
        v++;
        n -= 2;
    } else if (!n || (n == 6 && !memcmp(v, "(null)", 6))) {
        return NULL;
    } else if (untrusted && from_hex(bytes, v, n)) {
        v = bytes;
        n /= 2;
    }
    if (title) {
        if (v != bytes)
            v = memcpy(bytes, v, n);
        spaces_for_nul(bytes, n);
    }
    return escape(to, v, n);
}

char *put_value(char *to, const char *v, size_t n, int kind, int title, char *bytes)
{
    if (kind == AUDITNS_JSON_NUMERIC && is_number(v, n)) {
        size_t minus = n == 2 && v[0] == '-' && v[1] == '0';
        memcpy(to, v + minus, n - minus);
        return to + n - minus;
    }
    char *end = put_string(to + 1, v, n, kind == AUDITNS_JSON_UNTRUSTED, title, bytes);
    if (!end) {
        memcpy(to, "null", 4);
        return to + 4;
    }
    *to = *end = '"';
    return end + 1;
}
