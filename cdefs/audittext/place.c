/* The rules of events: when one is complete, and which points its records make. */
#include "audittext/scan_impl.h"

void begin_event(struct auditns_event *e, const struct auditns_scan *s, const struct head *h)
{
    memset(e, 0, sizeof(*e));
    e->ms = h->ms;
    e->serial = h->serial;
    e->node = h->node;
    e->base = s->clock;
    e->seen = s->now;
    e->point = NONE;
}

int follow(struct auditns_event *e, const struct auditns_scan *s, const struct head *h)
{
    uint32_t number = h->type & 0xffff;

    if (h->type & TYPE_OWN) {
        if ((h->type & TYPE_OWN_LONE) && !e->begun)
            e->lone = COMPLETE;
        return 0;
    }
    if (number == TYPE_EOE) { /* ours may stand behind it */
        e->ended |= ENDED_EOE;
        e->lone = COMPLETE;
        return !s->awaits && (!s->patient || !(s->whole || s->hold));
    }
    e->ended |= number == TYPE_PROCTITLE ? ENDED_TITLE : 0;
    if (h->type & TYPE_SINGLE)
        e->lone = e->begun && !e->lone ? 0 : number == TYPE_LOGIN ? STAYS : COMPLETE;
    else if (number == TYPE_PROCTITLE)
        e->lone = COMPLETE; /* its EOE, where there is one, mostly comes next */
    else if (e->lone < STAYS || number == TYPE_SYSCALL)
        e->lone = !e->begun && (h->type & TYPE_LONE) ? AWAITS : 0;
    e->begun = 1;
    return 0;
}

static void place_syscall(struct auditns_scan *s, struct auditns_points *p, const char *buf, struct auditns_event *e,
                          const struct head *h, uint32_t line, uint32_t end)
{
    uint32_t flags = (e->own ? AUDITNS_P_OWN : 0) | AUDITNS_P_SUBJECT | AUDITNS_P_SYSCALL;

    if (e->point != NONE) { /* its place was taken by the record that came first */
        flags |= p->flags[e->point] & (AUDITNS_P_HAS_TARGET | AUDITNS_P_OBJECT);
        p->flags[e->point] = 0;
        s->voids++;
    }
    uint32_t i = add_point(p, h, line, end, flags, e->id, e->recno);
    subject_fields(p, i, buf, buf + line + h->body, buf + h->stop);
    if ((p->flags[i] & AUDITNS_P_SUCCESS) && is_exec(p->arch[i], p->sysno[i])) {
        p->flags[i] |= AUDITNS_P_EXEC;
        e->exec = 1;
    }
    e->point = i;
    e->syscall = 1;
}

/* A record of ours: what follows it in its event, and the points that are there, know of it. */
static void place_own(struct auditns_points *p, struct auditns_event *e)
{
    uint32_t from = e->point != NONE ? e->point : e->passed ? 0 : p->total;

    for (uint32_t i = e->own ? p->total : from; i < p->total; i++)
        if (p->event[i] == e->id && p->flags[i]) /* the subject, and the targets behind it, or those that waited alone */
            p->flags[i] |= AUDITNS_P_OWN;
    if (e->point != NONE)
        p->flags[e->point] |= AUDITNS_P_OWN;
    e->own = 1;
}

/* The first record of an event that names its process: its subject, until a SYSCALL comes. */
static void place_subject(struct auditns_points *p, const char *buf, struct auditns_event *e, const struct head *h,
                          uint32_t line, uint32_t end)
{
    uint32_t who = AUDITNS_P_SUBJECT;

    if ((h->type & 0xffff) == TYPE_NETFILTER_PKT)
        who = AUDITNS_P_NETFILTER;
    if (h->type & (TYPE_SINGLE | TYPE_LONE))
        who |= AUDITNS_P_SINGLE;
    if (h->type & TYPE_USER)
        who |= AUDITNS_P_USER;
    int target = (h->type & 0xffff) == TYPE_OBJ_PID; /* a record of somebody else: the subject's are not there */
    e->point = add_point(p, h, line, end, who | (e->own ? AUDITNS_P_OWN : 0), e->id, target ? 0 : e->recno);
    if ((h->type & 0xffff) != TYPE_LANDLOCK_DOMAIN) /* its pid= is the maker's, who may have ended long ago */
        subject_fields(p, e->point, buf, buf + line + h->body, buf + h->stop);
}

