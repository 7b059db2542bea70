#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "frames/frames_impl.h"

_Static_assert(sizeof(struct frame_header) == 48, "frame_header");
_Static_assert(offsetof(struct frame_header, time) == 8, "frame_header.time");
_Static_assert(offsetof(struct frame_header, cgroup) == 32, "frame_header.cgroup");

/* Natural merge sort: what is sorted already (one CPU's events nearly always are) is found as a run and only
   merged, so the amortized cost is one pass for each doubling of the number of CPUs. */
void entries_order(struct frame_entry *entries, struct frame_entry *spare, size_t count)
{
    struct frame_entry *from = entries, *to = spare, *swap;

    for (;;) {
        size_t start = 0, runs = 0;

        while (start < count) {
            size_t mid = start + 1, end, left, right, put = start;

            while (mid < count && from[mid - 1].time <= from[mid].time)
                mid++;
            if (start == 0 && mid == count) {
                if (from != entries)
                    memcpy(entries, from, count * sizeof(*entries));
                return;
            }
            end = mid < count ? mid + 1 : mid;
            while (end < count && from[end - 1].time <= from[end].time)
                end++;
            left = start;
            right = mid;
            while (left < mid && right < end)
                to[put++] = from[right].time < from[left].time ? from[right++] : from[left++];
            memcpy(to + put, from + left, (mid - left) * sizeof(*to));
            put += mid - left;
            memcpy(to + put, from + right, (end - right) * sizeof(*to));
            start = end;
            runs++;
        }
        swap = from;
        from = to;
        to = swap;
        if (runs == 0)
            return;
    }
}

/* Size and time of the frame at `off`; 0 when there is none. */
static size_t frame_at(const uint8_t *block, size_t len, size_t off, uint64_t *time)
{
    struct frame_header head;

    if (len - off < sizeof(head))
        return 0;
    memcpy(&head, block + off, sizeof(head));
    if (head.size < sizeof(head) || head.size & 7 || head.size > len - off)
        return 0;
    *time = head.time;
    return head.size;
}

int64_t frames_split(const uint8_t *block, size_t len, uint64_t cut)
{
    size_t off, size;
    uint64_t time = 0;

    for (off = 0; off < len; off += size) {
        size = frame_at(block, len, off, &time);
        if (!size)
            return -EINVAL;
        if (time > cut)
            break;
    }
    return (int64_t)off;
}

int64_t frames_seek(const uint8_t *block, size_t len, size_t off, int kind, uint32_t most, int *found)
{
    struct frame_header head;

    for (*found = 0; len - off >= sizeof(head.size) + 1; off += head.size) {
        memcpy(&head.size, block + off, sizeof(head.size));
        if (head.size < sizeof(head) || head.size & 7 || head.size > most) {
            *found = -1;
            break;
        }
        if (head.size > len - off)
            break;
        if (block[off + offsetof(struct frame_header, kind)] == kind) {
            *found = 1;
            break;
        }
    }
    return (int64_t)off;
}

int frames_sort(uint8_t *block, size_t len)
{
    struct frame_entry *entries;
    size_t off, size, count = 0, put = 0, i;
    uint64_t time = 0, last = 0;
    uint8_t *copy;
    int sorted = 1;

    for (off = 0; off < len; off += size, count++) {
        size = frame_at(block, len, off, &time);
        if (!size)
            return -EINVAL;
        if (time < last)
            sorted = 0;
        last = time;
    }
    if (sorted)
        return 0;
    entries = malloc(2 * count * sizeof(*entries) + len);
    if (!entries)
        return -ENOMEM;
    copy = (uint8_t *)(entries + 2 * count);
    memcpy(copy, block, len);
    for (off = 0, i = 0; i < count; off += size, i++) {
        size = frame_at(copy, len, off, &entries[i].time);
        entries[i].off = off;
    }
    entries_order(entries, entries + count, count);
    for (i = 0; i < count; i++) {
        size = frame_at(copy, len, entries[i].off, &time);
        memcpy(block + put, copy + entries[i].off, size);
        put += size;
    }
    free(entries);
    return 0;
}
