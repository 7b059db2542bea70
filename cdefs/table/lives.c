/* A life of namespaces: a process of the host is born with namespaces of its own, lives in them alone, and ends. Where it
 * does more (makes a child, runs a program, goes elsewhere), or anybody looks at it, it becomes Python's, as it would have
 * been from the beginning (auditns_connector/model/lives.py). The rules are those of model/apply/perf.py _born_apart(),
 * model/apply/namespace_life.py and model/membership.py, for a maker of the host of which nothing special is known. */
#include <stdlib.h>
#include "table/table_impl.h"

#define FIRST_ROOM 64
#define MINTED (1ull << 63)
#define MOST_EVENTS (2 * LIFE_TYPES + 1) /* of one frame */

static int room(void **base, uint32_t *have, uint32_t used, uint32_t more, size_t size)
{
    uint32_t want = *have ? *have : FIRST_ROOM;
    void *larger;

    while (want - used < more)
        want *= 2;
    if (want == *have)
        return 1;
    larger = realloc(*base, want * size);
    if (!larger)
        return 0;
    *base = larger;
    *have = want;
    return 1;
}

int lives_room(struct table *t)
{
    return room((void **)(void *)&t->event, &t->event_room, t->events, MOST_EVENTS, sizeof(*t->event)) &&
           room((void **)(void *)&t->ask, &t->ask_room, t->asks, 1, sizeof(*t->ask)) &&
           room((void **)(void *)&t->born, &t->born_room, t->borns, LIFE_TYPES, sizeof(*t->born));
}

void lives_free(struct table *t)
{
    free(t->rows->lives.base);
    free(t->rows->instances.base);
    free(t->rows->places.base);
    free(t->rows->bucket);
    free(t->event);
    free(t->ask);
    free(t->born);
}

static void tell(struct table *t, uint8_t what, uint32_t life, uint32_t at, uint64_t time)
{
    t->event[t->events++] = (struct table_event){.time = time, .life = life, .what = what, .at = (uint8_t)at};
    life_at(t, life)->pending++;
}

/* Whether a FORK says that the child has namespaces of its own, of types that it may have, and that nobody is known in.
 * Where its maker is, must not be in doubt. */
int life_can_begin(const struct table *t, const struct frame_header *head, const uint8_t *payload, uint32_t by)
{
    const struct table_profile *is = &t->profile[process_at(t, by)->profile];

    if (!t->numbers || !is->lives || !is->members || is->epoch != t->epoch || head->size != sizeof(*head) + TABLE_RAW ||
        word(payload, 0) != word(is->raw, 0))
        return 0;
    for (uint8_t i = 0; i < LIFE_TYPES; i++) {
        uint64_t ino = word(payload, i + 1u);
        uint32_t at;
        if (ino == word(is->raw, i + 1u))
            continue;
        at = place_find(t, i, ino);
        if (!ino || !((is->lives & ~t->not_alone) >> i & 1) || (at && place_at(t, at)->taken))
            return 0;
        if (at && place_at(t, at)->instance && !instance_at(t, place_at(t, at)->instance)->dead)
            return 0; /* its end was not seen */
    }
    return 1;
}

/* The namespace of type `index` begins; `former` had the inode. */
static uint32_t instance_begin(struct table *t, uint32_t life, uint8_t index, uint64_t ino)
{
    uint32_t i = pool_get(&t->rows->instances), at = place_find(t, index, ino);
    uint32_t former = at ? place_at(t, at)->instance : 0;
    uint64_t number = t->numbers->created + 1, before = at ? place_at(t, at)->before : 0;
    struct instance *inst;

    if (at)
        place_at(t, at)->before = 0;
    if (!i || !place_set(t, index, ino, i) || !place_set(t, BY_NUMBER, number, i) ||
        (before && !place_set(t, BY_FORMER, before, i)))
        return 0;
    inst = instance_at(t, i);
    *inst = (struct instance){
        .number = number, .ino = ino, .life = life, .index = index, .before = before, .held_before = before != 0};
    if (former && !instance_at(t, former)->serial) {
        inst->former = former;
        instance_at(t, former)->later = i;
    }
    t->numbers->created = number;
    t->born[t->borns++] = number;
    return i;
}

/* The sandbox that it is, by the first of its namespaces that makes one: 1 + its place. */
static uint8_t sandbox_of(const struct table *t, uint32_t first)
{
    for (uint32_t n = 0; n < t->sandboxes; n++) {
        uint8_t place = 1;
        for (uint32_t i = first; i; i = instance_at(t, i)->next, place++)
            if (instance_at(t, i)->index == t->sandbox[n])
                return place;
    }
    return 0;
}

