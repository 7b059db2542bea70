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

struct process {
    uint64_t start, end, since, creator_start, not_before, place, execs_lost, file;
    struct table_made_row *made;
    int32_t pid, creator;
    uint32_t prev, profile, execs, threads, version, missed;
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
    uint8_t held[PAGE_PIDS];
};

/* Things by number, from 1; a free one begins with the number of the next. */
struct pool {
    uint8_t *base;
    uint32_t size, room, used, free;
};

struct name;

struct table_rows {
    struct page *page[TABLE_PIDS / PAGE_PIDS];
    struct pool processes, threads, execs;
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

#endif
