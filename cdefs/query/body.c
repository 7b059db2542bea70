/* The body of a line. */
#include "query/query_impl.h"

/* As emit/render.py read_line(): \uNNNN stays. */
static size_t unescape(char *to, const char *s, const char *end)
{
    char *start = to;

    for (; s < end; s++) {
        if (*s != '\\' || s + 1 == end || s[1] == 'u') {
            *to++ = *s;
            continue;
        }
        switch (*++s) {
        case 'n': *to++ = '\n'; break;
        case 'r': *to++ = '\r'; break;
        case 't': *to++ = '\t'; break;
        case 'b': *to++ = '\b'; break;
        case 'f': *to++ = '\f'; break;
        default: *to++ = *s;
        }
    }
    return (size_t)(to - start);
}

const char *body_of(const struct auditns_points *p, uint32_t i, char *room, const char **end)
{
    const char *line = p->buf + p->l_off[i], *stop = line + p->l_len[i];

    if (p->l_event[i] == AUDITNS_LINE_FOREIGN)
        return NULL;
    if (stop > line && stop[-1] == '\n')
        stop--;
    if (stop - line >= 5 && (!memcmp(line, "type=", 5) || !memcmp(line, "node=", 5))) {
        *end = stop > line && stop[-1] == '\r' ? stop - 1 : stop;
        return p->buf + p->l_body[i];
    }
    struct head h = {.text = NULL};
    if (!parse_head(line, stop, &h))
        return NULL;
    stop -= h.trail;
    if (h.trail < 2) {
        *end = stop;
        return line + h.body;
    }
    *end = room + unescape(room, line + h.body, stop);
    return room;
}
