/* From one holder of a pid to the one before, not seen by cffi: attribution/row_lookup.c and clone_result.c. */
#ifndef AUDITNS_IMPL_WALK_H
#define AUDITNS_IMPL_WALK_H

#include <stddef.h>
#include <stdint.h>
#include "table/table_impl.h"

/* holders of a pid that are looked at, from the newest back */
#define MOST_HOLDERS 64

/* The newest row of pid that began at `high` or before, or a newer one. Text goes on in time, and in a log of weeks many
 * have held a pid: it begins at the one that was found last, where the row behind that began later than `high`. */
static inline uint32_t newest_at(const struct table *t, int32_t pid, int64_t high)
{
    const struct page *page = page_of(t, pid);
    uint32_t behind = page ? page->behind[pid % PAGE_PIDS] : 0;
    const struct process *p = behind ? process_at(t, behind) : NULL;

    if (p && p->used && p->pid == pid && p->prev && (int64_t)p->start > high)
        return p->prev;
    return page ? page->slot[pid % PAGE_PIDS].process : 0;
}

/* The walk from newest_at() on has gone from row `behind` to the one before. */
static inline void went_behind(const struct table *t, int32_t pid, uint32_t behind)
{
    page_of(t, pid)->behind[pid % PAGE_PIDS] = behind;
}

#endif