/* Another record of an event whose first one has named no process may do so. */
static void name_subject(struct auditns_points *p, const char *buf, const struct auditns_event *e, const struct head *h,
                         uint32_t line)
{
    uint32_t i = e->point;

    if (i != NONE && p->pid[i] < 0 && !(p->flags[i] & (AUDITNS_P_SYSCALL | AUDITNS_P_NETFILTER)) &&
        (h->type & 0xffff) != TYPE_LANDLOCK_DOMAIN)
        subject_fields(p, i, buf, buf + line + h->body, buf + h->stop);
}

/* Let the place of an event, with its targets' where it has some, be `at`, behind those of all other points. */
static void move_place(struct auditns_scan *s, struct auditns_points *p, struct auditns_event *e, uint32_t at)
{
    uint32_t from = e->point, last = p->total, others = 0;

    for (uint32_t i = from + 1; i < last; i++)
        others |= p->flags[i] && p->event[i] != e->id;
    if (others)
        e->point = move_point(s, p, from);
    p->at[e->point] = at;
    for (uint32_t i = from + 1; i < last; i++)
        if (p->flags[i] && p->event[i] == e->id)
            p->at[others ? move_point(s, p, i) : i] = at;
}

/* Where ours stand once a record of the kernel has come: behind the last record; in front of the PROCTITLE, or else of the
 * EOE, when that comes; but always in front of the first target. At the end (for tools that end an event at a name they
 * do not know): behind the PROCTITLE, or else the EOE, and the targets' too. */
static void follow_place(struct auditns_scan *s, struct auditns_points *p, struct auditns_event *e, uint32_t number,
                         uint32_t line, uint32_t end)
{
    int ends = number == TYPE_EOE || number == TYPE_PROCTITLE, front = number == TYPE_OBJ_PID || (ends && !s->at_end);

    if (e->point == NONE || e->titled || (p->flags[e->point] & AUDITNS_P_HAS_TARGET && !(s->at_end && ends)))
        return;
    if (!front || !s->whole) /* the lines of a whole event stand together: behind the last one is in front of this one */
        move_place(s, p, e, front ? line : end);
}

/* What a record says beside the subject: of an object, of a target, of the file that was run. */
static void place_others(struct auditns_points *p, const char *buf, struct auditns_event *e, const struct head *h,
                         uint32_t line, uint32_t end)
{
    uint32_t number = h->type & 0xffff;
    const char *body = buf + line + h->body, *stop = buf + h->stop;

    if ((number == TYPE_BPF || number == TYPE_LANDLOCK_DOMAIN) && e->point != NONE)
        p->flags[e->point] |= AUDITNS_P_OBJECT;
    if (number == TYPE_OBJ_PID) {
        uint32_t i = add_point(p, h, line, end, (e->own ? AUDITNS_P_OWN : 0) | AUDITNS_P_TARGET, e->id, e->recno);
        target_fields(p, i, buf, body, stop);
        if (e->point != NONE)
            p->flags[e->point] |= AUDITNS_P_HAS_TARGET;
    } else if (number == TYPE_PATH && e->exec && e->point != NONE && !p->aux2_len[e->point]) {
        path_fields(p, e->point, buf, body, stop);
    }
}

void place(struct auditns_scan *s, struct auditns_points *p, const char *buf, struct auditns_event *e,
           const struct head *h, uint32_t line, uint32_t end)
{
    uint32_t number = h->type & 0xffff;

    if (h->type & TYPE_OWN) {
        place_own(p, e);
        return;
    }
    if (e->recno < 0xffff)
        e->recno++;
    if (number == TYPE_EOE) {
        follow_place(s, p, e, number, line, end);
        return;
    }
    if (e->point != NONE && p->flags[e->point] & AUDITNS_P_SINGLE)
        p->flags[e->point] |= AUDITNS_P_FOLLOWED;
    if (number == TYPE_SYSCALL && !e->syscall)
        place_syscall(s, p, buf, e, h, line, end);
    else if (h->type & TYPE_SINGLE ? e->point == NONE && !e->passed : !e->kernel)
        place_subject(p, buf, e, h, line, end);
    else {
        name_subject(p, buf, e, h, line);
        follow_place(s, p, e, number, line, end);
    }
    e->kernel = 1;
    e->titled |= number == TYPE_PROCTITLE;
    place_others(p, buf, e, h, line, end);
}
