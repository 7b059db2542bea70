/* The audit text scanner: declarations shared by cffi and the C sources. What each flag and field means is
 * written in auditns_connector/vocabulary/audit_text.py; tests/reference/audittext.py is the readable reference of
 * the same functions. */

/* Points and lines, one array for each field; offsets count from the start of the block. */
struct auditns_points {
    uint32_t cap, line_cap;     /* how many the arrays hold; set by the caller */
    uint32_t n, line_n;         /* ready: of decided events, before the consumed offset */
    uint32_t used, line_used;   /* the same, void ones counted: what the next call drops */
    uint32_t total, line_total; /* ready and pending */
    uint32_t subjects;          /* how many of the ready points are the subject of an event */
    uint32_t late;              /* and how many that of records whose event was handed out before */
    uint32_t rest;              /* and how many of that which had not ended then: AUDITNS_P_REST */
    uint32_t listed;            /* the ready lines stand event by event, wherever they lie in buf */
    uint32_t out_from, out_end; /* else the text that is handed out now: a line may be before its event is decided */
    const char *buf;            /* the block that was scanned: set by the caller */
    uint32_t len;
    int64_t *ms, *exit;
    uint64_t *serial;
    uint32_t *flags, *at, *hdr_off, *node_off, *line_off, *aux1_off, *aux2_off, *key_off, *event, *arch;
    uint32_t *aux1_len, *aux2_len, *key_len, *lead_len, *trail_off, *trail_len, *origin;
    int32_t *pid, *ppid, *sysno;
    uint16_t *hdr_len, *node_len, *rtype, *recno;
    uint32_t *l_off, *l_len, *l_event, *l_body;
    uint16_t *l_type;
};

struct auditns_event {
    int64_t ms, base;
    uint64_t serial, node;
    int64_t seen;               /* when its last record came */
    uint32_t id, first, point;
    int32_t placed;             /* the process of which a place was handed out before; 0: none */
    uint16_t recno;
    uint8_t own, kernel, begun, lone, syscall, exec, titled, passed, ended, former;
    uint16_t older, newer, chain; /* slots of others: see open.c */
    uint64_t turn;              /* the line that was its last, as it seems, counted from 1: ours are waited for; or 0 */
    int64_t heard;              /* the newest time in the text then */
};

struct auditns_closed {
    int64_t ms;
    uint64_t serial, node;
    uint64_t kept;              /* where whole events are handed out: who wants it, a bit for each output */
    uint64_t at;                /* how many were decided before it */
    uint32_t recno, used;
    uint32_t number;            /* and which it was */
    int32_t pid, ppid;          /* of its subject */
    uint32_t own;               /* a record of ours was in it: none may be put in any more */
    uint32_t syscall;           /* its SYSCALL has come */
    uint32_t ended, cut;        /* its end has come; it was handed out before, for there was no room to wait */
    uint32_t rest;              /* more of it has come than was handed out first */
    uint32_t chain;             /* see closed.c */
};

/* An event whose SYSCALL has come, when `at` others had been decided. */
struct auditns_answered {
    int64_t ms;
    uint64_t serial, node, at;
    uint32_t used;
};

/* The newest `room` (a power of two) of the events that were decided, of `count` in all. */
struct auditns_memory {
    uint64_t count;
    uint32_t room;
    struct auditns_closed *closed;
    uint32_t *bucket;
};

/* Serials that have not come; they were found missing at `until`. */
struct auditns_hole {
    uint32_t first, count;
    int64_t until;
};

struct auditns_serials {
    uint32_t began, high, holes; /* high: the greatest serial that has come */
    uint64_t node;               /* whose they are */
    int64_t lost;                /* holes were given up that were found up to this time */
    struct auditns_hole hole[AUDITNS_MAX_HOLES]; /* in the order in which they were found */
};

struct auditns_whole;

struct auditns_scan {
    int64_t clock;
    uint32_t consumed, line, searched;
    uint32_t open, slots, next_id, voids, in_long;
    struct auditns_whole *whole; /* NULL: events are handed out in the order of the text, else whole ones as they end */
    int64_t now, idle;          /* set by the caller: when the text came; mode idle: what has had none since is complete */
    uint64_t base;              /* where in all the text the block begins */
    uint32_t patient;           /* records of ours may follow: set by the caller, and by the first one that comes */
    uint32_t hold;              /* set by the caller: no line is handed out before its event is decided */
    uint32_t at_end;            /* set by the caller: ours stand at the end of the event, behind its PROCTITLE */
    uint32_t behind;            /* where records of ours were with a PROCTITLE: 0 none was seen yet, 1 before, 2 behind it */
    uint32_t awaits;            /* set by the caller: AUDITNS_AWAITS_* */
    uint32_t ours;              /* a record of ours has come */
    uint32_t given;             /* up to where lines were handed out */
    uint64_t lines;             /* how many newlines were found */
    uint64_t changes;           /* how many CONFIG_CHANGE records: they may be part of a system call's event */
    uint64_t logins;            /* how many LOGIN records */
    uint64_t records, foreign;  /* how many lines were records, and how many neither that nor empty */
    uint64_t cut;               /* how many events were handed out before their end, for there was no room to wait */
    uint16_t oldest, newest, free, last;
    uint16_t lone;              /* the open event that the next line ends unless it is of it */
    uint16_t bucket[AUDITNS_MAX_OPEN];
    struct auditns_event event[AUDITNS_MAX_OPEN];
    struct auditns_closed closed[AUDITNS_CLOSED];
    uint32_t closed_bucket[AUDITNS_CLOSED];
    uint64_t decided;           /* events */
    struct auditns_answered *answered; /* NULL, or by serial: more of them than are in `closed` */
    uint64_t turn, settled;     /* lines that have come, and those of them that no event waits behind */
    uint64_t due;               /* the line, and the time in the text, up to which no event has waited for long enough */
    int64_t due_ms;
    uint16_t recent[AUDITNS_PATIENT_LINES]; /* by line: the event that waits behind it; 0: none */
    struct auditns_serials serials;
};

