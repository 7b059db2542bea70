/* Things by number, from 1, and those that are free. */
#include <stdlib.h>
#include "table/table_impl.h"

#define FIRST_ROOM 64

uint32_t pool_get(struct pool *pool)
{
    uint32_t i = pool->free;

    if (i) {
        memcpy(&pool->free, pool->base + (size_t)i * pool->size, sizeof(i));
    } else {
        if (pool->used + 1 >= pool->room) {
            uint32_t room = pool->room ? pool->room * 2 : FIRST_ROOM;
            uint8_t *base = realloc(pool->base, (size_t)room * pool->size);
            if (!base)
                return 0;
            pool->base = base;
            pool->room = room;
        }
        i = ++pool->used;
    }
    memset(pool->base + (size_t)i * pool->size, 0, pool->size);
    return i;
}

void pool_put(struct pool *pool, uint32_t i)
{
    memcpy(pool->base + (size_t)i * pool->size, &pool->free, sizeof(i));
    pool->free = i;
}
