/* Put the chosen records into the text. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/eight_impl.h"
#include "audittext/lines_impl.h"
#include "audittext/audittext.h"

uint64_t auditns_lines(const char *buf, uint64_t len)
{
    return newlines(buf, len);
}

static char *copy(char *out, const char *from, size_t n)
{
    memcpy(out, from, n);
    return out + n;
}

#define STAMP 64 /* a header is no longer than this */

static char *stamp(char *out, const struct auditns_points *p, uint32_t i)
{
    return out + snprintf(out, STAMP, "msg=audit(%" PRId64 ".%03d:%" PRIu64 "):", p->ms[i] / 1000, (int)(p->ms[i] % 1000),
                          p->serial[i]);
}

static char *put_header(char *out, const char *buf, const struct auditns_points *p, uint32_t i)
{
    char made[STAMP];

    if (p->hdr_len[i])
        return copy(out, buf + p->hdr_off[i], p->hdr_len[i]);
    return copy(out, made, (size_t)(stamp(made, p, i) - made));
}

static uint32_t header_size(const struct auditns_points *p, uint32_t i)
{
    char made[STAMP];
    return p->hdr_len[i] ? p->hdr_len[i] : (uint32_t)(stamp(made, p, i) - made);
}

/* How many bytes of [t, end) stand as they are, from the first on: up to an open place or a newline, and where the line is
 * a JSON string up to what is escaped there. */
static size_t plain_run(const char *t, const char *end, int json)
{
    const char *s = t;

    for (; s < end; s += 8) {
        uint64_t x = eight_before(s, end), found = zeros(x & (0xfe * ONES)) | zeros(x ^ '\n' * ONES);
        if (json)
            found |= zeros(x ^ '"' * ONES) | zeros(x ^ '\\' * ONES);
        if (found) {
            s += __builtin_ctzll(found) / 8;
            break;
        }
    }
    return (size_t)((s < end ? s : end) - t); /* what stands behind the end was read as 0 */
}

/* A text with its open places filled. Where the text before it has no newline at its end it has one in front instead of
 * at its own end: what was not ended stays so. */
static char *put_tail(char *out, const char *buf, const struct auditns_points *p, uint32_t i, uint32_t at, const char *t,
                      const char *end)
{
    int ended = t == end || buf[at - 1] == '\n', json = p->trail_len[i] > 1;
    const char *trail = buf + p->trail_off[i], *lead = buf + p->line_off[i];

    lead += *lead == '\xef' ? 3 : 0; /* a byte order mark is the file's */
    if (!ended)
        *out++ = '\n';
    while (t < end) {
        size_t run = plain_run(t, end, json);
        out = copy(out, t, run);
        t += run;
        if (t >= end)
            break;
        if (*t == '\n') {
            out = copy(out, trail, p->trail_len[i]);
            if (ended || t + 1 < end)
                *out++ = '\n';
        } else if (*t == 0) {
            out = put_header(out, buf, p, i);
        } else if (*t == 1) {
            out = copy(out, lead, p->lead_len[i]);
        } else {
            *out++ = '\\';
            *out++ = *t;
        }
        t++;
    }
    return out;
}

/* How much longer a text is in a line that goes on behind the record. */
static uint64_t more_of(const struct auditns_points *p, uint32_t i, const char *t, const char *end)
{
    uint64_t more = 0;

    for (; t < end; t++)
        more += *t == '\n' ? p->trail_len[i] : p->trail_len[i] > 1 && (*t == '"' || *t == '\\');
    return more;
}

/* the chosen tail of point i: number and size, 0 when there is none */
static uint32_t tail_of(const struct auditns_points *p, uint32_t i, const uint32_t *choice,
                        const struct auditns_tails *tails, uint64_t *size)
{
    uint32_t c = choice[i];
    *size = 0;
    if (!c || c > tails->count || (p->flags[i] & (AUDITNS_P_LATE | AUDITNS_P_TARGET)) == AUDITNS_P_LATE)
        return 0;
    uint32_t headers = tails->headers[c - 1], nodes = tails->nodes[c - 1];
    *size = (uint64_t)tails->off[c] - tails->off[c - 1] - headers - nodes + (uint64_t)headers * header_size(p, i) +
            (uint64_t)nodes * p->lead_len[i];
    if (p->trail_len[i])
        *size += more_of(p, i, tails->text + tails->off[c - 1], tails->text + tails->off[c]);
    return c;
}

/* Text that is put together in what room there is. */
struct text {
    char *at;
    uint64_t total, room;
    int unended; /* the record that was put last has no newline: it was the last of the text, and is perhaps not here */
};

static void put_text(struct text *o, const char *from, size_t n)
{
    o->total += n;
    if (n && o->total <= o->room)
        o->at = copy(o->at, from, n);
}

static void put_listed(struct text *o, const char *buf, const struct auditns_points *p, uint32_t i)
{
    const char *line = buf + p->l_off[i];

    if (o->unended)
        put_text(o, "\n", 1);
    put_text(o, line, p->l_len[i]);
    o->unended = p->l_event[i] < AUDITNS_LINE_LATE && line[p->l_len[i] - 1] != '\n';
}

/* What is chosen for point i, behind the text up to `at`. */
static void put_choice(struct text *o, const char *buf, const struct auditns_points *p, uint32_t i, uint32_t at,
                       const uint32_t *choice, const struct auditns_tails *tails)
{
    uint64_t size;
    uint32_t c = tail_of(p, i, choice, tails, &size);

    o->total += size;
    if (c && o->total <= o->room)
        o->at = put_tail(o->at, buf, p, i, at, tails->text + tails->off[c - 1], tails->text + tails->off[c]);
}

static int kept(uint32_t event, const uint8_t *keep, uint32_t first, uint32_t count)
{
    return !keep || (event < AUDITNS_LINE_LATE && event - first < count && keep[event - first]);
}

uint64_t auditns_assemble(const char *buf, uint32_t consumed, const struct auditns_points *p, const uint32_t *choice,
                          const struct auditns_tails *tails, const uint8_t *keep, uint32_t keep_first,
                          uint32_t keep_count, char *out, uint64_t room)
{
    struct text o = {out, 0, room, 0};
    uint32_t from = p->out_from, point = 0;

    if (!p->listed) {
        for (uint32_t i = 0; i < p->n; i++) {
            put_text(&o, buf + from, p->at[i] - from);
            from = p->at[i];
            put_choice(&o, buf, p, i, from, choice, tails);
        }
        put_text(&o, buf + from, consumed - from);
        return o.total;
    }
    for (uint32_t line = 0; line < p->line_n; line++) {
        int wanted = kept(p->l_event[line], keep, keep_first, keep_count);
        if (wanted)
            put_listed(&o, buf, p, line);
        for (; point < p->n && p->at[point] == p->l_off[line] + p->l_len[line]; point++)
            if (wanted)
                put_choice(&o, buf, p, point, p->at[point], choice, tails);
    }
    return o.total;
}
