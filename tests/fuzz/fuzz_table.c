/* libFuzzer: histories of a few processes through the process table, and damaged frames. Held besides what the
 * sanitizers hold: after every step each profile counts the processes and tasks that there are, a pid leads to rows of
 * its own, and where Python is to take a frame nothing of it has been applied. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "table/table_impl.h"

#define PIDS 12

static void hold(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "does not hold: %s\n", what);
        abort();
    }
}

struct counted {
    uint32_t members, living, rows;
};

static void recount(const struct table *t, struct counted *found)
{
    uint32_t processes = 0, threads = 0;

    for (uint32_t i = 1; i <= t->rows->processes.used; i++) {
        const struct process *p = process_at(t, i);
        uint32_t link;
        if (!p->used)
            continue;
        processes++;
        for (link = slot_of(t, p->pid)->process; link && link != i; link = process_at(t, link)->prev)
            hold(process_at(t, link)->pid == p->pid, "a pid leads to its rows");
        hold(link == i, "a row is found by its pid");
        found[p->profile].rows++;
        found[p->profile].living += p->end == ALIVE;
        found[p->profile].members += p->counted;
        hold(p->end == ALIVE || (!p->counted && !p->threads), "the dead live nowhere");
        for (uint32_t h = p->threads; h;) {
            hold(thread_at(t, h)->process == i && slot_of(t, thread_at(t, h)->tid)->thread == h, "a thread is its own");
            found[p->profile].members += thread_at(t, h)->counted;
            threads++;
            h = thread_at(t, h)->next == p->threads ? 0 : thread_at(t, h)->next;
        }
    }
    hold(processes == t->processes && threads == t->threads, "rows are counted");
}

static void audit(const struct table *t)
{
    struct counted found[64] = {0};

    hold(t->profiles < 64, "profiles are used again");
    recount(t, found);
    for (uint32_t i = 1; i <= t->profiles; i++) {
        const struct table_profile *p = &t->profile[i];
        if (p->used && p->child && p->child != i) {
            found[p->child].rows++;
            found[p->child].living += p->living > 0;
            found[p->child].members += p->members > 0;
        }
    }
    for (uint32_t i = 1; i <= t->profiles; i++) {
        const struct table_profile *p = &t->profile[i];
        hold(!p->used || (p->rows == found[i].rows && p->living == found[i].living && p->members == found[i].members),
             "profiles count what there is");
    }
}

static void pack(struct table *t, int32_t pid, uint64_t now, uint8_t how)
{
    uint8_t raw[TABLE_RAW];
    uint32_t version, own, child;
    int32_t tids[2] = {pid + 100, pid + 200};
    struct table_row row = {.pid = pid, .start = now, .since = now, .creator = 1, .place = now, .made = 1};
    struct table_exec_row exec = {.time = now, .file = 7, .comm = "packed"};
    struct table_made_row made = {now, pid, pid};

    if (table_find(t, pid, &version) || table_thread_of(t, pid))
        return;
    for (int i = 0; i < 2; i++)
        if (table_thread_of(t, tids[i]) || table_find(t, tids[i], &version))
            return;
    memset(raw, how & 3, sizeof(raw));
    own = table_profile_add(t, raw, 50, 0, how & 4);
    child = own;
    if (how & 8) {
        child = table_profile_add(t, raw, 50, 0, 1);
        table_profile_child(t, child, child);
    }
    if (how & 16)
        table_profile_child(t, own, child);
    else if (child != own)
        table_profile_child(t, own, child);
    row.profile = own;
    row.execs = how >> 5 & 1;
    row.threads = how >> 6;
    if (row.threads > 2)
        row.threads = 2;
    table_hold(t, pid, 0, TABLE_HELD | TABLE_HELD_ENDED);
    hold(table_pack(t, &row, &exec, tids, &made) != 0, "there is memory");
}

static void unpack(struct table *t, int32_t pid)
{
    uint32_t row, version;

    while ((row = table_find(t, pid, &version))) {
        struct table_exec_row execs[TABLE_EXECS];
        struct table_thread_row threads[4];
        struct table_made_row made[2 * TABLE_MADE];
        struct table_row read;
        table_read(t, row, &read);
        hold(table_read_execs(t, row, execs) == read.execs && read.execs <= TABLE_EXECS, "execs are bounded");
        hold(table_read_made(t, row, made) == read.made && read.made < 2 * TABLE_MADE, "what was made is bounded");
        table_read_threads(t, row, threads, 4);
        table_exec_told(t, row, version);
        table_unpack(t, row);
    }
    table_hold(t, pid, TABLE_HELD, TABLE_HELD | TABLE_HELD_ENDED);
}

static void run(struct table *t, const uint8_t *block, uint64_t len, uint8_t how)
{
    uint64_t off = 0;

    while (off < len) {
        struct frame_header head;
        int stopped = table_apply(t, block, len, off);
        hold(t->at >= off && t->at <= len, "it stops in the block");
        off = t->at;
        t->effects = 0;
        audit(t);
        if (stopped == TABLE_EFFECTS)
            continue;
        if (stopped == TABLE_DONE || len - off < sizeof(head))
            return;
        memcpy(&head, block + off, sizeof(head));
        if (head.size < sizeof(head) || head.size > len - off)
            return;
        if (stopped == TABLE_WANT && how & 1) {
            hold(t->want > 0 && t->want < TABLE_PIDS, "it wants a pid");
            pack(t, t->want, head.time, how);
            how >>= 1;
            if (!table_find(t, t->want, &(uint32_t){0}))
                off += head.size;
            continue;
        }
        if (how & 2 && head.pid > 0 && head.pid < TABLE_PIDS)
            unpack(t, head.pid);
        t->effects = 0;
        off += head.size;
    }
}

/* Four bytes are a step: a frame of a kind, who, by whom, and how. */
static void step(struct table *t, const uint8_t *what, uint64_t now)
{
    static const uint8_t kinds[] = {K_FORK, K_FORK, K_FORK, K_EXEC, K_COMM, K_EXIT, K_EXIT_SAMPLE, K_NEWTASK};
    uint8_t block[sizeof(struct frame_header) + TABLE_RAW];
    int32_t pid = 1 + what[1] % PIDS, by = 1 + what[2] % PIDS;
    struct frame_header head = {.size = sizeof(head), .kind = kinds[what[0] % sizeof(kinds)], .source = S_PERF,
                                .time = now, .pid = pid, .tid = pid, .ppid = by, .ptid = by};

    if (what[0] & 0x80) {
        table_expire(t, what[3] & 1 ? now : now / 2);
        t->effects = 0;
        audit(t);
        return;
    }
    if (what[0] & 0x40) {
        pack(t, pid, now, what[3]);
        audit(t);
        return;
    }
    if (what[3] & 1)
        head.tid = pid + 100;
    if (head.kind == K_FORK && what[3] & 1) {
        head.ppid = pid;
        head.ptid = pid;
    }
    if (head.kind != K_FORK)
        head.ppid = head.ptid = what[3] & 2 ? head.tid : 0;
    head.cgroup = what[3] & 4 ? 50 : 0;
    head.arg = what[3] & 8 ? 1 : 0;
    memset(block + sizeof(head), head.kind == K_FORK ? what[3] >> 4 & 3 : what[3], TABLE_RAW);
    if (what[3] & 0xc0)
        head.size = sizeof(block);
    memcpy(block, &head, sizeof(head));
    run(t, block, head.size, what[3]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct table *t;

    if (size < 2)
        return 0;
    t = table_new(data[0] | 1);
    hold(t != NULL, "there is memory");
    for (int32_t pid = 1; pid <= 4; pid++)
        pack(t, pid, (uint64_t)pid, 0x1c);
    if (data[0] & 1) {
        uint8_t *copy = malloc(size - 1); /* of its exact size: a step past its end is seen */
        memcpy(copy, data + 1, size - 1);
        run(t, copy, size - 1, data[0]);
        free(copy);
    } else {
        for (size_t i = 1; i + 4 <= size && i < 4 * 4096; i += 4)
            step(t, data + i, i);
    }
    table_free(t);
    return 0;
}
