/* The audit text scanner: declarations shared by cffi and the C sources. What each flag and field means is
 * written in auditns_connector/vocabulary/audit_text.py; decode/audittext.py is the readable reference of the same
 * functions. A test compares the numbers here with those there. */

#define AUDITNS_P_SUBJECT 1
#define AUDITNS_P_TARGET 2
#define AUDITNS_P_EXEC 4
#define AUDITNS_P_USER 8
#define AUDITNS_P_NETFILTER 16
#define AUDITNS_P_SINGLE 32
#define AUDITNS_P_HAS_TARGET 64
#define AUDITNS_P_NODE 128
#define AUDITNS_P_OWN 256
#define AUDITNS_P_LATE 512
#define AUDITNS_P_SYSCALL 1024
#define AUDITNS_P_SUCCESS 2048

#define AUDITNS_MODE_MORE 0
#define AUDITNS_MODE_FLUSH 1
#define AUDITNS_MODE_EOF 2
#define AUDITNS_MODE_AHEAD 3

#define AUDITNS_LINE_FOREIGN 0xffffffff
#define AUDITNS_LINE_LATE 0xfffffffe

#define AUDITNS_MAX_LINE 65536
#define AUDITNS_MAX_SPAN 65536
#define AUDITNS_MAX_OPEN 256
#define AUDITNS_MAX_WHOLE 1048576
#define AUDITNS_CLOSED 256
#define AUDITNS_TYPES 1024

/* Points and lines, one array for each field; offsets count from the start of the block. */
struct auditns_points {
    uint32_t cap, line_cap;     /* how many the arrays hold; set by the caller */
    uint32_t n, line_n;         /* ready: of decided events, before the consumed offset */
    uint32_t used, line_used;   /* the same, void ones counted: what the next call drops */
    uint32_t total, line_total; /* ready and pending */
    uint32_t subjects;          /* how many of the ready points are the subject of an event */
    const char *buf;            /* the block that was scanned: set by the caller */
    uint32_t len;
    int64_t *ms, *exit;
    uint64_t *serial;
    uint32_t *flags, *at, *hdr_off, *node_off, *line_off, *aux1_off, *aux2_off, *key_off, *event, *arch;
    uint32_t *aux1_len, *aux2_len, *key_len;
    int32_t *pid, *ppid, *sysno;
    uint16_t *hdr_len, *node_len, *rtype, *recno;
    uint32_t *l_off, *l_event, *l_body, *l_next;
    uint16_t *l_type;
};

struct auditns_event {
    int64_t ms, base;
    uint64_t serial, node;
    uint32_t id, first, point;
    uint16_t recno;
    uint8_t own, kernel, lone, syscall, exec;
};

struct auditns_closed {
    int64_t ms;
    uint64_t serial, node;
    uint32_t recno, used;
};

struct auditns_scan {
    int64_t clock;
    uint32_t consumed, line, searched;
    uint32_t open, last, next_id, voids, in_long;
    uint32_t whole;             /* set by the caller: hand out whole events only */
    uint64_t lines;             /* how many newlines were found */
    uint64_t changes;           /* how many CONFIG_CHANGE records: they may be part of a system call's event */
    struct auditns_event event[AUDITNS_MAX_OPEN];
    struct auditns_closed closed[AUDITNS_CLOSED];
};

/* Fill the table of type names: count names, NUL-ended one behind the other; bit 16 of a number: ours. */
void auditns_text_types(const char *names, const uint32_t *numbers, uint32_t count);

/* Scan buf, which begins where the last call's consumed bytes ended. Returns how many bytes are decided, or -1
 * when the arrays of points or lines are full: grow them and call again with the same block. Ahead: decide nothing yet,
 * the next call scans on. */
int64_t auditns_scan(struct auditns_scan *scan, struct auditns_points *points, const char *buf, uint32_t len, int mode);

/* A buffer of text: from start to scanned it has been scanned, consumed bytes of that are decided, up to end it is
 * filled. */
struct auditns_stream {
    char *buf;
    uint64_t size, start, scanned, end, consumed;
    uint64_t least;             /* for less room than this nothing is read */
};

/* Scan up to `most` bytes more; returns as auditns_scan. */
int64_t auditns_stream_scan(struct auditns_stream *stream, struct auditns_scan *scan, struct auditns_points *points,
                            uint64_t most, int mode);

/* Read once from fd into what is free behind the text, which ends the last points. Returns how many bytes, 0 at the
 * end, or a negative errno; -ENOBUFS: make room first. */
int64_t auditns_stream_read(struct auditns_stream *stream, int fd);

#define AUDITNS_MAX_RANGE 65536

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

/* How many newlines there are. */
uint64_t auditns_lines(const char *buf, uint64_t len);

/* Write buf[:consumed] with the chosen tails inserted to out, as much as there is room for (room 0: only count); returns
 * how many bytes it is. keep: NULL, or one byte for each of keep_count events from number keep_first on: lines of events
 * that are not kept, and foreign and late lines, are left out together with what would be inserted at them. */
