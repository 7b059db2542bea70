/* The process table for what is plain: rows for processes whose whole state is one, changed by frames alone;
 * auditns_connector/model/rows.py says what for. A process is either a row here or held by Python, never both. */

#define TABLE_PIDS 4194304 /* PID_MAX_LIMIT of the kernel: no pid is this large */
#define TABLE_COMM 16
#define TABLE_RAW 64
#define TABLE_EXECS 32
#define TABLE_MADE 64

/* What a frame did beside changing rows; `profile` has no member (no living process) any more. */
#define TABLE_NO_MEMBER 1
#define TABLE_NO_PROCESS 2
#define TABLE_UNUSED 3
#define TABLE_FORGOTTEN 4

/* Why table_apply returned: all is applied; the frame at `at` is for Python; so it is unless `want` is packed; look at
 * the effects and go on; these are no frames; there is no memory. */
#define TABLE_DONE 0
#define TABLE_FRAME 1
#define TABLE_WANT 2
#define TABLE_EFFECTS 3
#define TABLE_BAD 4
#define TABLE_NO_MEMORY 5

/* How a pid, or a tid, is held by Python */
#define TABLE_HELD_ENDED 1
#define TABLE_HELD 2
#define TABLE_HELD_THREAD 4
/* or what of a tid has come: its exit sample, and its EXIT has not */
#define TABLE_SAMPLED 8

/* All that the processes of one kind have in common, and hand down to their children. */
struct table_profile {
    uint8_t raw[TABLE_RAW];     /* what FORK frames say of their namespaces */
    uint64_t cgroup;            /* samples in their cgroup have this id; 0: whose samples have one are Python's */
    uint32_t child;             /* the profile of their children; 0: these are Python's, and threads too */
    uint32_t number;            /* of their answer */
    uint32_t generation;        /* of numbers, in which that holds */
    uint32_t epoch;             /* of losses, in which all this was certain */
    uint32_t rows;              /* processes, ended ones too, and profiles of which it is the child */
    uint32_t living, members;   /* processes alive; tasks that hold the namespaces. The child's are one more for each */
    uint8_t kind;               /* how answers are counted */
    uint8_t execs;              /* an exec in the same cgroup changes nothing */
    uint8_t lives;              /* types (bits, as in raw) of which a child may have a namespace of its own */
    uint8_t used;
    uint64_t given;             /* counts profiles: another one at this place has another number */
};

/* Shared with Namespaces: how many namespaces there were, and have lost their last task; the next minted serial */
struct table_numbers {
    uint64_t created, ended, mint_next;
};

/* Lives of namespaces, see lives.c: an output of one. `at` is the place of the namespace in it. */
#define LIFE_SEEN 1
#define LIFE_INIT 2
#define LIFE_CHANGE 3
#define LIFE_LEFT 4
#define LIFE_DEL 5
#define LIFE_TYPES 7

struct table_event {
    uint64_t time;
    uint32_t life;
    uint8_t what, at;
};

struct table_instance {
    uint64_t number, ino, serial, ended;
    uint64_t before;            /* number of the one that had the inode before, where it may turn out to be this one */
    uint8_t index, dead, followed;
};

struct table_life_row {
    uint64_t dev, maker_start, maker_since;
    int32_t pid, maker, ptid;
    uint32_t row, instances;
    int32_t sandbox;            /* place of the namespace that is a sandbox; -1: none is */
    uint8_t reported, left_reported; /* whether lifecycle was on when it began, and when it ended */
    char comm[TABLE_COMM], left_comm[TABLE_COMM];
    struct table_instance instance[LIFE_TYPES];
};

/* A maker whose events are only counted */
struct table_counted {
    uint64_t start, last;
    int32_t pid;
    uint32_t count, order;      /* `order`: the greater, the later came the last */
    char comm[TABLE_COMM];
};

struct table_effect {
    uint64_t time, start;
    int32_t pid, tid;
    uint32_t what, profile;
};

/* A row, as Python reads it */
struct table_row {
    uint64_t start, end, since, creator_start, not_before, place, execs_lost;
    uint64_t file;              /* the program that it, or whom it descends from, ran last, as a number; 0: none was seen */
    uint64_t ran, exe;          /* the time of that exec, and exe= of its record as a number; 0: not known */
    int32_t pid, creator;
    uint32_t row, prev, profile, version, execs, threads, made;
    uint8_t ended, counted, leader_gone, newborn, clone_parent, behind, held_before, early, scanned;
    uint8_t heirs;              /* somebody it made is forgotten, and has descendants */
    uint8_t life;               /* it has namespaces of its own */
    char comm[TABLE_COMM];
};

