/* The names of fields, each found by its text; there are never many. */
#include <sys/types.h>
#include "json/json_impl.h"

static struct { const char *names; const uint8_t *kinds; uint32_t count; } given;

void auditns_json_names(const char *names, const uint8_t *kinds, uint32_t count)
{
    given.names = names;
    given.kinds = kinds;
    given.count = count;
}

/* A name as it is compared: its bytes, and '=' behind them. */
static void words_of(uint64_t *words, const char *s, size_t n)
{
    for (size_t i = 0; i < NAME_WORDS; i++)
        words[i] = n > 8 * i ? first_of(eight(s + 8 * i), n - 8 * i) : 0;
    words[n / 8] |= (uint64_t)'=' << 8 * (n % 8);
}

/* The slot of that name, or the one where it would be. The seed is secret: nobody can choose names that all want the
 * same one. */
static uint32_t slot_of(const struct names *names, const uint64_t *words)
{
    uint64_t h = 0;
    for (size_t i = 0; i < NAME_WORDS; i++) {
        h = (h ^ words[i]) * names->seed;
        h ^= h >> 32;
    }
    uint32_t at = h % (2 * NAMES);
    while (names->slot[at] && memcmp(names->slot[at]->words, words, sizeof(names->slot[at]->words)))
        at = (at + 1) % (2 * NAMES);
    return at;
}

struct name *name_find(const struct names *names, const char *s, size_t n)
{
    uint64_t words[NAME_WORDS];
    if (!n || n > NAME_LONGEST)
        return NULL;
    words_of(words, s, n);
    return names->slot[slot_of(names, words)];
}

struct name *name_add(struct names *names, const char *s, size_t n)
{
    uint64_t words[NAME_WORDS];
    if (!n || n > NAME_LONGEST || names->count == NAMES)
        return NULL;
    if (n == 4 && !memcmp(s, "type", 4)) /* the record's own is called so */
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' || s[i] == '=')
            return NULL;
    words_of(words, s, n);
    struct name *name = &names->name[names->count++];
    memset(name, 0, sizeof(*name));
    memcpy(name->words, words, sizeof(words));
    for (size_t i = 0; i <= n / 8; i++)
        name->mask[i] = first_of(~(uint64_t)0, n + 1 - 8 * i);
    name->said[0] = ',';
    name->said[1] = '"';
    memcpy(name->said + 2, s, n);
    name->said[n + 2] = '"';
    name->said[n + 3] = ':';
    name->len = (uint8_t)n;
    names->slot[slot_of(names, words)] = name;
    return name;
}

void names_clear(struct names *names)
{
    const char *s = given.names;
    names->count = 0;
    memset(names->slot, 0, sizeof(names->slot));
    for (uint32_t i = 0; i < given.count; i++) {
        char padded[NAME_LONGEST + PAD] = {0};
        size_t n = strlen(s);
        struct name *name;
        memcpy(padded, s, n > NAME_LONGEST ? NAME_LONGEST : n);
        name = name_add(names, padded, n);
        if (name)
            name->kind = given.kinds[i];
        s += n + 1;
    }
}
