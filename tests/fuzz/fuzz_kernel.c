/* libFuzzer: proc connector datagrams, perf records and blocks of frames. Held besides what the sanitizers hold: what
 * is decoded is whole frames, and sorting keeps them all. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "kernel/cnproc.h"
#include "frames/frames.h"
#include "kernel/perf.h"

static void hold(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "does not hold: %s\n", what);
        abort();
    }
}

static size_t whole_frames(const uint8_t *block, size_t len)
{
    size_t off = 0, count = 0;
    struct frame_header head;
    for (; off < len; off += head.size, count++) {
        hold(len - off >= sizeof(head), "a header is whole");
        memcpy(&head, block + off, sizeof(head));
        hold(head.size >= sizeof(head) && head.size % 8 == 0 && head.size <= len - off, "a frame is whole");
    }
    return count;
}

static void connector(const uint8_t *data, size_t size)
{
    static struct cn_state state;
    uint8_t *out = malloc(4 * size + 64);
    size_t len = cn_decode(&state, data, size, out);
    hold(len <= 4 * size + 64, "frames fit");
    size_t count = whole_frames(out, len);
    hold(!frames_sort(out, len) && whole_frames(out, len) == count, "sorting keeps all");
    hold(frames_split(out, len, 1u << 31) >= 0, "a split is found");
    free(out);
}

static void rings(const uint8_t *data, size_t size)
{
    struct perf_layout layout = {.has_cgroup = data[0] & 1, .exec_id = 365, .exit_id = 369, .attach_id = 538,
                                 .newtask_id = 205, .common_type = {0, 2}, .exec_filename = {8, 4},
                                 .exec_old_pid = {16, 4}, .exit_pid = {24, 4}, .attach_root = {8, 4},
                                 .attach_id_field = {16, 8}, .attach_path = {28, 4}, .attach_pid = {24, 4},
                                 .newtask_pid = {8, 4}, .newtask_flags = {32, 8}};
    struct perf_counters counters = {0};
    uint64_t last = 0;
    uint8_t *frames = NULL;
    size_t used = 0;
    int64_t len = perf_decode(&layout, &counters, data + 1, size - 1, 0, UINT64_MAX, &last, &frames, &used);
    hold(len >= 0 && used == size - 1, "all is used");
    size_t count = whole_frames(frames, (size_t)len);
    hold(!frames_sort(frames, (size_t)len) && whole_frames(frames, (size_t)len) == count, "sorting keeps all");
    perf_free(frames);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint8_t *copy = malloc(size - 1); /* of its exact size: a step past its end is seen */
    memcpy(copy, data + 1, size - 1);
    if (data[0] & 1) {
        connector(copy, size - 1);
    } else if (data[0] & 2) {
        rings(copy, size - 1);
    } else {
        int found;
        int64_t at = frames_seek(copy, size - 1, 0, K_EXEC, 1 << 20, &found);
        hold(at >= 0 && (size_t)at <= size - 1, "a frame is looked for inside");
        hold(found <= 0 || copy[at + 4] == K_EXEC, "what is found is of that kind");
        hold(frames_split(copy, size - 1, UINT64_MAX) < 0 || !frames_sort(copy, size - 1), "both take it for frames");
    }
    free(copy);
    return 0;
}
