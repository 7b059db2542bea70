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
    if (texts) {
        free(texts->text);
        free(texts->profile);
    }
    free(texts);
}

void row_texts_forget(struct row_texts *texts)
{
    if (texts->made)
        memset(texts->siblings, 0, sizeof(texts->siblings));
    texts->made = 0;
}

void row_texts_clear(struct row_texts *texts)
{
    row_texts_forget(texts);
    if (texts->room)
        memset(texts->text, 0, texts->room * sizeof(*texts->text));
    if (texts->profiles)
        memset(texts->profile, 0, texts->profiles * sizeof(*texts->profile));
}

/* Where the text of the row and its siblings is, or would be. */
static struct row_siblings *siblings_of(struct row_texts *texts, const struct process *p)
{
    uint64_t h = (p->creator_start ^ (uint64_t)p->profile << 40 ^ (uint32_t)p->creator) * 0x9e3779b97f4a7c15u;
    uint32_t at = (uint32_t)(h >> 32) % ROW_SIBLINGS;
    struct row_siblings *s;

    for (;; at = (at + 1) % ROW_SIBLINGS) {
        s = &texts->siblings[at];
        if (!s->number || (s->profile == p->profile && s->creator == p->creator && s->creator_start == p->creator_start))
            return s;
    }
}

/* The number of the text of all of the row's profile; 0: there is none, or it is not known. */
static uint32_t number_of_all(const struct row_texts *texts, const struct table *t, const struct process *p)
{
    const struct row_profile *all = p->profile < texts->profiles ? &texts->profile[p->profile] : NULL;

    return all && all->given == t->profile[p->profile].given ? all->number : 0;
}

/* The number of the text of a row whose sibling's is known; 0: it is not. */
static uint32_t number_of_siblings(struct row_texts *texts, const struct process *p)
{
    const struct row_siblings *s = p->creator && texts->made ? siblings_of(texts, p) : NULL;

    return s && !(p->pid == s->first && p->start == s->first_start) ? s->number : 0;
}

/* `what`, with room for number `at` of what has `size` bytes each, the new ones zeroed; NULL: there is no memory, and
 * nothing has happened. */
static void *grown(void *what, uint32_t *room, uint32_t at, size_t size)
{
    uint32_t more = *room ? *room : 64;

    while (more <= at)
        more *= 2;
    what = realloc(what, more * size);
    if (!what)
        return NULL;
    memset((char *)what + *room * size, 0, (more - *room) * size);
    *room = more;
    return what;
}

static int is_text_of(const struct row_text *text, const struct process *p)
{
    return text->number && text->start == p->start && text->profile == p->profile;
}

uint32_t row_texts_find(struct row_texts *texts, const struct table *t, const uint32_t *rows, uint32_t n, uint32_t *who,
                        uint64_t *starts, uint32_t *missed)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = rows[i];
        if (!row)
            continue;
        if (row >= texts->room) {
            struct row_text *more = grown(texts->text, &texts->room, row, sizeof(*more));
            if (!more)
                return AUDITNS_NO_MEMORY;
            texts->text = more;
        }
        struct row_text *text = &texts->text[row];
        const struct process *p = process_at(t, row);
        starts[i] = p->start;
        if ((who[i] = number_of_all(texts, t, p)))
            continue;
        if (is_text_of(text, p)) {
            who[i] = text->number;
            continue;
        }
        *text = (struct row_text){p->start, p->profile, number_of_siblings(texts, p)};
        who[i] = text->number;
        if (text->number)
            continue;
        text->number = WANTED;
        missed[count++] = row;
    }
    return count;
}

int row_texts_ready(struct row_texts *texts, const struct table *t, const uint32_t *rows, uint32_t n, uint32_t *who,
                    uint64_t *starts)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct process *p = process_at(t, rows[i]);
        if (!rows[i])
            return 0;
        starts[i] = p->start;
        who[i] = number_of_all(texts, t, p);
        if (!who[i] && rows[i] < texts->room && is_text_of(&texts->text[rows[i]], p))
            who[i] = texts->text[rows[i]].number;
        if (!who[i])
            return 0;
    }
    return 1;
}

int row_texts_all(struct row_texts *texts, const struct table *t, uint32_t row, uint32_t number)
{
    uint32_t at = process_at(t, row)->profile;

    if (at >= texts->profiles) {
        struct row_profile *more = grown(texts->profile, &texts->profiles, at, sizeof(*more));
        if (!more)
            return 0;
        texts->profile = more;
    }
    texts->profile[at] = (struct row_profile){t->profile[at].given, number};
    return 1;
}

void row_texts_put(struct row_texts *texts, uint32_t row, uint32_t number)
{
    texts->text[row].number = number;
}

void row_texts_made(struct row_texts *texts, const struct table *t, uint32_t row, uint32_t number, int32_t first,
                    uint64_t first_start)
{
    const struct process *p = process_at(t, row);

    if (!p->creator)
        return;
    if (2 * texts->made >= ROW_SIBLINGS)
        row_texts_forget(texts);
    struct row_siblings *s = siblings_of(texts, p);
    texts->made += !s->number;
    *s = (struct row_siblings){p->creator_start, first_start, p->creator, first, p->profile, number};
}

uint32_t row_texts_left(const struct auditns_points *p, const uint32_t *who, uint32_t *found)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n; i++)
        if (!who[i] && (!(p->flags[i] & AUDITNS_P_LATE) || p->flags[i] & (AUDITNS_P_SUBJECT | AUDITNS_P_TARGET)))
            found[n++] = i;
    return n;
}

uint32_t row_texts_others(uint32_t *left, uint32_t n, const uint32_t *which, const uint32_t *numbers, uint32_t *who)
{
    uint32_t still = 0;

    for (uint32_t j = 0; j < n; j++) {
        who[left[j]] = numbers[which[left[j]]];
        if (!who[left[j]])
            left[still++] = left[j];
    }
    return still;
}
