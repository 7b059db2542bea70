/* Points about the same process are answered together; attribution/attributor.py asks once for each group. */
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/audittext.h"
#include "attribution/group.h"

#define NONE 0xffffffffu

uint32_t auditns_group(struct auditns_groups *g, const struct auditns_points *p, uint32_t count, uint32_t alone)
{
    uint32_t bits = 1, n = 0;

    if (count > g->cap)
        return NONE;
    while (bits < 31 && (1u << bits) < 2 * count)
        bits++;
    memset(g->slots, 0xff, sizeof(*g->slots) << bits);
    for (uint32_t j = 0; j < count; j++) {
        uint32_t i = g->which[j], at = NONE, found = NONE;
        if (!(p->flags[i] & alone) && p->pid[i] > 0) {
            /* the multiplier is secret: nobody can choose pids that all fall on one slot */
            at = (uint32_t)((uint64_t)(uint32_t)p->pid[i] * g->seed >> (64 - bits));
            while ((found = g->slots[at]) != NONE && p->pid[g->first[found]] != p->pid[i])
                at = (at + 1) & ((1u << bits) - 1);
        }
        if (found == NONE) {
            found = n++;
            if (at != NONE)
                g->slots[at] = found;
            g->first[found] = i;
            g->flags[found] = p->flags[i];
            g->pid[found] = p->pid[i];
            g->count[found] = 0;
            g->low[found] = g->high[found] = p->ms[i];
        }
        g->count[found]++;
        if (p->ms[i] < g->low[found])
            g->low[found] = p->ms[i];
        if (p->ms[i] > g->high[found])
            g->high[found] = p->ms[i];
        g->group[j] = found;
    }
    return n;
}

void auditns_spread(const struct auditns_groups *g, const uint32_t *numbers, uint32_t count, uint32_t *choice)
{
    for (uint32_t j = 0; j < count; j++)
        choice[g->which[j]] = numbers[g->group[j]];
}

void auditns_pick_numbers(const uint32_t *which, uint32_t n, const uint32_t *numbers, uint32_t *found)
{
    for (uint32_t i = 0; i < n; i++)
        found[i] = numbers[which[i]];
}

static int same_lead(const struct auditns_points *p, uint32_t a, uint32_t b)
{
    return p->lead_len[a] == p->lead_len[b] &&
           (!p->lead_len[a] || !memcmp(p->buf + p->line_off[a], p->buf + p->line_off[b], p->lead_len[a]));
}

uint32_t auditns_sequence(const struct auditns_points *p, uint32_t first, uint64_t most, const uint8_t *apart)
{
    uint64_t seen[AUDITNS_SEQUENCE_MOST / 64] = {0}, next = p->serial[first] + 1, high = next - 1; /* next: not in order yet */
    uint32_t end = first + 1, found = 0;
    int64_t ms = p->ms[first];

    for (uint32_t i = end; i < p->n && p->serial[i] < most && !apart[p->rtype[i]] && same_lead(p, i, first); i++) {
        uint64_t at = p->serial[i] - next, bit = (uint64_t)1 << at % 64;

        if (at >= AUDITNS_SEQUENCE_MOST || p->ms[i] - ms > AUDITNS_SEQUENCE_MS || ms - p->ms[i] > AUDITNS_SEQUENCE_MS)
            break; /* also where it is another one of an event that has come, as a target is */
        found += !(seen[at / 64] & bit);
        seen[at / 64] |= bit;
        high = p->serial[i] > high ? p->serial[i] : high;
        if (p->serial[i] != high || found != high - next + 1)
            continue;
        memset(seen, 0, ((high - next) / 64 + 1) * sizeof(*seen));
        end = i + 1;
        next = high + 1;
        found = 0;
        ms = p->ms[i];
    }
    return end;
}

/* ---- filters ---- */

void auditns_events(const struct auditns_points *p, uint32_t *first, uint32_t *count)
{
    uint32_t least = AUDITNS_LINE_LATE, last = 0;

    for (uint32_t i = 0; i < p->line_n; i++) {
        uint32_t event = p->l_event[i];
        if (event >= AUDITNS_LINE_LATE)
            continue;
        least = event < least ? event : least;
        last = event > last ? event : last;
    }
    *first = least == AUDITNS_LINE_LATE ? 0 : least;
    *count = least == AUDITNS_LINE_LATE ? 0 : last - least + 1;
}

void auditns_keys(const struct auditns_points *p, const char *buf, const char *wanted, const uint32_t *off,
                  uint32_t count, uint8_t *found)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const char *key = buf + p->key_off[i];
        uint32_t n = p->key_len[i];

        if (!n) {
            found[i] = AUDITNS_KEY_OTHER;
            continue;
        }
        found[i] = AUDITNS_KEY_UNCLEAR;
        if (n < 2 || key[0] != '"' || key[n - 1] != '"' || memchr(key + 1, '"', n - 2) || memchr(key + 1, 1, n - 2))
            continue;
        found[i] = AUDITNS_KEY_OTHER;
        for (uint32_t w = 0; w < count; w++)
            if (off[w + 1] - off[w] == n - 2 && !memcmp(wanted + off[w], key + 1, n - 2))
                found[i] = AUDITNS_KEY_WANTED;
    }
}

void auditns_pick(const uint32_t *choice, uint32_t n, const uint8_t *table, uint8_t *found)
{
    for (uint32_t i = 0; i < n; i++)
        found[i] = table[choice[i]];
}

void auditns_keep(const struct auditns_points *p, const uint8_t *good, uint32_t first, uint32_t count, uint8_t *kept)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (good[i] && p->event[i] - first < count)
            kept[p->event[i] - first] = 1;
}

void auditns_keep_types(const struct auditns_points *p, const uint8_t *types, uint32_t first, uint32_t count,
                        uint8_t *kept)
{
    for (uint32_t i = 0; i < p->line_n; i++)
        if (types[p->l_type[i]] && p->l_event[i] - first < count)
            kept[p->l_event[i] - first] = 1;
}
