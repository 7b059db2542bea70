/* The parts of the intake. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "audittext/audittext.h"
#include "intake/intake.h"

#define RESERVE (1u << 20) /* above the limit of the memory, for what is left of events that have begun */

/* Reads what is there without blocking: how many bytes, 0 at the end, or -errno. At least LEAST bytes of room. */
struct reader {
    int64_t (*read)(struct reader *reader, char *to, size_t room);
    int fd;
};
#define LEAST 65536 /* the stream has room for more than what is staged of a line */

struct reader *stream_reader(int fd);
struct reader *readlog_reader(int fd);
void readlog_counted(const struct reader *reader, struct readlog_counts *counts);
/* A record as auditd writes it, with its newline; `to` has room for READLOG_LINE bytes. Returns its size. */
size_t readlog_line(uint32_t type, const char *body, size_t len, char *to, struct readlog_counts *counts);

/* The state of some text. */
struct extent {
    uint64_t first, last, events, records;
    int64_t from_ms, to_ms;
};

/* Bytes in a ring, in memory or in a file. Positions only grow. */
struct ring {
    char *map; /* NULL: it is the file */
    int fd;
    uint64_t limit, size, head, tail;
};

struct block {
    int64_t begun, taken;
    uint64_t at, size, off;
    struct ring *ring;
    int reading;
    struct extent extent;
    struct intake_gap gap; /* what was dropped before it; records 0: nothing */
};

/* Blocks in the order in which they came. To be used with the lock held, but for ring_put and ring_get: the bytes that a
 * block has, or will have, are nobody else's. */
struct queue {
    struct ring memory, spool;
    struct block *blocks;
    uint32_t cap, head, count;
    uint64_t most;
    int failed;
};

int queue_init(struct queue *q, uint64_t memory, uint64_t disk, int spool);
void queue_free(struct queue *q);
/* Where `size` more bytes go; `reserve`: the reserve may be used. NULL: there is no room. */
struct ring *queue_room(struct queue *q, uint64_t size, int reserve);
/* There is some room again. */
int queue_eased(const struct queue *q);
int ring_put(struct ring *ring, const char *data, size_t size);
int ring_get(const struct ring *ring, uint64_t at, char *to, size_t size);
/* `size` bytes that were put into `ring` are there, taken in at `now`, with what was dropped before; 0 without memory. */
int queue_add(struct queue *q, struct ring *ring, uint64_t size, int64_t now, const struct extent *extent,
              const struct intake_gap *gap);
struct block *queue_head(struct queue *q);
/* `size` bytes of the first block were read. */
void queue_read(struct queue *q, uint64_t size);
/* Give back the room of what was read. To be called where no block waits, and none is being put. */
void queue_rest(struct queue *q);
uint64_t queue_waits(const struct queue *q);

/* Cuts text at the ends of events where there is no room for all of it. */
struct cutter {
    int dropping;
    int middle, kept;      /* the text before ended within a line, which was kept */
    int begun;             /* some serial was seen */
    uint64_t high;         /* the greatest serial that was kept */
    struct intake_gap gap; /* what was dropped since somebody last took this; records 0: nothing */
    struct intake_gap past; /* what was dropped the time before */
};

/* Decide about each line of data, the last of which may not be whole; `full`: there is no room but for what is left of
 * events that have begun, `last`: not even for that. What is kept is moved together; returns its size. */
size_t cut_events(struct cutter *c, char *data, size_t len, int full, int last, struct extent *extent);
void gap_join(struct intake_gap *gap, const struct intake_gap *more);

#define STAGE 262144u /* bytes that the thread reads at once */
#define GAPS 16

struct intake {
    pthread_mutex_t lock;
    struct reader *reader;
    int kind, epoll;
    int news, quit, timer; /* news: an eventfd that is readable while text waits; quit: one that ends the thread */
    int started, signalled;
    uint64_t full;
    int64_t patience;      /* so often the thread looks while it guards (ns) */
    pthread_t thread;
    /* with the lock held: */
    struct queue queue;
    int apart;            /* the thread reads; else the loop does, and the queue is empty */
    int busy;             /* it has read what is not in the queue yet */
    int ended;            /* there will be no more: 1, or -errno */
    int middle;           /* what the loop read last ended within a line */
    int64_t finishing;    /* nothing later than this is taken in; 0: it goes on */
    uint64_t reads, bytes, takeovers;
    int64_t taken;
    struct intake_gap reached[GAPS];
    int gaps;
    uint64_t dropped_events, dropped_records;
    /* the thread's own, while it reads: */
    struct cutter cutter;
    size_t staged;        /* what it has read of a line whose end has not come; the loop's, when it reads again */
    int64_t staged_at;
    char *stage;
};

/* To be called with the lock held: what waits is to be read, or nothing does. */
void signal_news(struct intake *in, int waits);
