/* Rows and what they hang together by: pids, threads, execs, profiles, the queue of the dead. */
#include <stdlib.h>
#include "table/table_impl.h"

#define FIRST_ROOM 64

struct page *page_for(struct table *t, int32_t pid)
{
    struct page **page;

    if (pid <= 0 || pid >= TABLE_PIDS)
        return NULL;
    page = &t->rows->page[pid / PAGE_PIDS];
    if (!*page)
        *page = calloc(1, sizeof(**page));
    return *page;
}

struct table *table_new(uint64_t seed)
{
    struct table *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->rows = calloc(1, sizeof(*t->rows));
    if (!t->rows || !effects_room(t, FIRST_ROOM)) {
        free(t->rows);
        free(t);
        return NULL;
    }
    t->rows->seed = seed;
    t->generation = 1;
    t->rows->processes.size = sizeof(struct process);
    t->rows->threads.size = sizeof(struct thread);
    t->rows->execs.size = sizeof(struct exec);
    t->rows->lives.size = sizeof(struct life);
    t->rows->instances.size = sizeof(struct instance);
    t->rows->places.size = sizeof(struct place);
    return t;
}

void table_free(struct table *t)
{
    struct table_rows *rows = t->rows;

    for (uint32_t i = 1; i <= rows->processes.used; i++)
        if (process_at(t, i)->used)
            free(process_at(t, i)->made);
    for (uint32_t i = 0; i < TABLE_PIDS / PAGE_PIDS; i++)
        free(rows->page[i]);
    free(rows->processes.base);
    free(rows->threads.base);
    free(rows->execs.base);
    free(rows->dead);
    lives_free(t);
    names_free(t);
    free(t->forebear);
    free(rows);
    free(t->profile);
    free(t->effect);
    free(t);
}

uint64_t table_hash(const struct table *t, const char *text, uint64_t len)
{
    uint64_t h = t->rows->seed ^ len, word;

    for (; len; text += len < 8 ? len : 8, len -= len < 8 ? len : 8) {
        __uint128_t product;
        word = 0;
        memcpy(&word, text, len < 8 ? len : 8);
        product = (__uint128_t)(h ^ word) * (t->rows->seed | 1);
        h = (uint64_t)product ^ (uint64_t)(product >> 64) ^ (h << 7 | h >> 57);
    }
    return h;
}

/* Effects */

int effects_room(struct table *t, uint32_t more)
{
    struct table_effect *effect;
    uint32_t room = t->effect_room ? t->effect_room : FIRST_ROOM;

    while (room - t->effects < more)
        room *= 2;
    if (room == t->effect_room)
        return 1;
    effect = realloc(t->effect, room * sizeof(*effect));
    if (!effect)
        return 0;
    t->effect = effect;
    t->effect_room = room;
    return 1;
}

/* Whoever calls has made room before, so that no frame is applied by half. */
void effect_add(struct table *t, uint32_t what, uint32_t profile, const struct process *p, int32_t tid, uint64_t time)
{
    if (t->effects < t->effect_room || effects_room(t, 1))
        t->effect[t->effects++] = (struct table_effect){
            .time = time, .start = p ? p->start : 0, .pid = p ? p->pid : 0, .tid = tid, .what = what, .profile = profile};
}

/* Profiles */

uint32_t table_profile_add(struct table *t, const uint8_t *raw, uint64_t cgroup, uint32_t epoch, int execs)
{
    uint32_t i = t->rows->profile_free;

    if (i) {
        t->rows->profile_free = t->profile[i].child;
    } else {
        i = t->profiles + 1;
        if (i >= t->rows->profile_room) {
            uint32_t room = t->rows->profile_room ? t->rows->profile_room * 2 : FIRST_ROOM;
            struct table_profile *profile = realloc(t->profile, room * sizeof(*profile));
            if (!profile)
                return 0;
            t->profile = profile;
            t->rows->profile_room = room;
        }
        t->profiles = i;
    }
    t->profile[i] = (struct table_profile){.cgroup = cgroup, .epoch = epoch, .execs = execs != 0, .used = 1,
                                            .given = ++t->profiles_given};
    if (raw)
        memcpy(t->profile[i].raw, raw, TABLE_RAW);
    return i;
}

void table_profile_child(struct table *t, uint32_t profile, uint32_t child)
{
    t->profile[profile].child = child;
    if (child != profile)
        t->profile[child].rows++;
}

void profile_unref(struct table *t, uint32_t profile)
{
    struct table_profile *p = &t->profile[profile];

    if (--p->rows)
        return;
    p->used = 0;
    effect_add(t, TABLE_UNUSED, profile, NULL, 0, 0);
    if (p->child && p->child != profile)
        profile_unref(t, p->child);
    t->profile[profile].child = t->rows->profile_free;
    t->rows->profile_free = profile;
}

/* One more task holds the namespaces; living: one more process is alive. The first of a profile keeps its child's. */
void profile_enter(struct table *t, uint32_t profile, int living)
{
    struct table_profile *is = &t->profile[profile];
    uint32_t *count = living ? &is->living : &is->members;

    if (!(*count)++ && is->child && is->child != profile)
        profile_enter(t, is->child, living);
}

