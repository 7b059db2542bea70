/* Shared by the files of this room, not seen by cffi. */
#ifndef AUDITNS_IMPL_QUERY_H
#define AUDITNS_IMPL_QUERY_H

#include "audittext/scan_impl.h"
#ifndef AUDITNS_QUERY /* it has no guard of its own, for cffi reads it */
#define AUDITNS_QUERY
#include "query/query.h"
#endif

#define TYPE_CONTAINER_ID 1340
#define TYPE_CONTAINER_INFO 1342
#define TYPE_NS_INFO 1344

uint64_t hash_bytes(uint64_t seed, const char *s, size_t n);

/* The number of a text; 0: there is no memory. */
uint32_t intern(struct auditns_strings *strings, const char *text, size_t n);

/* The body of ready line i, without what stands behind the record; what lies in a string of JSON is put to `room`, which
 * has the bytes of the line. NULL for a line that is no record. */
const char *body_of(const struct auditns_points *p, uint32_t i, char *room, const char **end);

#endif
