/* Order by numbers, eleven bits at a time from the lowest on: a step over bits that all have the same is left out. */
#include "archive/archive_impl.h"

#define BITS 11
#define SLOTS (1u << BITS)

int archive_order(struct key *keys, uint32_t count)
{
    struct key *spare = malloc(((size_t)count + 1) * sizeof(*spare)), *from = keys, *to = spare;

    if (!spare)
        return 0;
    for (unsigned shift = 0; shift < 64; shift += BITS) {
        uint32_t at[SLOTS] = {0}, sum = 0;
        for (uint32_t i = 0; i < count; i++)
            at[from[i].order >> shift & (SLOTS - 1)]++;
        if (count && at[from[0].order >> shift & (SLOTS - 1)] == count)
            continue;
        for (uint32_t i = 0; i < SLOTS; i++) {
            uint32_t here = at[i];
            at[i] = sum;
            sum += here;
        }
        for (uint32_t i = 0; i < count; i++)
            to[at[from[i].order >> shift & (SLOTS - 1)]++] = from[i];
        struct key *other = from;
        from = to;
        to = other;
    }
    if (from != keys)
        memcpy(keys, from, count * sizeof(*keys));
    free(spare);
    return 1;
}
