/* Audit text is taken in here, by the loop itself or by a thread beside it; sources/intake.py says when by which. */

#define INTAKE_STREAM 0
#define INTAKE_READLOG 1
#define READLOG_LINE 8938 /* the longest line of a record, its newline included */

struct intake;

/* Events that were dropped for want of room: serials first to last, how many events and records that was, and the time
 * of the first and the last (ms since 1970). */
struct intake_gap {
    uint64_t first, last, events, records;
    int64_t from_ms, to_ms;
};

struct intake_news {
    int64_t taken;              /* when the text was taken in that intake_read gave last (CLOCK_MONOTONIC ns); 0: just then */
    int64_t oldest;             /* the same of the oldest text that waits; 0: none does */
    uint64_t bytes;             /* read from the descriptor */
    uint64_t memory, spool;     /* bytes that wait now, and where */
    uint64_t most;              /* the most that ever waited */
    uint64_t takeovers;         /* how often the thread took over */
    uint64_t dropped_events, dropped_records;
    int apart;                  /* the thread reads */
    int middle;                 /* what intake_read gave last ended within a line */
    int gaps;                   /* how often intake_dropped has something to tell */
    int failed;                 /* errno of the spool, which is not used any more; 0: none */
};

/* What the READLOG reader counts; see sources/readlog.py. */
struct readlog_counts {
    uint64_t received, overruns, foreign, malformed, truncated, mended;
};

/* Read `fd`, which must not block: a stream of text, or a NETLINK_AUDIT socket. At most `memory` bytes wait in memory,
 * then up to `disk` in the file `spool` (negative: there is none), which stays the caller's. NULL without memory. */
struct intake *intake_new(int fd, int kind, uint64_t memory, uint64_t disk, int spool);
/* Start the thread, guarding; returns 0, or -errno: then nobody takes over. `full`: bytes of a socket's buffer that are
 * worth taking over for (0: time alone tells). */
int intake_start(struct intake *in, uint64_t full);
/* From now on the thread guards the loop, which has other work (1); or the loop waits for text itself (0). */
void intake_guard(struct intake *in, int on);
/* Readable while text waits that the thread has taken in. */
int intake_fileno(const struct intake *in);
/* Stop the thread, which must not have been left by fork(), and let go of everything but the descriptors. */
void intake_free(struct intake *in);

/* Put text into the stream, which ends its last points. Returns how many bytes, 0 at the end, -EAGAIN where there is none
 * now, -ENOBUFS where the stream needs more room first, or another -errno. */
int64_t intake_read(struct intake *in, struct auditns_stream *stream);
/* The same, but no more than `most` bytes of a stream, or of what waits. */
int64_t intake_read_some(struct intake *in, struct auditns_stream *stream, uint64_t most);
/* Nothing that comes later is to be taken in: the end is where nothing waits for the first time from now on. */
void intake_finish(struct intake *in);
/* Drop all that waits; *gap tells what that was. Returns 0 where nothing did. */
int intake_abandon(struct intake *in, struct intake_gap *gap);
/* The next events that were dropped before what was read last; 0: there are none. */
int intake_dropped(struct intake *in, struct intake_gap *gap);
void intake_tell(struct intake *in, struct intake_news *news);
void intake_readlog_counts(const struct intake *in, struct readlog_counts *counts);
/* Which names record types have: count names, NUL-ended one behind the other, and their numbers. */
void intake_readlog_names(const char *names, const uint32_t *numbers, uint32_t count);
