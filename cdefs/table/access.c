/* Rows as Python reads and writes them: one process at a time, and none of this for a plain frame. */
#include <stdlib.h>
#include "table/table_impl.h"

uint32_t table_find(const struct table *t, int32_t pid, uint32_t *version)
{
    const struct slot *slot = slot_of(t, pid);
    uint32_t row = slot ? slot->process : 0;

    if (row)
        *version = process_at(t, row)->version;
    return row;
}

int table_has(const struct table *t, int32_t pid, int32_t tid)
{
    const struct slot *one = slot_of(t, pid), *other = slot_of(t, tid);

    return (one && (one->process || one->thread)) || (other && (other->process || other->thread));
}

int32_t table_thread_of(const struct table *t, int32_t tid)
{
    const struct slot *slot = slot_of(t, tid);

    return slot && slot->thread ? process_at(t, thread_at(t, slot->thread)->process)->pid : 0;
}

void table_read(const struct table *t, uint32_t row, struct table_row *out)
{
    const struct process *p = process_at(t, row);
    uint32_t threads = 0;

    if (p->threads)
        for (uint32_t i = p->threads;; i = thread_at(t, i)->next) {
            threads++;
            if (thread_at(t, i)->next == p->threads)
                break;
        }
    *out = (struct table_row){
        .start = p->start, .end = p->end, .since = p->since, .creator_start = p->creator_start,
        .not_before = p->not_before, .execs_lost = p->execs_lost, .place = p->place, .pid = p->pid, .creator = p->creator, .row = row,
        .file = p->file, .ran = p->ran, .exe = p->exe, .prev = p->prev, .profile = p->profile, .version = p->version, .execs = p->exec_count, .threads = threads,
        .made = p->made_count, .ended = p->end != ALIVE, .counted = p->counted, .leader_gone = p->leader_gone,
        .newborn = p->newborn, .clone_parent = p->clone_parent, .behind = p->behind, .early = p->early, .scanned = p->scanned, .heirs = p->heirs, .life = p->life != 0,
        .held_before = held_process(t, p->pid)};
    memcpy(out->comm, p->comm, TABLE_COMM);
}

/* the newest first */
uint32_t table_read_execs(const struct table *t, uint32_t row, struct table_exec_row *out)
{
    uint32_t n = 0;

    for (uint32_t i = process_at(t, row)->execs; i; i = exec_at(t, i)->next, n++) {
        out[n] = (struct table_exec_row){.time = exec_at(t, i)->time, .file = exec_at(t, i)->file};
        memcpy(out[n].comm, exec_at(t, i)->comm, TABLE_COMM);
    }
    return n;
}

uint32_t table_read_threads(const struct table *t, uint32_t row, struct table_thread_row *out, uint32_t room)
{
    uint32_t first = process_at(t, row)->threads, n = 0;

    for (uint32_t i = first; i && n < room; i = thread_at(t, i)->next) {
        out[n++] = (struct table_thread_row){thread_at(t, i)->tid, thread_at(t, i)->counted};
        if (thread_at(t, i)->next == first)
            break;
    }
    return n;
}

uint32_t table_read_made(const struct table *t, uint32_t row, struct table_made_row *out)
{
    const struct process *p = process_at(t, row);

    if (p->made_count)
        memcpy(out, p->made, p->made_count * sizeof(*out));
    return p->made_count;
}

/* who ended last is 0 back */
uint32_t table_read_dead(const struct table *t, uint32_t back, struct table_dead_row *out)
{
    if (back >= t->dead)
        return 0;
    *out = t->rows->dead[(t->rows->dead_first + t->dead - 1 - back) & (t->rows->dead_room - 1)];
    return 1;
}

uint32_t table_pids(const struct table *t, uint32_t profile, int living, int32_t *out, uint32_t room)
{
    uint32_t n = 0;

    for (uint32_t i = 1; i <= t->rows->processes.used; i++) {
        const struct process *p = process_at(t, i);
        const struct slot *slot = p->used ? slot_of(t, p->pid) : NULL;
        if (!slot || slot->process != i || (profile && (p->profile != profile || p->life)) || (living && p->end != ALIVE))
            continue;
        if (n < room)
            out[n] = p->pid;
        n++;
    }
    return n;
}

uint32_t table_links(const struct table *t, struct table_link *out, uint32_t room)
{
    uint32_t n = 0;

    for (uint32_t i = 1; i <= t->rows->processes.used && n < room; i++) {
        const struct process *p = process_at(t, i);
        if (p->used && slot_of(t, p->pid)->process == i)
            out[n++] = (struct table_link){p->start, p->creator_start, p->place, p->pid, p->creator};
    }
    return n;
}

void table_oldest(const struct table *t, struct table_first *out, uint32_t room)
{
    memset(out, 0, room * sizeof(*out));
    for (uint32_t i = 1; i <= t->rows->processes.used; i++) {
        const struct process *p = process_at(t, i);
        if (!p->used || p->profile >= room || p->life || p->end != ALIVE)
            continue;
        struct table_first *first = &out[p->profile];
        if (!first->pid || p->start < first->start || (p->start == first->start && p->place < first->place))
            *first = (struct table_first){p->start, p->place, p->pid};
    }
}

