/* Shared by the files of cdefs/archive; not seen by cffi. */
#ifndef AUDITNS_IMPL_ARCHIVE_H
#define AUDITNS_IMPL_ARCHIVE_H

#include <stdlib.h>
#include "audittext/scan_impl.h"
#ifndef AUDITNS_ARCHIVE /* it has no guard of its own, for cffi reads it */
#define AUDITNS_ARCHIVE
#include "archive/archive.h"
#endif

/* A part of the text; where there is none, nothing of a text that is there. */
struct span {
    const char *at;
    uint32_t len;
};

#define NO_SPAN ((struct span){"", 0})

/* The event in hand. */
struct work {
    struct span contid;         /* of its subject; len 0: none */
    struct span exe, key;
    struct span cwd;            /* as it stands in the CWD record before; len 0: there was none */
    uint32_t has_cwd;           /* it stands in this record: the first counts */
    uint32_t holder, failed;
    struct span node;
};

#define WORK_OF(whose) \
    ((struct work){.contid = NO_SPAN, .exe = NO_SPAN, .key = NO_SPAN, .cwd = NO_SPAN, .holder = (whose), .node = NO_SPAN})

static inline int span_is(struct span a, const char *s, size_t n)
{
    return a.len == n && !memcmp(a.at, s, n);
}

static inline int same_span(struct span a, struct span b)
{
    return span_is(a, b.at, b.len);
}

static inline struct span unquoted(struct span s)
{
    while (s.len && *s.at == '"')
        s.at++, s.len--;
    while (s.len && s.at[s.len - 1] == '"')
        s.len--;
    return s;
}

static inline uint64_t mixed(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* Room for one more of what `*at` holds. 0: no memory. */
int archive_room(void *at, uint32_t *room, uint32_t used, size_t size);

/* What the end of the kernel's part of a body is: at 0x1D begins what auditd adds. */
const char *archive_body_end(const char *body, const char *end);

/* The value of the first word NAME= of a body; of no length where there is none. */
struct span archive_field(const char *body, const char *end, const char *name, uint32_t len);

/* Terms that a block had before: a hash with the number of the block it was last seen in. Some are forgotten. */
#define SEEN_BITS 16

struct seen {
    uint64_t *marks;
    uint32_t block;
};

static inline uint64_t *archive_new_seen(void)
{
    return calloc(1u << SEEN_BITS, sizeof(uint64_t));
}

static inline int is_new(struct seen *s, uint32_t term)
{
    uint64_t mark = (uint64_t)(s->block + 1) << 32 | term;
    uint64_t *at = &s->marks[(term * 0x9e3779b1u) >> (32 - SEEN_BITS)];

    if (*at == mark)
        return 0;
    *at = mark;
    return 1;
}

/* ---- archive/holder.c ---- */

/* Whose the event is, by the lines of ours in [l, end). subject: its point, NONE where it has none. */
void archive_holder(const struct archive_text *a, const struct auditns_points *p, uint32_t l, uint32_t end,
                    uint32_t subject, struct work *w);

/* The contid of the CONTAINER_ID about a target, len 0: none. */
struct span archive_target(const struct auditns_points *p, uint32_t l, uint32_t end, uint32_t recno);

/* The number of the event's group. NONE: no memory. */
uint32_t archive_group(struct archive_text *a, const struct work *w);

/* ---- archive/values.c ---- */

/* 0: no memory. */
int archive_add_term(struct archive_text *a, uint32_t kind, const char *value, uint32_t len);

/* The bytes behind hexadecimal, at most `room`; 0 where it is none. */
int archive_from_hex(struct span s, char *out, uint32_t room, uint32_t *len);

#define MOST_DECODED 8192 /* longer values in hexadecimal have no terms */

/* The bytes behind a value that audit_log_untrustedstring() wrote, in MOST_DECODED at buf or where they stand; 0 where
 * there are none. */
int archive_untrusted(struct span raw, char *buf, struct span *out);

/* ---- archive/index_terms.c ---- */

/* The terms of a line. 0: no memory. */
int archive_line(struct archive_text *a, struct work *w, const char *body, const char *end, uint32_t type);

/* ---- archive/paths.c ---- */

/* The terms of a file's name as it stands in a record: its path from the root, its last component. 0: no memory. */
int archive_path(struct archive_text *a, const struct work *w, struct span raw);

/* ---- archive/tallies.c ---- */

int archive_count(struct archive_text *a, uint32_t group, uint32_t kind, uint32_t value, uint32_t length, uint64_t count,
                  int64_t ms);
int archive_note_info(struct archive_text *a, const char *body, const char *end, uint32_t group);
int archive_note_serial(struct archive_text *a, struct span node, uint64_t serial, int64_t ms);

/* ---- archive/order.c ---- */

struct key {
    uint64_t order;
    uint32_t number;
};

/* Put keys in their order; those of the same stay as they stand. 0: no memory. */
int archive_order(struct key *keys, uint32_t count);

#endif
