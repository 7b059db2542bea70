/* Where bytes stand in text: the first, the middle and the last one of a needle are compared at sixteen places at once. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/eight_impl.h"

static const char *find_one(const char *s, const char *end, const char *needle, size_t n)
{
    if ((size_t)(end - s) < n)
        return NULL;
    size_t middle = n / 2, last = n - 1;
    const char *stop = end - last; /* no needle begins here or behind */
    lanes head, mid, tail;

    memset(&head, needle[0], sizeof(head));
    memset(&mid, needle[middle], sizeof(mid));
    memset(&tail, needle[last], sizeof(tail));
    for (; stop - s >= (ptrdiff_t)sizeof(lanes); s += sizeof(lanes)) {
        lanes a, b, c;
        memcpy(&a, s, sizeof(a));
        memcpy(&b, s + middle, sizeof(b));
        memcpy(&c, s + last, sizeof(c));
        a = (lanes)(a == head) & (lanes)(b == mid) & (lanes)(c == tail);
        unsigned at = first_lane(a);
        while (at < sizeof(lanes)) {
            if (!memcmp(s + at, needle, n))
                return s + at;
            a[at] = 0;
            at = first_lane(a);
        }
    }
    for (; s < stop; s++)
        if (*s == *needle && !memcmp(s, needle, n))
            return s;
    return NULL;
}

int64_t auditns_find(const char *buf, uint64_t len, const char *needles, const uint32_t *off, uint32_t count)
{
    const char *end = buf + len, *found = NULL;

    for (uint32_t i = 0; i < count; i++) {
        size_t n = off[i + 1] - off[i];
        /* what stands behind the place already found is not wanted */
        const char *stop = found && (size_t)(end - found) > n ? found + n : end;
        const char *at = find_one(buf, stop, needles + off[i], n);
        if (at && (!found || at < found))
            found = at;
    }
    return found ? found - buf : -1;
}
