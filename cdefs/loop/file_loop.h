/* Text of a file into an output, block by block, as long as rows answer all of it; pipeline/file_loop.py says what for. */

struct file_loop {
    struct auditns_stream *stream;
    struct auditns_scan *scan;
    struct auditns_points *points;
    struct row_lookup *lookup;
    const struct auditns_tails *tails;
    int fd, to;                 /* descriptors: of the file, and of the output */
    uint64_t block;             /* so much is read at once (bytes) */
    uint32_t rounds;            /* after so many blocks somebody else is to be looked after */
    uint32_t careful;
    int64_t now;                /* all is answered as of then (CLOCK_MONOTONIC ns) */
    int64_t before;             /* what is stamped before this (ms) is nobody's, whose number and kind these are: */
    uint32_t nobody, nobody_kind;
    uint64_t low, high;         /* the serials that are answered as of then */
    uint32_t *choice, *missed;  /* room for `most` points each */
    uint32_t most;
    char *out;
    uint64_t room;
    uint64_t answered, events, counted[4]; /* since somebody last took note of it */
    uint64_t done, size;        /* of the last block: so much of it was written */
    int unended;                /* what was read last has no newline at its end */
};

/* Why file_rounds returned: so many blocks are done; nothing was to be read, or that failed; what is to be read needs more
 * room in the stream; what was read is to be scanned, with more room for its points; the points are the caller's to answer;
 * the output did not take all of `size` bytes of `out`. */
#define FILE_DONE 0
#define FILE_UNREAD 1
#define FILE_ROOM 2
#define FILE_UNSCANNED 3
#define FILE_ASKED 4
#define FILE_REST 5

int file_rounds(struct file_loop *loop);
