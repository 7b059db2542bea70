/* Shared by the files of the scanner, not seen by cffi: audittext/types.c, head.c, fields.c, points.c, place.c,
 * serials.c, open.c, whole.c and scan.c, each of which uses those before it. */
#ifndef AUDITNS_IMPL_SCAN_H
#define AUDITNS_IMPL_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/eight_impl.h"
#ifndef AUDITNS_AUDITTEXT /* it has no guard of its own, for cffi reads it */
#define AUDITNS_AUDITTEXT
#include "audittext/audittext.h"
#endif

#define NONE 0xffffffffu
#define TURNS AUDITNS_PATIENT_LINES
#define TYPE_LOGIN 1006
#define TYPE_SYSCALL 1300
#define TYPE_PATH 1302
#define TYPE_SOCKETCALL 1304
#define TYPE_SOCKADDR 1306
#define TYPE_CWD 1307
#define TYPE_CONFIG_CHANGE 1305
#define TYPE_LOGIN 1006
#define TYPE_EXECVE 1309
#define TYPE_FD_PAIR 1317
#define TYPE_OBJ_PID 1318
#define TYPE_EOE 1320
#define TYPE_BPRM_FCAPS 1321
#define TYPE_MMAP 1323
#define TYPE_NETFILTER_PKT 1324
#define TYPE_PROCTITLE 1327
#define TYPE_BPF 1334
#define TYPE_OPENAT2 1337
#define TYPE_LANDLOCK_DOMAIN 1424

/* memcmp of eight bytes at least, without the call */
static inline int same(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i + 8 < n; i += 8)
        if (eight(a + i) != eight(b + i))
            return 0;
    return eight(a + n - 8) == eight(b + n - 8);
}

/* The number that the first n of eight bytes are, 1 to 8 digits. */
static inline uint32_t number_of(uint64_t x, unsigned n)
{
    x = (x ^ '0' * ONES) << (64 - 8 * n);
    x = x * 10 + (x >> 8); /* pairs of digits in every other byte, then the pairs of pairs */
    return (uint32_t)(((x & 0xff000000ff) * 0xf424000000064 + (x >> 16 & 0xff000000ff) * 0x271000000001) >> 32);
}

/* The spaces between words. */
struct words {
    const char *at, *next, *end; /* the eight bytes in hand, those behind them */
    uint64_t found;              /* a bit for each space in them that has not been given yet */
};

static inline struct words words_of(const char *s, const char *end)
{
    return (struct words){s, s, end, 0};
}

/* The next space at or behind s, which is where the last word ended; `end` where there is none. */
static inline const char *word_stop(struct words *w, const char *s)
{
    while (!w->found) {
        if (w->end - w->next < 8) {
            for (s = s > w->next ? s : w->next; s < w->end && *s != ' '; s++)
                ;
            return s;
        }
        w->found = zeros(eight(w->next) ^ ' ' * ONES);
        w->at = w->next;
        w->next += 8;
    }
    s = w->at + __builtin_ctzll(w->found) / 8;
    w->found &= w->found - 1;
    return s;
}

/* A word: [at, stop), and its first eight bytes, those behind the end of the text as 0. */
struct word {
    const char *at, *stop;
    uint64_t first;
};

/* The word that begins at `at`; 0 where the text ends. */
static inline int take_word(struct words *w, const char *at, struct word *word)
{
    if (at >= w->end)
        return 0;
    word->at = at;
    word->stop = word_stop(w, at);
    word->first = eight_before(at, w->end);
    return 1;
}

/* ---- audittext/types.c ---- */

/* The number of a type name, with its bits (TYPE_OWN …); eight bytes at least may be read at s. */
uint32_t type_number(const char *s, size_t n);

/* A number with its bits. */
uint32_t type_numbered(uint32_t number);

/* The name of a type, NULL where it has none. */
const char *type_name(uint32_t number, size_t *n);

/* ---- audittext/head.c ---- */

/* Offsets are those of the line, but for `stop`: where the record ends in the block. */
struct head {
    int64_t ms;
    uint64_t sec, serial, node;
    uint32_t node_off, node_len, lead_len, name, name_len, hdr, sec_len, hdr_len, body, trail, stop, type;
    const char *text; /* "msg=audit(...):", NULL when there is none yet: the records of an event have the same */
};

