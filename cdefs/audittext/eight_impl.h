/* Shared by the text_*.c files, not seen by cffi: text eight or sixteen bytes at a time. */
#ifndef AUDITNS_IMPL_EIGHT_H
#define AUDITNS_IMPL_EIGHT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ONES 0x0101010101010101u
#define SEVENS (0x7f * ONES)
#define HIGHS (0x80 * ONES)

/* The first of eight bytes is the lowest. */
static inline uint64_t eight(const char *s)
{
    uint64_t x;
    memcpy(&x, s, sizeof(x));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    return x;
}

/* The same for what may be shorter, 0 behind its end. */
static inline uint64_t eight_before(const char *s, const char *end)
{
    uint64_t x = 0;
    if (end - s >= 8)
        return eight(s);
    while (end > s)
        x = x << 8 | (unsigned char)*--end;
    return x;
}

static inline void put_eight(char *to, uint64_t x)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    memcpy(to, &x, sizeof(x));
}

/* The high bit of each byte that is 0. */
static inline uint64_t zeros(uint64_t x)
{
    return ~(((x & SEVENS) + SEVENS) | x | SEVENS);
}

/* The first n of eight bytes, 0 for the others. */
static inline uint64_t first_of(uint64_t x, size_t n)
{
    return n < 8 ? x & (((uint64_t)1 << 8 * n) - 1) : x;
}

/* How many of eight bytes are digits, from the first on. */
static inline unsigned digits_of(uint64_t x)
{
    x ^= '0' * ONES;
    x = (((x & SEVENS) + 0x76 * ONES) | x) & HIGHS; /* those above 9 */
    return x ? (unsigned)__builtin_ctzll(x) / 8 : 8;
}

typedef uint8_t lanes __attribute__((vector_size(16)));

/* The first of sixteen bytes, each of which is 0 or all ones, that is not 0; 16 where all are. */
static inline unsigned first_lane(lanes x)
{
#ifdef __SSE2__
    typedef char signs __attribute__((vector_size(16)));
    unsigned bits = (unsigned)__builtin_ia32_pmovmskb128((signs)x);
    return bits ? (unsigned)__builtin_ctz(bits) : (unsigned)sizeof(x);
#endif
    char found[sizeof(x)];
    memcpy(found, &x, sizeof(x));
    uint64_t low = eight(found), high = eight(found + 8);
    if (low)
        return (unsigned)__builtin_ctzll(low) / 8;
    return high ? 8 + (unsigned)__builtin_ctzll(high) / 8 : 16;
}

#endif
