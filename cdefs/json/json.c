/* Events as JSON lines; the readable reference is emit/render.py with jsonout.py and records.py. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "json/json_impl.h"

#define NONE 0xffffffffu
#define REACH 4096u /* an event's number may be this much below that of the first line */

struct auditns_json {
    struct out out;
    struct record *record;
    uint32_t *first, *last, *next, *subject, *target, *target_last, *target_next;
    size_t room;
};

struct auditns_json *auditns_json_new(uint32_t seed)
{
    struct auditns_json *j = calloc(1, sizeof(*j));
    if (j && !(j->record = record_new(seed))) {
        free(j);
        return NULL;
    }
    return j;
}

void auditns_json_free(struct auditns_json *j)
{
    if (!j)
        return;
    record_free(j->record);
    free(j->out.at);
    free(j->first);
    free(j);
}

struct line {
    const char *node, *type, *body, *end;
    size_t node_len, type_len;
    uint64_t ms, serial;
};

static uint64_t decimal(const char **at)
{
    uint64_t v = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++)
        v = v * 10 + (uint64_t)(**at - '0');
    return v;
}

/* Node, type and body of a line whose header the scanner has found to be good; returns where the type ends. */
static const char *read_type(struct line *line, const char *buf, const struct auditns_points *p, uint32_t i,
                             uint32_t consumed)
{
    const char *s = buf + p->l_off[i];
    line->body = buf + p->l_body[i];
    line->end = buf + (i + 1 < p->line_n ? p->l_off[i + 1] : consumed);
    if (line->end > line->body && line->end[-1] == '\n')
        line->end--;
    line->node_len = 0;
    if (*s == 'n') {
        line->node = s + 5;
        s = memchr(s, ' ', (size_t)(line->body - s));
        line->node_len = (size_t)(s++ - line->node);
    }
    line->type = s + 5;
    s = memchr(line->type, ' ', (size_t)(line->body - line->type));
    line->type_len = (size_t)(s - line->type);
    return s;
}

/* The same, and its time and serial. */
static struct line read_line(const char *buf, const struct auditns_points *p, uint32_t i, uint32_t consumed)
{
    struct line line = {0};
    const char *s = read_type(&line, buf, p, i, consumed);
    s += sizeof(" msg=audit(") - 1;
    line.ms = decimal(&s) * 1000;
    s++;
    line.ms += decimal(&s);
    s++;
    line.serial = decimal(&s);
    return line;
}

#define IS_TYPE(line, name) ((line)->type_len == sizeof(name) - 1 && !memcmp((line)->type, name, sizeof(name) - 1))

static void put_who(struct out *o, const uint32_t *who, uint32_t i, const struct auditns_tails *texts)
{
    uint32_t c = i == NONE ? 0 : who[i];
    if (!c || c > texts->count)
        PUT(o, "\"contid\":null");
    else
        put(o, texts->text + texts->off[c - 1], texts->off[c] - texts->off[c - 1]);
}

static void put_head(struct out *o, const struct line *line)
{
    PUT(o, "{\"v\":1,\"time\":\"");
    put_number(o, line->ms / 1000, 1);
    PUT(o, ".");
    put_number(o, line->ms % 1000, 3);
    PUT(o, "\",\"serial\":");
    put_number(o, line->serial, 1);
    if (line->node_len) {
        PUT(o, ",\"node\":\"");
        put_text(o, line->node, line->node_len);
        PUT(o, "\"");
    }
    PUT(o, ",");
}

/* One event: its lines from line `i` on, its subject, its targets from point `target` on. */
static void put_event(struct auditns_json *j, const char *buf, uint32_t consumed, const struct auditns_points *p,
                      uint32_t i, uint32_t subject, uint32_t target, const uint32_t *who,
                      const struct auditns_tails *texts)
{
    struct out *o = &j->out;
    size_t start = o->len;
    struct line line = read_line(buf, p, i, consumed);
    uint32_t first = i;
    int records = 0;

    put_head(o, &line);
    if (p->l_event[i] == AUDITNS_LINE_LATE) /* its event was told already, and whose it was with it */
        PUT(o, "\"contid\":\"?\"");
    else
        put_who(o, who, subject, texts);
    for (uint32_t t = target; t != NONE; t = j->target_next[t]) {
        if (t == target)
            PUT(o, ",\"targets\":[");
        else
            PUT(o, ",");
        PUT(o, "{\"record\":");
        put_number(o, p->recno[t], 1);
        PUT(o, ",\"pid\":");
        if (p->pid[t] < 0)
            PUT(o, "-1");
        else
            put_number(o, (uint64_t)p->pid[t], 1);
        PUT(o, ",");
        put_who(o, who, t, texts);
        PUT(o, "}");
    }
    if (target != NONE)
        PUT(o, "]");
    PUT(o, ",\"records\":[");
    for (; i != NONE; i = j->next[i]) {
        if (i != first)
            read_type(&line, buf, p, i, consumed);
        if (IS_TYPE(&line, "EOE"))
            continue;
        int execve = IS_TYPE(&line, "EXECVE"), title = IS_TYPE(&line, "PROCTITLE");
        if (records++)
            PUT(o, ",");
        PUT(o, "{\"type\":\"");
        put_text(o, line.type, line.type_len);
        PUT(o, "\"");
        put_record(j->record, o, line.body, (size_t)(line.end - line.body), execve, title);
        PUT(o, "}");
    }
    PUT(o, "]}\n");
    if (!records)
        o->len = start;
}

