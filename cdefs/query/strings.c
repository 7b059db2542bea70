/* Distinct texts by number. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "query/query_impl.h"

#define MOST_BYTES ((uint64_t)1 << 31)

struct auditns_strings {
    uint64_t seed;
    char *text;
    uint64_t *off, *hash; /* off: count + 1 */
    uint32_t *slot;
    uint64_t used, text_room;
    uint32_t count, room, slots;
};

struct auditns_strings *auditns_strings_new(uint64_t seed)
{
    struct auditns_strings *s = calloc(1, sizeof(*s));

    if (s)
        s->seed = seed;
    return s;
}

void auditns_strings_free(struct auditns_strings *s)
{
    if (!s)
        return;
    free(s->text);
    free(s->off);
    free(s->hash);
    free(s->slot);
    free(s);
}

void auditns_strings_clear(struct auditns_strings *s)
{
    s->used = s->count = 0;
    if (s->slot)
        memset(s->slot, 0, s->slots * sizeof(*s->slot));
}

uint32_t auditns_strings_count(const struct auditns_strings *s)
{
    return s->count;
}

const char *auditns_strings_text(const struct auditns_strings *s, uint32_t number, uint32_t *len)
{
    if (!number || number > s->count) {
        *len = 0;
        return "";
    }
    *len = (uint32_t)(s->off[number] - s->off[number - 1]);
    return s->text + s->off[number - 1];
}

/* The seed is secret: nobody can choose texts that all fall on one slot. */
uint64_t hash_bytes(uint64_t seed, const char *s, size_t n)
{
    uint64_t h = seed ^ n * 0x9e3779b97f4a7c15u;
    const char *end = s + n;

    for (; s < end; s += 8) {
        h = (h ^ eight_before(s, end)) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h ^ h >> 29;
}

static int grow_slots(struct auditns_strings *s)
{
    uint32_t slots = s->slots ? 2 * s->slots : 1024, room = slots / 2;
    uint32_t *slot = calloc(slots, sizeof(*slot));
    uint64_t *off = realloc(s->off, (room + 1) * sizeof(*off));

    if (off)
        s->off = off;
    uint64_t *hash = realloc(s->hash, room * sizeof(*hash));
    if (hash)
        s->hash = hash;
    if (!slot || !off || !hash) {
        free(slot);
        return 0;
    }
    s->off[0] = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t at = (uint32_t)s->hash[i] & (slots - 1);
        while (slot[at])
            at = (at + 1) & (slots - 1);
        slot[at] = i + 1;
    }
    free(s->slot);
    s->slot = slot;
    s->slots = slots;
    s->room = room;
    return 1;
}

static int grow_text(struct auditns_strings *s, size_t n)
{
    uint64_t room = s->text_room ? s->text_room : 1 << 16;

    while (room - s->used < n)
        room *= 2;
    char *text = room > MOST_BYTES ? NULL : realloc(s->text, room);
    if (!text)
        return 0;
    s->text = text;
    s->text_room = room;
    return 1;
}

uint32_t intern(struct auditns_strings *s, const char *text, size_t n)
{
    if (s->count == s->room && !grow_slots(s))
        return 0;
    uint64_t hash = hash_bytes(s->seed, text, n);
    uint32_t at = (uint32_t)hash & (s->slots - 1);
    for (; s->slot[at]; at = (at + 1) & (s->slots - 1)) {
        uint32_t i = s->slot[at] - 1;
        if (s->hash[i] == hash && s->off[i + 1] - s->off[i] == n && !memcmp(s->text + s->off[i], text, n))
            return i + 1;
    }
    if (s->text_room - s->used < n + 1 && !grow_text(s, n + 1))
        return 0;
    memcpy(s->text + s->used, text, n);
    s->used += n;
    s->hash[s->count] = hash;
    s->off[++s->count] = s->used;
    return s->slot[at] = s->count;
}
