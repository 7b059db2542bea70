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
    uint32_t processes = 0, threads = 0, alive = 0;

    for (uint32_t i = 1; i <= t->rows->processes.used; i++) {
        const struct process *p = process_at(t, i);
        uint32_t link;
        if (!p->used)
            continue;
        processes++;
        if (p->life) {
            const struct life *life = life_at(t, p->life);
            hold(life->row == i, "a life is of its row");
            alive += p->end == ALIVE;
            for (uint32_t n = life->instances; n; n = instance_at(t, n)->next) {
                const struct instance *inst = instance_at(t, n);
                uint32_t place = place_find(t, BY_NUMBER, inst->number);
                hold(inst->life == p->life, "a namespace is of its life");
                hold(inst->serial || (place && place_at(t, place)->instance == n), "who has no serial is found");
                hold(!inst->former || instance_at(t, inst->former)->later == n, "who had the inode knows who has it");
                hold(inst->dead || !p->life || p->counted, "who lives in it is there");
            }
        }
        for (link = slot_of(t, p->pid)->process; link && link != i; link = process_at(t, link)->prev)
            hold(process_at(t, link)->pid == p->pid, "a pid leads to its rows");
        hold(link == i, "a row is found by its pid");
        found[p->profile].rows++;
        found[p->profile].living += p->end == ALIVE && !p->life;
        found[p->profile].members += p->counted;
        hold(p->end == ALIVE || (!p->counted && !p->threads), "the dead live nowhere");
        for (uint32_t h = p->threads; h;) {
            hold(thread_at(t, h)->process == i && slot_of(t, thread_at(t, h)->tid)->thread == h, "a thread is its own");
            found[p->profile].members += thread_at(t, h)->counted;
            threads++;
            h = thread_at(t, h)->next == p->threads ? 0 : thread_at(t, h)->next;
        }
    }
    hold(processes == t->processes && threads == t->threads && alive == t->alive, "rows are counted");
    for (uint32_t b = 0; b < t->rows->buckets; b++)
        for (uint32_t i = t->rows->bucket[b]; i; i = place_at(t, i)->next) {
            uint32_t n = place_at(t, i)->instance;
            hold(!n || life_at(t, instance_at(t, n)->life)->row, "a place is of somebody there");
        }
    for (uint32_t i = 0; i < t->events; i++)
        hold(life_at(t, t->event[i].life)->pending > 0, "what is to be reported is kept");
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
    table_profile_lives(t, own, how & 0x20 ? 0x18 : 0x7f);
    child = own;
    if (how & 8) {
        child = table_profile_add(t, raw, 50, 0, 1);
        table_profile_lives(t, child, 0x7f);
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
        if (table_life_of(t, row)) {
            struct table_life_row life;
            table_life_read(t, table_life_of(t, row), &life);
            hold(life.instances && life.instances <= LIFE_TYPES && life.row == row, "a life has namespaces");
        }
        table_exec_consumed(t, row, version);
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
        if (how & 64) {
            table_events_consumed(t);
            t->asks = 0;
        }
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
    static const uint8_t kinds[] = {K_FORK, K_FORK, K_FORK, K_EXEC, K_COMM, K_EXIT, K_EXIT_SAMPLE, K_NEWTASK, K_NSID};
    uint8_t block[sizeof(struct frame_header) + TABLE_RAW], frames[64 * 1024];
    struct table_made_row others[1024];
    uint32_t found;
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
    if (head.kind == K_FORK && what[2] & 0x40) /* it is born with a namespace of its own */
        block[sizeof(head) + 8 + 8 * (what[1] % LIFE_TYPES)] = (uint8_t)(0x80 | what[2] >> 4);
    if (head.kind == K_NSID) {
        head.source = S_PROCFS;
        head.ppid = what[1] % LIFE_TYPES;
        head.cgroup = what[2];
        head.arg = what[3] & 2 ? (uint64_t)what[3] << 56 : 0;
        head.size = sizeof(head) + 8;
        memset(block + sizeof(head), 0, 8);
    }
    if (what[0] == 0x3f) {
        table_inode_taken(t, what[1] % LIFE_TYPES, what[2], what[3] & 1, what[3] >> 1);
        table_former_named(t, what[3] >> 1, what[3] & 1);
        if (t->borns <= 1024)
            table_ask_born(t, now, now / 2, 1, frames, others, &found);
        audit(t);
        return;
    }
    memcpy(block, &head, sizeof(head));
    run(t, block, head.size, what[3]);
}

static struct table_numbers numbers;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct table *t;

    if (size < 2)
        return 0;
    t = table_new(data[0] | 1);
    hold(t != NULL, "there is memory");
    memset(&numbers, 0, sizeof(numbers));
    numbers.mint_next = 1ull << 63;
    t->numbers = &numbers;
    t->lifecycle = data[0] >> 1 & 1;
    t->sandbox[t->sandboxes++] = 3;
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
