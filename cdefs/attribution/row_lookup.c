/* Points answered from rows: a process whose whole state is one, asked about a time for which that state is its answer.
 *
 * The rules are those of auditns_connector/attribution/lookup.py and exec_match.py, narrowed to what a row can say:
 * valid_interval() is since and end of the row, first_holder() is `early`, and an exec is the only one of the only holder
 * of the pid. Everything else is missed, and Python answers it. */
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/audittext.h"
#include "table/table_impl.h"
#include "attribution/row_lookup.h"

#define MS 1000000
#define EPSILON ((int64_t)AUDITNS_EPSILON)
#define SLACK ((int64_t)AUDITNS_SLACK)
#define RECENT ((int64_t)AUDITNS_RECENT)
#define LATE ((int64_t)AUDITNS_LATE)
#define EXEC_TIME ((int64_t)AUDITNS_EXEC_TIME)

/* holders of a pid that are looked at, from the newest back */
#define MOST_HOLDERS 64

struct question {
    uint32_t careful;
    int64_t now, window;
};

/* Execs that records have told of in this call. They are consumed at its end, for all points or for none. */
struct execs_found {
    uint32_t count;
    uint32_t row[LOOKUP_EXECS];
    uint64_t time[LOOKUP_EXECS];
};

/* Whether the profile of a row has an answer. */
static uint32_t answered(const struct table *t, uint32_t row)
{
    const struct table_profile *is = &t->profile[process_at(t, row)->profile];
    return is->generation == t->generation && is->epoch == t->epoch ? row : 0;
}

/* The newest holder of pid, if it is a row whose profile has an answer; 0 otherwise. */
static uint32_t row_of(const struct table *t, int32_t pid)
{
    const struct slot *slot = slot_of(t, pid);
    return slot && slot->process ? answered(t, slot->process) : 0;
}

/* The one row that may have held pid at some time from `time` to `high`; 0 where there are several, or none. *early: it has
 * been the same since it began, and nobody held the pid before: it answers for times before that as well. */
static uint32_t holder_at(const struct table *t, int32_t pid, int64_t time, int64_t high, int *early)
{
    const struct slot *slot = slot_of(t, pid);
    uint32_t row = slot ? slot->process : 0;

    for (unsigned steps = 0; row && steps < MOST_HOLDERS; steps++) {
        const struct process *who = process_at(t, row), *former = who->prev ? process_at(t, who->prev) : NULL;
        *early = who->early;
        if ((int64_t)who->start <= time || !former)
            return answered(t, row);
        if ((int64_t)who->start <= high) {
            *early = who->since == who->start && !who->scanned;
            return former->end != ALIVE && (int64_t)former->end < time ? answered(t, row) : 0;
        }
        row = who->prev;
    }
    return 0;
}

/* exec_match.find_only_exec: whether a record stamped at `time` and there at `now` can mean the one exec of the process,
 * and no other holder of the pid. A state as new as `since` may be a process that is. */
static int only_exec(const struct row_lookup *l, const struct process *p, int64_t time, int64_t now)
{
    int64_t last = time + EPSILON + LATE < now ? time + EPSILON + LATE : now, exec;

    if (p->exec_count != 1 || p->behind || p->prev || held_of(l->table, p->pid) & (TABLE_HELD | TABLE_HELD_ENDED))
        return 0;
    exec = (int64_t)exec_at(l->table, p->execs)->time;
    if (exec < time || exec > now || exec > last + EXEC_TIME || (int64_t)p->execs_lost >= time)
        return 0;
    return (int64_t)p->since <= time || ((int64_t)p->since <= last && time >= l->horizon);
}

/* The row that answers point i; 0 where none does. */
static uint32_t answer_of(const struct row_lookup *l, const struct auditns_points *p, uint32_t i, const struct question *q,
                          const struct execs_found *execs)
{
    uint32_t flags = p->flags[i] & q->careful, row;
    const struct process *who;
    int64_t time;
    int early = 0;

    if (p->pid[i] <= 0 || flags & ~AUDITNS_P_EXEC || __builtin_mul_overflow(p->ms[i], MS, &time) ||
        __builtin_sub_overflow(time, l->offset, &time))
        return 0;
    if (time < EPSILON || time < l->steady || time > q->now + SLACK || (flags && time <= q->now - RECENT))
        return 0;
    row = flags ? row_of(l->table, p->pid[i]) : holder_at(l->table, p->pid[i], time - EPSILON, time + l->lag, &early);
    if (!row)
        return 0;
    who = process_at(l->table, row);
    time -= EPSILON;
    if (time <= l->gap || (who->end != ALIVE && (time > (int64_t)who->end || time < l->horizon)))
        return 0;
    if (flags)
        return who->missed != l->table->round && execs->count < LOOKUP_EXECS && only_exec(l, who, time, q->now) ? row : 0;
    if (time > (int64_t)who->since)
        return row;
    return early && (int64_t)who->since <= time + EPSILON + q->window && time >= l->horizon ? row : 0;
}

