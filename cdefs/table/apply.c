/* What a plain frame does to a row: the rules are those of auditns_connector/model/apply/perf.py, which takes every
 * frame that changes more than one row, or a process that Python holds. They rest on kernel/fork.c, fs/exec.c and
 * kernel/exit.c. A frame is either applied whole here or not at all. */
#include "table/table_impl.h"

#define APPLIED (-1)
#define CLONE_NEWTIME 0x80
#define CLONE_PARENT 0x8000
#define CLONE_INTO_CGROUP 0x200000000
#define EFFECTS_A_FRAME 8

enum whose { OUTSIDE, GONE, HELD, OURS };

/* Whose the living process pid is */
static enum whose whose(const struct table *t, int32_t pid, uint32_t *row)
{
    const struct slot *slot;

    if (pid <= 0 || pid >= TABLE_PIDS)
        return OUTSIDE;
    slot = slot_of(t, pid);
    *row = slot ? slot->process : 0;
    if (*row)
        return process_at(t, *row)->end == ALIVE ? OURS : GONE;
    return held_of(t, pid) & TABLE_HELD ? HELD : GONE;
}

/* The thread tid of a row; 0 where it is the leader, or not known. */
static uint32_t thread_of(const struct table *t, uint32_t row, int32_t tid)
{
    const struct slot *slot = slot_of(t, tid);
    uint32_t i = slot ? slot->thread : 0;

    return i && thread_at(t, i)->process == row ? i : 0;
}

/* Whether tid is the leader of the row or a thread that is known; damaged frames may name anybody. */
static int task_of(const struct table *t, uint32_t row, int32_t tid)
{
    return tid == process_at(t, row)->pid || thread_of(t, row, tid);
}

/* Whether a FORK says that the child is in the namespaces of the profile, or nothing about them */
static int same_namespaces(const struct table_profile *is, const struct frame_header *head, const uint8_t *payload)
{
    uint32_t size = head->size - (uint32_t)sizeof(*head);

    return !size || (size == TABLE_RAW && !memcmp(payload, is->raw, TABLE_RAW));
}

/* FORK: the EXIT of whoever had that number before is missing. */
static void not_sampled(struct table *t, int32_t tid)
{
    struct page *page = page_of(t, tid);

    if (page)
        page->held[tid % PAGE_PIDS] &= (uint8_t)~TABLE_SAMPLED;
}

/* Whether a thread has the number, or Python holds one that has: its end was lost */
static int is_thread(const struct table *t, int32_t tid)
{
    const struct slot *slot = slot_of(t, tid);

    return (slot && slot->thread) || held_of(t, tid) & TABLE_HELD_THREAD;
}

/* Whether it is plain that process `maker` makes the task `made`: APPLIED, and `by` is its row; or why it is not. */
static int makes(struct table *t, const struct frame_header *head, const uint8_t *payload, int32_t maker, int32_t made,
                 uint32_t *by)
{
    const struct table_profile *is;
    uint32_t other;

    switch (whose(t, maker, by)) {
    case HELD:
        t->want = maker;
        return TABLE_WANT;
    case OURS:
        break;
    default:
        return TABLE_FRAME;
    }
    is = &t->profile[process_at(t, *by)->profile];
    if (process_at(t, *by)->life || !is->child || !task_of(t, *by, head->ptid) || is_thread(t, made) ||
        whose(t, made, &other) != GONE)
        return TABLE_FRAME;
    if (same_namespaces(is, head, payload))
        return APPLIED;
    return maker != head->pid && life_can_begin(t, head, payload, *by) ? APPLIED : TABLE_FRAME;
}

static int new_thread(struct table *t, const struct frame_header *head, const uint8_t *payload)
{
    uint32_t row;
    int how = makes(t, head, payload, head->pid, head->tid, &row);

    if (how != APPLIED)
        return how;
    if (!t->profile[process_at(t, row)->profile].members)
        return TABLE_FRAME;
    if (!process_made(t, row, head->time, head->pid, head->tid) || !thread_add(t, row, head->tid))
        return TABLE_NO_MEMORY;
    not_sampled(t, head->tid);
    thread_at(t, slot_of(t, head->tid)->thread)->counted = 1;
    profile_enter(t, process_at(t, row)->profile, 0);
    process_at(t, row)->version++;
    return APPLIED;
}