uint64_t auditns_assemble(const char *buf, uint32_t consumed, const struct auditns_points *points,
                          const uint32_t *choice, const struct auditns_tails *tails, const uint8_t *keep,
                          uint32_t keep_first, uint32_t keep_count, char *out, uint64_t room);

/* Points about one process, found by auditns_group; arrays of `cap`, `slots` of four times as many (at least 2). */
struct auditns_groups {
    uint64_t seed;              /* odd */
    uint32_t cap;
    uint32_t *first, *count;    /* of each group: its first point, how many points it has */
    uint32_t *flags;            /* what its first point says */
    int32_t *pid;
    int64_t *low, *high;        /* and between which times they lie */
    uint32_t *which;            /* set by the caller: the points to group, in their order */
    uint32_t *group, *slots;    /* of each of these: its group */
};

/* Group the first `count` points of `which` by pid, in the order of their first points; one with a flag of `alone`, or
 * without a pid above 0, is a group of its own. Returns how many groups there are, 0xffffffff where cap is too small. */
uint32_t auditns_group(struct auditns_groups *groups, const struct auditns_points *points, uint32_t count, uint32_t alone);

/* Put into `choice`, for each of the first `count` points that were grouped, the number of its group. */
void auditns_spread(const struct auditns_groups *groups, const uint32_t *numbers, uint32_t count, uint32_t *choice);

#define AUDITNS_TOUCHED 32768
#define AUDITNS_HELD 262144
#define AUDITNS_ROWS 256
#define AUDITNS_SET 64
#define AUDITNS_EPSILON 1000000
#define AUDITNS_SLACK 20000000
#define AUDITNS_RECENT 10000000000

/* What was found out about a process: the number of an answer, which holds for stamps that mean more than `since`, and
 * at most `until` (CLOCK_MONOTONIC ns), if no frame has spoken of it since `stamp` but such as are followed. */
struct auditns_answer {
    int64_t since, until;
    int64_t exec;               /* when it execed, if no record has told of it yet; 0: it did not, -1: not known */
    uint64_t stamp;
    uint64_t cgroup;            /* the id that samples in its cgroup have; 0: not known */
    int32_t pid;                /* 0: nobody is here */
    uint32_t number;
    uint32_t missed;            /* the last round in which a point of it was missed */
    uint16_t set;               /* its namespaces, from 1; 0: neither its execs nor its children are followed */
    uint8_t kind;               /* how its answers are counted */
    uint8_t newborn;            /* nobody had the pid before, and it has been the same ever since */
    uint8_t threads;            /* it has, or had, other threads */
};

struct auditns_told {
    int64_t time;
    int32_t pid;
};

/* A table of answers with 2^bits places, at most half of them used; and what is the same for all of them. */
struct auditns_known {
    uint64_t seed;              /* odd */
    uint32_t bits, used;
    struct auditns_answer *answer;
    const uint8_t *sets;        /* AUDITNS_SET bytes each: what frames say of the namespaces that `set` means */
    int64_t offset, lag;        /* CLOCK_REALTIME minus CLOCK_MONOTONIC; how far behind its stamp an event may be */
    int64_t steady, gap;        /* the stamps that have one meaning, and of whose time nothing is missing, begin here */
    uint32_t round;
    uint32_t counted[4];        /* by kind: the answers that the last round found */
    uint32_t told_count, wanted_count;
    struct auditns_told told[AUDITNS_ROWS]; /* execs that were answered, for the model to know */
    int32_t wanted[AUDITNS_ROWS];           /* processes that it would help to know of */
};

/* When frames last spoke of a process: `slot` by its pid (several pids may share one), `all` of any; both count the
 * frames that did, `now` is the last one. `held`: twice
 * the time (ms) at which a frame spoke of a pid, one more where that was not its end; 0 never. */
struct auditns_touched {
    uint64_t now, all;
    int64_t horizon;            /* who ended before this is forgotten (CLOCK_MONOTONIC ns) */
    struct auditns_known *known;
    uint64_t slot[AUDITNS_TOUCHED];
    uint32_t held[AUDITNS_HELD];
};

/* Take note of whole frames; every: of whatever kind they are, they may speak of anybody. Returns 1 where what they say
 * of processes is no more than what was followed, or need not be known before the next answers. */
int auditns_follow(struct auditns_touched *touched, const char *frames, uint64_t len, int every);

/* A record of an exec of pid was answered by somebody else; all: there was no other. */
void auditns_exec_told(struct auditns_touched *touched, int32_t pid, int all);

/* Put into `choice` what is known, at `now` (CLOCK_MONOTONIC ns), about the points from `first` up to `end`. The others,
 * and those with a flag of `careful` (an exec may be known none the less), go to `missed`; returns how many.
 * missed NULL: all or none, 0 is all. */