void member_leave(struct table *t, uint32_t profile, const struct process *p, int32_t tid, uint64_t time)
{
    struct table_profile *is = &t->profile[profile];

    if (--is->members)
        return;
    effect_add(t, TABLE_NO_MEMBER, profile, p, tid, time);
    if (is->child && is->child != profile)
        member_leave(t, is->child, p, tid, time);
}

void living_leave(struct table *t, uint32_t profile, const struct process *p, uint64_t time)
{
    struct table_profile *is = &t->profile[profile];

    if (--is->living)
        return;
    effect_add(t, TABLE_NO_PROCESS, profile, p, 0, time);
    if (is->child && is->child != profile)
        living_leave(t, is->child, p, time);
}

/* Processes */

uint32_t process_new(struct table *t, int32_t pid, uint32_t profile)
{
    struct page *page = page_for(t, pid);
    uint32_t row = page ? pool_get(&t->rows->processes) : 0;
    struct process *p;
    struct slot *slot;

    if (!row)
        return 0;
    slot = &page->slot[pid % PAGE_PIDS];
    p = process_at(t, row);
    p->pid = pid;
    p->end = ALIVE;
    p->prev = slot->process;
    p->profile = profile;
    p->used = p->counted = 1;
    slot->process = row;
    t->profile[profile].rows++;
    t->processes++;
    return row;
}

/* Forget a row that no pid leads to any more, and that nothing counts. */
void process_free(struct table *t, uint32_t row)
{
    struct process *p = process_at(t, row);

    while (p->execs) {
        uint32_t next = exec_at(t, p->execs)->next;
        pool_put(&t->rows->execs, p->execs);
        p->execs = next;
    }
    free(p->made);
    if (p->life)
        life_drop(t, row, 1);
    profile_unref(t, p->profile);
    p->used = 0;
    pool_put(&t->rows->processes, row);
    t->processes--;
}

void process_end(struct table *t, uint32_t row, uint64_t time)
{
    struct process *p = process_at(t, row);

    p->end = time;
    p->version++;
    while (p->threads)
        thread_drop(t, p->threads, time);
    if (p->counted) {
        p->counted = 0;
        member_leave(t, p->profile, p, p->pid, time);
    }
    if (p->life)
        t->alive--;
    else
        living_leave(t, p->profile, p, time);
    (void)table_bury(t, p->pid, p->start, time);
}

int process_made(struct table *t, uint32_t row, uint64_t time, int32_t pid, int32_t tid)
{
    struct process *p = process_at(t, row);

    if (p->made_count == p->made_room) {
        uint32_t room = p->made_room ? p->made_room * 2u : 4;
        struct table_made_row *made = realloc(p->made, room * sizeof(*made));
        if (!made)
            return 0;
        p->made = made;
        p->made_room = (uint16_t)room;
    }
    p->made[p->made_count++] = (struct table_made_row){time, pid, tid};
    if (p->made_count == 2 * TABLE_MADE) {
        memmove(p->made, p->made + TABLE_MADE, TABLE_MADE * sizeof(*p->made));
        p->made_count = TABLE_MADE;
    }
    return 1;
}

int process_execed(struct table *t, uint32_t row, const struct exec *what)
{
    uint32_t i = pool_get(&t->rows->execs), *last;
    struct process *p = process_at(t, row);

    if (!i)
        return 0;
    *exec_at(t, i) = *what;
    p->file = what->file;
    p->ran = what->time;
    p->exe = 0;
    exec_at(t, i)->next = p->execs;
    p->execs = i;
    p->version++;
    if (p->exec_count++ < TABLE_EXECS)
        return 1;
    p->exec_count--;
    for (last = &p->execs; exec_at(t, *last)->next;)
        last = &exec_at(t, *last)->next;
    p->execs_lost = exec_at(t, *last)->time;
    pool_put(&t->rows->execs, *last);
    *last = 0;
    return 1;
}

/* Threads */

int thread_add(struct table *t, uint32_t row, int32_t tid)
{
    struct page *page = page_for(t, tid);
    uint32_t i = page ? pool_get(&t->rows->threads) : 0, first = process_at(t, row)->threads;
    struct thread *h;

    if (!i)
        return 0;
    h = thread_at(t, i);
    h->process = row;
    h->tid = tid;
    h->next = h->prev = i;
    if (first) {
        h->next = first;
        h->prev = thread_at(t, first)->prev;
        thread_at(t, h->prev)->next = thread_at(t, first)->prev = i;
    } else {
        process_at(t, row)->threads = i;
    }
    page->slot[tid % PAGE_PIDS].thread = i;
    t->threads++;
    return 1;
}

void thread_drop(struct table *t, uint32_t i, uint64_t time)
{
    struct thread *h = thread_at(t, i);
    struct process *p = process_at(t, h->process);
    int32_t tid = h->tid;
    int counted = h->counted;

    p->threads = h->next == i ? 0 : p->threads == i ? h->next : p->threads;
    thread_at(t, h->next)->prev = h->prev;
    thread_at(t, h->prev)->next = h->next;
    slot_of(t, tid)->thread = 0;
    pool_put(&t->rows->threads, i);
    t->threads--;
    if (counted)
        member_leave(t, p->profile, p, tid, time);
}
