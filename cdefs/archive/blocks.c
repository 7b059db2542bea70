/* Blocks: events group by group, in the order of the text, cut at about the same size. The table of a block says where each
 * part of its text belongs; segment_layout.py has its form. */
#include "archive/archive_impl.h"

#define LATE 4 /* times the size of a block that an event with late records may have */

static void sum_up(struct archive_text *a)
{
    for (uint32_t i = 0; i < a->groups; i++) {
        struct archive_group *g = &a->group[i];
        g->events = g->records = g->execs = g->failures = g->size = 0;
        g->first_ms = INT64_MAX;
        g->last_ms = INT64_MIN;
    }
    for (uint32_t i = 0; i < a->events; i++) {
        const struct archive_event *e = &a->event[i];
        struct archive_group *g = &a->group[e->group];
        g->events++;
        g->records += e->records;
        g->execs += !!(e->flags & ARCHIVE_EVENT_EXEC);
        g->failures += !!(e->flags & ARCHIVE_EVENT_FAILED);
        g->size += e->size;
        g->first_ms = e->ms < g->first_ms ? e->ms : g->first_ms;
        g->last_ms = e->ms > g->last_ms ? e->ms : g->last_ms;
    }
}

static int sorted(const struct archive_text *a, uint32_t *order)
{
    struct key *keys = malloc((a->events + 1) * sizeof(*keys));

    if (!keys)
        return 0;
    for (uint32_t i = 0; i < a->events; i++)
        keys[i] = (struct key){(uint64_t)a->event[i].group << 32 | a->event[i].behind, i};
    int there = archive_order(keys, a->events);
    for (uint32_t i = 0; i < a->events; i++)
        order[i] = keys[i].number;
    free(keys);
    return there;
}

/* Whether the event begins another block: a group that fits into what is left stays whole, one that does not begins anew. */
static int begins(const struct archive_text *a, const struct archive_block *b, const struct archive_event *e, uint32_t target)
{
    if (!b->count)
        return 0;
    if (e->group != b->high_group)
        return (uint64_t)b->size + a->group[e->group].size > target;
    /* what is late stays with its event, unless there is no end of it */
    return (uint64_t)b->size + e->size > (e->behind == e->first ? target : LATE * (uint64_t)target);
}

int64_t archive_plan(struct archive_text *a, uint32_t *order, uint32_t target, struct archive_block *blocks, uint32_t room)
{
    struct archive_block block = {.count = 0};
    uint32_t n = 0;

    sum_up(a);
    if (!sorted(a, order))
        return -1;
    for (uint32_t i = 0; i <= a->events; i++) {
        const struct archive_event *e = i < a->events ? &a->event[order[i]] : NULL;
        if (block.count && (!e || begins(a, &block, e, target))) {
            if (n < room)
                blocks[n] = block;
            n++;
            block.count = 0;
        }
        if (!e)
            break;
        if (!block.count)
            block = (struct archive_block){.first = i, .low_group = e->group, .first_ms = e->ms, .last_ms = e->ms};
        block.count++;
        block.size += e->size;
        block.pieces += e->pieces;
        block.high_group = e->group;
        block.first_ms = e->ms < block.first_ms ? e->ms : block.first_ms;
        block.last_ms = e->ms > block.last_ms ? e->ms : block.last_ms;
    }
    return n;
}

static uint8_t *put_number(uint8_t *at, uint64_t x)
{
    for (; x > 127; x >>= 7)
        *at++ = (uint8_t)(x | 128);
    *at++ = (uint8_t)x;
    return at;
}

static int is_open(const struct archive_text *a, const struct archive_piece *p)
{
    return a->text[p->off + p->len - 1] != '\n';
}

uint64_t archive_block_table(const struct archive_text *a, const uint32_t *order, const struct archive_block *block,
                             uint8_t *out, uint64_t room)
{
    uint64_t most = 20 * ((uint64_t)block->pieces + block->count + 1);
    uint8_t *at = out;
    uint32_t group = 0;
    int64_t before = 0;

    if (room < most)
        return most;
    for (uint32_t i = block->first; i < block->first + block->count; i++) {
        const struct archive_event *e = &a->event[order[i]];
        at = put_number(at, e->group - group);
        group = e->group;
        for (uint32_t k = 0; k < e->pieces; k++) {
            const struct archive_piece *p = &a->piece[e->piece + k];
            int64_t step = (int64_t)p->off - before;
            at = put_number(at, (uint64_t)step << 1 ^ (uint64_t)(step >> 63));
            at = put_number(at, (uint64_t)p->len << 2 | (uint64_t)is_open(a, p) << 1 | (k + 1 < e->pieces));
            before = (int64_t)p->off + p->len;
        }
    }
    return (uint64_t)(at - out);
}

uint64_t archive_block_text(const struct archive_text *a, const uint32_t *order, const struct archive_block *block,
                            char *out, uint64_t room)
{
    char *at = out;

    if (room < (uint64_t)block->size + block->pieces)
        return (uint64_t)block->size + block->pieces;
    for (uint32_t i = block->first; i < block->first + block->count; i++) {
        const struct archive_event *e = &a->event[order[i]];
        for (uint32_t k = 0; k < e->pieces; k++) {
            const struct archive_piece *p = &a->piece[e->piece + k];
            memcpy(at, a->text + p->off, p->len);
            at += p->len;
            if (is_open(a, p)) /* so that no two lines become one */
                *at++ = '\n';
        }
    }
    return (uint64_t)(at - out);
}

uint32_t archive_block_terms(const struct archive_text *a, const uint32_t *order, struct archive_block *blocks, uint32_t count)
{
    struct seen seen = {archive_new_seen(), 0};
    uint32_t most = 0;

    for (uint32_t b = 0; b < count && seen.marks; b++) {
        blocks[b].terms = 0;
        seen.block = b;
        for (uint32_t i = blocks[b].first; i < blocks[b].first + blocks[b].count; i++) {
            const struct archive_event *e = &a->event[order[i]];
            for (uint32_t t = e->term; t < e->term + e->terms; t++)
                blocks[b].terms += is_new(&seen, a->term[t]);
        }
        most = blocks[b].terms > most ? blocks[b].terms : most;
    }
    free(seen.marks);
    return most;
}
