/* Shared by the kernel_*.c files, not seen by cffi: writing and ordering frames. */
#ifndef AUDITNS_IMPL_FRAMES_H
#define AUDITNS_IMPL_FRAMES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "frames/frames.h"


_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian, as the kernel's events must be");

struct frame_entry {
    uint64_t time;
    uint64_t off;
};

/* Put entries in order of time, equal ones in their old order. `spare` has room for as many. */
void entries_order(struct frame_entry *entries, struct frame_entry *spare, size_t count);

static inline size_t frame_size(size_t payload)
{
    return (sizeof(struct frame_header) + payload + 7) & ~(size_t)7;
}

/* Write a frame of `head` and `len` payload bytes, at most `copy` of them from `payload` and the rest zero. */
static inline size_t frame_put(uint8_t *out, struct frame_header *head, const void *payload, size_t copy, size_t len)
{
    size_t size = frame_size(len);

    head->size = (uint32_t)size;
    memcpy(out, head, sizeof(*head));
    if (copy)
        memcpy(out + sizeof(*head), payload, copy);
    if (size - sizeof(*head) > copy)
        memset(out + sizeof(*head) + copy, 0, size - sizeof(*head) - copy);
    return size;
}

/* The string at `text`, which ends at a NUL or after `room` bytes, as a NUL-ended payload. */
static inline size_t frame_put_text(uint8_t *out, struct frame_header *head, const void *text, size_t room)
{
    size_t len = strnlen(text, room);

    return frame_put(out, head, text, len, len + 1);
}

static inline uint16_t frame_cpu(uint32_t cpu)
{
    return cpu < CPU_UNKNOWN ? (uint16_t)cpu : CPU_UNKNOWN;
}

#endif
