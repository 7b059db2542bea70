/* Proc connector datagrams to frames. Decoding goes by the announced cn_msg.len, never by a fixed size. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames/frames_impl.h"
#include "kernel/cnproc.h"

_Static_assert(sizeof(struct cn_msg) == 20, "cn_msg");
_Static_assert(offsetof(struct cn_msg, len) == 16, "cn_msg.len");
_Static_assert(offsetof(struct cn_msg, data) == 20, "cn_msg.data");
_Static_assert(sizeof(struct proc_input) == 8, "proc_input");
_Static_assert(offsetof(struct proc_event, timestamp_ns) == 8, "proc_event.timestamp_ns");
_Static_assert(offsetof(struct proc_event, event_data) == 16, "proc_event.event_data");
_Static_assert(sizeof(struct proc_event) == 48, "proc_event with PROC_EVENT_NM");
_Static_assert(sizeof(struct fork_proc_event) == 16, "fork_proc_event");
_Static_assert(sizeof(struct exec_proc_event) == 8, "exec_proc_event");
_Static_assert(sizeof(struct id_proc_event) == 16, "id_proc_event");
_Static_assert(sizeof(struct ptrace_proc_event) == 16, "ptrace_proc_event");
_Static_assert(sizeof(struct comm_proc_event) == 24, "comm_proc_event");
_Static_assert(sizeof(struct coredump_proc_event) == 16, "coredump_proc_event");
_Static_assert(sizeof(struct exit_proc_event) == 24, "exit_proc_event");
_Static_assert(sizeof(struct nm_proc_event) == 32, "nm_proc_event");
_Static_assert(offsetof(struct nm_proc_event, old_inum) == 16, "nm_proc_event.old_inum");

#define EVENT_HEAD offsetof(struct proc_event, event_data)
#define BATCH 256
#define SLOT 512

_Static_assert(CN_ROOM_MIN >= BATCH * (4 * SLOT + 64), "CN_ROOM_MIN holds one batch");

/* Bytes of event_data that must be there for `what`; -1 for types not known. */
static int data_needed(uint32_t what)
{
    switch (what) {
    case PROC_EVENT_NONE:
        return sizeof(struct ack_proc_event);
    case PROC_EVENT_FORK:
        return sizeof(struct fork_proc_event);
    case PROC_EVENT_EXEC:
        return sizeof(struct exec_proc_event);
    case PROC_EVENT_UID:
    case PROC_EVENT_GID:
        return sizeof(struct id_proc_event);
    case PROC_EVENT_SID:
        return sizeof(struct sid_proc_event);
    case PROC_EVENT_PTRACE:
        return sizeof(struct ptrace_proc_event);
    case PROC_EVENT_COMM:
        return sizeof(struct comm_proc_event);
    case PROC_EVENT_NM:
        return sizeof(struct nm_proc_event);
    case PROC_EVENT_COREDUMP:
        return sizeof(struct coredump_proc_event);
    case PROC_EVENT_EXIT:
    case PROC_EVENT_NONZERO_EXIT:
        return sizeof(struct exit_proc_event);
    }
    return -1;
}

/* A gap in a CPU's sequence numbers becomes a LOST frame in front of the event that shows it. */
static size_t sequence(struct cn_state *state, uint32_t cpu, uint32_t seq, uint64_t time, uint8_t *out)
{
    size_t put = 0;

    if (cpu >= CN_MAX_CPUS || state->filtered)
        return 0;
    if (state->started[cpu] && seq != state->next_seq[cpu]) {
        uint32_t gap = seq - state->next_seq[cpu];
        struct frame_header head = {
            .kind = K_LOST, .source = S_CN, .cpu = (uint16_t)cpu, .time = time, .cgroup = state->last_time[cpu],
        };

        if (gap < 0x80000000u) {
            state->lost += gap;
            head.arg = gap;
        } else {
            state->disorder++;
        }
        put = frame_put(out, &head, NULL, 0, 0);
    }
    state->started[cpu] = 1;
    state->next_seq[cpu] = seq + 1;
    state->last_time[cpu] = time;
    return put;
}

