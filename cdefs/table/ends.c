/* The dead in the order of their ends: a ring of who they were, whether rows or held by Python. */
#include <stdlib.h>
#include "table/table_impl.h"

#define FIRST_ROOM 64

int table_bury(struct table *t, int32_t pid, uint64_t start, uint64_t end)
{
    struct table_rows *rows = t->rows;

    if (t->dead == rows->dead_room) {
        uint32_t room = rows->dead_room ? rows->dead_room * 2 : FIRST_ROOM;
        struct table_dead_row *dead = malloc(room * sizeof(*dead));
        if (!dead)
            return 0;
        for (uint32_t i = 0; i < t->dead; i++)
            dead[i] = rows->dead[(rows->dead_first + i) & (rows->dead_room - 1)];
        free(rows->dead);
        rows->dead = dead;
        rows->dead_room = room;
        rows->dead_first = 0;
    }
    rows->dead[(rows->dead_first + t->dead++) & (rows->dead_room - 1)] =
        (struct table_dead_row){.start = start, .end = end, .pid = pid};
    return 1;
}