/* How far behind the newest stamp of the points an event of theirs may be: nothing is later than `now`. */
static int64_t window_of(const struct row_lookup *l, const struct auditns_points *p, uint32_t first, uint32_t end,
                         int64_t now)
{
    int64_t newest = INT64_MIN / MS, window;

    for (uint32_t i = first; i < end; i++)
        if (p->ms[i] > newest)
            newest = p->ms[i];
    if (__builtin_mul_overflow(newest, MS, &newest) || __builtin_add_overflow(now, l->offset, &window) ||
        __builtin_sub_overflow(window, newest, &window))
        return -EPSILON;
    return window < l->lag ? window : l->lag;
}

static void want(struct table *t, int32_t pid)
{
    if (t->wanted < sizeof(t->wanted_pid) / sizeof(*t->wanted_pid))
        t->wanted_pid[t->wanted++] = pid;
}

/* Fill `choice`, and `execs` with what is to be consumed. */
static uint32_t find(struct row_lookup *l, const struct auditns_points *p, uint32_t first, uint32_t end,
                     const struct question *q, uint32_t *choice, uint32_t *missed, struct execs_found *execs)
{
    struct table *t = l->table;
    uint32_t n = 0;

    t->round++;
    execs->count = 0;
    memset(l->counted, 0, sizeof(l->counted));
    for (uint32_t i = first; i < end; i++) {
        struct process *who;

        if (p->flags[i] & AUDITNS_P_LATE && !(p->flags[i] & (AUDITNS_P_SUBJECT | AUDITNS_P_TARGET)))
            continue; /* an EOE: it is about nobody */
        uint32_t row = answer_of(l, p, i, q, execs);
        if (row) {
            const struct table_profile *is;
            who = process_at(t, row);
            is = &t->profile[who->profile];
            choice[i] = is->number;
            l->counted[is->kind & 3]++;
            if (p->flags[i] & q->careful) {
                who->missed = t->round; /* another record of an exec of it does not mean this one */
                execs->row[execs->count] = row;
                execs->time[execs->count++] = exec_at(t, who->execs)->time;
            }
            continue;
        }
        if (!missed) {
            want(t, p->pid[i]);
            return 1;
        }
        missed[n++] = i;
        row = row_of(t, p->pid[i]);
        if (row) /* what Python finds out about this one comes before what rows say of later ones */
            process_at(t, row)->missed = t->round;
    }
    return n;
}

static void consume(struct table *t, const struct execs_found *execs)
{
    for (uint32_t i = 0; i < execs->count; i++)
        table_exec_told(t, execs->row[i], execs->time[i]);
}

uint32_t lookup_find(struct row_lookup *l, const struct auditns_points *p, uint32_t first, uint32_t end, uint32_t careful,
                     int64_t now, uint32_t *choice, uint32_t *missed)
{
    struct question q = {careful, now, window_of(l, p, first, end, now)};
    struct execs_found execs;
    uint32_t n = find(l, p, first, end, &q, choice, missed, &execs);

    if (missed || !n)
        consume(l->table, &execs);
    return n;
}

uint32_t lookup_nobody(const struct auditns_points *p, uint32_t first, uint32_t end, uint32_t careful, int64_t before,
                       uint32_t number, uint32_t *choice, uint32_t *missed)
{
    uint32_t n = 0;

    for (uint32_t i = first; i < end; i++) {
        if (p->ms[i] < before && p->pid[i] > 0 && !(p->flags[i] & careful & ~AUDITNS_P_EXEC))
            choice[i] = number;
        else
            missed[n++] = i;
    }
    return n;
}

int64_t lookup_join(struct row_lookup *l, const struct auditns_points *p, uint32_t consumed, uint32_t careful, int64_t now,
                    uint32_t *choice, const struct auditns_tails *tails, char *out, uint64_t room)
{
    struct question q = {careful, now, window_of(l, p, 0, p->n, now)};
    struct execs_found execs;
    uint64_t size;

    if (find(l, p, 0, p->n, &q, choice, NULL, &execs))
        return -1;
    size = auditns_assemble(p->buf, consumed, p, choice, tails, NULL, 0, 0, out, room);
    if (size > room)
        return -1;
    consume(l->table, &execs);
    return (int64_t)size;
}
