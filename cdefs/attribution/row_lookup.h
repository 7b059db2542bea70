/* Answers from rows of the process table; attribution/row_lookup.py says what for. */

#define LOOKUP_EXECS 256

/* How stamps are to be read (CLOCK_MONOTONIC ns), and what the last call found. */
struct row_lookup {
    struct table *table;
    struct said *said;          /* NULL: events that have records of ours in their text are missed */
    uint32_t said_generation;   /* what was remembered there in another one does not hold any more */
    int64_t offset, lag;        /* CLOCK_REALTIME minus CLOCK_MONOTONIC; how far behind its stamp an event may be */
    int64_t steady, gap;        /* the stamps that have one meaning, and of whose time nothing is missing, begin here */
    int64_t horizon;            /* who ended before this is forgotten */
    uint32_t next_stamps;       /* the text is older than the moment at which it is answered: see exec_match.written_until */
    uint32_t *rows;             /* NULL, or by point: the row that answered it, 0 for others; room for all points */
    uint32_t *texts;            /* NULL, or by point: the number of the state that its text says (said_put), 0 for others */
    uint32_t counted[4];        /* by kind: the answers that the last call found */
};

/* Put into `choice` what rows say, at `now` (CLOCK_MONOTONIC ns), about the points from `first` up to `end`. The others,
 * and those with a flag of `careful` (an exec may be answered none the less), go to `missed`; returns how many.
 * missed NULL: all or none, 0 is all; and where it is none nothing is consumed, and the process is among `wanted_pid` of
 * the table. */
uint32_t lookup_find(struct row_lookup *lookup, const struct auditns_points *points, uint32_t first, uint32_t end,
                     uint32_t careful, int64_t now, uint32_t *choice, uint32_t *missed);

/* EXE frames, of `now`, for the records of execs among the points from `first` up to `end` of which rows have the one exec
 * that is meant, into `frames`; what rows cannot say goes to `missed`, *missing how many. Returns the bytes of frames, or -1
 * where there is not room enough. */
int64_t lookup_programs(const struct row_lookup *lookup, const struct auditns_points *points, uint32_t first, uint32_t end,
                        int64_t now, uint8_t *frames, uint64_t room, uint32_t *missed, uint32_t *missing);

/* Put `number`, the answer of nobody, into `choice` for the points from `first` up to `end` that are stamped before
 * `before` (ms): the model begins behind them. The others, and those with a flag of `careful` (but an
 * exec, or records of ours that say what others have said) or without a process, go to `missed`; returns how many. */
uint32_t lookup_nobody(struct row_lookup *lookup, const struct auditns_points *points, uint32_t first, uint32_t end,
                       uint32_t careful, int64_t before, uint32_t number, uint32_t *choice, uint32_t *missed);

/* What is said of the processes of rows, as numbers of texts. */
struct row_text {
    uint64_t start;
    uint32_t profile, number;
};

/* All of a profile whom one process has made have one text, but for the first process of their container. */
struct row_siblings {
    uint64_t creator_start, first_start;
    int32_t creator, first;
    uint32_t profile, number;   /* number 0: there is nothing here */
};

#define ROW_SIBLINGS 4096 /* a power of two; when half of it is taken all is forgotten */

/* All of a profile have one text, whoever made them: nothing is said of the parents of processes outside containers. */
struct row_profile {
    uint64_t given;             /* which profile it is */
    uint32_t number;            /* 0: there is nothing here */
};

struct row_texts {
    struct row_text *text;
    struct row_profile *profile;
    uint32_t room, made, profiles;
    struct row_siblings siblings[ROW_SIBLINGS];
};

struct row_texts *row_texts_new(void);
void row_texts_free(struct row_texts *texts);
void row_texts_clear(struct row_texts *texts);

/* Put into `who` the numbers of what is said of `rows`, by point (0: no row), and into `starts` when they began; rows of
 * which the cache has nothing go to `missed`, each once. Returns how many: give them numbers, and ask again.
 * AUDITNS_NO_MEMORY: there is none. */
#define AUDITNS_NO_MEMORY 0xffffffff
uint32_t row_texts_find(struct row_texts *texts, const struct table *table, const uint32_t *rows, uint32_t n,
                        uint32_t *who, uint64_t *starts, uint32_t *missed);
void row_texts_put(struct row_texts *texts, uint32_t row, uint32_t number);
/* The same, for all of the profile of the row. 0: there is no memory. */
int row_texts_all(struct row_texts *texts, const struct table *table, uint32_t row, uint32_t number);
/* As row_texts_find, where all of the rows have a number already, without the help of those whom their creators have made;
 * else 0, and nothing has happened. */
int row_texts_ready(struct row_texts *texts, const struct table *table, const uint32_t *rows, uint32_t n, uint32_t *who,
                    uint64_t *starts);
/* The same, for all whom the creator of the row has made, but for the process `first` that began at `first_start`; until
 * row_texts_forget. */
void row_texts_made(struct row_texts *texts, const struct table *table, uint32_t row, uint32_t number, int32_t first,
                    uint64_t first_start);
void row_texts_forget(struct row_texts *texts);

/* The points for which `who` has 0 go to `found`; not those of an EOE that is late, which is about nobody. */
uint32_t row_texts_left(const struct auditns_points *points, const uint32_t *who, uint32_t *found);

/* The first n points of `left` have in `who` what `numbers` has for their `which`; those for which that is 0 stay in `left`.
 * Returns how many they are. */
uint32_t row_texts_others(uint32_t *left, uint32_t n, const uint32_t *which, const uint32_t *numbers, uint32_t *who);

/* Where all points are answered by rows: insert the texts, as auditns_assemble does; -1 where not all are, or there is
 * not room enough, and nothing has happened. */
int64_t lookup_join(struct row_lookup *lookup, const struct auditns_points *points, uint32_t consumed, uint32_t careful,
                    int64_t now, uint32_t *choice, const struct auditns_tails *tails, char *out, uint64_t room);
