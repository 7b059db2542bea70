/* perf_event_open rings. Layouts of include/uapi/linux/perf_event.h; the bit fields of perf_event_attr are one
   u64 here, with their numbers below. */

#define PERF_TYPE_SOFTWARE 1
#define PERF_TYPE_TRACEPOINT 2
#define PERF_COUNT_SW_DUMMY 9
#define PERF_SAMPLE_TID 0x2
#define PERF_SAMPLE_TIME 0x4
#define PERF_SAMPLE_CPU 0x80
#define PERF_SAMPLE_RAW 0x400
#define PERF_SAMPLE_IDENTIFIER 0x10000
#define PERF_SAMPLE_CGROUP 0x200000
#define PERF_FORMAT_LOST 0x10
#define PERF_FLAG_FD_CLOEXEC 8
#define PERF_ATTR_SIZE_VER5 112

#define PERF_BIT_DISABLED 0
#define PERF_BIT_COMM 9
#define PERF_BIT_TASK 13
#define PERF_BIT_WATERMARK 14
#define PERF_BIT_SAMPLE_ID_ALL 18
#define PERF_BIT_COMM_EXEC 24
#define PERF_BIT_USE_CLOCKID 25
#define PERF_BIT_NAMESPACES 28
#define PERF_BIT_CGROUP 32

#define PERF_RECORD_LOST 2
#define PERF_RECORD_COMM 3
#define PERF_RECORD_EXIT 4
#define PERF_RECORD_THROTTLE 5
#define PERF_RECORD_UNTHROTTLE 6
#define PERF_RECORD_FORK 7
#define PERF_RECORD_SAMPLE 9
#define PERF_RECORD_LOST_SAMPLES 13
#define PERF_RECORD_NAMESPACES 16
#define PERF_RECORD_CGROUP 19
#define PERF_RECORD_MISC_COMM_EXEC 0x2000
#define PERF_NR_NAMESPACES 7

struct perf_event_attr {
    uint32_t type;
    uint32_t size;
    uint64_t config;
    uint64_t sample_period;
    uint64_t sample_type;
    uint64_t read_format;
    uint64_t flags;
    uint32_t wakeup_watermark;
    uint32_t bp_type;
    uint64_t config1;
    uint64_t config2;
    uint64_t branch_sample_type;
    uint64_t sample_regs_user;
    uint32_t sample_stack_user;
    int32_t clockid;
    uint64_t sample_regs_intr;
    uint32_t aux_watermark;
    uint16_t sample_max_stack;
    uint16_t reserved_2;
};

struct perf_event_header {
    uint32_t type;
    uint16_t misc;
    uint16_t size;
};

struct perf_event_mmap_page {
    uint32_t version;
    uint32_t compat_version;
    uint8_t self_monitoring[1016];
    uint64_t data_head;
    uint64_t data_tail;
    uint64_t data_offset;
    uint64_t data_size;
};

/* Where a field lies in a tracepoint's raw data: from its tracefs format file. size 0: it has none such. */
struct perf_field {
    uint16_t offset;
    uint16_t size;
};

/* The tracepoints decoded, each with its id (0: not in use). Strings are __data_loc: u16 offset, u16 length. */
struct perf_layout {
    uint32_t has_cgroup; /* samples carry PERF_SAMPLE_CGROUP */
    uint32_t exec_id;
    uint32_t exit_id;
    uint32_t attach_id;
    uint32_t newtask_id;
    uint32_t unshare_id;
    uint32_t setns_id;
    struct perf_field common_type;
    struct perf_field exec_filename;
    struct perf_field exec_old_pid;
    struct perf_field exit_pid;
    struct perf_field attach_root;
    struct perf_field attach_id_field;
    struct perf_field attach_path;
    struct perf_field attach_pid;
    struct perf_field newtask_pid;
    struct perf_field newtask_flags;
    struct perf_field unshare_flags;
    struct perf_field setns_flags;
};

struct perf_counters {
    uint64_t received; /* records that became a frame or part of one, losses not counted */
    uint64_t lost;
    uint64_t unknown;
    uint64_t malformed;
    uint32_t suspect; /* some ring is: see perf_set_suspect */
};

/* Decode the perf records in `buf`, one ring's in order, until a record later than `cut`. `last` is the time of
   the last record before (in and out). *frames is malloc'd (free it with perf_free), its length returned, or
   -ENOMEM; *consumed says how much of `buf` was used. Frames come in the order of the records. */
int64_t perf_decode(const struct perf_layout *layout, struct perf_counters *counters, const uint8_t *buf, size_t len,
                    uint32_t cpu, uint64_t cut, uint64_t *last, uint8_t **frames, size_t *consumed);
void perf_free(uint8_t *frames);

/* perf_event_open(attr, -1, cpu, -1, CLOEXEC): descriptor or negative errno. */
int perf_open(struct perf_event_attr *attr, int cpu);
int perf_redirect(int fd, int into);
int perf_filter(int fd, const char *filter);
int perf_enable(int fd);

struct perf_set;
struct perf_set *perf_set_new(void);
void perf_set_free(struct perf_set *set);
/* Map 2^n `pages` of ring of the dummy event `fd` of `cpu`: number of the ring, or negative errno. */
int perf_set_add(struct perf_set *set, int fd, uint32_t cpu, uint32_t pages);
/* Unmap a ring; those behind it have the next lower numbers then. */
void perf_set_drop(struct perf_set *set, int ring);
/* All rings' records up to `cut`, as frames sorted by time; *frames is valid until the next call. Length or -ENOMEM. */
int64_t perf_set_drain(struct perf_set *set, const struct perf_layout *layout, struct perf_counters *counters,
                       uint64_t cut, uint8_t **frames);
/* What perf_look is given, and finds: up to when it looked (CLOCK_MONOTONIC ns), the frames up to then, and whether the
   clock's sample is to be written. */
struct perf_look {
    struct perf_set *set;
    const struct perf_layout *layout;
    struct perf_counters *counters;
    struct clock_sample *clock;
    uint64_t upto; /* how far it is to look; 0: up to now */
    uint64_t cut;
    uint8_t *frames;
    int clock_due;
};

/* clock_look, then perf_set_drain. */
int64_t perf_look(struct perf_look *look);
/* 1 when the ring was so full since the last call that records may have been lost at its end. */
int perf_set_suspect(struct perf_set *set, int ring);
/* The kernel's own count says `total` lost of this ring: returns how many of them were not reported yet, and counts them
   as reported. *last is the time of the last record before. */
uint64_t perf_set_unreported(struct perf_set *set, int ring, uint64_t total, uint64_t *last);