uint32_t table_members(const struct table *t, uint32_t profile, int32_t *out, uint32_t room)
{
    uint32_t n = 0;

    for (uint32_t i = 1; i <= t->rows->processes.used; i++) {
        const struct process *p = process_at(t, i);
        if (!p->used || p->profile != profile || p->life || p->end != ALIVE)
            continue;
        if (p->counted && n++ < room)
            out[n - 1] = p->pid;
        for (uint32_t h = p->threads; h;) {
            if (thread_at(t, h)->counted && n++ < room)
                out[n - 1] = thread_at(t, h)->tid;
            h = thread_at(t, h)->next == p->threads ? 0 : thread_at(t, h)->next;
        }
    }
    return n;
}

uint32_t table_pack(struct table *t, const struct table_row *row, const struct table_exec_row *execs,
                    const int32_t *tids, const struct table_made_row *made)
{
    uint32_t i = process_new(t, row->pid, row->profile);
    struct process *p;

    if (!i)
        return 0;
    p = process_at(t, i);
    p->start = row->start;
    p->since = row->since;
    p->creator = row->creator;
    p->creator_start = row->creator_start;
    p->not_before = row->not_before;
    p->place = row->place;
    p->newborn = row->newborn;
    p->clone_parent = row->clone_parent;
    p->behind = row->behind;
    p->early = row->early;
    p->scanned = row->scanned;
    p->heirs = row->heirs;
    p->execs_lost = row->execs_lost;
    p->object = 1;
    memcpy(p->comm, row->comm, TABLE_COMM);
    profile_enter(t, row->profile, 1);
    profile_enter(t, row->profile, 0);
    for (uint32_t n = 0; n < row->execs; n++) {
        struct exec what = {.time = execs[n].time, .file = execs[n].file};
        memcpy(what.comm, execs[n].comm, TABLE_COMM);
        if (!process_execed(t, i, &what))
            return 0;
    }
    process_at(t, i)->file = row->file;
    process_at(t, i)->ran = row->ran;
    process_at(t, i)->exe = row->exe;
    for (uint32_t n = 0; n < row->threads; n++) {
        if (!thread_add(t, i, tids[n]))
            return 0;
        thread_at(t, slot_of(t, tids[n])->thread)->counted = 1;
        profile_enter(t, row->profile, 0);
    }
    for (uint32_t n = 0; n < row->made; n++)
        if (!process_made(t, i, made[n].time, made[n].pid, made[n].tid))
            return 0;
    process_at(t, i)->version++;
    return i;
}

void table_unpack(struct table *t, uint32_t row)
{
    struct process *p = process_at(t, row);
    uint32_t *link = &slot_of(t, p->pid)->process;

    while (p->threads)
        thread_drop(t, p->threads, p->start);
    if (p->counted) {
        p->counted = 0;
        member_leave(t, p->profile, p, p->pid, p->start);
    }
    if (p->end == ALIVE && !p->life)
        living_leave(t, p->profile, p, p->start);
    if (p->life)
        life_drop(t, row, 0);
    while (*link != row)
        link = &process_at(t, *link)->prev;
    *link = p->prev;
    process_free(t, row);
}

int table_hold(struct table *t, int32_t pid, int how, int what)
{
    struct page *page = how ? page_for(t, pid) : page_of(t, pid);

    if (!page)
        return !how || pid <= 0 || pid >= TABLE_PIDS;
    page->held[pid % PAGE_PIDS] = (uint8_t)((page->held[pid % PAGE_PIDS] & ~what) | how);
    return 1;
}

int table_held(const struct table *t, int32_t pid)
{
    return held_of(t, pid);
}

void table_exec_consumed(struct table *t, uint32_t row, uint64_t time)
{
    uint32_t *link = &process_at(t, row)->execs;

    table_not_before(t, row, time);
    while (*link) {
        uint32_t i = *link;
        if (exec_at(t, i)->time > time) {
            link = &exec_at(t, i)->next;
            continue;
        }
        *link = exec_at(t, i)->next;
        pool_put(&t->rows->execs, i);
        process_at(t, row)->exec_count--;
    }
}

void table_none_behind(struct table *t, uint32_t row)
{
    process_at(t, row)->behind = 0;
}

void table_answer(struct table *t, uint32_t row, uint32_t number, uint8_t kind)
{
    struct table_profile *is = &t->profile[process_at(t, row)->profile];

    is->number = number;
    is->kind = kind;
    is->generation = t->generation;
}

void table_not_before(struct table *t, uint32_t row, uint64_t time)
{
    struct process *p = process_at(t, row);

    if (p->not_before < time)
        p->not_before = time;
    p->version++;
}

int table_made(struct table *t, uint32_t row, uint64_t time, int32_t pid, int32_t tid)
{
    return process_made(t, row, time, pid, tid);
}

void table_object(struct table *t, uint32_t row, int has)
{
    process_at(t, row)->object = has != 0;
}

void table_place(struct table *t, int32_t pid, uint64_t place)
{
    const struct slot *slot = slot_of(t, pid);

    for (uint32_t i = slot ? slot->process : 0; i; i = process_at(t, i)->prev)
        if (!process_at(t, i)->place)
            process_at(t, i)->place = place;
}

int table_ran(struct table *t, int32_t pid, uint64_t time, uint64_t exe)
{
    const struct slot *slot = slot_of(t, pid);

    for (uint32_t row = slot ? slot->process : 0; row; row = process_at(t, row)->prev) {
        struct process *p = process_at(t, row);
        if (p->ran != time || p->start > time) /* another's exec, which it has inherited, or a later one */
            continue;
        p->exe = exe;
        p->version++;
        return 1;
    }
    return 0;
}