/* What the head of a line says; offsets are those of the line. */
struct auditns_head {
    int64_t ms;
    uint64_t serial;
    uint32_t node_off, node_len, name_off, name_len, body, end, type;
};

/* Whether the line, without its newline, is a record. */
int auditns_head(const char *line, uint32_t len, struct auditns_head *head);

/* Fill the table of type names: count names, NUL-ended one behind the other; bit 16 of a number: ours. */
void auditns_text_types(const char *names, const uint32_t *numbers, uint32_t count);

/* Hand out whole events from now on, of up to `limit` bytes of records each, `most` of which may be open; what was not
 * consumed before is to be scanned again. 0: there is no memory. */
int auditns_scan_whole(struct auditns_scan *scan, struct auditns_points *points, uint64_t limit, uint32_t most);
void auditns_scan_free(struct auditns_scan *scan);

/* The earliest time at which the last record of an open event came; INT64_MAX where none is open. */
int64_t auditns_scan_oldest(struct auditns_scan *scan);

/* When the newest hole was found in the serials of this host's events, or when the first of them came: what an event of
 * before that time would have reported may be missing. INT64_MAX where none has come. */
int64_t auditns_missing_before(const struct auditns_scan *scan);

/* The system calls whose events are open, and the processes that made them. Returns how many those are, AUDITNS_MAX_PIDS
 * where there may be more. For the points of the last scan. */
struct auditns_call {
    uint64_t serial;
    int32_t pid;
};

uint32_t auditns_open_calls(struct auditns_scan *scan, const struct auditns_points *points, struct auditns_call *calls);

/* Set keep[number - first], a bit for each output (the lowest is that of all outputs with one filter), for late events
 * as it was for the event they belong to. */
void auditns_keep_late(const struct auditns_scan *scan, const struct auditns_points *points, uint32_t first,
                       uint32_t count, uint64_t *keep);

/* The points of records with AUDITNS_P_REST, and for each a bit for each output to which went what came of their event
 * before; `keep` is what is kept of the events that are handed out now. Returns how many; of events that are not
 * remembered there are none. Both arrays have room for all points. */
uint32_t auditns_rest(const struct auditns_scan *scan, const struct auditns_points *points, uint32_t first,
                      uint32_t count, const uint64_t *keep, uint32_t *which, uint64_t *kept);

/* Remember what was kept of the events that are handed out, with these points. */
void auditns_kept(struct auditns_scan *scan, const struct auditns_points *points, uint32_t first, uint32_t count,
                  const uint64_t *keep);

/* Scan buf, which begins where the last call's returned offset was. Returns how many bytes are not needed any more, or
 * -1 when the arrays of points or lines are full: grow them and call again with the same block; -2 for lack of memory.
 * Ahead: decide nothing yet, the next call scans on. Without `hold` and whole events lines are handed out as they come;
 * the ready lines are then those that are still needed, seen before or not. */
int64_t auditns_scan(struct auditns_scan *scan, struct auditns_points *points, const char *buf, uint32_t len, int mode);

/* A buffer of text: from start to scanned it has been scanned, consumed bytes of that are not needed any more, up to end
 * it is filled. */
struct auditns_stream {
    char *buf;
    uint64_t size, start, scanned, end, consumed;
    uint64_t least;             /* for less room than this nothing is read */
};

/* Scan up to `most` bytes more; returns as auditns_scan. */
int64_t auditns_stream_scan(struct auditns_stream *stream, struct auditns_scan *scan, struct auditns_points *points,
                            uint64_t most, int mode);

/* Make room for `size` bytes behind what is there, which may move; 0: there is not enough. Ends the last points. */
int auditns_stream_room(struct auditns_stream *stream, uint64_t size);

/* The least and the greatest time and serial of some points; complete: every serial between is there (never
 * where it is more than AUDITNS_MAX_RANGE of them). */
struct auditns_range {
    int64_t first_ms, last_ms;
    uint64_t low, high;
    uint32_t complete;
};

void auditns_range(const struct auditns_points *points, uint32_t first, uint32_t end, struct auditns_range *range);

/* What may be inserted, numbered from 1; number 0 inserts nothing. A byte 0 in a text stands for the point's
 * "msg=audit(...):", a byte 1 for its "node=HOST " prefix; headers and nodes count them. */
struct auditns_tails {
    const char *text;
    const uint32_t *off;            /* count + 1 of them */
    const uint8_t *headers, *nodes;
    uint32_t count;
};

/* Where one of the `count` needles (count + 1 offsets, none empty) stands first in buf; -1: nowhere. */
int64_t auditns_find(const char *buf, uint64_t len, const char *needles, const uint32_t *off, uint32_t count);

/* How many newlines there are. */
uint64_t auditns_lines(const char *buf, uint64_t len);

/* Write the text that is handed out, up to `consumed`, with the chosen tails inserted to out, as much as there is room for
 * (room 0: only count); returns how many bytes it is. keep: NULL, or, where whole events are
 * listed, one byte for each of keep_count events from number keep_first on: lines of events that are not kept, and foreign
 * and late lines, are left out together with what would be inserted at them. */
uint64_t auditns_assemble(const char *buf, uint32_t consumed, const struct auditns_points *points,
                          const uint32_t *choice, const struct auditns_tails *tails, const uint8_t *keep,
                          uint32_t keep_first, uint32_t keep_count, char *out, uint64_t room);
