/* Names of programs by their numbers: so many that what runs on a host is among them, and no more. */
#include <stdlib.h>
#include "table/table_impl.h"

#define SETS 8192 /* a power of two */
#define WAYS 2
#define LONGEST 1024 /* a longer name is not remembered: it is rarely a program's */

struct name {
    uint64_t hash;
    char *text;
    uint32_t len;
};

static struct name *set_of(const struct table *t, uint64_t hash)
{
    return t->rows->names + (hash & (SETS - 1)) * WAYS;
}

/* The one that was put there first goes when its place is wanted: whoever asks for it then does not know it. */
void table_name_put(struct table *t, uint64_t hash, const char *text, uint64_t len)
{
    struct name *set, put = {.hash = hash, .len = (uint32_t)len};

    if (!len || len > LONGEST)
        return;
    if (!t->rows->names && !(t->rows->names = calloc((size_t)SETS * WAYS, sizeof(struct name))))
        return;
    set = set_of(t, hash);
    for (int way = 0; way < WAYS; way++)
        if (set[way].text && set[way].hash == hash)
            return;
    put.text = malloc(len);
    if (!put.text)
        return;
    memcpy(put.text, text, len);
    free(set[WAYS - 1].text);
    memmove(set + 1, set, (WAYS - 1) * sizeof(*set));
    set[0] = put;
}

const char *table_name(const struct table *t, uint64_t hash, uint32_t *len)
{
    const struct name *set = t->rows->names ? set_of(t, hash) : NULL;

    for (int way = 0; set && way < WAYS; way++)
        if (set[way].text && set[way].hash == hash) {
            *len = set[way].len;
            return set[way].text;
        }
    return NULL;
}

void names_free(struct table *t)
{
    for (size_t i = 0; t->rows->names && i < (size_t)SETS * WAYS; i++)
        free(t->rows->names[i].text);
    free(t->rows->names);
}
