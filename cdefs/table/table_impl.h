/* Shared by the files of this room: how rows, threads and pids are kept. */
#ifndef AUDITNS_IMPL_TABLE_H
#define AUDITNS_IMPL_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "frames/frames.h"
#include "table/table.h"

#define ALIVE UINT64_MAX
#define PAGE_PIDS 1024
#define BY_NUMBER 8 /* kinds of places; those before are types of namespaces, as in PERF_RECORD_NAMESPACES */
#define BY_FORMER 9

struct process {
    uint64_t start, end, since, creator_start, not_before, place, execs_lost, file, ran, exe;
    struct table_made_row *made;
    int32_t pid, creator;
    uint32_t prev, profile, execs, threads, version, missed, life;
    uint16_t made_count, made_room;
    uint8_t exec_count;
    uint8_t counted : 1, leader_gone : 1, newborn : 1, clone_parent : 1, behind : 1, early : 1, object : 1, used : 1;
    uint8_t scanned : 1, heirs : 1;
    char comm[TABLE_COMM];
};

/* The threads of a process are a ring of both directions: one that ends is found by its tid and unlinked at once. */
struct thread {
    uint32_t process, next, prev;
    int32_t tid;
    uint8_t counted;
};

struct exec {
    uint64_t time, file;
    uint32_t next;
    char comm[TABLE_COMM];
};

struct slot {
    uint32_t process, thread;
};

struct page {
    struct slot slot[PAGE_PIDS];
    uint32_t behind[PAGE_PIDS]; /* the holder behind the one that was found last: see row_lookup.c; perhaps none any more */
    uint8_t held[PAGE_PIDS];
};

/* Namespaces that one process was born with, and that nobody else lives in: lives.c */
struct life {
    uint64_t maker_start, maker_since;
    int32_t maker, ptid;
    uint32_t row;               /* 0: Python has it */
    uint32_t pending;           /* events to be reported */
    uint32_t instances;
    uint8_t sandbox;            /* 1 + place of the instance that is a sandbox */
    uint8_t reported, left_reported;
    char comm[TABLE_COMM], left_comm[TABLE_COMM];
};

struct instance {
    uint64_t number, ino, serial, ended;
    uint64_t before;
    uint32_t life, next, former, later;
    uint8_t index, dead, held_before, kernel_before;
};

/* Entries by (kind, key): an inode of a type, the number of an instance without a serial, or that of one which is
 * Python's and had the inode before. `before`: the number of Python's last one that had the inode, has ended, and has no
 * serial yet. */
struct place {
    uint64_t key, before;
    uint32_t next, instance;
    uint8_t kind, taken;
};

/* Things by number, from 1; a free one begins with the number of the next. */
struct pool {
    uint8_t *base;
    uint32_t size, room, used, free;
};

struct name;

struct table_rows {
    struct page *page[TABLE_PIDS / PAGE_PIDS];
    struct pool processes, threads, execs, lives, instances, places;
    uint32_t *bucket;           /* of places */
    uint32_t buckets, placed;
    struct table_dead_row *dead;
    uint32_t dead_first, dead_room;
    uint32_t profile_room;
    uint32_t profile_free;      /* the first of those that are used no more, linked by `child` */
    uint64_t seed;
    struct name *names;
};

static inline struct process *process_at(const struct table *t, uint32_t i)
{
    return (struct process *)(void *)t->rows->processes.base + i;
}

static inline struct thread *thread_at(const struct table *t, uint32_t i)
{
    return (struct thread *)(void *)t->rows->threads.base + i;
}

static inline struct exec *exec_at(const struct table *t, uint32_t i)
{
    return (struct exec *)(void *)t->rows->execs.base + i;
}

static inline struct life *life_at(const struct table *t, uint32_t i)
{
    return (struct life *)(void *)t->rows->lives.base + i;
}

static inline struct instance *instance_at(const struct table *t, uint32_t i)
{
    return (struct instance *)(void *)t->rows->instances.base + i;
}

static inline struct place *place_at(const struct table *t, uint32_t i)
{
    return (struct place *)(void *)t->rows->places.base + i;
}

/* One of the numbers that frames have of namespaces: the device, then an inode of each type */
static inline uint64_t word(const uint8_t *raw, unsigned at)
{
    uint64_t value;

    memcpy(&value, raw + 8 * at, sizeof(value));
    return value;
}

static inline struct page *page_of(const struct table *t, int32_t pid)
{
    return pid > 0 && pid < TABLE_PIDS ? t->rows->page[pid / PAGE_PIDS] : NULL;
}

static inline struct slot *slot_of(const struct table *t, int32_t pid)
{
    struct page *page = page_of(t, pid);

    return page ? &page->slot[pid % PAGE_PIDS] : NULL;
}

static inline int held_of(const struct table *t, int32_t pid)
{
    struct page *page = page_of(t, pid);

    return page ? page->held[pid % PAGE_PIDS] : 0;
}

/* Whether Python holds a process of that pid, alive or ended */
static inline int held_process(const struct table *t, int32_t pid)
{
    return (held_of(t, pid) & (TABLE_HELD | TABLE_HELD_ENDED)) != 0;
}

void names_free(struct table *t);
uint32_t pool_get(struct pool *pool);
void pool_put(struct pool *pool, uint32_t i);
struct page *page_for(struct table *t, int32_t pid);

int effects_room(struct table *t, uint32_t more);
void effect_add(struct table *t, uint32_t what, uint32_t profile, const struct process *p, int32_t tid, uint64_t time);

uint32_t process_new(struct table *t, int32_t pid, uint32_t profile);
void process_free(struct table *t, uint32_t row);
void process_end(struct table *t, uint32_t row, uint64_t time);
int process_made(struct table *t, uint32_t row, uint64_t time, int32_t pid, int32_t tid);
int process_execed(struct table *t, uint32_t row, const struct exec *what);
int thread_add(struct table *t, uint32_t row, int32_t tid);
void thread_drop(struct table *t, uint32_t thread, uint64_t time);
void member_leave(struct table *t, uint32_t profile, const struct process *p, int32_t tid, uint64_t time);
void profile_enter(struct table *t, uint32_t profile, int living);
void living_leave(struct table *t, uint32_t profile, const struct process *p, uint64_t time);
void profile_unref(struct table *t, uint32_t profile);

/* what lives.c returns: 1 applied, 0 it is for Python, -1 there is no memory */
int lives_room(struct table *t);
int life_can_begin(const struct table *t, const struct frame_header *head, const uint8_t *payload, uint32_t by);
int life_begin(struct table *t, const struct frame_header *head, const uint8_t *payload, uint32_t by, uint32_t row);
int life_named(struct table *t, const struct frame_header *head, const uint8_t *payload);
void life_left(struct table *t, uint32_t row, uint64_t time);
void life_drop(struct table *t, uint32_t row, int forgotten);
void lives_free(struct table *t);
void life_free(struct table *t, uint32_t number);
uint32_t place_find(const struct table *t, uint8_t kind, uint64_t key);
int place_set(struct table *t, uint8_t kind, uint64_t key, uint32_t instance);
void place_unset(struct table *t, uint8_t kind, uint64_t key, uint32_t instance);

#endif
