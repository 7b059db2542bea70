/* What is counted while text is taken in: values by group, runs of serials, and what is said of containers. */
#include "archive/archive_impl.h"

#define STEP_BACK 65536 /* serials of one boot are not further out of order */

int archive_room(void *at, uint32_t *room, uint32_t used, size_t size)
{
    void **where = at;

    if (used < *room)
        return 1;
    uint32_t more = *room ? *room + *room / 2 : 1024;
    void *grown = realloc(*where, more * size);
    if (!grown)
        return 0;
    *where = grown;
    *room = more;
    return 1;
}

static uint64_t hash_bytes(uint64_t h, const char *s, uint32_t len)
{
    uint32_t i = 0;

    for (; len - i >= 8; i += 8)
        h = mixed(h, eight(s + i));
    return mixed(mixed(h, eight_before(s + i, s + len)), len);
}

static int is_numeric(uint32_t kind)
{
    return kind == ARCHIVE_TALLY_TYPE || kind == ARCHIVE_TALLY_SYSCALL;
}

static uint64_t hash_tally(const struct archive_text *a, const struct archive_tally *t)
{
    uint64_t h = mixed(mixed(a->seed, t->group), t->kind);
    return is_numeric(t->kind) ? mixed(h, (uint64_t)t->length << 32 | t->value) : hash_bytes(h, a->text + t->value, t->length);
}

static int same_tally(const struct archive_text *a, const struct archive_tally *x, const struct archive_tally *y)
{
    return x->group == y->group && x->kind == y->kind && x->length == y->length &&
           (is_numeric(x->kind) ? x->value == y->value : !memcmp(a->text + x->value, a->text + y->value, x->length));
}

static int grow_tallies(struct archive_text *a)
{
    uint32_t slots = a->tally_slots ? 2 * a->tally_slots : 4096;
    uint32_t *grown = malloc(slots * sizeof(*grown));

    if (!grown)
        return 0;
    memset(grown, 0xff, slots * sizeof(*grown));
    for (uint32_t i = 0; i < a->tallies; i++) {
        uint32_t at = (uint32_t)hash_tally(a, &a->tally[i]) & (slots - 1);
        while (grown[at] != NONE)
            at = (at + 1) & (slots - 1);
        grown[at] = i;
    }
    free(a->tally_slot);
    a->tally_slot = grown;
    a->tally_slots = slots;
    return 1;
}

int archive_count(struct archive_text *a, uint32_t group, uint32_t kind, uint32_t value, uint32_t length, uint64_t count,
                  int64_t ms)
{
    struct archive_tally wanted = {group, kind, value, length, count, ms, ms};

    if (2 * a->tallies >= a->tally_slots && !grow_tallies(a))
        return 0;
    uint32_t at = (uint32_t)hash_tally(a, &wanted) & (a->tally_slots - 1);
    for (; a->tally_slot[at] != NONE; at = (at + 1) & (a->tally_slots - 1)) {
        struct archive_tally *t = &a->tally[a->tally_slot[at]];
        if (!same_tally(a, t, &wanted))
            continue;
        t->count += count;
        t->first_ms = ms < t->first_ms ? ms : t->first_ms;
        t->last_ms = ms > t->last_ms ? ms : t->last_ms;
        return 1;
    }
    if (a->tallies >= a->most_tallies) {
        a->dropped_tallies++;
        return 1;
    }
    if (!archive_room(&a->tally, &a->tally_room, a->tallies, sizeof(*a->tally)))
        return 0;
    a->tally[a->tallies] = wanted;
    a->tally_slot[at] = a->tallies++;
    return 1;
}

static int begins_with(struct span s, const char *with)
{
    size_t n = strlen(with);
    return s.len >= n && !memcmp(s.at, with, n);
}

int archive_note_info(struct archive_text *a, const char *body, const char *end, uint32_t group)
{
    /* behind the names stands what differs from one process to the next */
    for (const char *s = body; (s = memchr(s, ' ', (size_t)(end - s))); s++) {
        struct span word = {s, (uint32_t)(end - s)};
        if (begins_with(word, " exit-pid=") || begins_with(word, " entry=") || begins_with(word, " cauid=")) {
            end = s;
            break;
        }
    }
    uint32_t len = (uint32_t)(end - body);
    if (!a->info_slots) {
        a->info_slots = 4 * a->most_infos;
        a->info_slot = malloc(a->info_slots * sizeof(*a->info_slot));
        if (!a->info_slot)
            return 0;
        memset(a->info_slot, 0xff, a->info_slots * sizeof(*a->info_slot));
    }
    uint32_t at = (uint32_t)(hash_bytes(mixed(a->seed, group), body, len) % a->info_slots);
    for (; a->info_slot[at] != NONE; at = (at + 1) % a->info_slots) {
        const struct archive_info *i = &a->info[a->info_slot[at]];
        if (i->group == group && i->len == len && !memcmp(a->text + i->off, body, len))
            return 1;
    }
    if (a->infos >= a->most_infos) {
        a->dropped_infos++;
        return 1;
    }
    if (!archive_room(&a->info, &a->info_room, a->infos, sizeof(*a->info)))
        return 0;
    a->info[a->infos] = (struct archive_info){(uint32_t)(body - a->text), len, group};
    a->info_slot[at] = a->infos++;
    return 1;
}

int archive_note_serial(struct archive_text *a, struct span node, uint64_t serial, int64_t ms)
{
    struct archive_serials *s = NULL;

    for (uint32_t i = a->serial_runs; i-- > 0 && i + 64 >= a->serial_runs;) { /* hosts take turns, but not that many */
        s = &a->serials[i];
        if (same_span((struct span){a->text + s->node_off, s->node_len}, node))
            break;
        s = NULL;
    }
    if (!s || serial + STEP_BACK < s->last) {
        if (!archive_room(&a->serials, &a->serials_room, a->serial_runs, sizeof(*a->serials)))
            return 0;
        s = &a->serials[a->serial_runs++];
        *s = (struct archive_serials){.node_off = node.len ? (uint32_t)(node.at - a->text) : 0, .node_len = node.len,
                                      .low = serial, .high = serial, .first_ms = ms, .last_ms = ms};
    }
    s->last = serial > s->last ? serial : s->last;
    s->low = serial < s->low ? serial : s->low;
    s->high = serial > s->high ? serial : s->high;
    s->first_ms = ms < s->first_ms ? ms : s->first_ms;
    s->last_ms = ms > s->last_ms ? ms : s->last_ms;
    s->events++;
    return 1;
}
