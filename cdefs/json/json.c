/* Events as JSON lines; the readable reference is emit/render.py with jsonout.py and records.py. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/scan_impl.h"
#include "json/json_impl.h"

struct auditns_json {
    struct out out;
    struct record *record;
    const uint8_t *silent; /* NULL: all records are put */
};

void auditns_json_silent(struct auditns_json *j, const uint8_t *types)
{
    j->silent = types;
}

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
    free(j);
}

/* The ready lines and points of one event; alone: NULL, or the number of what is said of it. */
struct event {
    uint32_t line, line_end, point, point_end;
    const uint32_t *alone;
};

/* What a call was given. */
struct given {
    const char *buf;
    const struct auditns_points *points;
    const uint32_t *who;
    const uint64_t *starts;
    const int32_t *made;
    const uint32_t *alone, *alone_end;
    const struct auditns_tails *texts;
};

static void put_said(struct out *o, const struct given *g, uint32_t c)
{
    if (!c || c > g->texts->count)
        PUT(o, "\"contid\":null");
    else
        put(o, g->texts->text + g->texts->off[c - 1], g->texts->off[c] - g->texts->off[c - 1]);
}

/* The same of a point's process, which the text may leave open. */
static void put_said_of(struct out *o, const struct given *g, uint32_t i)
{
    uint32_t c = g->who[i];
    if (!g->starts || !c || c > g->texts->count) {
        put_said(o, g, c);
        return;
    }
    const char *text = g->texts->text + g->texts->off[c - 1], *end = g->texts->text + g->texts->off[c];
    const char *which = memchr(text, AUDITNS_JSON_WHICH, (size_t)(end - text));
    if (which) {
        put(o, text, (size_t)(which - text));
        put_number(o, (uint64_t)g->points->pid[i], 1);
        PUT(o, ":");
        put_number(o, g->starts[i], 1);
        text = which + 1;
    }
    put(o, text, (size_t)(end - text));
}

static void put_who(struct out *o, const struct given *g, uint32_t i)
{
    put_said_of(o, g, i);
    if (!g->made || g->made[i] < 0)
        return;
    PUT(o, ",\"exit_pid\":");
    if (g->made[i])
        put_number(o, (uint64_t)g->made[i], 1);
    else
        PUT(o, "null");
}

static void put_head(struct out *o, const struct given *g, const struct event *e, const char *line, const struct head *h)
{
    const struct auditns_points *p = g->points;
    uint32_t flags = 0;
    uint64_t bytes = 0;

    for (uint32_t i = e->point; i < e->point_end; i++)
        if (!(p->flags[i] & AUDITNS_P_TARGET))
            flags |= p->flags[i];
    PUT(o, "{\"v\":1,\"time\":\"");
    put_number(o, (uint64_t)h->ms / 1000, 1);
    PUT(o, ".");
    put_number(o, (uint64_t)h->ms % 1000, 3);
    PUT(o, "\",\"serial\":");
    put_number(o, h->serial, 1);
    if (h->node_len) {
        PUT(o, ",\"node\":\"");
        put_text(o, line + h->node_off, h->node_len);
        PUT(o, "\"");
    }
    if (flags & AUDITNS_P_LATE)
        PUT(o, ",\"late\":true");
    if (flags & AUDITNS_P_CUT) {
        for (uint32_t i = e->line; i < e->line_end; i++)
            bytes += p->l_len[i];
        PUT(o, ",\"truncated\":{\"records\":");
        put_number(o, e->line_end - e->line, 1);
        PUT(o, ",\"bytes\":");
        put_number(o, bytes, 1);
        PUT(o, "}");
    }
    PUT(o, ",");
}