uint32_t auditns_known_find(struct auditns_touched *touched, const struct auditns_points *points, uint32_t first,
                            uint32_t end, uint32_t careful, int64_t now, uint32_t *choice, uint32_t *missed);

/* Where all points are known: put the answers' texts in, as auditns_assemble does; -1 where not all are, or there is not
 * room enough, and nothing has happened. */
int64_t auditns_join(struct auditns_touched *touched, const struct auditns_points *points, uint32_t consumed,
                     uint32_t careful, int64_t now, uint32_t *choice, const struct auditns_tails *tails, char *out,
                     uint64_t room);

/* Add or replace answers; returns how many of them there was room for. */
uint32_t auditns_known_put(struct auditns_known *known, const struct auditns_answer *answers, uint32_t count,
                           uint64_t stamp);

/* Add to an empty table what in another one still holds, and did not end before `since`. */
void auditns_known_move(struct auditns_known *known, const struct auditns_known *former,
                        const struct auditns_touched *touched, int64_t since);

#define AUDITNS_QUICK 64

struct perf_look;
struct writer;

/* What usual rounds work on, and what they have done since somebody last took note of it. Times are CLOCK_MONOTONIC ns. */
struct auditns_quick {
    struct auditns_stream *stream;
    struct auditns_scan *scan;
    struct auditns_points *points;
    struct auditns_touched *touched;
    const struct auditns_tails *tails;
    int64_t (*see)(struct perf_look *);                     /* perf_look */
    struct perf_look *look;
    int (*give)(struct writer *, const char *, size_t);     /* writer_copy */
    struct writer *writer;      /* where the text goes; NULL: it stays in `out`, for the caller to give */
    char *out, *held;           /* held: frames that wait to be taken in */
    uint64_t room, held_room;
    uint64_t next;              /* the serial that comes next */
    uint64_t changes;           /* of the scan: how many there were */
    uint64_t bytes, answered, events, counted[4];
    uint64_t held_len, much;    /* much: of frames, to be taken in soon */
    uint64_t came, most;        /* how many events came since `began`; most: in a window of time, with which it goes on */
    int64_t began, window;
    int64_t end, hold;          /* end: of the rounds; hold: how long an event is waited for whose end has not come */
    int64_t pending;            /* since when one is, 0: none */
    int64_t size, drained;      /* what is left for the caller: bytes in `out`, and of frames in `look`, or its error */
    int64_t ms;                 /* of the newest event */
    uint32_t careful;
    int epoll, fd;
    int scanned, quiet;         /* all was scanned; what was followed last need not be taken in yet */
    uint32_t choice[AUDITNS_QUICK];
};

/* How a round went. Done: perhaps something is left for the caller; nothing: there was nothing to read; open: the event's
 * end is still to come; unseen: not usual, and the frames were not followed; unknown: not usual, and they were.
 * Other: somebody else is ready, or it is time to come back. */
#define AUDITNS_QUICK_DONE 0
#define AUDITNS_QUICK_NOTHING 1
#define AUDITNS_QUICK_OPEN 2
#define AUDITNS_QUICK_UNSEEN 3
#define AUDITNS_QUICK_UNKNOWN 4
#define AUDITNS_QUICK_OTHER 5

/* One round, where text has come. */
int auditns_quick_round(struct auditns_quick *quick);

/* Wait and do rounds as long as they are done and leave nothing. */
int auditns_quick_rounds(struct auditns_quick *quick);

#define AUDITNS_KEY_OTHER 0
#define AUDITNS_KEY_WANTED 1
#define AUDITNS_KEY_UNCLEAR 2

/* The number of the first event that the ready lines are of, and how many numbers there are from it to the last one. */
void auditns_events(const struct auditns_points *points, uint32_t *first, uint32_t *count);

/* For each point whether its key= is one of the `count` wanted ones (count + 1 offsets); unclear: not plainly quoted. */
void auditns_keys(const struct auditns_points *points, const char *buf, const char *wanted, const uint32_t *off,
                  uint32_t count, uint8_t *found);

/* found[i] = table[choice[i]] */
void auditns_pick(const uint32_t *choice, uint32_t n, const uint8_t *table, uint8_t *found);

/* found[i] = numbers[which[i]] */
void auditns_pick_numbers(const uint32_t *which, uint32_t n, const uint32_t *numbers, uint32_t *found);

/* The points from `first` up to `end` whose system call has a 1 in wanted (a byte for each of `count` numbers) go to
 * `found`, which has room for all of them; returns how many. */
uint32_t auditns_calls(const struct auditns_points *points, uint32_t first, uint32_t end, const uint8_t *wanted,
                       uint32_t count, uint32_t *found);

/* Set kept[number - first] for the events of the points that are good, or that have a line of one of the types (a byte for
 * each of 65536). */
void auditns_keep(const struct auditns_points *points, const uint8_t *good, uint32_t first, uint32_t count, uint8_t *kept);
void auditns_keep_types(const struct auditns_points *points, const uint8_t *types, uint32_t first, uint32_t count,
                        uint8_t *kept);
