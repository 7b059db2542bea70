/* Put the chosen records into the text. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/lines_impl.h"
#include "audittext/audittext.h"

uint64_t auditns_lines(const char *buf, uint64_t len)
{
    return newlines(buf, len);
}

static char *put_tail(char *out, const char *buf, const struct auditns_points *p, uint32_t i, const char *t,
                      const char *end)
{
    for (; t < end; t++) {
        if (*t > 1 || *t < 0) {
            *out++ = *t;
        } else if (*t == 0) {
            memcpy(out, buf + p->hdr_off[i], p->hdr_len[i]);
            out += p->hdr_len[i];
        } else {
            memcpy(out, buf + p->node_off[i], p->node_len[i]);
            out += p->node_len[i];
        }
    }
    return out;
}

/* the chosen tail of point i: number and size, 0 when there is none */
static uint32_t tail_of(const struct auditns_points *p, uint32_t i, const uint32_t *choice,
                        const struct auditns_tails *tails, uint64_t *size)
{
    uint32_t c = choice[i];
    *size = 0;
    if (!c || c > tails->count)
        return 0;
    uint32_t headers = tails->headers[c - 1], nodes = tails->nodes[c - 1];
    *size = (uint64_t)tails->off[c] - tails->off[c - 1] - headers - nodes + (uint64_t)headers * p->hdr_len[i] +
            (uint64_t)nodes * p->node_len[i];
    return c;
}

static int kept(uint32_t event, const uint8_t *keep, uint32_t first, uint32_t count)
{
    return event < AUDITNS_LINE_LATE && event - first < count && keep[event - first];
}

uint64_t auditns_assemble(const char *buf, uint32_t consumed, const struct auditns_points *p, const uint32_t *choice,
                          const struct auditns_tails *tails, const uint8_t *keep, uint32_t keep_first,
                          uint32_t keep_count, char *out, uint64_t room)
{
    uint64_t total = 0, size;
    uint32_t from = 0, line = 0;
    char *o = out;

    for (uint32_t i = 0; i <= p->n; i++) {
        uint32_t to = i < p->n ? p->at[i] : consumed;
        if (!keep) {
            total += to - from;
            if (total <= room && to > from) {
                memcpy(o, buf + from, to - from);
                o += to - from;
            }
        } else {
            for (; line < p->line_n && p->l_off[line] < to; line++) {
                uint32_t end = line + 1 < p->line_n ? p->l_off[line + 1] : consumed;
                if (!kept(p->l_event[line], keep, keep_first, keep_count))
                    continue;
                total += end - p->l_off[line];
                if (total <= room) {
                    memcpy(o, buf + p->l_off[line], end - p->l_off[line]);
                    o += end - p->l_off[line];
                }
            }
        }
        from = to;
        if (i == p->n || (keep && !kept(p->event[i], keep, keep_first, keep_count)))
            continue;
        uint32_t c = tail_of(p, i, choice, tails, &size);
        total += size;
        if (c && total <= room)
            o = put_tail(o, buf, p, i, tails->text + tails->off[c - 1], tails->text + tails->off[c]);
    }
    return total;
}

#define NONE 0xffffffffu
#define TYPE_EOE 1320

/* Where in the text the points of each event go, for auditns_assemble_end. */
struct ends {
    uint32_t first, count;      /* the numbers of the events of the lines */
    uint32_t *line, *point;     /* of each event: its last line but EOE, its first point */
    uint32_t *last, *next;      /* its last point, and for each point the next one of its event */
};

/* returns 0 when there is no memory */
static int find_ends(struct ends *e, const struct auditns_points *p)
{
    uint32_t least = NONE, most = 0;

    for (uint32_t l = 0; l < p->line_n; l++)
        if (p->l_event[l] < AUDITNS_LINE_LATE) {
            least = p->l_event[l] < least ? p->l_event[l] : least;
            most = p->l_event[l] > most ? p->l_event[l] : most;
        }
    e->first = least;
    e->count = least == NONE ? 0 : most - least + 1;
    e->line = malloc((3 * (uint64_t)e->count + p->n + 1) * sizeof(*e->line));
    if (!e->line)
        return 0;
    memset(e->line, 0xff, (3 * (uint64_t)e->count + p->n + 1) * sizeof(*e->line));
    e->point = e->line + e->count;
    e->last = e->point + e->count;
    e->next = e->last + e->count;
    for (uint32_t l = 0; l < p->line_n; l++)
        if (p->l_event[l] < AUDITNS_LINE_LATE && (p->l_type[l] != TYPE_EOE || e->line[p->l_event[l] - least] == NONE))
            e->line[p->l_event[l] - least] = l;
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t at = p->event[i] - least;
        if (p->event[i] >= AUDITNS_LINE_LATE || at >= e->count)
            continue;
        if (e->point[at] == NONE)
            e->point[at] = i;
        else
            e->next[e->last[at]] = i;
        e->last[at] = i;
    }
    return 1;
}

struct output {
    char *at;
    uint64_t total, room;
};

static void put_chosen(struct output *o, const char *buf, const struct auditns_points *p, uint32_t i,
                       const uint32_t *choice, const struct auditns_tails *tails)
{
    uint64_t size;
    uint32_t c = tail_of(p, i, choice, tails, &size);

    o->total += size;
    if (c && o->total <= o->room)
        o->at = put_tail(o->at, buf, p, i, tails->text + tails->off[c - 1], tails->text + tails->off[c]);
}

uint64_t auditns_assemble_end(const char *buf, uint32_t consumed, const struct auditns_points *p,
                              const uint32_t *choice, const struct auditns_tails *tails, const uint8_t *keep,
                              uint32_t keep_first, uint32_t keep_count, char *out, uint64_t room)
{
    struct output o = {out, 0, room};
    struct ends ends;
    uint32_t late = 0;

    if (!find_ends(&ends, p))
        return UINT64_MAX;
    for (uint32_t l = 0; l < p->line_n; l++) {
        uint32_t from = p->l_off[l], to = l + 1 < p->line_n ? p->l_off[l + 1] : consumed, event = p->l_event[l];
        if (keep && !kept(event, keep, keep_first, keep_count))
            continue;
        o.total += to - from;
        if (o.total <= room) {
            memcpy(o.at, buf + from, to - from);
            o.at += to - from;
        }
        if (event < AUDITNS_LINE_LATE && ends.line[event - ends.first] == l)
            for (uint32_t i = ends.point[event - ends.first]; i != NONE; i = ends.next[i])
                put_chosen(&o, buf, p, i, choice, tails);
        for (; event == AUDITNS_LINE_LATE && late < p->n && p->line_off[late] <= from; late++)
            if (p->event[late] == AUDITNS_LINE_LATE && p->line_off[late] == from)
                put_chosen(&o, buf, p, late, choice, tails);
    }
    free(ends.line);
    return o.total;
}
