/* What may stand in front of a record: what syslog, journald, the kernel's log and audispd put there. The record itself
 * follows directly, so that text which somebody else writes into a log is not taken for one. */
#define _GNU_SOURCE
#include "audittext/scan_impl.h"

#define MOST_TAGS 4
#define TAG 128    /* a word in front of ": " is no longer than this */
#define BRACKET 48 /* nor what stands in brackets */
#define HOST 255

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int is_record(const char *p, const char *end)
{
    return end - p > 5 && (!memcmp(p, "type=", 5) || !memcmp(p, "node=", 5));
}

static const char *skip_bom(const char *p, const char *end)
{
    return end - p >= 3 && !memcmp(p, "\xef\xbb\xbf", 3) ? p + 3 : p;
}

/* Behind the next word and its space; NULL where it is empty or longer than `most`. */
static const char *skip_word(const char *p, const char *end, size_t most)
{
    size_t room = (size_t)(end - p);
    const char *space = memchr(p, ' ', room < most + 1 ? room : most + 1);
    return space && space != p ? space + 1 : NULL;
}

/* Behind "hh:mm:ss" and what belongs to it, up to the space; NULL where there is no time. */
static const char *skip_clock(const char *p, const char *end)
{
    if (end - p < 9 || p[2] != ':' || p[5] != ':')
        return NULL;
    for (int i = 0; i < 8; i += 3)
        if (!is_digit(p[i]) || !is_digit(p[i + 1]))
            return NULL;
    return skip_word(p, end, 40);
}

/* Behind "Mmm dd [yyyy] hh:mm:ss " or "yyyy-mm-dd[T ]hh:mm:ss... ". */
static const char *skip_time(const char *p, const char *end)
{
    const char *q;

    if (end - p < 20)
        return NULL;
    if (is_letter(p[0]) && is_letter(p[1]) && is_letter(p[2]) && p[3] == ' ' && is_digit(p[5]) && p[6] == ' ') {
        q = p + 7;
        if (end - q > 5 && is_digit(q[0]) && is_digit(q[3]) && q[4] == ' ')
            q += 5;
        return skip_clock(q, end);
    }
    if (is_digit(p[0]) && is_digit(p[3]) && p[4] == '-' && p[7] == '-' && (p[10] == 'T' || p[10] == ' '))
        return skip_clock(p + 11, end);
    return NULL;
}

#define IS(word, n, name) ((n) == sizeof(name) - 1 && !memcmp(word, name, sizeof(name) - 1))

/* Behind the name of a program, and what the kernel and audispd put there: "word: ", "[...] ", "kernel: ", "audit: ",
 * ":notice: ". A record must follow. */
static const char *skip_tags(const char *p, const char *end)
{
    for (int tags = 0, programs = 0; tags <= MOST_TAGS; tags++) {
        const char *q;
        size_t room = (size_t)(end - p);
        if (is_record(p, end))
            return p;
        if (end > p && *p == '[') {
            q = memchr(p, ']', room < BRACKET ? room : BRACKET);
            if (!q || end - q < 2 || q[1] != ' ')
                return NULL;
            p = q + 2;
            continue;
        }
        q = skip_word(p, end, TAG);
        if (!q)
            return NULL;
        size_t n = (size_t)(q - 1 - p);
        if (*p != ':' && !IS(p, n, "kernel:") && !IS(p, n, "audit:") && !IS(p, n, "audispd:") && programs++)
            return NULL; /* it is what that program says */
        if (q[-2] != ':') { /* dmesg -x has spaces in front of the colon */
            while (q < end && *q == ' ')
                q++;
            if (q == end || *q != ':')
                return NULL;
        }
        p = q;
    }
    return NULL;
}

/* RFC 5424, behind its "<13>1 ": time, host, program, process, message and structured data. */
static const char *skip_5424(const char *p, const char *end, struct lead *lead)
{
    for (int word = 0; word < 5; word++) {
        const char *q = skip_word(p, end, HOST);
        if (!q)
            return NULL;
        if (word == 1 && *p != '-') {
            lead->host = p;
            lead->host_len = (uint32_t)(q - 1 - p);
        }
        p = q;
    }
    if (p < end && *p == '-')
        p++;
    for (int quoted = 0, depth = 0; p < end && (*p == '[' || depth); p++) {
        if (quoted && *p == '\\')
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (!quoted && *p == '[')
            depth = 1;
        else if (!quoted && *p == ']')
            depth = 0;
    }
    return p < end && *p == ' ' ? skip_bom(p + 1, end) : NULL;
}

