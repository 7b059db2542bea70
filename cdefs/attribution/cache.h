/* The cache of attributions by pid; attribution/cache.py says what for. */

#define AUDITNS_TOUCHED 32768
#define AUDITNS_HELD 262144
#define AUDITNS_ROWS 256
#define AUDITNS_SET 64

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
    uint8_t leaving;            /* its exit sample has come: the EXIT behind that is its end */
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
