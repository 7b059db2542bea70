/* Shared by the text_*.c files, not seen by cffi: text eight bytes at a time. */
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

#endif
