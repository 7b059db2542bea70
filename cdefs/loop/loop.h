/* The fast path of the loop; pipeline/native_loop.py says which rounds it takes. */

#define LOOP_POINTS 4096
#define LOOP_TEXT 131072 /* of a stream so much is read at once: what comes of it still is in the processor's cache */

/* What the rounds of the fast path work on, and what they have done since somebody last took note of it. Times are
 * CLOCK_MONOTONIC ns. */
struct native_loop {
    struct intake *intake;
    struct auditns_stream *stream;
    struct auditns_scan *scan;
    struct auditns_points *points;
    struct table *table;
    struct row_lookup *lookup;  /* NULL: all points are for the caller to answer */
    const struct auditns_tails *tails;
    const struct json_rows *objects; /* NULL: plain text is wanted, with `tails` in it */
    const struct clone_calls *clones; /* NULL, or what these have returned is wanted, but not here */
    int64_t (*see)(struct perf_look *); /* perf_look, or what a test puts in its place */
    struct perf_look *look;
    struct coalescer *coalescer;
    uint32_t outputs;           /* how many the text goes to */
    int by_caller;              /* it is for the caller to write */
    struct native_output output[OUTPUTS];
    char *out;
    uint64_t room;
    uint64_t next;              /* the serial that comes next */
    uint64_t changes, logins;   /* of the scan: how many there were */
    uint64_t answered, events, counted[4];
    uint64_t bytes;             /* of frames that the table has applied */
    char *journal;              /* what goes to the journal: frames that were applied, and which events answered; NULL: none */
    uint64_t journal_room, journal_len;
    int64_t end, hold;          /* end: of the rounds; hold: how long an event is waited for whose end has not come */
    int64_t size;               /* what is left for the caller: bytes of `text`; -1: his to answer */
    const char *text;           /* what the round has made */
    int64_t drained;            /* bytes of frames in `look`, or its error */
    uint64_t applied;           /* of these: the caller is to apply the rest */
    int64_t ms;                 /* of the newest event */
    uint32_t careful;
    int epoll, others, fd;      /* sets of descriptors: all that are waited for; and all but fd, which text comes on */
    int scanned;                /* all was scanned */
    int waits;                  /* of what the intake's thread has taken in something was left to be read */
    uint32_t choice[LOOP_POINTS];
};

/* How a round went. Done: perhaps text is left for the caller; nothing: there was nothing to read; open: the event's end
 * is still to come; unseen: not for the fast path, and no frame was applied; unknown: not for it, and `applied` were.
 * Other: somebody else is ready, or it is time to come back. Asked: all frames were applied, and the caller is to answer
 * the points, of the events that come next. */
#define LOOP_DONE 0
#define LOOP_NOTHING 1
#define LOOP_OPEN 2
#define LOOP_UNSEEN 3
#define LOOP_UNKNOWN 4
#define LOOP_OTHER 5
#define LOOP_ASKED 6

/* One round, where text has come. */
int loop_round(struct native_loop *quick);

/* Wait until somebody is ready or it is time to come back; text gathers meanwhile. */
void loop_wait(struct native_loop *quick);

/* The same, and do rounds as long as they are done and leave nothing. */
int loop_rounds(struct native_loop *quick);

/* Rounds of what the intake's thread has taken in, as long as they are done, leave nothing, and there is time; how the last
 * one went. Nobody is waited for. */
int loop_backlog(struct native_loop *quick);