/* [line, end) without its newline; h has what the last line with a good header said */
int parse_head(const char *line, const char *end, struct head *h);

/* ---- audittext/lead.c: what may stand in front of a record ---- */

struct lead {
    const char *host, *end, *body; /* end: of the record, NULL for that of the line */
    uint32_t host_len;
    uint32_t type;                 /* not 0: there is no header, but a type's name up to `body`, and these */
    int64_t ms;
    uint64_t serial;
};

/* Where the record begins; NULL where there is none. */
const char *skip_lead(const char *line, const char *end, struct lead *lead);

/* ---- audittext/fields.c: what a record says, put into point i ---- */

/* Where the fields of a record without a newline stop, which is the last of its text: no record of the kernel ends with the
 * number of a process, so one that stands there is cut, and another's perhaps. */
uint32_t before_cut_pid(const char *buf, uint32_t body, uint32_t stop);

void subject_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end);
void target_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end);

/* PATH item=0 of an exec: the file name */
void path_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end);

int is_exec(uint32_t arch, int32_t nr);

/* ---- audittext/points.c ---- */

/* Drop what the last call handed out, and let the block begin where that ended. */
void release(struct auditns_scan *s, struct auditns_points *p);

/* Take the void points out of the ready ones. */
uint32_t compact(struct auditns_scan *s, struct auditns_points *p);

/* Put point i behind all others; returns its number there. */
uint32_t move_point(struct auditns_scan *s, struct auditns_points *p, uint32_t i);

uint32_t add_point(struct auditns_points *p, const struct head *h, uint32_t line, uint32_t at, uint32_t flags,
                   uint32_t event, uint16_t recno);
void add_line(struct auditns_points *p, uint32_t off, uint32_t end, uint32_t event, uint32_t body, uint32_t type);

/* ---- audittext/place.c: the rules of events ---- */

#define AWAITS 1              /* complete when the next line is not of it */
#define STAYS 2               /* the same whatever comes of it, but a SYSCALL */
#define COMPLETE 3            /* the same, and at the end of the block unless records of ours may follow */

static inline int same_event(const struct auditns_event *e, const struct head *h)
{
    return e->serial == h->serial && e->ms == h->ms && e->node == h->node;
}

#define ENDED_TITLE 1           /* its PROCTITLE has come */
#define ENDED_EOE 2

/* Whether the event that the next line ends unless it is of it goes on with it: behind its EOE with ours alone. */
static inline int goes_on(const struct auditns_event *e, const struct head *h)
{
    return h && same_event(e, h) && (!(e->ended & ENDED_EOE) || h->type & TYPE_OWN);
}

/* Whether a record is of an event that waits for ours alone: those are, and the EOE that follows a PROCTITLE. */
static inline int is_awaited(const struct auditns_event *e, const struct head *h)
{
    return h->type & TYPE_OWN || ((h->type & 0xffff) == TYPE_EOE && e->ended == ENDED_TITLE);
}

void begin_event(struct auditns_event *e, const struct auditns_scan *s, const struct head *h);

/* What a record does to the end of its event: whether that is complete with it, and e->lone. */
int follow(struct auditns_event *e, const struct auditns_scan *s, const struct head *h);

/* The points that a record makes, and where the event's stand with it; it is buf[line:end], which ends at `stop` but for
 * its newline. */
void place(struct auditns_scan *s, struct auditns_points *p, const char *buf, struct auditns_event *e,
           const struct head *h, uint32_t line, uint32_t end);

/* ---- audittext/serials.c ---- */

/* A record of an event has come; `principal`: the one that says which system call it was, or one that stands for itself. */
void serial_came(struct auditns_scan *s, const struct head *h, int principal);

/* The same for a record that is followed next. */
static inline void follow_serial(struct auditns_scan *s, const struct auditns_event *e, const struct head *h)
{
    uint32_t number = h->type & 0xffff;
    int principal = number == TYPE_SYSCALL || number == TYPE_NETFILTER_PKT || h->type & TYPE_SINGLE;

    if (principal || !e->begun)
        serial_came(s, h, principal);
}

