/* Shared by the files that make JSON lines, not seen by cffi: json/out.c, json/value.c, json/names.c, json/fast.c,
 * json/argv.c, json/added.c, json/record.c and json/json.c, each of which uses those before it. */
#ifndef AUDITNS_IMPL_JSON_H
#define AUDITNS_IMPL_JSON_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "audittext/eight_impl.h"
#ifndef AUDITNS_AUDITTEXT /* it has no guard of its own, for cffi reads it */
#define AUDITNS_AUDITTEXT
#include "audittext/audittext.h"
#endif
#include "json/json.h"

/* ---- json/out.c: a buffer that grows, and what is put there ---- */

struct out {
    char *at;
    size_t len, room;
    int failed; /* no memory: what is put there is lost, and the whole answer with it */
};

int out_grow(struct out *o, size_t more);

static inline int need(struct out *o, size_t more)
{
    return o->room - o->len >= more || out_grow(o, more);
}

static inline void put(struct out *o, const char *s, size_t n)
{
    if (n && need(o, n)) {
        memcpy(o->at + o->len, s, n);
        o->len += n;
    }
}

#define PUT(o, literal) put(o, literal, sizeof(literal) - 1)

void put_number(struct out *o, uint64_t v, int width);

/* The text behind bytes, escaped for JSON, without quotes. What is not UTF-8 shows as \xNN. */
void put_text(struct out *o, const char *s, size_t n);

/* The same where there is room for 6 * n + 8 bytes; returns its end, as all that write to a place do. */
char *escape(char *to, const char *s, size_t n);

/* ---- json/value.c: words and values of a record ---- */

#define PAD 32                          /* bytes of 0 behind the text of a record, so that more than it may be read */
#define ROOM(n) (6 * (size_t)(n) + 128) /* what n bytes of a record may take in JSON, and a little more */

/* Where a value ends that begins at v. */
const char *value_end(const char *v, const char *end);

/* The next word at *at: 1 for name=value, 2 for anything else (as the value), 0 at the end. */
int next_word(const char **at, const char *end, const char **name, size_t *name_len, const char **v, size_t *n);

/* Whether it is a decimal number that is put as it is, or, "-0", as 0. */
int is_number(const char *v, size_t n);

/* The escaped string behind a value: without its quotes, out of hex where it is untrusted, with spaces for each NUL in
 * a title. NULL: it says "nothing". `bytes` is room for a line. */
char *put_string(char *to, const char *v, size_t n, int untrusted, int title, char *bytes);

/* The bytes behind an untrusted value, none where it says "nothing", for which there is room and PAD more. */
char *take_string(char *to, const char *v, size_t n);

/* A value of a field of that kind. */
char *put_value(char *to, const char *v, size_t n, int kind, int title, char *bytes);

/* ---- json/names.c: the names of fields ---- */

#define NAMES 512
#define NAME_WORDS 3
#define NAME_LONGEST AUDITNS_JSON_NAME
_Static_assert(NAME_LONGEST == 8 * NAME_WORDS - 1, "a name and its '='");

struct name {
    uint64_t words[NAME_WORDS], mask[NAME_WORDS]; /* the name with its '=', and ones for each byte of that */
    char said[32];                                /* ,"name": */
    uint8_t len, kind;
    uint32_t object;                              /* the one where it was last, see json/fast.c */
    struct name *next;                            /* what came behind it the last time; NULL: not known */
};

struct names {
    uint64_t seed; /* odd */
    uint32_t count;
    struct name name[NAMES], *slot[2 * NAMES];
};

/* Forget all names but those that have a kind. */
void names_clear(struct names *names);

/* NULL: it is not there. PAD bytes behind a name may be read. */
struct name *name_find(const struct names *names, const char *s, size_t n);

/* Add one that is not there; NULL: it is no plain name, or there are too many. */
struct name *name_add(struct names *names, const char *s, size_t n);

/* Whether this name, with its '=', is what stands at s. */
static inline int is_name(const struct name *name, const char *s)
{
    uint64_t other = 0;
    for (size_t i = 0; i < NAME_WORDS; i++)
        other |= (eight(s + 8 * i) ^ name->words[i]) & name->mask[i];
    return !other;
}

/* ---- json/fast.c: plain records, quickly ---- */

struct fast {
    struct names names;
    struct name *last; /* the name that came last */
    uint32_t object, objects; /* the number of the one in hand, and the one given last */
    char bytes[AUDITNS_MAX_LINE + PAD];
};

void fast_start(struct fast *fast, uint32_t seed);

/* The fields of a record with the body line[:n]. NULL: it is not a plain one. */
char *put_fast(struct fast *fast, char *to, const char *line, size_t n, int title);

/* ---- json/argv.c: the arguments of an event ---- */

struct argv {
    struct out text, joined;
    struct piece *piece;
    uint32_t n, room, most;
};

void argv_free(struct argv *argv);
void argv_begin(struct argv *argv, size_t bytes);
int argv_has(const struct argv *argv, const char *name, size_t name_len, const char *v, size_t n);
void argv_take(struct argv *argv, const char *name, size_t name_len, const char *v, size_t n);

/* The list; 0: there are none, and nothing was put. */
int argv_put(struct argv *argv, struct out *o);

/* The length that an argument in pieces is said to have, from *at on, which is moved behind it: its field's name, and the
 * value in quotes; 0: there is none any more. */
int argv_length(struct argv *argv, uint32_t *at, struct out *name, struct out *length);

/* ---- json/added.c: what ENRICHED format adds ---- */

#define ADDED_END 0
#define ADDED_VALUE 1
#define ADDED_WORDS 2  /* they have no name */
#define ADDED_QUOTED 3
#define ADDED_OBJECT 4 /* v is what stands between the braces */

/* The text up to `end`, and from where on no quote and no brace is closed; NULL: that is not known yet. */
struct added {
    const char *end, *no_quote, *no_brace;
};

int next_added(const char **at, struct added *in, const char **name, size_t *name_len, const char **v, size_t *n);
int next_braced(const char **at, struct added *in, const char **name, size_t *name_len, const char **v, size_t *n);

/* ---- json/record.c: any record ---- */

struct record;
struct record *record_new(uint32_t seed);
void record_free(struct record *record);

#define JSON_TITLE 1 /* spaces for the NULs of a title */
#define JSON_ARGV 2  /* the arguments are put elsewhere */
#define JSON_FIRST 4 /* here */
#define JSON_ESCAPED 8 /* the body lies in a JSON string */
#define JSON_PADDED 16 /* PAD bytes behind the body may be read */

/* The arguments of the EXECVE records of an event, whose bodies have so many bytes; then each of them is taken. */
void begin_arguments(struct record *record, size_t bytes);
void take_arguments(struct record *record, const char *body, size_t n, int how);

/* The fields of a record with that body; each is put as ,"name":value. */
void put_record(struct record *record, struct out *o, const char *body, size_t n, int how);

/* Whether memory was lacking since the last time. */
int record_failed(struct record *record);

#endif
