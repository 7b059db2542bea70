/* Points answered from rows: a process whose whole state is one, asked about a time for which that state is its answer.
 *
 * The rules are those of auditns_connector/attribution/lookup.py and exec_match.py, narrowed to what a row can say:
 * valid_interval() is since and end of the row, first_holder() is `early`, and an exec is the only one that the record can
 * mean, of whichever holder of the pid. Everything else is missed, and Python answers it. */
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "table/table_impl.h"
#include "attribution/said_impl.h"
#include "attribution/walk_impl.h"
#include "attribution/row_lookup.h"
#include "attribution/row_lookup_impl.h"

struct question {
    uint32_t careful;
    int64_t now, window;
};

/* The row, if what its profile says is sure, and it is nowhere else; 0 otherwise. */
static uint32_t sure(const struct table *t, uint32_t row)
{
    const struct process *p = process_at(t, row);

    return !p->life && t->profile[p->profile].epoch == t->epoch ? row : 0;
}

/* The one row that may have held pid at some time from `time` to `high`; 0 where there are several, or none. *early: it has
 * been the same since it began, and nobody held the pid before: it answers for times before that as well. */
static uint32_t holder_at(const struct table *t, int32_t pid, int64_t time, int64_t high, int *early)
{
    uint32_t row = newest_at(t, pid, high);

    for (unsigned steps = 0; row && steps < MOST_HOLDERS; steps++) {
        const struct process *who = process_at(t, row), *former = who->prev ? process_at(t, who->prev) : NULL;
        *early = who->early;
        if ((int64_t)who->start <= time || !former)
            return sure(t, row);
        if ((int64_t)who->start <= high) {
            *early = who->since == who->start && !who->scanned;
            return former->end != ALIVE && (int64_t)former->end < time ? sure(t, row) : 0;
        }
        went_behind(t, pid, row);
        row = who->prev;
    }
    return 0;
}

int64_t until_of(const struct row_lookup *l, const struct auditns_points *p, uint32_t i, int64_t now)
{
    for (uint32_t j = i + 1; l->next_stamps && j < p->n; j++) {
        int64_t time = p->ms[j] > p->ms[i] ? p->ms[j] : p->ms[i];
        if (p->serial[j] == p->serial[i])
            continue;
        if (__builtin_mul_overflow(time, MS, &time) || __builtin_sub_overflow(time, l->offset, &time) ||
            __builtin_add_overflow(time, l->lag + LATE, &time))
            return now;
        return time < now ? time : now;
    }
    return now;
}

/* How many execs of p, of `named` where that is not NULL, came from `first` to `end`; *consumed is one of them. */
static uint32_t execs_within(const struct table *t, const struct process *p, int64_t first, int64_t end,
                             const struct exec *named, int64_t *consumed)
{
    uint32_t n = 0;

    for (uint32_t i = p->execs; i; i = exec_at(t, i)->next) {
        int64_t exec = (int64_t)exec_at(t, i)->time;
        if (exec < first || exec > end)
            continue;
        if (named && (exec_at(t, i)->file != named->file || memcmp(exec_at(t, i)->comm, named->comm, TABLE_COMM)))
            continue;
        *consumed = exec;
        n++;
    }
    return n;
}

int all_rows(const struct table *t, int32_t pid)
{
    const struct slot *slot = slot_of(t, pid);

    if (held_process(t, pid))
        return 0;
    for (uint32_t row = slot ? slot->process : 0; row; row = process_at(t, row)->prev)
        if (process_at(t, row)->behind)
            return 0;
    return 1;
}