static void put_targets(struct out *o, const struct given *g, const struct event *e)
{
    const struct auditns_points *p = g->points;
    int targets = 0;

    for (uint32_t t = e->point; t < e->point_end; t++) {
        if (!(p->flags[t] & AUDITNS_P_TARGET))
            continue;
        if (targets++)
            PUT(o, ",");
        else
            PUT(o, ",\"targets\":[");
        PUT(o, "{\"record\":");
        put_number(o, p->recno[t], 1);
        PUT(o, ",\"pid\":");
        if (p->pid[t] < 0)
            PUT(o, "-1");
        else
            put_number(o, (uint64_t)p->pid[t], 1);
        PUT(o, ",");
        put_who(o, g, t);
        PUT(o, "}");
    }
    if (targets)
        PUT(o, "]");
}

/* A record of an event: its header, and its body. */
struct line {
    struct head head;
    const char *text, *body;
    size_t size;
    int how; /* JSON_ESCAPED where it lies in a JSON string */
};

/* Up to the space behind a name. */
static uint32_t name_size(const char *s)
{
    uint64_t space;

    for (uint32_t n = 0;; n += 8)
        if ((space = zeros(eight(s + n) ^ ' ' * ONES)))
            return n + (uint32_t)__builtin_ctzll(space) / 8;
}

/* A line as auditd writes it: the scanner has found where its body is, and nothing stands around the record. */
static int is_bare(const char *text, const char *end)
{
    return !memcmp(text, "type=", 5) && end[-1] != '\r';
}

/* `whole`: time, serial and node are wanted as well. */
static void read_line(struct line *line, const struct given *g, uint32_t i, int whole)
{
    const struct auditns_points *p = g->points;
    const char *end = g->buf + p->l_off[i] + p->l_len[i];

    line->text = g->buf + p->l_off[i];
    end -= end[-1] == '\n';
    if (whole || !is_bare(line->text, end)) {
        parse_head(line->text, end, &line->head);
    } else {
        line->head.name = 5;
        line->head.name_len = name_size(line->text + 5);
        line->head.body = p->l_body[i] - p->l_off[i];
        line->head.trail = 0;
    }
    line->body = line->text + line->head.body;
    line->size = (size_t)(end - line->body) - line->head.trail;
    line->how = (line->head.trail > 1 ? JSON_ESCAPED : 0) | (end + PAD <= g->buf + p->len ? JSON_PADDED : 0);
}

/* Take the arguments of all EXECVE records; how many of these there are. */
static uint32_t take_execs(struct auditns_json *j, const struct given *g, const struct event *e)
{
    const struct auditns_points *p = g->points;
    struct line line = {.head = {.text = NULL}};
    size_t bytes = 0;
    uint32_t execs = 0;

    for (uint32_t i = e->line; i < e->line_end; i++)
        if (p->l_type[i] == TYPE_EXECVE) {
            read_line(&line, g, i, 0);
            bytes += line.size;
            execs++;
        }
    if (execs)
        begin_arguments(j->record, bytes);
    for (uint32_t i = e->line, left = execs; left; i++)
        if (p->l_type[i] == TYPE_EXECVE) {
            read_line(&line, g, i, 0);
            take_arguments(j->record, line.body, line.size, line.how);
            left--;
        }
    return execs;
}

/* Which of the records that are silent somewhere are so in this event. */
static uint32_t silence(const struct given *g, const struct event *e)
{
    const struct auditns_points *p = g->points;
    uint32_t call = 0, exec = NONE;

    for (uint32_t i = e->line; i < e->line_end; i++) {
        call |= p->l_type[i] == TYPE_SYSCALL;
        exec = p->l_type[i] == TYPE_EXECVE ? i : exec;
    }
    if (!call)
        return 0;
    return exec != NONE && memmem(g->buf + p->l_off[exec], p->l_len[exec], " a0=", 4)
               ? AUDITNS_JSON_OF_CALL | AUDITNS_JSON_OF_EXEC
               : AUDITNS_JSON_OF_CALL;
}

