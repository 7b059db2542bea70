/* How Python reads lives of namespaces, and their outputs. */
#include "table/table_impl.h"

void table_profile_lives(struct table *t, uint32_t profile, uint8_t types)
{
    t->profile[profile].lives = types;
}

uint32_t table_life_of(const struct table *t, uint32_t row)
{
    return process_at(t, row)->life;
}

int table_has_lives(const struct table *t, uint32_t row)
{
    for (; row; row = process_at(t, row)->prev)
        if (process_at(t, row)->life)
            return 1;
    return 0;
}

void table_life_read(const struct table *t, uint32_t number, struct table_life_row *out)
{
    const struct life *life = life_at(t, number);
    const struct process *p = process_at(t, life->row);

    memset(out, 0, sizeof(*out));
    out->dev = word(t->profile[p->profile].raw, 0);
    out->maker_start = life->maker_start;
    out->maker_since = life->maker_since;
    out->pid = p->pid;
    out->maker = life->maker;
    out->ptid = life->ptid;
    out->row = life->row;
    out->sandbox = life->sandbox - 1;
    out->reported = life->reported;
    out->left_reported = life->left_reported;
    memcpy(out->comm, life->comm, TABLE_COMM);
    memcpy(out->left_comm, life->left_comm, TABLE_COMM);
    for (uint32_t i = life->instances; i; i = instance_at(t, i)->next) {
        const struct instance *inst = instance_at(t, i);
        out->instance[out->instances++] = (struct table_instance){
            .number = inst->number, .ino = inst->ino, .serial = inst->serial, .ended = inst->ended,
            .before = inst->before, .index = inst->index, .dead = inst->dead, .followed = inst->later != 0};
    }
}

uint32_t table_alive(const struct table *t, int32_t *out, uint32_t room)
{
    uint32_t n = 0;

    for (uint32_t i = 1; i <= t->rows->lives.used && n < t->alive; i++) {
        const struct life *life = life_at(t, i);
        const struct process *p = life->row <= t->rows->processes.used ? process_at(t, life->row) : NULL;
        if (!life->row || !p || !p->used || p->life != i || p->end != ALIVE)
            continue;
        if (n < room)
            out[n] = p->pid;
        n++;
    }
    return n;
}

int table_inode_begun(const struct table *t, uint32_t index, uint64_t ino)
{
    for (uint32_t n = 1; n <= t->rows->lives.used; n++) {
        const struct life *life = life_at(t, n);
        const struct process *p = life->row <= t->rows->processes.used ? process_at(t, life->row) : NULL;
        if (!life->row || !p || !p->used || p->life != n || !life->reported)
            continue;
        for (uint32_t i = life->instances; i; i = instance_at(t, i)->next)
            if (instance_at(t, i)->index == index && instance_at(t, i)->ino == ino && instance_at(t, i)->serial)
                return 1;
    }
    return 0;
}

void table_events_consumed(struct table *t)
{
    for (uint32_t i = 0; i < t->events; i++) {
        life_at(t, t->event[i].life)->pending--;
        life_free(t, t->event[i].life);
    }
    t->events = 0;
}

int table_events_before(const struct table *t, uint64_t before)
{
    for (uint32_t i = 0; i < t->events; i++)
        if (t->event[i].time < before)
            return 1;
    return 0;
}

static struct table_counted *counted_of(struct table_counted *makers, uint32_t count, const struct life *life)
{
    for (uint32_t i = 0; i < count; i++)
        if (makers[i].pid == life->maker && makers[i].start == life->maker_start)
            return &makers[i];
    return NULL;
}

/* Whether there is a line about the sandbox; -1: there may be one later, or Python knows. */
static int is_numbered(const struct table *t, const struct life *life, uint8_t at)
{
    uint32_t i = life->instances;

    if (!life->row)
        return -1;
    while (at--)
        i = instance_at(t, i)->next;
    return instance_at(t, i)->serial ? 1 : process_at(t, life->row)->end == ALIVE ? -1 : 0;
}

uint32_t table_events_count(const struct table *t, uint32_t at, uint32_t end, uint64_t until, struct table_counted *makers,
                            uint32_t count)
{
    uint32_t order = 0;

    for (; at < end; at++) {
        const struct table_event *event = &t->event[at];
        const struct life *life = life_at(t, event->life);
        struct table_counted *maker = counted_of(makers, count, life);
        int counts = event->what == LIFE_SEEN ? is_numbered(t, life, event->at) : 1;
        if (!maker || event->time >= until || counts < 0 || (event->what == LIFE_DEL && !life->left_reported))
            break;
        if (!counts)
            continue;
        maker->count++;
        maker->last = event->time;
        maker->order = ++order;
        memset(maker->comm, 0, TABLE_COMM);
        if (event->what != LIFE_SEEN)
            memcpy(maker->comm, event->what >= LIFE_LEFT ? life->left_comm : life->comm, TABLE_COMM);
    }
    return at;
}

uint64_t table_ask_born(struct table *t, uint64_t now, uint64_t since, int all, uint8_t *frames,
                        struct table_made_row *out, uint32_t *found)
{
    uint32_t borns = t->borns;
    uint8_t *p = frames;

    *found = t->borns = 0;
    for (uint32_t n = 0; n < borns; n++) {
        uint32_t at = place_find(t, BY_NUMBER, t->born[n]);
        const struct instance *inst = at ? instance_at(t, place_at(t, at)->instance) : NULL;
        struct frame_header head = {.size = sizeof(head) + 8, .kind = K_NSID, .source = S_PROCFS, .cpu = CPU_UNKNOWN,
                                    .time = now};
        if (!inst || !(all || inst->index == 3 || inst->index == 4))
            continue;
        if (!inst->dead && process_at(t, life_at(t, inst->life)->row)->start >= since) {
            t->born[t->borns++] = t->born[n];
            continue;
        }
        if (!inst->dead || inst->kernel_before) {
            out[(*found)++] = (struct table_made_row){
                t->born[n], process_at(t, life_at(t, inst->life)->row)->pid, inst->index};
            continue;
        }
        head.ppid = inst->index;
        head.cgroup = inst->number;
        memcpy(p, &head, sizeof(head));
        memcpy(p + sizeof(head), &inst->ino, 8);
        p += head.size;
    }
    return (uint64_t)(p - frames);
}
