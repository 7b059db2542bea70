/* What clone returned, as the host counts, where the caller is a row that has made nobody at that time, as far as is known:
 * attribution/clone_result.py has the rules. Everything else is asked there. */
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "table/table_impl.h"
#include "attribution/walk_impl.h"
#ifndef AUDITNS_AUDITTEXT
#define AUDITNS_AUDITTEXT
#include "audittext/audittext.h"
#endif
#include "attribution/clone_result.h"

#define MS 1000000
#define EPSILON ((int64_t)AUDITNS_EPSILON)
#define SLACK ((int64_t)AUDITNS_SLACK)

/* Whether point i is of a clone that has made somebody. */
static int is_call(const struct clone_calls *c, const struct auditns_points *p, uint32_t i)
{
    if (p->exit[i] <= 0 || (p->flags[i] & (AUDITNS_P_SUBJECT | AUDITNS_P_OWN)) != AUDITNS_P_SUBJECT ||
        (uint32_t)p->sysno[i] >= c->numbers)
        return 0;
    for (uint32_t a = 0; a < c->arches; a++)
        if (c->arch[a] == p->arch[i])
            return c->wanted[(size_t)a * c->numbers + (uint32_t)p->sysno[i]];
    return 0;
}

static int made_nobody(const struct process *p, int64_t low, int64_t high)
{
    for (uint32_t i = 0; i < p->made_count; i++)
        if ((int64_t)p->made[i].time >= low && (int64_t)p->made[i].time <= high)
            return 0;
    return 1;
}

/* The one row that held pid at some time from `low` to `high`; 0 where that is not so, or it is not sure here. */
static uint32_t only_holder(const struct table *t, int32_t pid, int64_t low, int64_t high)
{
    uint32_t row = newest_at(t, pid, high), found = 0;

    for (unsigned steps = 0; row; row = process_at(t, row)->prev, steps++) {
        const struct process *p = process_at(t, row);
        if (p->end != ALIVE && (int64_t)p->end < low)
            break;
        if (steps == MOST_HOLDERS || p->life || (found && (int64_t)p->start <= high))
            return 0;
        if ((int64_t)p->start <= high)
            found = row;
    }
    return !row && held_of(t, pid) & TABLE_HELD_ENDED ? 0 : found; /* the one before them may be meant */
}

/* As the host counts, 0: not known; or what there is to be asked. */
static int32_t returned(const struct clone_calls *c, const struct auditns_points *p, uint32_t i)
{
    const struct table *t = c->table;
    int64_t low, high;
    uint32_t row;

    if (__builtin_mul_overflow(p->ms[i], MS, &low) || __builtin_sub_overflow(low, c->offset, &low))
        return CLONE_ASK;
    low -= EPSILON;
    high = low + c->longest < c->now ? low + c->longest : c->now;
    if (low + EPSILON > c->now + SLACK || low < 0 || p->exit[i] > INT32_MAX || p->pid[i] <= 0 ||
        held_of(t, p->pid[i]) & TABLE_HELD || !(row = only_holder(t, p->pid[i], low, high)))
        return CLONE_ASK;
    const struct process *who = process_at(t, row);
    uint8_t space = who->profile < c->profiles ? c->space[who->profile] : CLONE_SPACE_UNREAD;
    if ((int64_t)who->since > high)
        return 0;
    if (space == CLONE_SPACE_UNREAD)
        return CLONE_READ - (int32_t)who->profile;
    if (space == CLONE_SPACE_INITIAL)
        return (int32_t)p->exit[i];
    return space == CLONE_SPACE_UNKNOWN || made_nobody(who, low, high) ? 0 : CLONE_ASK;
}

uint32_t clone_results(const struct clone_calls *c, const struct auditns_points *p, uint32_t first, uint32_t end,
                       const uint32_t *rows, uint32_t *found, int32_t *result)
{
    uint32_t n = 0;

    for (uint32_t i = first; i < end; i++) {
        if (!is_call(c, p, i))
            continue;
        found[n] = i;
        result[n++] = rows && rows[i] ? returned(c, p, i) : CLONE_ASK;
    }
    return n;
}

int clone_any(const struct clone_calls *c, const struct auditns_points *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (is_call(c, p, i))
            return 1;
    return 0;
}
