/* Shared by the files that look things up in rows, not seen by cffi. */
#ifndef AUDITNS_IMPL_ROW_LOOKUP_H
#define AUDITNS_IMPL_ROW_LOOKUP_H

#include "table/table_impl.h"

#define MS 1000000
#define EPSILON ((int64_t)AUDITNS_EPSILON)
#define SLACK ((int64_t)AUDITNS_SLACK)
#define LATE ((int64_t)AUDITNS_LATE)
#define EXEC_TIME ((int64_t)AUDITNS_EXEC_TIME)

/* Execs for records of a call that answers all points or none: they are consumed at its end. */
struct execs_found {
    uint32_t count;
    uint32_t row[LOOKUP_EXECS];
    uint64_t time[LOOKUP_EXECS];
};

/* As lookup_find for all points with missed NULL, but nothing is consumed yet; whether rows answer all. */
int lookup_all(struct row_lookup *l, const struct auditns_points *p, uint32_t careful, int64_t now, uint32_t *choice,
               struct execs_found *execs);
void lookup_consume(struct table *t, const struct execs_found *execs);

/* exec_match.written_until: when the record of point i was written, at the latest. */
int64_t until_of(const struct row_lookup *l, const struct auditns_points *p, uint32_t i, int64_t now);

/* The one time that the stamp of point i can mean; 0 where that is not sure, or something of then is missing. */
int stamp_of(const struct row_lookup *l, const struct auditns_points *p, uint32_t i, int64_t now, int64_t *time);

/* exec_match.find_exec, for a record stamped at `time` and there at `until`, where all that may have held the pid are rows
 * and one exec alone may be meant (named: of those with its file and comm): its process, 0 where that is not so. */
uint32_t only_exec(const struct row_lookup *l, int32_t pid, int64_t time, int64_t until, const struct exec *named,
                   int64_t *consumed);

/* Whether nobody but rows has held the pid, and these have all execs of it. */
int all_rows(const struct table *t, int32_t pid);

#endif