static size_t event(struct cn_state *state, uint32_t seq, const uint8_t *data, size_t len, uint8_t *out)
{
    struct proc_event ev = {0};
    struct frame_header head = {.source = S_CN};
    size_t put;
    int needed;
    struct { uint32_t reason, zero; uint64_t old, new; } nm;

    if (len < EVENT_HEAD) {
        state->malformed++;
        return 0;
    }
    memcpy(&ev, data, len < sizeof(ev) ? len : sizeof(ev));
    needed = data_needed(ev.what);
    if (needed >= 0 && len - EVENT_HEAD < (size_t)needed) {
        state->malformed++;
        return 0;
    }
    put = sequence(state, ev.cpu, seq, ev.timestamp_ns, out);
    out += put;
    head.cpu = frame_cpu(ev.cpu);
    head.time = ev.timestamp_ns;
    if (ev.what == PROC_EVENT_NONE) {
        state->acks++;
        head.kind = K_ACK;
        head.arg = ev.event_data.ack.err;
        return put + frame_put(out, &head, NULL, 0, 0);
    }
    state->received++;
    if (needed < 0) {
        state->unknown++;
        head.kind = K_UNKNOWN;
        head.arg = ev.what;
        return put + frame_put(out, &head, data, len, len);
    }
    if (ev.what == PROC_EVENT_FORK) {
        head.kind = K_FORK;
        head.pid = ev.event_data.fork.child_tgid;
        head.tid = ev.event_data.fork.child_pid;
        head.ppid = ev.event_data.fork.parent_tgid;
        head.ptid = ev.event_data.fork.parent_pid;
        return put + frame_put(out, &head, NULL, 0, 0);
    }
    /* every other event starts with these two */
    head.tid = ev.event_data.exec.process_pid;
    head.pid = ev.event_data.exec.process_tgid;
    switch (ev.what) {
    case PROC_EVENT_EXEC:
        head.kind = K_EXEC;
        break;
    case PROC_EVENT_UID:
    case PROC_EVENT_GID:
        head.kind = ev.what == PROC_EVENT_UID ? K_UID : K_GID;
        return put + frame_put(out, &head, &ev.event_data.id.real, 8, 8);
    case PROC_EVENT_SID:
        head.kind = K_SID;
        break;
    case PROC_EVENT_PTRACE:
        head.kind = K_PTRACE;
        head.ppid = ev.event_data.ptrace.tracer_tgid;
        head.ptid = ev.event_data.ptrace.tracer_pid;
        break;
    case PROC_EVENT_COMM:
        head.kind = K_COMM;
        return put + frame_put_text(out, &head, ev.event_data.comm.comm, sizeof(ev.event_data.comm.comm));
    case PROC_EVENT_NM:
        head.kind = K_NM;
        head.arg = ev.event_data.nm.type;
        nm.reason = ev.event_data.nm.reason;
        nm.zero = 0;
        nm.old = ev.event_data.nm.old_inum;
        nm.new = ev.event_data.nm.inum;
        return put + frame_put(out, &head, &nm, sizeof(nm), sizeof(nm));
    case PROC_EVENT_COREDUMP:
        head.kind = K_COREDUMP;
        head.ppid = ev.event_data.coredump.parent_tgid;
        head.ptid = ev.event_data.coredump.parent_pid;
        break;
    default: /* PROC_EVENT_EXIT, PROC_EVENT_NONZERO_EXIT */
        head.kind = K_EXIT;
        head.ppid = ev.event_data.exit.parent_tgid;
        head.ptid = ev.event_data.exit.parent_pid;
        head.arg = ev.event_data.exit.exit_code;
    }
    return put + frame_put(out, &head, NULL, 0, 0);
}

size_t cn_decode(struct cn_state *state, const uint8_t *datagram, size_t len, uint8_t *out)
{
    size_t off = 0, put = 0, step;
    struct nlmsghdr nl;
    struct cn_msg cn;

    while (off < len) {
        if (len - off < sizeof(nl))
            goto malformed;
        memcpy(&nl, datagram + off, sizeof(nl));
        if (nl.nlmsg_len < sizeof(nl) || nl.nlmsg_len > len - off)
            goto malformed;
        step = NLMSG_ALIGN((size_t)nl.nlmsg_len);
        if (nl.nlmsg_type != NLMSG_DONE || nl.nlmsg_len < sizeof(nl) + sizeof(cn)) {
            state->malformed++;
        } else {
            memcpy(&cn, datagram + off + sizeof(nl), sizeof(cn));
            if (cn.id.idx != CN_IDX_PROC || cn.id.val != CN_VAL_PROC || cn.len > nl.nlmsg_len - sizeof(nl) - sizeof(cn))
                state->malformed++;
            else
                put += event(state, cn.seq, datagram + off + sizeof(nl) + sizeof(cn), cn.len, out + put);
        }
        if (step >= len - off)
            return put;
        off += step;
    }
    return put;
malformed:
    state->malformed++;
    return put;
}

static uint64_t last_time(const uint8_t *block, size_t len, size_t from)
{
    uint64_t last = 0;
    struct frame_header head;

    for (; from < len; from += head.size) {
        memcpy(&head, block + from, sizeof(head));
        if (head.time > last)
            last = head.time;
    }
    return last;
}

int64_t cn_drain(int fd, struct cn_state *state, uint64_t cut, uint8_t *out, size_t room, int *more)
{
    uint8_t data[BATCH][SLOT];
    struct mmsghdr batch[BATCH];
    struct iovec iov[BATCH];
    struct sockaddr_nl from[BATCH];
    size_t put = 0, start;
    int i, got;

    *more = 0;
    for (i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){.iov_base = data[i], .iov_len = SLOT};
        batch[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &from[i], .msg_iov = &iov[i], .msg_iovlen = 1}};
    }
    for (;;) {
        if (room - put < CN_ROOM_MIN) {
            *more = 1;
            return (int64_t)put;
        }
        for (i = 0; i < BATCH; i++)
            batch[i].msg_hdr.msg_namelen = sizeof(from[i]);
        got = recvmmsg(fd, batch, BATCH, MSG_DONTWAIT, NULL);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            if (errno == ENOBUFS) { /* reported once, before the queued messages; the gaps say how many */
                state->enobufs++;
                continue;
            }
            if (errno == EAGAIN)
                return (int64_t)put;
            return -errno;
        }
        start = put;
        for (i = 0; i < got; i++) {
            if (batch[i].msg_hdr.msg_namelen < sizeof(from[i]) || from[i].nl_pid != 0)
                state->foreign++;
            else if (batch[i].msg_hdr.msg_flags & MSG_TRUNC)
                state->malformed++;
            else
                put += cn_decode(state, data[i], batch[i].msg_len, out + put);
        }
        if (last_time(out, put, start) > cut)
            return (int64_t)put;
    }
}

int cn_unshare_child(int flags, int *failed)
{
    int status = 0;
    pid_t pid = fork();

    *failed = 0;
    if (pid < 0)
        return -errno;
    if (pid == 0)
        _exit(unshare(flags) ? errno : 0);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return pid; /* SIGCHLD is ignored: it is reaped, its status not kept */
    }
    *failed = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return pid;
}