static const char *skip_spaces(const char *p, const char *end)
{
    while (p < end && *p == ' ')
        p++;
    return p;
}

/* Behind the quote that opens the value of the member whose name, with its quotes, stands at p; NULL where it is no name. */
static const char *value_of(const char *p, size_t n, const char *end)
{
    p = skip_spaces(p + n, end);
    if (p == end || *p != ':')
        return NULL;
    p = skip_spaces(p + 1, end);
    return p < end && *p == '"' ? p + 1 : NULL;
}

/* The value of a member of a JSON object, between its quotes; NULL where there is none. Its name may be a value as well, but
 * not stand in one, for there the quotes would be escaped. */
static const char *member(const char *line, const char *end, const char *name, size_t n, const char **stop)
{
    const char *at = line, *p = NULL, *q;

    for (; !p && (at = memmem(at, (size_t)(end - at), name, n)); at += n)
        p = value_of(at, n, end);
    if (!p)
        return NULL;
    for (q = p; q < end && *q != '"'; q++)
        q += *q == '\\';
    if (q >= end)
        return NULL;
    *stop = q;
    return p;
}

#define MEMBER(name, stop) member(line, end, "\"" name "\"", sizeof("\"" name "\"") - 1, stop)

static int number(const char *p, const char *end, uint64_t *value)
{
    *value = 0;
    if (p == end || end - p > 18)
        return 0;
    for (; p < end; p++) {
        if (!is_digit(*p))
            return 0;
        *value = *value * 10 + (uint64_t)(*p - '0');
    }
    return 1;
}

/* journalctl -o json: a record in its MESSAGE, or, where journald itself heard it of the kernel, the words of one there
 * and what stands in its header in other members. */
static const char *skip_json(const char *line, const char *end, struct lead *lead)
{
    const char *stop, *p = MEMBER("MESSAGE", &lead->end), *q, *of;
    uint64_t type, time;

    if (!p)
        return NULL;
    if ((q = MEMBER("_HOSTNAME", &stop)) && stop != q && stop - q <= HOST) {
        lead->host = q;
        lead->host_len = (uint32_t)(stop - q);
    }
    if ((q = skip_tags(p, lead->end)))
        return q;
    if (!(q = skip_word(p, lead->end, 63)))
        return NULL;
    if (!(of = MEMBER("_AUDIT_TYPE", &stop)) || !number(of, stop, &type) || !type || type > 0xffff ||
        !(of = MEMBER("_AUDIT_ID", &stop)) || !number(of, stop, &lead->serial) ||
        !(of = MEMBER("_SOURCE_REALTIME_TIMESTAMP", &stop)) || !number(of, stop, &time))
        return NULL;
    lead->type = (uint32_t)type;
    lead->ms = (int64_t)(time / 1000);
    lead->body = q - 1;
    return p;
}

const char *skip_lead(const char *line, const char *end, struct lead *lead)
{
    const char *p = skip_bom(line, end), *q;

    if (is_record(p, end))
        return p;
    if (end - p < 20)
        return NULL;
    if (*p == '{')
        return skip_json(p, end, lead);
    if (*p == '<') { /* a priority */
        q = memchr(p, '>', 5);
        if (!q || !is_digit(p[1]))
            return NULL;
        p = q + 1;
        if (end - p > 2 && p[0] == '1' && p[1] == ' ') {
            p = skip_5424(p + 2, end, lead);
            return p ? skip_tags(p, end) : NULL;
        }
    }
    if ((q = skip_time(p, end))) {
        p = skip_word(q, end, HOST);
        if (!p)
            return NULL;
        lead->host = q;
        lead->host_len = (uint32_t)(p - 1 - q);
    } else if (end > p && is_digit(*p)) { /* /dev/kmsg: 5,1234,567890,-; */
        q = memchr(p, ';', (size_t)(end - p) < BRACKET ? (size_t)(end - p) : BRACKET);
        if (!q || !memchr(p, ',', (size_t)(q - p)))
            return NULL;
        p = q + 1;
    }
    return skip_tags(p, end);
}
