/* The dead: which of them are forgotten, and who descends from whom. */
#include <stdlib.h>
#include "table/table_impl.h"

#define FIRST_ROOM 64

static struct process *incarnation(const struct table *t, int32_t pid, uint64_t start)
{
    const struct slot *slot = slot_of(t, pid);

    for (uint32_t row = slot ? slot->process : 0; row; row = process_at(t, row)->prev)
        if (process_at(t, row)->start == start)
            return process_at(t, row);
    return NULL;
}

int table_knows(const struct table *t, int32_t pid, uint64_t start)
{
    return incarnation(t, pid, start) || held_process(t, pid);
}

/* Whether somebody may descend from it: a child is remembered, or was forgotten for its own children's sake. Of who was
 * there before us, or has made many, not all children are known here. */
static int has_heirs(const struct table *t, const struct process *p)
{
    for (uint32_t i = 0; i < p->made_count; i++)
        if (p->made[i].pid != p->pid && table_knows(t, p->made[i].pid, p->made[i].time))
            return 1;
    return p->heirs || p->scanned || p->made_count >= TABLE_MADE;
}

static void remember(struct table *t, const struct process *p)
{
    struct process *creator = incarnation(t, p->creator, p->creator_start);
    struct table_forebear *who;

    if (creator)
        creator->heirs = 1;
    if (t->forebears == t->forebear_room) {
        uint32_t room = t->forebear_room ? t->forebear_room * 2 : FIRST_ROOM;
        who = realloc(t->forebear, room * sizeof(*who));
        if (!who)
            return;
        t->forebear = who;
        t->forebear_room = room;
    }
    who = &t->forebear[t->forebears++];
    *who = (struct table_forebear){.start = p->start, .end = p->end, .creator_start = p->creator_start, .file = p->file,
                                   .ran = p->ran, .exe = p->exe, .pid = p->pid, .creator = p->creator,
                                   .profile = p->profile};
    memcpy(who->comm, p->comm, TABLE_COMM);
}

/* The row of who is `dead` is forgotten; 0 where there is none. */
static int forget(struct table *t, const struct table_dead_row *dead)
{
    struct slot *slot = slot_of(t, dead->pid);
    uint32_t *link = slot ? &slot->process : NULL, newer = 0, row;

    for (; link && *link; newer = *link, link = &process_at(t, *link)->prev) {
        struct process *p = process_at(t, *link);
        if (p->start != dead->start || p->end != dead->end)
            continue;
        if (p->object)
            effect_add(t, TABLE_FORGOTTEN, *link, p, 0, p->end);
        if (newer)
            process_at(t, newer)->version++;
        if (has_heirs(t, p))
            remember(t, p);
        row = *link;
        *link = p->prev;
        process_free(t, row);
        return 1;
    }
    return 0;
}

void table_expire(struct table *t, uint64_t before)
{
    struct table_rows *rows = t->rows;

    while (t->dead && rows->dead[rows->dead_first].end < before) {
        struct table_dead_row dead = rows->dead[rows->dead_first];
        rows->dead_first = (rows->dead_first + 1) & (rows->dead_room - 1);
        t->dead--;
        if (!forget(t, &dead)) {
            struct process who = {.pid = dead.pid, .start = dead.start};
            struct slot *slot = slot_of(t, dead.pid);
            effect_add(t, TABLE_FORGOTTEN, 0, &who, 0, dead.end);
            if (slot && slot->process)
                process_at(t, slot->process)->version++;
        }
    }
}
