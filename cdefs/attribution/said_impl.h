/* Shared by attribution/said.c and row_lookup.c, not seen by cffi. */
#ifndef AUDITNS_IMPL_SAID_H
#define AUDITNS_IMPL_SAID_H

#include <stdint.h>
#include <sys/types.h>
#ifndef AUDITNS_AUDITTEXT /* it has no guard of its own, for cffi reads it */
#define AUDITNS_AUDITTEXT
#include "audittext/audittext.h"
#endif
#ifndef AUDITNS_GROUP
#define AUDITNS_GROUP
#include "attribution/group.h"
#endif
#ifndef AUDITNS_SAID
#define AUDITNS_SAID
#include "attribution/said.h"
#endif

/* The points from `first` to `end` are looked up next: take in what the records of ours say of their events. 0: there is
 * no memory for it, and nothing is found. */
int said_begin(struct said *said, const struct auditns_points *points, uint32_t first, uint32_t end);

#define SAID_NOBODY 0 /* in place of a profile: nobody had that pid at that time */

/* What comes of point i, whose process has that profile; NULL: that is not known yet. */
const struct said_answer *said_find(struct said *said, const struct auditns_points *points, uint32_t i, uint32_t profile,
                                    uint32_t generation);

#endif
