/* The rules of events: when one is complete, and which points its records make. */
#include "audittext/scan_impl.h"

int is_single(uint32_t type)
{
    uint32_t number = type & 0xffff;
    return (type & OWN_LONE) || (number && (number < FIRST_EVENT || number >= FIRST_ANOM_MSG));
}

static int is_user(uint32_t number)
{
    return number == 1005 || (number >= 1100 && number < 1200) || (number >= FIRST_ANOM_MSG && number < 3000);
}

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

int follow(struct auditns_event *e, const struct head *h)
{
    uint32_t number = h->type & 0xffff;

    if (h->type & OWN) {
        if ((h->type & OWN_LONE) && !e->begun)
            e->lone = COMPLETE;
        return 0;
    }
    if (number == TYPE_EOE)
        return 1;
    if (is_single(h->type))
        e->lone = e->begun && !e->lone ? 0 : number == TYPE_LOGIN ? STAYS : COMPLETE;
    else if (number == TYPE_PROCTITLE)
        e->lone = COMPLETE; /* its EOE, where there is one, mostly comes next */
    else if (e->lone < STAYS || number == TYPE_SYSCALL)
        e->lone = !e->begun && (h->type & LONE) ? AWAITS : 0;
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

/* Whether the place of an event may move on with its records: no other point stands behind it, and no younger event is
 * open, so that what is handed out up to a younger one never ends before the place. */
static int may_move(const struct auditns_scan *s, const struct auditns_points *p, const struct auditns_event *e)
{
    uint32_t last = p->total;

    while (last && !p->flags[last - 1])
        last--;
    return e->point != NONE && e->point + 1 == last && (s->whole || e == &s->event[s->open - 1]);
}

void place(struct auditns_scan *s, struct auditns_points *p, const char *buf, struct auditns_event *e,
           const struct head *h, uint32_t line, uint32_t end)
{
    uint32_t number = h->type & 0xffff, own = e->own ? AUDITNS_P_OWN : 0, who = AUDITNS_P_SUBJECT;
    const char *body = buf + line + h->body, *stop = buf + h->stop;

    if (h->type & OWN) {
        for (uint32_t i = e->own || e->point == NONE ? p->total : e->point; i < p->total; i++)
            if (p->event[i] == e->id && p->flags[i]) /* the subject, and the targets behind it */
                p->flags[i] |= AUDITNS_P_OWN;
        if (e->point != NONE)
            p->flags[e->point] |= AUDITNS_P_OWN;
        e->own = 1;
        return;
    }
    if (e->recno < 0xffff)
        e->recno++;
    if (number == TYPE_EOE)
        return;
    if (number == TYPE_SYSCALL && !e->syscall) {
        place_syscall(s, p, buf, e, h, line, end);
    } else if (is_single(h->type) ? e->point == NONE : !e->kernel) {
        if (is_single(h->type))
            who |= AUDITNS_P_SINGLE | (is_user(number) ? AUDITNS_P_USER : 0);
        else if (number == TYPE_NETFILTER_PKT)
            who = AUDITNS_P_NETFILTER;
        who |= h->type & LONE ? AUDITNS_P_SINGLE : 0;
        e->point = add_point(p, h, line, end, own | who, e->id, e->recno);
        subject_fields(p, e->point, buf, body, stop);
    }
    e->kernel = 1;
    if ((number == TYPE_BPF || number == TYPE_LANDLOCK_DOMAIN) && e->point != NONE)
        p->flags[e->point] |= AUDITNS_P_OBJECT;
    if (number == TYPE_OBJ_PID) {
        uint32_t i = add_point(p, h, line, end, own | AUDITNS_P_TARGET, e->id, e->recno);
        target_fields(p, i, buf, body, stop);
        if (e->point != NONE)
            p->flags[e->point] |= AUDITNS_P_HAS_TARGET;
    } else if (number == TYPE_PATH && e->exec && !p->aux2_len[e->point]) {
        path_fields(p, e->point, buf, body, stop);
    }
    if (number != TYPE_PROCTITLE && may_move(s, p, e))
        p->at[e->point] = end;
}
