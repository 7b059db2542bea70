/* The numbers of record types by their names. */
#include "audittext/scan_impl.h"

#define SLOTS 1024 /* of the hash table: at least twice as many as there are types */
#define NUMBERED 4096 /* no type that has a name has a number as large */

static struct type { const char *name; uint64_t first; uint32_t len, number; } types[SLOTS];
static const struct type *by_number[NUMBERED];

static uint32_t type_hash(uint64_t first, size_t n)
{
    return (uint32_t)(((first ^ n) * 0x9e3779b97f4a7c15u) >> 32) % SLOTS;
}

void auditns_text_types(const char *names, const uint32_t *numbers, uint32_t count)
{
    memset(types, 0, sizeof(types));
    memset(by_number, 0, sizeof(by_number));
    for (uint32_t i = 0; i < count && i < SLOTS / 2; i++) {
        char first[8] = {0};
        size_t len = strlen(names);
        memcpy(first, names, len < sizeof(first) ? len : sizeof(first));
        uint32_t at = type_hash(eight(first), len);
        while (types[at].name)
            at = (at + 1) % SLOTS;
        types[at].name = names;
        types[at].first = eight(first);
        types[at].len = (uint32_t)len;
        types[at].number = numbers[i];
        if ((numbers[i] & 0xffff) < NUMBERED)
            by_number[numbers[i] & 0xffff] = &types[at];
        names += len + 1;
    }
}

/* eight bytes at least may be read at s */
static uint32_t type_listed(const char *s, size_t n)
{
    uint64_t first = first_of(eight(s), n);
    for (uint32_t at = type_hash(first, n); types[at].name; at = (at + 1) % SLOTS)
        if (types[at].first == first && types[at].len == n && (n <= 8 || same(types[at].name, s, n)))
            return types[at].number;
    return 0;
}

/* The spelling by number of a type we know by name means the same. */
uint32_t type_numbered(uint32_t number)
{
    if (number < NUMBERED && by_number[number])
        return by_number[number]->number;
#define RANGE(first, last, bits) if (number - (first) <= (last) - (first)) return number | (bits);
    TYPE_RANGES(RANGE)
#undef RANGE
    return number;
}

const char *type_name(uint32_t number, size_t *n)
{
    const struct type *type = number < NUMBERED ? by_number[number] : NULL;

    if (!type)
        return NULL;
    *n = type->len;
    return type->name;
}

uint32_t type_number(const char *s, size_t n)
{
    uint32_t number = type_listed(s, n);
    if (number)
        return number;
    if (n >= 10 && n <= 14 && !memcmp(s, "UNKNOWN[", 8) && s[n - 1] == ']') {
        for (size_t i = 8; i < n - 1; i++) {
            if (s[i] < '0' || s[i] > '9')
                return 0;
            number = number * 10 + (uint32_t)(s[i] - '0');
        }
        if (number > 0xffff)
            return 0;
        return type_numbered(number);
    }
    if (n == 4 && digits_of(eight_before(s, s + n)) == 4) /* as the kernel's log has it */
        return type_numbered(number_of(eight_before(s, s + n), 4));
    if ((n > 10 && !memcmp(s, "CONTAINER_", 10)) || (n > 3 && !memcmp(s, "NS_", 3)))
        return TYPE_OWN;
    return 0;
}
