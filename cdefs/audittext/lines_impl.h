/* Counting newlines, for both modules; not seen by cffi. */
#ifndef AUDITNS_IMPL_LINES_H
#define AUDITNS_IMPL_LINES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t lanes __attribute__((vector_size(16)));

static inline uint64_t newlines(const char *buf, uint64_t len)
{
    const char *end = buf + len;
    uint64_t lines = 0;
    lanes some[4];

    while (end - buf >= (ptrdiff_t)sizeof(some)) {
        lanes sum = {0};
        /* a lane counts to 255 */
        for (int i = 0; i < 255 / 4 && end - buf >= (ptrdiff_t)sizeof(some); i++, buf += sizeof(some)) {
            memcpy(some, buf, sizeof(some));
            sum -= (lanes)(some[0] == '\n') + (lanes)(some[1] == '\n') + (lanes)(some[2] == '\n') +
                   (lanes)(some[3] == '\n');
        }
        for (size_t i = 0; i < sizeof(lanes); i++)
            lines += sum[i];
    }
    for (; buf < end; buf++)
        lines += *buf == '\n';
    return lines;
}

#endif
