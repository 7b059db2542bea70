/* Entries by an inode of namespaces, or by the number of one without a serial. Inodes come from the kernel, but who
 * makes namespaces has a say in them: so the hash has a key, and grows. */
#include <stdlib.h>
#include "table/table_impl.h"

#define FIRST_BUCKETS 256

static uint32_t bucket_of(const struct table *t, uint8_t kind, uint64_t key)
{
    uint64_t h = (key ^ t->rows->seed ^ (uint64_t)kind << 56) * (t->rows->seed | 1);

    h ^= h >> 32;
    return (uint32_t)(h * 0x9E3779B97F4A7C15u >> 32) & (t->rows->buckets - 1);
}

static int grow(struct table *t)
{
    struct table_rows *rows = t->rows;
    uint32_t buckets = rows->buckets ? rows->buckets * 2 : FIRST_BUCKETS, former = rows->buckets;
    uint32_t *bucket = calloc(buckets, sizeof(*bucket)), *old = rows->bucket;

    if (!bucket)
        return 0;
    rows->bucket = bucket;
    rows->buckets = buckets;
    for (uint32_t i = 0; i < former; i++)
        for (uint32_t at = old[i], next; at; at = next) {
            uint32_t b = bucket_of(t, place_at(t, at)->kind, place_at(t, at)->key);
            next = place_at(t, at)->next;
            place_at(t, at)->next = bucket[b];
            bucket[b] = at;
        }
    free(old);
    return 1;
}

uint32_t place_find(const struct table *t, uint8_t kind, uint64_t key)
{
    uint32_t at = t->rows->buckets ? t->rows->bucket[bucket_of(t, kind, key)] : 0;

    while (at && (place_at(t, at)->kind != kind || place_at(t, at)->key != key))
        at = place_at(t, at)->next;
    return at;
}

static uint32_t place_for(struct table *t, uint8_t kind, uint64_t key)
{
    uint32_t at = place_find(t, kind, key), b;

    if (at)
        return at;
    if (t->rows->placed >= t->rows->buckets && !grow(t))
        return 0;
    at = pool_get(&t->rows->places);
    if (!at)
        return 0;
    b = bucket_of(t, kind, key);
    *place_at(t, at) = (struct place){.key = key, .kind = kind, .next = t->rows->bucket[b]};
    t->rows->bucket[b] = at;
    t->rows->placed++;
    return at;
}

static void drop_unused(struct table *t, uint32_t at)
{
    const struct place *place = place_at(t, at);
    uint32_t *link;

    if (place->instance || place->taken || place->before)
        return;
    link = &t->rows->bucket[bucket_of(t, place->kind, place->key)];
    while (*link != at)
        link = &place_at(t, *link)->next;
    *link = place->next;
    pool_put(&t->rows->places, at);
    t->rows->placed--;
}

int place_set(struct table *t, uint8_t kind, uint64_t key, uint32_t instance)
{
    uint32_t at = place_for(t, kind, key);

    if (at)
        place_at(t, at)->instance = instance;
    return at != 0;
}

void place_unset(struct table *t, uint8_t kind, uint64_t key, uint32_t instance)
{
    uint32_t at = place_find(t, kind, key);

    if (!at || place_at(t, at)->instance != instance)
        return;
    place_at(t, at)->instance = 0;
    drop_unused(t, at);
}

int table_inode_taken(struct table *t, uint32_t index, uint64_t ino, int taken, uint64_t before)
{
    uint32_t at = taken || before ? place_for(t, (uint8_t)index, ino) : place_find(t, (uint8_t)index, ino);

    if (!at)
        return !taken && !before;
    place_at(t, at)->taken = taken != 0;
    place_at(t, at)->before = before;
    drop_unused(t, at);
    return 1;
}

void table_former_named(struct table *t, uint64_t number, int kernel)
{
    uint32_t at = place_find(t, BY_FORMER, number), i = at ? place_at(t, at)->instance : 0;

    if (!i)
        return;
    if (kernel) {
        instance_at(t, i)->kernel_before = 1;
        return;
    }
    instance_at(t, i)->held_before = 0;
    instance_at(t, i)->before = 0;
    place_unset(t, BY_FORMER, number, i);
}

static int32_t pid_of(const struct table *t, uint32_t instance)
{
    return process_at(t, life_at(t, instance_at(t, instance)->life)->row)->pid;
}

int32_t table_inode_holder(const struct table *t, uint32_t index, uint64_t ino, int open)
{
    uint32_t at = place_find(t, (uint8_t)index, ino), i = at ? place_at(t, at)->instance : 0;

    if (!i || (instance_at(t, i)->dead && (!open || instance_at(t, i)->serial)))
        return 0;
    return pid_of(t, i);
}

int32_t table_number_holder(const struct table *t, uint64_t number)
{
    uint32_t at = place_find(t, BY_NUMBER, number);

    return at ? pid_of(t, place_at(t, at)->instance) : 0;
}