static void put_foreign(struct out *o, const char *s, size_t n)
{
    if (n && s[n - 1] == '\n')
        n--;
    if (!n)
        return;
    PUT(o, "{\"v\":1,\"foreign\":\"");
    put_text(o, s, n);
    PUT(o, "\"}\n");
}

/* Room for the chains: `events` numbers, `lines` lines, `points` points. */
static int make_room(struct auditns_json *j, size_t events, size_t lines, size_t points)
{
    size_t all = 5 * events + lines + points;
    if (!j->first || all > j->room) {
        uint32_t *grown = realloc(j->first, (all + 1) * sizeof(*grown));
        if (!grown)
            return 0;
        j->first = grown;
        j->room = all;
    }
    memset(j->first, 0xff, all * sizeof(*j->first));
    j->last = j->first + events;
    j->subject = j->last + events;
    j->target = j->subject + events;
    j->target_last = j->target + events;
    j->next = j->target_last + events;
    j->target_next = j->next + lines;
    return 1;
}

/* Chain the lines of each event, and its targets. -2: event numbers too far apart. */
static int chain(struct auditns_json *j, const struct auditns_points *p, uint32_t *base)
{
    uint32_t reach = 0, i = 0;
    while (i < p->line_n && p->l_event[i] >= AUDITNS_LINE_LATE)
        i++;
    *base = i < p->line_n ? p->l_event[i] - REACH : 0;
    for (; i < p->line_n; i++)
        if (p->l_event[i] < AUDITNS_LINE_LATE && p->l_event[i] - *base >= reach)
            reach = p->l_event[i] - *base + 1;
    if (reach > 2 * REACH + 2 * (uint64_t)p->line_n)
        return -2;
    if (!make_room(j, reach, p->line_n, p->n))
        return -1;
    for (i = 0; i < p->line_n; i++) {
        if (p->l_event[i] >= AUDITNS_LINE_LATE)
            continue;
        uint32_t e = p->l_event[i] - *base;
        if (j->first[e] == NONE)
            j->first[e] = i;
        else
            j->next[j->last[e]] = i;
        j->last[e] = i;
    }
    for (i = 0; i < p->n; i++) {
        uint32_t e = p->event[i] - *base;
        if (p->flags[i] & AUDITNS_P_LATE || e >= reach)
            continue;
        if (!(p->flags[i] & AUDITNS_P_TARGET)) {
            if (j->subject[e] == NONE)
                j->subject[e] = i;
            continue;
        }
        if (j->target[e] == NONE)
            j->target[e] = i;
        else
            j->target_next[j->target_last[e]] = i;
        j->target_last[e] = i;
    }
    return 0;
}

int64_t auditns_json(struct auditns_json *j, const char *buf, uint32_t consumed, const struct auditns_points *p,
                     const uint32_t *who, const struct auditns_tails *texts, const uint8_t *keep, uint32_t keep_first,
                     uint32_t keep_count, char **out)
{
    uint32_t base, late = 0;
    int trouble = chain(j, p, &base);

    if (trouble)
        return trouble;
    j->out.len = 0;
    for (uint32_t i = 0; i < p->line_n; i++) {
        uint32_t event = p->l_event[i], end = i + 1 < p->line_n ? p->l_off[i + 1] : consumed;
        if (event == AUDITNS_LINE_FOREIGN) {
            if (!keep)
                put_foreign(&j->out, buf + p->l_off[i], end - p->l_off[i]);
        } else if (event == AUDITNS_LINE_LATE) {
            while (late < p->n && (!(p->flags[late] & AUDITNS_P_LATE) || p->line_off[late] < p->l_off[i]))
                late++;
            int its = late < p->n && p->line_off[late] == p->l_off[i];
            if (!keep && p->l_type[i] != AUDIT_EOE)
                put_event(j, buf, consumed, p, i, NONE, its ? late : NONE, who, texts);
        } else if (j->first[event - base] == i && (!keep || (event - keep_first < keep_count && keep[event - keep_first]))) {
            put_event(j, buf, consumed, p, i, j->subject[event - base], j->target[event - base], who, texts);
        }
    }
    *out = j->out.at;
    int failed = j->out.failed | record_failed(j->record);
    j->out.failed = 0;
    return failed ? -1 : (int64_t)j->out.len;
}
