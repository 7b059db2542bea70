/* Words of text as values: their hashes, the bytes behind what audit_log_untrustedstring() wrote. */
#include "archive/archive_impl.h"

uint32_t archive_term(uint32_t kind, const char *s, uint32_t len)
{
    uint64_t h = mixed(0xaf63bd4c8601b7df, kind);
    uint32_t i = 0;

    for (; len - i >= 8; i += 8)
        h = mixed(h, eight(s + i));
    h = mixed(mixed(h, eight_before(s + i, s + len)), len);
    return (uint32_t)(h ^ h >> 32);
}

int archive_add_term(struct archive_text *a, uint32_t kind, const char *value, uint32_t len)
{
    if (!archive_room(&a->term, &a->term_room, a->terms, sizeof(*a->term)))
        return 0;
    a->term[a->terms++] = archive_term(kind, value, len);
    return 1;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int archive_from_hex(struct span s, char *out, uint32_t room, uint32_t *len)
{
    if (!s.len || s.len % 2 || s.len / 2 > room)
        return 0;
    for (uint32_t i = 0; i < s.len; i += 2) {
        int high = hex_digit(s.at[i]), low = hex_digit(s.at[i + 1]);
        if (high < 0 || low < 0)
            return 0;
        out[i / 2] = (char)(high << 4 | low);
    }
    *len = s.len / 2;
    return 1;
}

int archive_untrusted(struct span raw, char *buf, struct span *out)
{
    if (raw.len && *raw.at == '"') {
        *out = unquoted(raw);
        return out->len > 0;
    }
    out->at = buf;
    return archive_from_hex(raw, buf, MOST_DECODED, &out->len);
}
