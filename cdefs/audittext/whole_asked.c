/* What others ask of events that are handed out whole: the system calls of those that are open, and what is
 * late and where it goes. */
#define _GNU_SOURCE
#include <stdlib.h>
#include "audittext/whole_impl.h"

void auditns_scan_free(struct auditns_scan *s)
{
    struct auditns_whole *w = s->whole;

    free(s->answered);
    s->answered = NULL;
    if (!w)
        return;
    free(w->noted);
    free(w->bucket);
    free(w->decided.closed);
    free(w->decided.bucket);
    free(w);
    s->whole = NULL;
}

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

/* ---- late records, and where they go ---- */

/* What a late part of an event is to what was handed out of it. A second SYSCALL is a copy's; an EOE alone adds nothing. */
static uint32_t late_flags(const struct slot *slot)
{
    const struct auditns_event *e = &slot->event;
    int first_call = e->syscall && !slot->called, more = slot->cut || first_call || (slot->called && !e->syscall);

    if (!e->kernel)
        return 0;
    return (slot->cut || (first_call && !slot->ended) ? AUDITNS_P_ANEW : 0) |
           (more && !slot->ended && !slot->rest ? AUDITNS_P_REST : 0);
}

void whole_late(struct auditns_points *p, const struct slot *slot, const struct head *h, uint32_t line, uint32_t end)
{
    const struct auditns_event *e = &slot->event;
    uint32_t i = e->point == NONE ? add_point(p, h, line, end, 0, e->id, e->recno) : e->point;

    p->origin[i] = slot->number;
    if (e->point != NONE && p->pid[i] > 0 && p->pid[i] != slot->pid) {
        p->flags[i] |= late_flags(slot) & AUDITNS_P_REST;
        return; /* whose it is was not known, or it is of another process */
    }
    p->flags[i] = (e->kernel || e->own ? AUDITNS_P_SUBJECT : 0) | AUDITNS_P_LATE |
                  (p->flags[i] & (AUDITNS_P_NODE | AUDITNS_P_HAS_TARGET | AUDITNS_P_OWN)) | late_flags(slot);
    p->pid[i] = slot->pid;
    p->ppid[i] = slot->ppid;
    p->sysno[i] = -1;
}

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

uint32_t auditns_rest(const struct auditns_scan *s, const struct auditns_points *p, uint32_t first, uint32_t count,
                      const uint64_t *keep, uint32_t *which, uint64_t *kept)
{
    uint32_t n = 0;

    for (uint32_t i = 0; s->whole && i < p->n; i++) {
        if (!(p->flags[i] & AUDITNS_P_REST) || p->event[i] - first >= count)
            continue;
        const struct auditns_closed *c = recall_number(&s->whole->decided, p->serial[i], p->ms[i], p->origin[i]);
        int here = p->origin[i] - first < count;
        if (!here && !c)
            continue;
        which[n] = i;
        kept[n++] = here ? keep[p->origin[i] - first] : c->kept;
    }
    return n;
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
        if (p->flags[i] & (AUDITNS_P_ANEW | AUDITNS_P_REST) && p->event[i] - first < count &&
            (c = recall_number(m, p->serial[i], p->ms[i], p->origin[i])))
            c->kept |= keep[p->event[i] - first];
    }
}