static int forked(struct table *t, const struct frame_header *head, const uint8_t *payload)
{
    uint32_t by, former, row, child;
    struct process *p, *creator;
    int how, apart;

    if (head->pid == head->ppid)
        return new_thread(t, head, payload);
    if ((how = makes(t, head, payload, head->ppid, head->pid, &by)) != APPLIED)
        return how;
    child = t->profile[process_at(t, by)->profile].child;
    apart = !same_namespaces(&t->profile[process_at(t, by)->profile], head, payload);
    if (apart)
        child = process_at(t, by)->profile;
    if (!t->profile[child].members)
        return TABLE_FRAME;
    former = slot_of(t, head->pid) ? slot_of(t, head->pid)->process : 0;
    row = process_new(t, head->pid, child);
    if (!row || !process_made(t, by, head->time, head->pid, head->tid))
        return TABLE_NO_MEMORY;
    not_sampled(t, head->tid);
    p = process_at(t, row);
    creator = process_at(t, by);
    p->start = p->since = head->time;
    p->creator = creator->pid;
    p->creator_start = creator->start;
    p->file = creator->file;
    p->ran = creator->ran;
    p->exe = creator->exe;
    memcpy(p->comm, creator->comm, TABLE_COMM);
    p->newborn = head->size == sizeof(*head);
    p->early = !former && !held_process(t, head->pid);
    p->place = former ? process_at(t, former)->place : held_process(t, head->pid) ? 0 : ++t->places;
    profile_enter(t, p->profile, 0);
    if (apart)
        return life_begin(t, head, payload, by, row) ? APPLIED : TABLE_NO_MEMORY;
    profile_enter(t, p->profile, 1);
    return APPLIED;
}

static int called(struct table *t, const struct frame_header *head, const uint8_t *payload)
{
    size_t room = head->size - sizeof(*head), len = strnlen((const char *)payload, room);
    struct process *p;
    uint32_t row;

    switch (whose(t, head->pid, &row)) {
    case OURS:
        break;
    case GONE:
        return APPLIED;
    default:
        return TABLE_FRAME;
    }
    if (head->tid != head->pid && !head->arg)
        return APPLIED;
    if (head->arg && process_at(t, row)->threads) /* where execs are not reported, this is one */
        return TABLE_FRAME;
    p = process_at(t, row);
    if (len > TABLE_COMM || (p->life && !p->counted))
        return TABLE_FRAME;
    memset(p->comm, 0, TABLE_COMM);
    memcpy(p->comm, payload, len);
    p->version++;
    return APPLIED;
}

static int execed(struct table *t, const struct frame_header *head, const uint8_t *payload)
{
    size_t room = head->size - sizeof(*head);
    const struct table_profile *is;
    struct process *p;
    struct exec what = {.time = head->time};
    uint32_t row;

    if (whose(t, head->pid, &row) != OURS)
        return TABLE_FRAME;
    p = process_at(t, row);
    is = &t->profile[p->profile];
    if (p->life || !is->execs || (head->cgroup && head->cgroup != is->cgroup) || (p->leader_gone && !is->members) ||
        (head->ppid && !task_of(t, row, head->ppid)))
        return TABLE_FRAME;
    room = strnlen((const char *)payload, room);
    what.file = table_hash(t, (const char *)payload, room);
    table_name_put(t, what.file, (const char *)payload, room);
    memcpy(what.comm, p->comm, TABLE_COMM);
    if (!process_execed(t, row, &what))
        return TABLE_NO_MEMORY;
    if (!p->threads)
        return APPLIED;
    if (p->leader_gone && !p->counted) {
        p->counted = 1;
        profile_enter(t, p->profile, 0);
    }
    p->leader_gone = 0;
    while (p->threads)
        thread_drop(t, p->threads, head->time);
    return APPLIED;
}

/* Without the sample before it an EXIT of a leader is no end: see auditns_connector/model/exits.py */
static int exited(struct table *t, const struct frame_header *head)
{
    int sampled = held_of(t, head->tid) & TABLE_SAMPLED;
    struct process *p;
    uint32_t row, thread;

    switch (whose(t, head->pid, &row)) {
    case OURS:
        break;
    case GONE:
        not_sampled(t, head->tid);
        return APPLIED;
    default:
        return TABLE_FRAME;
    }
    p = process_at(t, row);
    if (p->life && p->counted && sampled)
        return TABLE_FRAME;
    if (!sampled && head->tid == head->pid)
        return p->scanned ? TABLE_FRAME : APPLIED;
    not_sampled(t, head->tid);
    if (p->start > head->time + AUDITNS_SAME_START)
        return APPLIED;
    if (!p->threads) {
        if (head->tid == head->pid)
            process_end(t, row, head->time);
        return APPLIED;
    }
    if (head->tid == head->pid) {
        p->leader_gone = 1;
        if (p->counted) {
            p->counted = 0;
            member_leave(t, p->profile, p, head->tid, head->time);
        }
    } else if ((thread = thread_of(t, row, head->tid))) {
        thread_drop(t, thread, head->time);
    }
    p->version++;
    if (!p->threads && p->leader_gone)
        process_end(t, row, head->time);
    return APPLIED;
}

