/* Where the text of an event says already whose it is, the answer follows from its words, from the record that is asked
 * about and from what the evidence says; attribution/text_answers.py has the rules. Of a process that a row answers for,
 * all three come again and again, so what Python made of them is remembered by their hash. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/scan_impl.h"
#include "attribution/said_impl.h"

#define ANSWERS 65536 /* a power of two; when half of it is taken all is forgotten */
#define MOST_EVENTS (1u << 22)

struct said *said_new(uint64_t seed)
{
    struct said *s = calloc(1, sizeof(*s));

    if (s && !(s->answer = calloc(ANSWERS, sizeof(*s->answer)))) {
        free(s);
        return NULL;
    }
    if (s)
        s->seed = seed | 1;
    return s;
}

void said_free(struct said *s)
{
    if (!s)
        return;
    free(s->key);
    free(s->words);
    free(s->answer);
    free(s);
}

static uint64_t mix(const struct said *s, uint64_t h, uint64_t word)
{
    __uint128_t product = (__uint128_t)(h ^ word ^ s->seed) * (s->seed ^ (h << 1 | 1));
    return (uint64_t)product ^ (uint64_t)(product >> 64) ^ (h << 7 | h >> 57);
}

static uint64_t hash_of(const struct said *s, uint64_t h, const char *text, uint32_t len)
{
    h = mix(s, h, len);
    for (; len >= 8; text += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, text, sizeof(word));
        h = mix(s, h, word);
    }
    uint64_t word = 0;
    memcpy(&word, text, len);
    return mix(s, h, word);
}

static int grow(uint64_t **array, uint32_t *room, uint32_t wanted)
{
    uint64_t *grown;

    if (wanted <= *room)
        return 1;
    grown = realloc(*array, (size_t)wanted * 2 * sizeof(*grown));
    if (!grown)
        return 0;
    *array = grown;
    *room = wanted * 2;
    return 1;
}

int said_begin(struct said *s, const struct auditns_points *p, uint32_t first, uint32_t end)
{
    s->first = first;
    s->keys = s->events = 0;
    if (end <= first)
        return 1;
    if (!grow(&s->key, &s->key_room, end - first))
        return 0;
    s->keys = end - first;
    memset(s->key, 0, s->keys * sizeof(*s->key));
    auditns_events(p, &s->event, &s->events);
    if (s->events > MOST_EVENTS || !grow(&s->words, &s->words_room, s->events)) {
        s->events = 0;
        return 0;
    }
    if (s->events)
        memset(s->words, 0, s->events * sizeof(*s->words));
    for (uint32_t n = 0; n < p->line_n; n++) {
        uint32_t at = p->l_event[n] - s->event;
        if (at >= s->events || !(type_numbered(p->l_type[n]) & TYPE_OWN))
            continue;
        uint32_t end_of = p->l_off[n] + p->l_len[n];
        s->words[at] = hash_of(s, s->words[at] ^ p->l_type[n], p->buf + p->l_body[n], end_of - p->l_body[n]) | 1;
    }
    return 1;
}

/* Where the answer for a key is, or would be. */
static struct said_answer *place_of(struct said *s, uint64_t key)
{
    uint32_t at = (uint32_t)(key >> 32) % ANSWERS;

    while (s->answer[at].key && s->answer[at].key != key)
        at = (at + 1) % ANSWERS;
    return &s->answer[at];
}

const struct said_answer *said_find(struct said *s, const struct auditns_points *p, uint32_t i, uint32_t profile,
                                    uint32_t generation)
{
    uint32_t at = p->event[i] - s->event;
    uint64_t record = (uint64_t)p->recno[i] << 32 | profile, key;

    if (at >= s->events || !s->words[at] || i - s->first >= s->keys)
        return NULL;
    key = mix(s, s->words[at], record) | 1;
    const struct said_answer *found = place_of(s, key);
    if (found->key && found->generation == generation)
        return found;
    s->key[i - s->first] = key;
    return NULL;
}

void said_put(struct said *s, uint32_t i, uint32_t number, uint32_t state, uint32_t generation)
{
    if (i - s->first >= s->keys || !s->key[i - s->first])
        return;
    struct said_answer *found = place_of(s, s->key[i - s->first]);
    if (!found->key && ++s->answers > ANSWERS / 2) {
        memset(s->answer, 0, ANSWERS * sizeof(*s->answer));
        s->answers = 1;
        found = place_of(s, s->key[i - s->first]);
    }
    *found = (struct said_answer){s->key[i - s->first], number, state, generation};
}

void said_spread(const uint32_t *texts, uint32_t n, const uint32_t *numbers, uint32_t *who)
{
    for (uint32_t i = 0; i < n; i++)
        if (texts[i])
            who[i] = numbers[texts[i]];
}

/* Line i is the first of its event, and no other is of anybody else's. The lines of an event stand together. */
static int only_ours(const struct auditns_points *p, const uint8_t *types, uint32_t i)
{
    uint32_t event = p->l_event[i];

    if (i && p->l_event[i - 1] == event)
        return 0;
    while (++i < p->line_n && p->l_event[i] == event)
        if (!types[p->l_type[i]])
            return 0;
    return 1;
}

uint32_t said_alone(const struct auditns_points *p, const uint8_t *types, uint32_t *found)
{
    uint32_t n = 0, last = AUDITNS_LINE_FOREIGN;

    for (uint32_t i = 0; i < p->line_n; i++) {
        uint8_t is = types[p->l_type[i]];
        uint32_t event = p->l_event[i];
        if (!is || event == last || event >= AUDITNS_LINE_LATE)
            continue;
        last = event;
        uint32_t end = p->l_off[i] + p->l_len[i];
        if (is == SAID_ALONE || only_ours(p, types, i) ||
            (is == SAID_BY_REASON && memmem(p->buf + p->l_body[i], end - p->l_body[i], "reason", 6)))
            found[n++] = i;
    }
    return n;
}

uint32_t said_lines(const struct auditns_points *p, const uint8_t *types, uint32_t *found)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->line_n; i++)
        if (types[p->l_type[i]])
            found[n++] = i;
    return n;
}
