/* Whole events in a table, and which times a text speaks of. */
#include "query/query_impl.h"

#define ALONE 2
#define PARTS 3

/* Whether a record of ours that begins an event is one by itself; a CONTAINER_INFO is where it begins with its reason. */
static int is_alone(const struct auditns_points *p, uint32_t i)
{
    char room[AUDITNS_MAX_LINE];
    const char *end, *body;
    uint32_t type = p->l_type[i];

    if (type < AUDIT_FIRST_OWN || type > AUDIT_LAST_OWN || type == TYPE_CONTAINER_ID || type == TYPE_NS_INFO)
        return 0;
    if (type != TYPE_CONTAINER_INFO)
        return 1;
    body = p->l_len[i] <= sizeof(room) ? body_of(p, i, room, &end) : NULL;
    while (body && body < end && *body == ' ')
        body++;
    return body && end - body > 7 && !memcmp(body, "reason=", 7);
}

uint32_t auditns_query_events(const struct auditns_points *p, uint32_t *event, uint32_t *first, uint32_t *lines, int64_t *ms,
                              uint64_t *serial, uint8_t *own)
{
    struct head h = {.text = NULL};
    uint32_t n = 0;

    for (uint32_t i = 0, stop; i < p->line_n; i = stop) {
        stop = i + 1;
        if (p->l_event[i] == AUDITNS_LINE_FOREIGN)
            continue;
        uint32_t ours = 0;
        for (stop = i; stop < p->line_n && p->l_event[stop] == p->l_event[i]; stop++)
            ours += p->l_type[stop] >= AUDIT_FIRST_OWN && p->l_type[stop] <= AUDIT_LAST_OWN;
        const char *line = p->buf + p->l_off[i], *end = line + p->l_len[i];
        end -= end > line && end[-1] == '\n';
        event[n] = p->l_event[i];
        first[n] = i;
        lines[n] = stop - i;
        own[n] = !ours ? 0 : is_alone(p, i) ? ALONE : ours == stop - i ? PARTS : 1;
        ms[n] = 0;
        serial[n] = 0;
        if (parse_head(line, end, &h)) {
            ms[n] = h.ms;
            serial[n] = h.serial;
        }
        n++;
    }
    return n;
}

int auditns_has_time(const char *buf, uint64_t len, int64_t since, int64_t until)
{
    static const char marks[] = "audit(_SOURCE_REALTIME_TIMESTAMP";
    static const uint32_t off[] = {0, 6, 32};
    const char *s = buf, *end = buf + len;

    for (;;) {
        /* journald's own have their time elsewhere, and are rare */
        int64_t at = auditns_find(s, (uint64_t)(end - s), marks, off, 1);
        if (at < 0)
            return auditns_find(buf, len, marks + 6, (const uint32_t[]){0, 26}, 1) >= 0;
        int64_t sec = 0;
        s += at + 6;
        for (int i = 0; i < 12 && s < end && *s >= '0' && *s <= '9'; i++, s++)
            sec = sec * 10 + (*s - '0');
        if (since <= sec && sec <= until)
            return 1;
    }
}