int life_begin(struct table *t, const struct frame_header *head, const uint8_t *payload, uint32_t by, uint32_t row)
{
    const struct table_profile *is = &t->profile[process_at(t, by)->profile];
    uint32_t number = pool_get(&t->rows->lives), last = 0;
    struct life *life;

    if (!number)
        return 0;
    process_at(t, row)->life = number;
    life = life_at(t, number);
    life->row = row;
    life->maker = head->ppid;
    life->maker_start = process_at(t, by)->start;
    life->maker_since = process_at(t, by)->since;
    life->ptid = head->ptid;
    memcpy(life->comm, process_at(t, by)->comm, TABLE_COMM);
    for (uint8_t i = 0; i < LIFE_TYPES; i++) {
        uint64_t ino = word(payload, i + 1u);
        uint32_t begun = ino == word(is->raw, i + 1u) ? 0 : instance_begin(t, number, i, ino);
        if (ino == word(is->raw, i + 1u))
            continue;
        if (!begun)
            return 0;
        if (last)
            instance_at(t, last)->next = begun;
        else
            life->instances = begun;
        last = begun;
    }
    t->alive++;
    life->sandbox = sandbox_of(t, life->instances);
    if (life->sandbox)
        tell(t, LIFE_SEEN, number, life->sandbox - 1u, head->time);
    life->reported = t->lifecycle != 0;
    if (!life->reported)
        return 1;
    for (uint32_t i = life->instances, at = 0; i; i = instance_at(t, i)->next, at++) {
        tell(t, LIFE_INIT, number, at, head->time);
        tell(t, LIFE_CHANGE, number, at, head->time);
    }
    if (!t->asks || t->ask[t->asks - 1] != head->ppid)
        t->ask[t->asks++] = head->ppid;
    return 1;
}

/* The process has left its namespaces, and nobody is in them any more. */
void life_left(struct table *t, uint32_t row, uint64_t time)
{
    uint32_t number = process_at(t, row)->life, at = 0;
    struct life *life = life_at(t, number);

    life->left_reported = t->lifecycle != 0;
    memcpy(life->left_comm, process_at(t, row)->comm, TABLE_COMM);
    for (uint32_t i = life->instances; i; i = instance_at(t, i)->next, at++) {
        struct instance *inst = instance_at(t, i);
        inst->dead = 1;
        inst->ended = time;
        t->numbers->ended++;
        if (!life->left_reported)
            continue;
        tell(t, LIFE_LEFT, number, at, time);
        if (inst->serial)
            tell(t, LIFE_DEL, number, at, time);
    }
}

static void forget_former(struct table *t, struct instance *inst)
{
    if (inst->former)
        instance_at(t, inst->former)->later = 0;
    inst->former = 0;
    inst->before = 0;
}

/* NSID: a serial is minted for a namespace. The kernel's own is Python's to give. */
/* The serial that an answer gives to `inst`: the kernel's, or one of ours. 0: it is for Python. */
static uint64_t serial_given(const struct table *t, const struct instance *inst, const struct frame_header *head)
{
    uint64_t serial = head->arg;

    if (serial && serial < MINTED) {
        if (!inst->dead || inst->ended > head->time)
            return 0;
        serial = 0; /* asked too late: the inode may have been another's by then */
    }
    if (serial && serial < t->numbers->mint_next)
        return 0;
    if (!serial)
        serial = t->numbers->mint_next;
    return serial == UINT64_MAX ? 0 : serial;
}

int life_named(struct table *t, const struct frame_header *head, const uint8_t *payload)
{
    uint32_t at = t->numbers ? place_find(t, BY_NUMBER, head->cgroup) : 0, i = at ? place_at(t, at)->instance : 0;
    struct instance *inst;
    uint64_t serial;
    uint8_t place = 0;

    if (!i || head->size < sizeof(*head) + 8)
        return 0;
    inst = instance_at(t, i);
    if (head->ppid != inst->index || (word(payload, 0) && word(payload, 0) != inst->ino) || inst->held_before)
        return 0;
    serial = serial_given(t, inst, head);
    if (!serial)
        return 0;
    t->numbers->mint_next = serial + 1;
    inst->serial = serial;
    forget_former(t, inst);
    if (inst->later)
        forget_former(t, instance_at(t, inst->later));
    place_unset(t, BY_NUMBER, inst->number, i);
    if (!t->lifecycle || !inst->dead)
        return 1;
    for (uint32_t n = life_at(t, inst->life)->instances; n != i; n = instance_at(t, n)->next)
        place++;
    tell(t, LIFE_DEL, inst->life, place, inst->ended);
    return 1;
}

void life_free(struct table *t, uint32_t number)
{
    if (!life_at(t, number)->pending && !life_at(t, number)->row)
        pool_put(&t->rows->lives, number);
}

/* The row is not that of a life any more: Python has it, or it is forgotten. */
void life_drop(struct table *t, uint32_t row, int forgotten)
{
    struct process *p = process_at(t, row);
    struct life *life = life_at(t, p->life);

    t->alive -= p->end == ALIVE;
    while (life->instances) {
        uint32_t i = life->instances;
        struct instance *inst = instance_at(t, i);
        if (inst->later) {
            struct instance *later = instance_at(t, inst->later);
            later->former = 0;
            if (!forgotten && !inst->serial && place_set(t, BY_FORMER, inst->number, inst->later)) {
                later->before = inst->number;
                later->held_before = 1;
            }
        }
        if (inst->former)
            instance_at(t, inst->former)->later = 0;
        place_unset(t, inst->index, inst->ino, i);
        place_unset(t, BY_NUMBER, inst->number, i);
        if (inst->before)
            place_unset(t, BY_FORMER, inst->before, i);
        life->instances = inst->next;
        pool_put(&t->rows->instances, i);
    }
    life->row = 0;
    life_free(t, p->life);
    p->life = 0;
}