uint32_t only_exec(const struct row_lookup *l, int32_t pid, int64_t time, int64_t until, const struct exec *named,
                   int64_t *consumed)
{
    const struct table *t = l->table;
    const struct slot *slot = slot_of(t, pid);
    int64_t first = time - EPSILON, last = time + LATE < until ? time + LATE : until;
    int64_t end = last + EXEC_TIME < until ? last + EXEC_TIME : until;
    uint32_t execs = 0, found = 0, row = slot ? slot->process : 0;
    int held = held_of(t, pid);
    const struct process *p;

    if (!row || held & TABLE_HELD || (!named && process_at(t, row)->missed == t->round))
        return 0;
    row = newest_at(t, pid, last);
    for (unsigned steps = 0; row; row = p->prev, steps++) {
        p = process_at(t, row);
        if (p->end != ALIVE && (int64_t)p->end < first)
            break;
        if (p->behind || steps == MOST_HOLDERS)
            return 0;
        if ((int64_t)p->start > last && p->prev)
            went_behind(t, pid, row);
        uint32_t more = (int64_t)p->start <= last ? execs_within(t, p, first, end, named, consumed) : 0;
        execs += more;
        found = more ? row : found;
    }
    if (execs != 1)
        return 0;
    if (!row && held & TABLE_HELD_ENDED) /* the one before them is no row, and may be meant */
        return 0;
    p = process_at(t, found);
    if ((int64_t)p->execs_lost >= first || (first < l->horizon && (int64_t)p->start > first))
        return 0;
    return sure(t, found);
}

int stamp_of(const struct row_lookup *l, const struct auditns_points *p, uint32_t i, int64_t now, int64_t *time)
{
    return !__builtin_mul_overflow(p->ms[i], MS, time) && !__builtin_sub_overflow(*time, l->offset, time) &&
           *time >= EPSILON && *time >= l->steady && *time <= now + SLACK && *time - EPSILON > l->gap;
}

