/* How long audit text gathers before it is read; pipeline/coalescing.py says why. Times are CLOCK_MONOTONIC ns. */

struct coalescer {
    int64_t fixed;  /* wait always so long (ns); negative: as the rate of events has it */
    int64_t last;   /* when text was read last */
    double rate;    /* events a second, an average over about COALESCE_WINDOW */
    double most;    /* events that may gather: what the source has room for */
    int64_t limit;  /* no longer than this, whatever else (ns) */
    int prompt;     /* somebody waits for each event */
    int much;       /* more than COALESCE_MUCH was read last */
};

#define COALESCE_WINDOW 100000000 /* ns */
#define COALESCE_BUSY 2000        /* events a second from which on waiting pays though somebody waits for each */
#define COALESCE_SHORT 3000000    /* so long then (ns) */
#define COALESCE_LONG 40000000    /* so long where nobody does (ns) */
#define COALESCE_FEW 1            /* unless fewer events than that would gather */
#define COALESCE_LEAST 500000     /* a writer that fills the socket sooner than that waits none the less (ns) */
#define COALESCE_MUCH 131072      /* after so much text the socket is full again before the last of it is worked on (bytes) */

/* How long to wait at `now`, when text has come, before it is read (ns). */
int64_t coalescer_pause(const struct coalescer *c, int64_t now);
/* Whether an event is to be expected within the `pause` that begins at `now`. */
int coalescer_expects(const struct coalescer *c, int64_t now, int64_t pause);
/* `events` were read at `now`, in `size` bytes. */
void coalescer_note(struct coalescer *c, uint64_t events, int64_t now, uint64_t size);