/* The kernel lets go of the namespaces between this moment and the EXIT. */
static int exiting(struct table *t, const struct frame_header *head)
{
    struct page *page = page_for(t, head->tid);
    struct process *p;
    uint32_t row, thread = 0;
    enum whose who = whose(t, head->pid, &row);

    if (!page)
        return head->tid ? TABLE_NO_MEMORY : TABLE_FRAME;
    if (who == HELD || who == OUTSIDE)
        return TABLE_FRAME;
    if (who == OURS && head->tid != head->pid && !(thread = thread_of(t, row, head->tid)))
        return TABLE_FRAME;
    /* whose namespaces it shares may be empty behind it, which is reported in the order of their types */
    if (who == OURS && process_at(t, row)->life && t->profile[process_at(t, row)->profile].members == 1)
        return TABLE_FRAME;
    page->held[head->tid % PAGE_PIDS] |= TABLE_SAMPLED;
    if (who == GONE)
        return APPLIED;
    p = process_at(t, row);
    if (head->tid == head->pid) {
        if (p->counted) {
            p->counted = 0;
            if (p->life)
                life_left(t, row, head->time);
            member_leave(t, p->profile, p, head->tid, head->time);
        }
    } else if (thread_at(t, thread)->counted) {
        thread_at(t, thread)->counted = 0;
        member_leave(t, p->profile, p, head->tid, head->time);
    }
    return APPLIED;
}

static int new_task(struct table *t, const struct frame_header *head)
{
    uint32_t row;

    switch (whose(t, head->tid, &row)) {
    case OURS:
        break;
    case GONE:
        return APPLIED;
    default:
        return TABLE_FRAME;
    }
    if (head->arg & (CLONE_INTO_CGROUP | CLONE_NEWTIME))
        return TABLE_FRAME;
    process_at(t, row)->clone_parent = (head->arg & CLONE_PARENT) != 0;
    process_at(t, row)->version++;
    return APPLIED;
}

/* The record of an exec names the program: auditns_connector/model/ancestry.py. */
static int ran(struct table *t, const struct frame_header *head, const uint8_t *payload)
{
    size_t len = strnlen((const char *)payload, head->size - sizeof(*head));
    uint64_t exe;

    if (!len)
        return APPLIED;
    exe = table_hash(t, (const char *)payload, len);
    if (!table_ran(t, head->pid, head->arg, exe)) /* perhaps it is of one that is held, who came before all rows */
        return held_process(t, head->pid) ? TABLE_FRAME : APPLIED;
    table_name_put(t, exe, (const char *)payload, len);
    return APPLIED;
}

static int apply(struct table *t, const struct frame_header *head, const uint8_t *payload)
{
    /* where perf tells, the connector's word is not taken */
    if (head->source == S_CN && head->kind >= K_FORK && head->kind <= K_SETNS)
        return APPLIED;
    if (head->kind == K_NSID && head->source == S_PROCFS)
        return life_named(t, head, payload) ? APPLIED : TABLE_FRAME;
    if (head->kind == K_EXE && head->source == S_AUDIT)
        return ran(t, head, payload);
    if (head->source != S_PERF || head->time >> 63 ||
        (uint32_t)(head->pid | head->tid | head->ppid | head->ptid) >= TABLE_PIDS)
        return TABLE_FRAME;
    switch (head->kind) {
    case K_FORK:
        return forked(t, head, payload);
    case K_EXEC:
        return execed(t, head, payload);
    case K_EXIT:
        return exited(t, head);
    case K_EXIT_SAMPLE:
        return exiting(t, head);
    case K_COMM:
        return called(t, head, payload);
    case K_NEWTASK:
        return new_task(t, head);
    }
    return TABLE_FRAME;
}

int table_apply(struct table *t, const uint8_t *block, uint64_t len, uint64_t off)
{
    struct frame_header head;

    for (; off < len; off += head.size) {
        int how;

        t->at = off;
        if (len - off < sizeof(head))
            return TABLE_FRAME;
        memcpy(&head, block + off, sizeof(head));
        if (head.size < sizeof(head) || head.size > len - off)
            return TABLE_FRAME;
        if (!effects_room(t, EFFECTS_A_FRAME) || !lives_room(t))
            return TABLE_NO_MEMORY;
        how = apply(t, &head, block + off + sizeof(head));
        if (how != APPLIED)
            return how;
        t->frames++;
        if (head.source != S_CN && head.time > t->now)
            t->now = head.time;
        if (t->effects) {
            t->at = off + head.size;
            return TABLE_EFFECTS;
        }
    }
    t->at = len;
    return TABLE_DONE;
}