/* The row that answers point i; 0 where none does. *consumed: the exec that the record consumes, 0 where it is none. */
static uint32_t answer_of(const struct row_lookup *l, const struct auditns_points *p, uint32_t i, const struct question *q,
                          int64_t *consumed)
{
    uint32_t flags = p->flags[i] & q->careful, row;
    const struct process *who;
    int64_t time;
    int early = 0;

    *consumed = 0;
    if (p->pid[i] <= 0 || flags & ~(AUDITNS_P_EXEC | AUDITNS_P_OWN) || !stamp_of(l, p, i, q->now, &time))
        return 0;
    if (flags & AUDITNS_P_EXEC)
        return only_exec(l, p->pid[i], time, until_of(l, p, i, q->now), NULL, consumed);
    row = holder_at(l->table, p->pid[i], time - EPSILON, time + l->lag, &early);
    if (!row)
        return 0;
    who = process_at(l->table, row);
    time -= EPSILON;
    if (who->end != ALIVE && (time > (int64_t)who->end || time < l->horizon))
        return 0;
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

/* A record consumes the exec of a row at that time: now, or, where it may come to nothing, at the end of the call. */
static void tell(struct table *t, uint32_t row, int64_t time, struct execs_found *later)
{
    if (!later) {
        table_exec_consumed(t, row, (uint64_t)time);
        return;
    }
    later->row[later->count] = row;
    later->time[later->count++] = (uint64_t)time;
    /* another record of an exec of this pid does not mean this one */
    process_at(t, slot_of(t, process_at(t, row)->pid)->process)->missed = t->round;
}

/* What records of ours in the text of point i come to, whose process is of that profile: the number of a text, and of a
 * state where states are wanted. 0: that is not known, or no state is. */
static int take_said(struct row_lookup *l, const struct auditns_points *p, uint32_t i, uint32_t profile, uint32_t *choice)
{
    const struct said_answer *found = l->said ? said_find(l->said, p, i, profile, l->said_generation) : NULL;

    if (!found || (l->texts && !found->state))
        return 0;
    *choice = found->number;
    if (l->texts)
        l->texts[i] = found->state;
    return 1;
}

/* Take the answer that the row has for point i; 0 where it has none. `consumed` is the exec that the record consumes. */
static int take(struct row_lookup *l, const struct auditns_points *p, uint32_t i, const struct question *q, uint32_t row,
                int64_t consumed, uint32_t *choice, struct execs_found *later)
{
    struct table *t = l->table;
    uint32_t profile = process_at(t, row)->profile, said = p->flags[i] & q->careful & AUDITNS_P_OWN;
    const struct table_profile *is = &t->profile[profile];

    if (consumed && later && later->count == LOOKUP_EXECS)
        return 0;
    if (said) {
        if (later || !take_said(l, p, i, profile, &choice[i]))
            return 0;
    } else if (is->generation == t->generation) {
        choice[i] = is->number;
    } else {
        return 0;
    }
    l->counted[is->kind & 3]++;
    if (l->rows && !said)
        l->rows[i] = row;
    if (consumed)
        tell(t, row, consumed, later);
    return 1;
}

/* Fill `choice` and `missed`; `later` is filled with what is to be consumed, where all or none are answered. */
static uint32_t find(struct row_lookup *l, const struct auditns_points *p, uint32_t first, uint32_t end,
                     const struct question *q, uint32_t *choice, uint32_t *missed, struct execs_found *later)
{
    struct table *t = l->table;
    uint32_t n = 0;

    t->round++;
    memset(l->counted, 0, sizeof(l->counted));
    for (uint32_t i = first; i < end; i++) {
        int64_t consumed = 0;

        if (p->flags[i] & AUDITNS_P_LATE && !(p->flags[i] & (AUDITNS_P_SUBJECT | AUDITNS_P_TARGET)))
            continue; /* an EOE: it is about nobody */
        uint32_t row = answer_of(l, p, i, q, &consumed);
        if (row && take(l, p, i, q, row, consumed, choice, later))
            continue;
        if (!missed) {
            want(t, p->pid[i]);
            return 1;
        }
        missed[n++] = i;
        const struct slot *slot = slot_of(t, p->pid[i]);
        if (slot && slot->process) /* what Python finds out about this pid comes before what rows say of later execs */
            process_at(t, slot->process)->missed = t->round;
    }
    return n;
}

void lookup_consume(struct table *t, const struct execs_found *execs)
{
    for (uint32_t i = 0; i < execs->count; i++)
        table_exec_consumed(t, execs->row[i], execs->time[i]);
}

uint32_t lookup_find(struct row_lookup *l, const struct auditns_points *p, uint32_t first, uint32_t end, uint32_t careful,
                     int64_t now, uint32_t *choice, uint32_t *missed)
{
    struct question q = {careful, now, window_of(l, p, first, end, now)};
    struct execs_found execs = {.count = 0};

    if (l->said && missed)
        said_begin(l->said, p, first, end);
    uint32_t n = find(l, p, first, end, &q, choice, missed, missed ? NULL : &execs);

    if (!missed && !n)
        lookup_consume(l->table, &execs);
    return n;
}

int lookup_all(struct row_lookup *l, const struct auditns_points *p, uint32_t careful, int64_t now, uint32_t *choice,
               struct execs_found *execs)
{
    struct question q = {careful, now, window_of(l, p, 0, p->n, now)};

    execs->count = 0;
    return !find(l, p, 0, p->n, &q, choice, NULL, execs);
}

uint32_t lookup_nobody(struct row_lookup *l, const struct auditns_points *p, uint32_t first, uint32_t end,
                       uint32_t careful, int64_t before, uint32_t number, uint32_t *choice, uint32_t *missed)
{
    uint32_t n = 0;

    if (l->said)
        said_begin(l->said, p, first, end);
    for (uint32_t i = first; i < end; i++) {
        uint32_t flags = p->flags[i] & careful & ~AUDITNS_P_EXEC;

        if (p->ms[i] < before && p->pid[i] > 0 && !flags)
            choice[i] = number;
        else if (p->ms[i] >= before || p->pid[i] <= 0 || flags != AUDITNS_P_OWN ||
                 !take_said(l, p, i, SAID_NOBODY, &choice[i]))
            missed[n++] = i;
    }
    return n;
}

int64_t lookup_join(struct row_lookup *l, const struct auditns_points *p, uint32_t consumed, uint32_t careful, int64_t now,
                    uint32_t *choice, const struct auditns_tails *tails, char *out, uint64_t room)
{
    struct execs_found execs;
    uint64_t size;

    if (!lookup_all(l, p, careful, now, choice, &execs))
        return -1;
    size = auditns_assemble(p->buf, consumed, p, choice, tails, NULL, 0, 0, out, room);
    if (size > room)
        return -1;
    lookup_consume(l->table, &execs);
    return (int64_t)size;
}
