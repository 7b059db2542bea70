/* What others ask of events that are handed out whole: the system calls of those that are open, and where late records go. */
#define _GNU_SOURCE
#include "audittext/whole_impl.h"

/* pid= of a SYSCALL record, which stands in front of all that a process can choose; -1: there is none */
static int32_t pid_of(const char *t, const char *end)
{
    static const char name[] = " pid=";
    const char *at = memmem(t, (size_t)(end - t), name, sizeof(name) - 1);
    uint32_t pid = 0;

    if (!at)
        return -1;
    for (at += sizeof(name) - 1; at < end && *at >= '0' && *at <= '9' && pid <= INT32_MAX / 10; at++)
        pid = pid * 10 + (uint32_t)(*at - '0');
    return (int32_t)pid;
}

uint32_t whole_open_calls(const struct auditns_scan *s, const struct auditns_points *p, struct auditns_call *calls)
{
    const struct auditns_whole *w = s->whole;
    uint32_t found = 0;

    for (uint32_t i = w->oldest; i != NONE; i = w->slot[i].newer)
        for (uint32_t n = w->slot[i].line; n != NONE && found < AUDITNS_MAX_PIDS; n = w->noted[n].next) {
            const struct noted *noted = &w->noted[n];
            const char *line = p->buf + (noted->off - s->base);
            if ((noted->type & 0xffff) == TYPE_SYSCALL)
                calls[found++] = (struct auditns_call){w->slot[i].event.serial, pid_of(line + noted->body, line + noted->stop)};
        }
    return found;
}

/* ---- where late records go ---- */

void auditns_keep_late(const struct auditns_scan *s, const struct auditns_points *p, uint32_t first, uint32_t count,
                       uint64_t *keep)
{
    for (uint32_t i = 0; s->whole && i < p->n; i++) {
        uint32_t flags = p->flags[i];
        if (!(flags & AUDITNS_P_LATE) || flags & AUDITNS_P_TARGET || p->event[i] - first >= count)
            continue;
        const struct auditns_closed *c = recall_number(&s->whole->decided, p->serial[i], p->ms[i], p->origin[i]);
        uint64_t *its = &keep[p->event[i] - first];
        if (p->origin[i] - first < count)
            *its = keep[p->origin[i] - first];
        else if (c)
            *its = c->kept;
        else
            *its = 1; /* rather too much than lost */
    }
}

void auditns_kept(struct auditns_scan *s, const struct auditns_points *p, uint32_t first, uint32_t count,
                  const uint64_t *keep)
{
    struct auditns_memory *m = s->whole ? &s->whole->decided : NULL;

    for (uint64_t n = m ? m->count : 0; n && m->count - n < m->room; n--) {
        struct auditns_closed *c = &m->closed[(n - 1) & (m->room - 1)];
        if (c->used && c->number - first >= count) /* the newest come last, with the greatest numbers */
            break;
        if (c->used)
            c->kept = keep[c->number - first];
    }
    for (uint32_t i = 0; m && i < p->n; i++) {
        struct auditns_closed *c;
        if (p->flags[i] & AUDITNS_P_ANEW && p->event[i] - first < count &&
            (c = recall_number(m, p->serial[i], p->ms[i], p->origin[i])))
            c->kept |= keep[p->event[i] - first];
    }
}
