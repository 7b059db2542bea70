/* The numbers that processes have inside a pid namespace, from perf rings opened by a process that lives there. */

/* Open `attr` on each of `count` CPUs from inside the pid namespace behind descriptor `nsfd`: fds[i] becomes the
   descriptor for cpus[i]. 0, or the negative errno of the first step that failed (then none is left open). */
int nspid_open(int nsfd, struct perf_event_attr *attr, const int32_t *cpus, int32_t count, int32_t *fds);

/* Have a process be born and end in the pid namespace behind `nsfd`: its fork shows in rings opened before, so that
   they tell where the counting of numbers stood. 0 or a negative errno. */
int nspid_poke(int nsfd);

/* One fork, by both names; `time` is the host's frame's. state: 1 matched, 0 its other half is still to come,
   -1 there is none for sure. */
struct nspid_pair {
    uint64_t time;
    int32_t pid, tid, ppid;
    int32_t inside_pid, inside_tid, inside_ppid;
    int32_t state;
    uint32_t offset; /* of its frame in the inside block */
};

/* Match the FORK frames of `inside` (a drained block of one namespace's rings) whose child has a number there with
   those of `host`; both sorted by time. Returns how many pairs were written, at most `room`, or -EINVAL. */
int64_t nspid_match(const uint8_t *host, size_t host_len, const uint8_t *inside, size_t inside_len,
                    struct nspid_pair *pairs, size_t room);