struct table_exec_row {
    uint64_t time, file;
    char comm[TABLE_COMM];
};

struct table_thread_row {
    int32_t tid;
    uint32_t counted;
};

struct table_made_row {
    uint64_t time;
    int32_t pid, tid;
};

struct table_dead_row {
    uint64_t start, end;
    int32_t pid;
};

/* Who made whom */
struct table_link {
    uint64_t start, creator_start, place;
    int32_t pid, creator;
};

/* The first of several processes; pid 0: there is none */
struct table_first {
    uint64_t start, place;
    int32_t pid;
};

/* A process that is forgotten, and from whom somebody may descend */
struct table_forebear {
    uint64_t start, end, creator_start, file, ran, exe;
    int32_t pid, creator;
    uint32_t profile;
    char comm[TABLE_COMM];
};

struct table_rows;

struct table {
    struct table_rows *rows;
    struct table_effect *effect;
    uint32_t effects, effect_room;
    uint64_t now;               /* time of the newest frame that was applied here */
    uint64_t at;                /* where table_apply stopped */
    uint64_t frames;            /* applied here */
    uint64_t places;            /* given to processes in order of appearance */
    int32_t want;
    uint32_t epoch;             /* the present one: what profiles of others say is in doubt */
    uint32_t generation;        /* of numbers of answers, from 1 */
    uint32_t round;             /* of look-ups */
    uint32_t processes, threads, dead;
    struct table_profile *profile;
    uint32_t profiles;
    uint64_t profiles_given;
    /* of those forgotten by table_expire, for the caller to take away before anything else is done */
    struct table_forebear *forebear;
    uint32_t forebears, forebear_room;
    /* lives of namespaces: NULL, and these are Python's; types that make sandboxes, the first in question first */
    struct table_numbers *numbers;
    uint8_t sandbox[LIFE_TYPES];
    uint32_t sandboxes;
    uint32_t not_alone;         /* types (bits) whose namespaces are Python's from their beginning */
    uint32_t lifecycle;         /* whether the lifecycle of namespaces is reported */
    uint32_t alive;             /* lives whose process has not ended */
    struct table_event *event;
    uint32_t events, event_room;
    int32_t *ask;               /* makers that /proc is to be asked about */
    uint32_t asks, ask_room;
    uint64_t *born;             /* numbers of namespaces whose serial nobody has asked for */
    uint32_t borns, born_room;
    /* processes that it would help to have here */
    uint32_t wanted;
    int32_t wanted_pid[256];
};

struct table *table_new(uint64_t seed);
void table_free(struct table *t);

/* Apply whole frames from `off` on; see TABLE_DONE and the others. */
int table_apply(struct table *t, const uint8_t *block, uint64_t len, uint64_t off);

/* Rows: 0 is none. The newest of a pid, and its version in *version; the process that thread tid is of. */
uint32_t table_find(const struct table *t, int32_t pid, uint32_t *version);
/* whether rows are of pid, of tid or of the process of a thread with either number */
int table_has(const struct table *t, int32_t pid, int32_t tid);
int32_t table_thread_of(const struct table *t, int32_t tid);
void table_read(const struct table *t, uint32_t row, struct table_row *out);
uint32_t table_read_execs(const struct table *t, uint32_t row, struct table_exec_row *out);
uint32_t table_read_threads(const struct table *t, uint32_t row, struct table_thread_row *out, uint32_t room);
uint32_t table_read_made(const struct table *t, uint32_t row, struct table_made_row *out);
uint32_t table_read_dead(const struct table *t, uint32_t back, struct table_dead_row *out);
/* Pids (living: whose process is alive) of newest rows, or of the rows of one profile, or the tids that are members of
 * it, as many as there is room for; returns how many there are. */
uint32_t table_pids(const struct table *t, uint32_t profile, int living, int32_t *out, uint32_t room);
uint32_t table_links(const struct table *t, struct table_link *out, uint32_t room);
uint32_t table_members(const struct table *t, uint32_t profile, int32_t *out, uint32_t room);
/* By profile, below `room`, the oldest living process of its rows, with one look at each row. */
void table_oldest(const struct table *t, struct table_first *out, uint32_t room);

/* Pack: 0 where there is no memory. The newest row of the pid; threads are its other tids. */
uint32_t table_pack(struct table *t, const struct table_row *row, const struct table_exec_row *execs,
                    const int32_t *tids, const struct table_made_row *made);
