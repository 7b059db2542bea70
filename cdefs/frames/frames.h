/* The header of a frame; see auditns_connector/vocabulary/frames.py for what the fields mean. */

struct frame_header {
    uint32_t size;
    uint8_t kind;
    uint8_t source;
    uint16_t cpu;
    uint64_t time;
    int32_t pid;
    int32_t tid;
    int32_t ppid;
    int32_t ptid;
    uint64_t cgroup;
    uint64_t arg;
};

/* Sort the `len` bytes of whole frames at `block` by time, in place and stably. 0 or a negative errno
   (-EINVAL: not whole frames). */
int frames_sort(uint8_t *block, size_t len);

/* Offset of the first frame later than `cut` in a sorted block, `len` when there is none, or -EINVAL. */
int64_t frames_split(const uint8_t *block, size_t len, uint64_t cut);

/* From the frame at `off` on, the first one of `kind` (*found 1), else where the whole frames end (0) or where there is
   none of at most `most` bytes (-1): its offset. */
int64_t frames_seek(const uint8_t *block, size_t len, size_t off, int kind, uint32_t most, int *found);
