/* The header of a line: node, type, time and serial. */
#define _GNU_SOURCE
#include "audittext/scan_impl.h"

static uint64_t node_hash(const char *s, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}

static const char *digits(const char *p, const char *end, int most, uint64_t *value)
{
    const char *start = p;
    uint64_t v = 0;
    if (end - p >= 8) {
        uint64_t x = eight(p);
        unsigned n = digits_of(x);
        if (!n || (int)n > most)
            return NULL;
        v = number_of(x, n);
        p += n;
        if (n < 8) {
            *value = v;
            return p;
        }
    }
    while (p < end && *p >= '0' && *p <= '9') {
        if (p - start == most)
            return NULL;
        if (p - start < 18) /* cannot overflow yet */
            v = v * 10 + (uint64_t)(*p - '0');
        else if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
            return NULL;
        p++;
    }
    *value = v;
    return p == start ? NULL : p;
}

/* Whether ".mmm:" are the first of eight bytes. */
static inline int is_fraction(uint64_t x)
{
    return (x & 0xff) == '.' && digits_of(x >> 8) == 3 && (x >> 32 & 0xff) == ':';
}

/* Time and serial of "msg=audit(...):", or of the "audit(...):" of the kernel's log, at p, unless h has them; where it ends, NULL when it is none. */
static const char *parse_stamp(const char *p, const char *end, struct head *h)
{
    const char *start = p;

    if (h->text && (size_t)(end - p) >= h->hdr_len && same(p, h->text, h->hdr_len))
        return p + h->hdr_len;
    if (h->text && (size_t)(end - p) > h->sec_len && same(p, h->text, h->sec_len + 1)) { /* to the point behind them */
        p += h->sec_len;
    } else {
        h->text = NULL;
        if (end - p < 10 || (memcmp(p, "msg=audit(", 10) && memcmp(p, "audit(", 6)))
            return NULL;
        p = digits(p + (*p == 'm' ? 10 : 6), end, 11, &h->sec);
        if (!p)
            return NULL;
        h->sec_len = (uint32_t)(p - start);
    }
    h->text = NULL;
    if (end - p < 8) /* ".000:0):" */
        return NULL;
    uint64_t x = eight(p);
    if (!is_fraction(x))
        return NULL;
    h->ms = (int64_t)(h->sec * 1000 + number_of(x >> 8, 3));
    p = digits(p + 5, end, 20, &h->serial);
    if (!p || end - p < 2 || p[0] != ')' || p[1] != ':')
        return NULL;
    h->hdr_len = (uint32_t)(p + 2 - start);
    h->text = start;
    return p + 2;
}

/* A record of ours that was set apart (placement = "apart") has a serial of its own, and says of which event it is: it is one
 * of that event to all who read it. */
static void take_event(const char *body, const char *end, struct head *h)
{
    uint32_t number = h->type & 0xffff;
    uint64_t sec, serial;

    if (number != AUDIT_CONTAINER_ID && number != AUDIT_CONTAINER_INFO && number != AUDIT_NS_INFO)
        return;
    const char *added = memchr(body, 0x1d, (size_t)(end - body));
    end = added ? added : end;
    const char *p = memmem(body, (size_t)(end - body), " event=", 7);
    p = p ? digits(p + 7 + (p + 7 < end && p[7] == '"'), end, 11, &sec) : NULL;
    if (!p || end - p < 6) /* ".000:0" */
        return;
    uint64_t x = eight_before(p, end);
    if (!is_fraction(x))
        return;
    int64_t ms = (int64_t)(sec * 1000 + number_of(x >> 8, 3));
    p = digits(p + 5, end, 20, &serial);
    if (!p)
        return;
    p += p < end && *p == '"';
    if (p < end && *p != ' ')
        return;
    h->ms = ms;
    h->serial = serial;
    h->text = NULL; /* which is not what stands in the header */
}

/* The record has its header elsewhere, and its type's name up to the body. */
static int head_of(const char *line, const char *p, const struct lead *lead, struct head *h)
{
    h->name = h->hdr = (uint32_t)(p - line);
    h->name_len = (uint32_t)(lead->body - p);
    h->hdr_len = 0;
    h->body = (uint32_t)(lead->body - line);
    h->type = type_numbered(lead->type);
    h->ms = lead->ms;
    h->serial = lead->serial;
    h->text = NULL;
    return 1;
}

int parse_head(const char *line, const char *end, struct head *h)
{
    struct lead lead = {.host_len = 0};
    const char *p = line, *q, *start = line;

    h->node = 0;
    h->node_off = h->node_len = h->lead_len = h->trail = 0;
    if (end > line && end[-1] == '\r') {
        h->trail = 1;
        end--;
    }
    if (end - p < 20)
        return 0;
    if (memcmp(p, "type=", 5) && memcmp(p, "node=", 5)) {
        p = skip_lead(line, end, &lead);
        if (!p)
            return 0;
        start += *line == '\xef' ? 3 : 0; /* a byte order mark is the file's */
        if (lead.end) {
            h->trail += (uint32_t)(end - lead.end);
            end = lead.end;
        }
    }
    if (end - p > 5 && *p == 'n') {
        if (memcmp(p, "node=", 5))
            return 0;
        q = memchr(p, ' ', (size_t)(end - p) < 261 ? (size_t)(end - p) : 261);
        if (!q || q == p + 5)
            return 0;
        lead.host = p + 5;
        lead.host_len = (uint32_t)(q - p - 5);
        p = q + 1;
    }
    if (lead.host_len) {
        h->node_off = (uint32_t)(lead.host - line);
        h->node_len = lead.host_len;
        h->node = node_hash(lead.host, lead.host_len);
    }
    h->lead_len = (uint32_t)(p - start);
    if (lead.type)
        return head_of(line, p, &lead, h);
    if (end - p < 20 || memcmp(p, "type=", 5))
        return 0;
    p += 5;
    const char *most = end - p < 64 ? end : p + 64;
    struct words words = words_of(p, most);
    q = word_stop(&words, p);
    if (q == most || q == p)
        return 0;
    h->name = (uint32_t)(p - line);
    h->name_len = (uint32_t)(q - p);
    h->hdr = (uint32_t)(q + 1 - line);
    const char *body = parse_stamp(q + 1, end, h);
    if (!body)
        return 0;
    h->body = (uint32_t)(body - line);
    h->type = type_number(p, (size_t)(q - p));
    if (h->type & TYPE_OWN)
        take_event(body, end, h);
    return 1;
}

int auditns_head(const char *line, uint32_t len, struct auditns_head *head)
{
    struct head h = {.text = NULL};

    if (!parse_head(line, line + len, &h))
        return 0;
    *head = (struct auditns_head){h.ms,       h.serial, h.node_off,    h.node_len,
                                  h.name,     h.name_len, h.body, len - h.trail, h.type & 0xffff};
    return 1;
}
