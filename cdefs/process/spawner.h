/* A process that starts a child plugin with capabilities that its parent has given up. It is forked before that, can start
   the one program that it was forked with and nothing else, and ends when the other end of its SOCK_SEQPACKET pair is
   closed. */

#define SPAWNER_START 1
#define SPAWNER_SIGNAL 2
#define SPAWNER_REAP 3
#define SPAWNER_STRINGS 1024

/* What it starts: `args` arguments, the first is the program, and the environment, `count` strings in all, each NUL-ended
   and one behind the other. `caps`: the child's bounding set, bit n is capability n. */
struct spawner_program {
    uint64_t caps;
    uint32_t args, count;
    const char *strings;
};

/* What is asked. START: the child's stdin, and its stdout and stderr, are passed as two descriptors. SIGNAL: send `number`
   to `pid`. REAP: how it ended. */
struct spawner_request {
    int32_t what, pid, number;
};

/* What is answered: an errno, or 0. START: its pid, and a pidfd is passed. REAP: the wait status; pid 0: it lives. */
struct spawner_answer {
    int32_t error, pid, status;
};

/* Fork it; returns its pid, or a negative errno. `sock` is its end. */
int spawner_fork(int sock, const struct spawner_program *program);
