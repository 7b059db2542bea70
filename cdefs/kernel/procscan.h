/* Many processes of /proc at a time, each as a PROCESS frame. What is read of one, and in which order, is that of
   auditns_connector/sources/procfs.py (describe), which a test holds this against. */

#define PROCESS_CGROUP 1

/* The payload of a PROCESS frame; see vocabulary/frames.py. */
struct frame_process {
    uint64_t ino[NS_TYPES];     /* in the order of vocabulary/namespaces.py ALL_ORDER */
    uint64_t time_for_children;
    uint32_t tids;
    uint32_t nspids;
    uint32_t cgroup_size;
    uint16_t comm_size;
    uint8_t state;
    uint8_t present;
};

/* Where and how to read; then what was met with. */
struct procfs_scan {
    int root;
    int32_t pad;
    uint64_t tick;        /* ns */
    int64_t boot_offset;  /* ns */
    uint64_t ns_dev;
    uint64_t host_pid_ns; /* of who is in it the pid is known without a look; 0: of nobody */
    uint64_t read, vanished, denied, malformed;
};

/* No frame is larger: a process that would need a larger one is left to the caller. */
#define PROCFS_MAX_FRAME 32768

/* Read the processes `pids`, in that order, into frames at `out`, while `room` has space for the largest one. *done: how
   many were gone through; hard[*hards]: those that must be read in another way. Returns the bytes written. */
int64_t procfs_scan(struct procfs_scan *scan, const int32_t *pids, size_t count, size_t *done, uint8_t *out, size_t room,
                    int32_t *hard, size_t *hards);