static void put_type(struct out *o, const struct line *line, uint32_t type)
{
    const char *name = line->text + line->head.name, *by_number;
    size_t n = line->head.name_len;

    if (*name >= '0' && *name <= '9' && (by_number = type_name(type, &n)))
        name = by_number; /* the kernel's log has numbers */
    put_text(o, name, n);
}

/* One record, perhaps the `first` EXECVE of its event. 0: all it has are arguments, which stand in the first. */
static int put_line(struct auditns_json *j, const struct line *line, uint32_t type, int first)
{
    struct out *o = &j->out;
    int how = line->how | (type == TYPE_PROCTITLE ? JSON_TITLE : 0);

    PUT(o, "{\"type\":\"");
    put_type(o, line, type);
    PUT(o, "\"");
    size_t begun = o->len;
    if (type == TYPE_EXECVE)
        how |= JSON_ARGV | (first ? JSON_FIRST : 0);
    put_record(j->record, o, line->body, line->size, how);
    if (type == TYPE_EXECVE && !first && o->len == begun)
        return 0;
    PUT(o, "}");
    return 1;
}

static void put_event(struct auditns_json *j, const struct given *g, const struct event *e)
{
    const struct auditns_points *p = g->points;
    struct out *o = &j->out;
    struct line line = {.head = {.text = NULL}};
    size_t start = o->len;
    uint32_t subject = e->point, records = 0, execs = take_execs(j, g, e), silent = j->silent ? silence(g, e) : 0;

    while (subject < e->point_end && p->flags[subject] & AUDITNS_P_TARGET)
        subject++;
    for (uint32_t i = e->line; i < e->line_end; i++) {
        uint32_t type = p->l_type[i];
        read_line(&line, g, i, i == e->line);
        if (i == e->line) {
            put_head(o, g, e, line.text, &line.head);
            if (e->alone)
                put_said(o, g, *e->alone);
            else if (subject < e->point_end)
                put_who(o, g, subject);
            else
                PUT(o, "\"contid\":null");
            put_targets(o, g, e);
            PUT(o, ",\"records\":[");
        }
        if (type == AUDIT_EOE || (silent && j->silent[type] & silent))
            continue;
        size_t mark = o->len;
        if (records)
            PUT(o, ",");
        if (put_line(j, &line, type, type == TYPE_EXECVE && execs))
            records++;
        else
            o->len = mark;
        if (type == TYPE_EXECVE)
            execs = 0;
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

int64_t auditns_json(struct auditns_json *j, const char *buf, const struct auditns_points *p, const uint32_t *who,
                     const uint64_t *starts, const int32_t *made, const uint32_t *alone, uint32_t alone_n,
                     const struct auditns_tails *texts, const uint8_t *keep, uint32_t keep_first, uint32_t keep_count,
                     char **out)
{
    struct given given = {buf, p, who, starts, made, alone, alone_n ? alone + 2 * (size_t)alone_n : alone, texts};
    struct event e = {0, 0, 0, 0, NULL};

    j->out.len = 0;
    for (; e.line < p->line_n; e.line = e.line_end, e.point = e.point_end) {
        uint32_t event = p->l_event[e.line];
        e.line_end = e.line + 1;
        if (event == AUDITNS_LINE_FOREIGN) {
            if (!keep)
                put_foreign(&j->out, buf + p->l_off[e.line], p->l_len[e.line]);
            continue;
        }
        while (e.line_end < p->line_n && p->l_event[e.line_end] == event)
            e.line_end++;
        while (e.point_end < p->n && p->event[e.point_end] == event)
            e.point_end++;
        e.alone = NULL;
        if (given.alone != given.alone_end && *given.alone == event) {
            e.alone = given.alone + 1;
            given.alone += 2;
        }
        if (!keep || (event - keep_first < keep_count && keep[event - keep_first]))
            put_event(j, &given, &e);
    }
    *out = j->out.at;
    int failed = j->out.failed | record_failed(j->record);
    j->out.failed = 0;
    return failed ? -1 : (int64_t)j->out.len;
}
