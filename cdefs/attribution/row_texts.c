/* What is said of a process beside its container is made once for each, by Python, and remembered by its row. */
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "table/table_impl.h"
#ifndef AUDITNS_AUDITTEXT
#define AUDITNS_AUDITTEXT
#include "audittext/audittext.h"
#endif
#include "attribution/row_lookup.h"

#define WANTED 0xffffffffu /* in place of a number */

struct row_texts *row_texts_new(void)
{
    return calloc(1, sizeof(struct row_texts));
}

void row_texts_free(struct row_texts *texts)
{
    if (texts)
        free(texts->text);
    free(texts);
}

void row_texts_clear(struct row_texts *texts)
{
    if (texts->room)
        memset(texts->text, 0, texts->room * sizeof(*texts->text));
}

static int grow(struct row_texts *texts, uint32_t row)
{
    uint32_t room = texts->room ? texts->room : 1024;
    struct row_text *text;

    while (room <= row)
        room *= 2;
    text = realloc(texts->text, room * sizeof(*text));
    if (!text)
        return 0;
    memset(text + texts->room, 0, (room - texts->room) * sizeof(*text));
    texts->text = text;
    texts->room = room;
    return 1;
}

uint32_t row_texts_find(struct row_texts *texts, const struct table *t, const uint32_t *rows, uint32_t n, uint32_t *who,
                        uint64_t *starts, uint32_t *missed)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = rows[i];
        if (!row)
            continue;
        if (row >= texts->room && !grow(texts, row))
            return AUDITNS_NO_MEMORY;
        struct row_text *text = &texts->text[row];
        const struct process *p = process_at(t, row);
        if (text->number && text->start == p->start && text->profile == p->profile) {
            who[i] = text->number;
            starts[i] = p->start;
            continue;
        }
        *text = (struct row_text){p->start, p->profile, WANTED};
        missed[count++] = row;
    }
    return count;
}

void row_texts_put(struct row_texts *texts, uint32_t row, uint32_t number)
{
    texts->text[row].number = number;
}
