/* The proc connector. Layouts of include/uapi/linux/{connector,cn_proc}.h (Linux 6.18), and
   PROC_EVENT_NM with struct nm_proc_event as proposed in 2016 (never merged, carried by some kernels). */

#define NETLINK_CONNECTOR 11
#define CN_IDX_PROC 1
#define CN_VAL_PROC 1
#define PROC_CN_MCAST_LISTEN 1
#define PROC_CN_MCAST_IGNORE 2

#define PROC_EVENT_NONE 0
#define PROC_EVENT_FORK 0x00000001
#define PROC_EVENT_EXEC 0x00000002
#define PROC_EVENT_UID 0x00000004
#define PROC_EVENT_GID 0x00000040
#define PROC_EVENT_SID 0x00000080
#define PROC_EVENT_PTRACE 0x00000100
#define PROC_EVENT_COMM 0x00000200
#define PROC_EVENT_NM 0x00000400
#define PROC_EVENT_NONZERO_EXIT 0x20000000
#define PROC_EVENT_COREDUMP 0x40000000
#define PROC_EVENT_EXIT 0x80000000

#define PROC_NM_REASON_CLONE 1
#define PROC_NM_REASON_SET 2

struct cb_id {
    uint32_t idx;
    uint32_t val;
};

struct cn_msg {
    struct cb_id id;
    uint32_t seq;
    uint32_t ack;
    uint16_t len;
    uint16_t flags;
    uint8_t data[];
};

/* Payload of LISTEN and IGNORE since 6.6; before, mcast_op alone. */
struct proc_input {
    uint32_t mcast_op;
    uint32_t event_type;
};

struct ack_proc_event {
    uint32_t err;
};

struct fork_proc_event {
    int32_t parent_pid;
    int32_t parent_tgid;
    int32_t child_pid;
    int32_t child_tgid;
};

struct exec_proc_event {
    int32_t process_pid;
    int32_t process_tgid;
};

struct id_proc_event {
    int32_t process_pid;
    int32_t process_tgid;
    uint32_t real;
    uint32_t effective;
};

struct sid_proc_event {
    int32_t process_pid;
    int32_t process_tgid;
};

struct ptrace_proc_event {
    int32_t process_pid;
    int32_t process_tgid;
    int32_t tracer_pid;
    int32_t tracer_tgid;
};

struct comm_proc_event {
    int32_t process_pid;
    int32_t process_tgid;
    char comm[16];
};

struct nm_proc_event {
    int32_t process_pid;
    int32_t process_tgid;
    uint32_t type;
    uint32_t reason;
    uint64_t old_inum;
    uint64_t inum;
};

struct coredump_proc_event {
    int32_t process_pid;
    int32_t process_tgid;
    int32_t parent_pid;
    int32_t parent_tgid;
};

struct exit_proc_event {
    int32_t process_pid;
    int32_t process_tgid;
    uint32_t exit_code;
    uint32_t exit_signal;
    int32_t parent_pid;
    int32_t parent_tgid;
};

/* 40 bytes on a mainline kernel (the union is 24 there), 48 where PROC_EVENT_NM exists. */
struct proc_event {
    uint32_t what;
    uint32_t cpu;
    uint64_t timestamp_ns;
    union {
        struct ack_proc_event ack;
        struct fork_proc_event fork;
        struct exec_proc_event exec;
        struct id_proc_event id;
        struct sid_proc_event sid;
        struct ptrace_proc_event ptrace;
        struct comm_proc_event comm;
        struct nm_proc_event nm;
        struct coredump_proc_event coredump;
        struct exit_proc_event exit;
    } event_data;
};

#define CN_MAX_CPUS 8192

/* What one listener knows: counters, and the next sequence number it expects of each CPU.
   Set `filtered` when the kernel filters for this socket: gaps mean nothing then. */
struct cn_state {
    uint64_t received;   /* events that became a frame, acknowledgements not counted */
    uint64_t acks;
    uint64_t lost;       /* by gaps in the sequence numbers */
    uint64_t disorder;   /* sequence number went backwards */
    uint64_t unknown;    /* event types not in the list above */
    uint64_t malformed;
    uint64_t foreign;    /* datagrams not sent by the kernel */
    uint64_t enobufs;
    uint32_t filtered;
    uint32_t started[8192];
    uint32_t next_seq[8192];
    uint64_t last_time[8192];
};

/* Decode one datagram of `len` bytes into frames at `out`, which has room for 4 * len + 64 bytes.
   Returns the number of bytes written. */
size_t cn_decode(struct cn_state *state, const uint8_t *datagram, size_t len, uint8_t *out);

/* Receive and decode until the socket is empty, an event is later than `cut`, or `room` (at least
   CN_ROOM_MIN) is used up. Returns bytes written, or a negative errno; *more is 1 if the room ended it. */
#define CN_ROOM_MIN 655360
int64_t cn_drain(int fd, struct cn_state *state, uint64_t cut, uint8_t *out, size_t room, int *more);

/* Fork a child that calls unshare(flags) and exits. Its pid, or a negative errno; *failed is the child's errno. */
int cn_unshare_child(int flags, int *failed);