/* Drop a row that Python holds from now on; its end, if it had one, stays in the queue of the dead. */
void table_unpack(struct table *t, uint32_t row);
/* of the bits `what`, `how` says how Python holds pid; 0 where there is no memory */
int table_hold(struct table *t, int32_t pid, int how, int what);
int table_held(const struct table *t, int32_t pid);

void table_exec_consumed(struct table *t, uint32_t row, uint64_t time);
/* The record of the exec at `time` of pid has that exe=; whether a row still tells of this exec. */
int table_ran(struct table *t, int32_t pid, uint64_t time, uint64_t exe);
/* no exec in a former state is left that no record has consumed */
void table_none_behind(struct table *t, uint32_t row);
/* the answer about all that are of the profile of the row, in this generation of numbers, and how it is counted */
void table_answer(struct table *t, uint32_t row, uint32_t number, uint8_t kind);
void table_not_before(struct table *t, uint32_t row, uint64_t time);
int table_made(struct table *t, uint32_t row, uint64_t time, int32_t pid, int32_t tid);
void table_object(struct table *t, uint32_t row, int has);
/* rows of pid without a place have this one */
void table_place(struct table *t, int32_t pid, uint64_t place);

/* Who ended at `end` is kept until table_expire. 0 where there is no memory. */
int table_bury(struct table *t, int32_t pid, uint64_t start, uint64_t end);
void table_expire(struct table *t, uint64_t before);

uint32_t table_profile_add(struct table *t, const uint8_t *raw, uint64_t cgroup, uint32_t epoch, int execs);
void table_profile_lives(struct table *t, uint32_t profile, uint8_t types);
void table_profile_child(struct table *t, uint32_t profile, uint32_t child);
/* the key is the table's own: a name as a number */
uint64_t table_hash(const struct table *t, const char *text, uint64_t len);
/* Names by these numbers; not all are remembered. */
void table_name_put(struct table *t, uint64_t hash, const char *text, uint64_t len);
const char *table_name(const struct table *t, uint64_t hash, uint32_t *len);
/* whether the process of pid that began at `start` is remembered, or Python holds one */
int table_knows(const struct table *t, int32_t pid, uint64_t start);

/* Lives of namespaces. The life that a row is, 0: none; whether the row, or a former one of its pid, is one. */
uint32_t table_life_of(const struct table *t, uint32_t row);
int table_has_lives(const struct table *t, uint32_t row);
void table_life_read(const struct table *t, uint32_t life, struct table_life_row *out);
/* pids of lives that have not ended, as many as there is room for; returns how many there are */
uint32_t table_alive(const struct table *t, int32_t *out, uint32_t room);
/* Python knows of a namespace (type, inode) that is alive or may go on, or no more; before: number of one that has ended
 * and has no serial. 0: no memory */
int table_inode_taken(struct table *t, uint32_t index, uint64_t ino, int taken, uint64_t before);
/* Python's namespace of that number has a serial now: (kernel) the kernel's, so that it may go on */
void table_former_named(struct table *t, uint64_t number, int kernel);
/* pid of the life that has a living namespace (type, inode), or (open) one without a serial; 0: none */
int32_t table_inode_holder(const struct table *t, uint32_t index, uint64_t ino, int open);
/* whether a namespace (type, inode) of a life was reported at its beginning, and has a minted serial */
int table_inode_begun(const struct table *t, uint32_t index, uint64_t ino);
/* pid of the life that has the namespace of that number, which has no serial yet; 0: none */
int32_t table_number_holder(const struct table *t, uint64_t number);
/* All events have been consumed. */
void table_events_consumed(struct table *t);
/* whether one of the events that wait happened before */
int table_events_before(const struct table *t, uint64_t before);
/* Count events from `at` on, up to the first one that is of none of the makers, or not before `until`: returns its
 * place. (A sandbox whose number is never known is not counted; one that may still get it ends this too.) */
uint32_t table_events_count(const struct table *t, uint32_t at, uint32_t end, uint64_t until, struct table_counted *makers,
                            uint32_t count);
/* NSID frames that mint a serial for namespaces that nobody lives in any more (all: of every type; else of pid and user
 * alone); the others' numbers and pids are in out, but for those that began at or after `since`, which wait for the next
 * time. Returns the bytes of frames; *found: how many others. */
uint64_t table_ask_born(struct table *t, uint64_t now, uint64_t since, int all, uint8_t *frames,
                        struct table_made_row *out, uint32_t *found);
