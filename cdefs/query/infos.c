/* The CONTAINER_INFO records of a text, each thing that they say once. */
#define _GNU_SOURCE
#include "query/query_impl.h"

#define SLOTS 65536u
#define MOST (SLOTS / 2)

/* Words of a process, not of its container: they say nothing new of that. */
static int passing(const char *s, size_t n)
{
#define IS(word) (n >= sizeof(word) - 1 && !memcmp(s, word, sizeof(word) - 1))
    return IS("origin=") || IS("exit-pid=") || IS("key=") || IS("parents=") || IS("record=");
#undef IS
}

static uint64_t hash_of(const char *body, const char *end)
{
    uint64_t h = 1;

    for (const char *s = body; s < end;) {
        const char *q = memchr(s, ' ', (size_t)(end - s));
        q = q ? q : end;
        if (q > s && !passing(s, (size_t)(q - s)))
            h = hash_bytes(h, s, (size_t)(q - s));
        s = q + 1;
    }
    return h ? h : 1;
}

/* Whether it is new; where there is no more room all is forgotten, and something is said again. */
static int is_new(struct auditns_seen *seen, uint64_t h)
{
    uint32_t at = (uint32_t)h & (SLOTS - 1);

    for (; seen->hash[at]; at = (at + 1) & (SLOTS - 1))
        if (seen->hash[at] == h)
            return 0;
    if (seen->count == MOST) {
        memset(seen->hash, 0, sizeof(seen->hash));
        seen->count = 0;
        at = (uint32_t)h & (SLOTS - 1);
    }
    seen->hash[at] = h;
    seen->count++;
    return 1;
}

/* Where a needle stands at or behind a place; what has been found is not looked for again. */
struct hunt {
    const char *needle;
    uint32_t off[2];
    uint64_t at;
    int begun;
};

static uint64_t hunted(struct hunt *hunt, const char *buf, uint64_t from, uint64_t len)
{
    if (!hunt->begun || hunt->at < from) {
        hunt->begun = 1;
        int64_t hit = auditns_find(buf + from, len - from, hunt->needle, hunt->off, 1);
        hunt->at = hit < 0 ? len : from + (uint64_t)hit;
    }
    return hunt->at;
}

#define HUNT(text) {.needle = text, .off = {0, sizeof(text) - 1}, .at = 0, .begun = 0}

uint32_t auditns_infos(const char *buf, uint64_t len, struct auditns_seen *seen, uint64_t *next, uint32_t *own,
                       uint64_t *found, uint32_t cap)
{
    struct hunt hunt[] = {HUNT("CONTAINER_INFO"), HUNT("UNKNOWN[1342]"), HUNT("type=CONTAINER_"),
                          HUNT("type=UNKNOWN[134"), HUNT("type=NS_")};
    struct head h = {.text = NULL};
    uint32_t n = 0;
    uint64_t at = *next;

    while (at < len) {
        uint64_t hit = len;
        /* once it is known that there are records of ours, only one type is of interest */
        for (size_t i = *own ? 0 : 2, most = *own ? 2 : 5; i < most; i++) {
            uint64_t one = hunted(&hunt[i], buf, at, len);
            hit = one < hit ? one : hit;
        }
        if (hit == len)
            break;
        const char *line = memrchr(buf, '\n', hit), *end = memchr(buf + hit, '\n', len - hit);
        line = line ? line + 1 : buf;
        end = end ? end : buf + len;
        at = (uint64_t)(end - buf) + 1;
        if (end - line > AUDITNS_MAX_LINE || !parse_head(line, end, &h))
            continue;
        uint32_t type = h.type & 0xffff;
        *own |= (h.type & TYPE_OWN) != 0;
        if (type != TYPE_CONTAINER_INFO || !is_new(seen, hash_of(line + h.body, end)))
            continue;
        found[n++] = (uint64_t)(line - buf);
        if (n == cap) {
            *next = at;
            return n;
        }
    }
    *next = len;
    return n;
}