/* ---- audittext/closed.c: events that were decided ---- */

/* What is remembered of an event; NULL: nothing. */
struct auditns_closed *recall(struct auditns_memory *m, uint64_t serial, int64_t ms, uint64_t node);

/* The same by its number. */
struct auditns_closed *recall_number(struct auditns_memory *m, uint64_t serial, int64_t ms, uint32_t number);

/* Where to keep what is to be remembered of an event; `again`: it is part of one that was decided, and that is changed where
 * it is remembered still. */
struct auditns_closed *remember_event(struct auditns_memory *m, const struct auditns_event *e, int again);

/* Whether nothing but a record of ours that stands for itself was in an event: there is nothing to remember. */
static inline int is_ours_alone(const struct auditns_event *e)
{
    return !e->begun && !e->ended && e->lone == COMPLETE;
}

/* ---- audittext/open.c: events that are open while lines are handed out in the order of the text ---- */

/* In the order in which they began; NULL behind the last one. */
static inline struct auditns_event *event_at(struct auditns_scan *s, uint16_t slot)
{
    return slot ? &s->event[slot - 1] : NULL;
}
static inline struct auditns_event *first_open(struct auditns_scan *s)
{
    return event_at(s, s->oldest);
}
static inline struct auditns_event *next_open(struct auditns_scan *s, const struct auditns_event *e)
{
    return event_at(s, e->newer);
}

/* The one that the next line ends unless it is of it; NULL: there is none. */
struct auditns_event *lone_open(struct auditns_scan *s);
void set_lone(struct auditns_scan *s, const struct auditns_event *e);

/* The event that a record is of, and what is remembered of it where it was decided; NULL: nothing. */
struct auditns_event *find_open(struct auditns_scan *s, const struct head *h);
struct auditns_closed *find_closed(struct auditns_scan *s, const struct head *h);

/* Whether the event of a record, which is not remembered as a whole any more, was decided with its SYSCALL. */
int was_answered(const struct auditns_scan *s, const struct head *h);

struct auditns_event *open_event(struct auditns_scan *s, const struct auditns_points *p, const struct head *h,
                                 uint32_t line, const struct auditns_closed *former);
void close_event(struct auditns_scan *s, const struct auditns_points *p, struct auditns_event *e);

/* The last line that came was the last of an event, but for records of ours: let it wait for those. */
void wait_event(struct auditns_scan *s, struct auditns_event *e);

/* Close the events that have waited for long enough. */
void end_waiting(struct auditns_scan *s, const struct auditns_points *p);

/* One more line has come. */
static inline void next_turn(struct auditns_scan *s, const struct auditns_points *p)
{
    if (s->turn >= s->due || s->clock >= s->due_ms)
        end_waiting(s, p);
    s->turn++;
    s->recent[s->turn % TURNS] = 0;
}

/* Close all that wait for ours. */
void close_waiting(struct auditns_scan *s, const struct auditns_points *p);

/* Close those of which nothing has come since. */
void close_all(struct auditns_scan *s, const struct auditns_points *p, int64_t before);

/* ---- audittext/whole.c: events that are handed out when they have ended ---- */

/* Whether there is room for all that the next line may end. */
int whole_room(const struct auditns_scan *s, const struct auditns_points *p);

/* One line; h is NULL for one without a header. 0: there is no memory. */
int whole_line(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t line, uint32_t end,
               const struct head *h);

/* End the events that have ended but for records of ours. */
void whole_end_waiting(struct auditns_scan *s, struct auditns_points *p, const char *buf, int64_t before);

/* End the events whose last record came up to then. */
void whole_end(struct auditns_scan *s, struct auditns_points *p, const char *buf, int64_t before);

/* Where the text begins that is still needed. */
uint32_t whole_first(const struct auditns_scan *s);

int64_t whole_oldest(const struct auditns_scan *s);

/* As auditns_open_calls(). */
uint32_t whole_open_calls(const struct auditns_scan *s, const struct auditns_points *p, struct auditns_call *calls);

#endif
