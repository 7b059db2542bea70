/* Filters of a segment's blocks: a Bloom filter each, of the same size, laid across, so that one row has the same bit of all
 * of them, and a question reads a few short rows however many blocks there are. Each row has its own checksum: a damaged
 * one excludes nothing. */
#include "archive/archive_impl.h"

static uint32_t words_in(uint32_t blocks)
{
    return (blocks + 63) / 64;
}

static uint64_t row_size(uint32_t blocks)
{
    return (words_in(blocks) + 1) * sizeof(uint64_t);
}

uint64_t archive_filter_size(uint32_t rows, uint32_t blocks)
{
    return rows * row_size(blocks);
}

/* The row of a term's probe. */
static uint32_t probe(uint32_t term, uint32_t i, uint32_t rows)
{
    uint64_t x = term * 0x9e3779b97f4a7c15u;
    uint32_t step = (uint32_t)x | 1;
    return (uint32_t)((uint64_t)((uint32_t)(x >> 32) + i * step) * rows >> 32);
}

static uint64_t word_at(const uint8_t *row, uint32_t i)
{
    return eight((const char *)row + i * 8);
}

static uint64_t checksum(const uint8_t *row, uint32_t words, uint32_t number)
{
    uint64_t h = mixed(0x61756469746e7321, number);
    for (uint32_t i = 0; i < words; i++)
        h = mixed(h, word_at(row, i));
    return h;
}

void archive_filter_make(const struct archive_text *a, const uint32_t *order, const struct archive_block *blocks,
                         uint32_t count, uint32_t rows, uint8_t *out)
{
    uint32_t words = words_in(count);
    uint64_t size = row_size(count);
    struct seen seen = {archive_new_seen(), 0};

    memset(out, 0, rows * size);
    for (uint32_t b = 0; b < count; b++) {
        seen.block = b;
        uint8_t bit = (uint8_t)(1 << b % 8);
        for (uint32_t i = blocks[b].first; i < blocks[b].first + blocks[b].count; i++) {
            const struct archive_event *e = &a->event[order[i]];
            for (uint32_t t = e->term; t < e->term + e->terms; t++)
                for (uint32_t k = 0; k < ARCHIVE_PROBES && (k || !seen.marks || is_new(&seen, a->term[t])); k++)
                    out[probe(a->term[t], k, rows) * size + b / 8] |= bit;
            for (uint32_t r = 0; e->flags & ARCHIVE_EVENT_OPAQUE && r < rows; r++)
                out[r * size + b / 8] |= bit;
        }
    }
    free(seen.marks);
    for (uint32_t r = 0; r < rows; r++)
        put_eight((char *)out + r * size + words * 8, checksum(out + r * size, words, r));
}

uint32_t archive_filter(const uint8_t *filter, uint32_t rows, uint32_t blocks, const uint32_t *terms, const uint32_t *ends,
                        uint32_t sets, uint64_t *found)
{
    uint32_t words = words_in(blocks), damaged = 0;
    uint64_t size = row_size(blocks), any[words], all[words];

    for (uint32_t s = 0, t = 0; s < sets; s++) {
        memset(any, 0, sizeof(any));
        for (; t < ends[s]; t++) {
            memset(all, 255, sizeof(all));
            for (uint32_t k = 0; k < ARCHIVE_PROBES; k++) {
                uint32_t r = probe(terms[t], k, rows);
                const uint8_t *row = filter + r * size;
                if (word_at(row, words) != checksum(row, words, r)) {
                    damaged++;
                    continue;
                }
                for (uint32_t i = 0; i < words; i++)
                    all[i] &= word_at(row, i);
            }
            for (uint32_t i = 0; i < words; i++)
                any[i] |= all[i];
        }
        for (uint32_t i = 0; i < words; i++)
            found[i] &= any[i];
    }
    return damaged;
}

uint32_t archive_pick(const struct archive_entry *entries, uint32_t count, const uint64_t *found, int64_t since,
                      int64_t until, const uint8_t *groups, uint32_t group_count, uint32_t *out)
{
    uint32_t n = 0;

    for (uint32_t b = 0; b < count; b++) {
        const struct archive_entry *e = &entries[b];
        if (!(found[b / 64] >> b % 64 & 1) || e->last_ms < since || e->first_ms > until)
            continue;
        int wanted = !groups;
        for (uint32_t g = e->low_group; !wanted && g <= e->high_group && g < group_count; g++)
            wanted = groups[g];
        if (wanted)
            out[n++] = b;
    }
    return n;
}
