"""The one vocabulary of inputs: every event the model takes in is one *frame*.

Sources turn what the kernel says into frames, the model consumes them, the journal is a file of them; so a
recorded run replays from the same bytes. A frame is a 48-byte little-endian header and a payload, padded with
NUL to a multiple of 8::

    u32 size      whole frame in bytes, header and padding included, a multiple of 8
    u8  kind      one of the K_* numbers below
    u8  source    one of the S_* numbers: who said so
    u16 cpu       the CPU the event was raised on; 0xffff when not known
    u64 time      CLOCK_MONOTONIC nanoseconds
    s32 pid       thread group id in the initial pid namespace; 0 when not known
    s32 tid       thread id likewise
    s32 ppid      FORK: thread group of the creator; others: see the table
    s32 ptid      FORK: thread of the creator
    u64 cgroup    cgroup id (kernfs inode), 0 when not known
    u64 arg       see the table

kind          source        fields used beside pid, tid, time
FORK          perf cn proc  ppid/ptid creator (perf: the true one; cn: *real_parent*, the grandparent under
                            CLONE_PARENT); payload empty, or the child's namespaces as in NAMESPACES
EXEC          perf cn       ppid old tid before the exec (0 not known); cgroup; payload: file name, NUL-ended (perf)
EXIT          perf cn       ppid/ptid parent; arg exit code (cn)
EXIT_SAMPLE   perf          cgroup at exit
COMM          perf cn       arg 1 when caused by exec; payload: comm, NUL-ended
NAMESPACES    perf          payload: u64 dev, then 7 u64 inodes in nstypes.PERF_ORDER
CGROUP        perf          cgroup id created; payload: its path, NUL-ended
ATTACH        perf          tid moved (pid is 0); cgroup destination id; arg hierarchy (root) id; payload: path
NEWTASK       perf          tid; arg clone flags (only where CLONE_INTO_CGROUP, CLONE_PARENT or a CLONE_NEW* is set)
UNSHARE       perf audit    a task enters unshare(2), which may yet fail; arg its flags (audit: it has succeeded)
SETNS         perf audit    a task enters setns(2), likewise; arg its flags (nstype)
NM            cn            arg CLONE_NEW* type; payload: u32 reason (1 clone, 2 set), u32 0, u64 old, u64 new inode
UID GID       cn            payload: u32 real, u32 effective
SID           cn
PTRACE        cn            ppid/ptid the tracer, 0 when it detaches
COREDUMP      cn            ppid/ptid parent
ACK           cn            arg error number
UNKNOWN       cn perf       arg the kernel's type number; payload: the raw message
LOST          any           cpu; arg how many events (0: not known how many); cgroup field: CLOCK_MONOTONIC of the
                            last event known to be there before the loss (0: not known)
HELLO         journal       payload JSON: what the run was made of (boot id, kernel, options)
CLOCK         pipeline      arg: CLOCK_REALTIME minus CLOCK_MONOTONIC, ns, two's complement; cgroup: time of the sample
                            before; ppid 1: the clock was set and set back since that
PROC          procfs        payload JSON: one process as /proc showed it at ``time``
PROCESS       procfs        the same in a scan: ppid the real parent; ptid (of PROC too) whose child it was when the
                            kernel's events began, where that may be another's (0: ppid's, UNPROVEN_PARENT: not known);
                            arg its start (CLOCK_MONOTONIC ns; all ones: that and all else could not be read); cgroup
                            the device of nsfs; payload: see PROCESS_PAYLOAD
NSID          procfs        ppid type (index in nstypes.ALL_ORDER); cgroup number of the instance in order of
                            appearance; arg its serial, 0: to be minted; payload: u64 inode
MARK          pipeline      payload: see journal/files.py; which audit events were answered at this point; arg:
                            processes and namespaces that ended before are forgotten; cgroup: namespaces alone
REGISTER      control       payload JSON: a registration as the control socket judged it
ADDRS         procfs        payload JSON: "ino" and "dev" of a network namespace, and "addrs" its addresses, "all" those
                            of broadcasts, complete from "since" (ns) to now, and followed; or "new" and "old":
                            what came and what went in ("since", now]; or "gone", in the same time; or "holds", see
                            model/addresses.py; "addrs" null: no longer followed; or "silent", until when (ns)
                            no packet can have been logged in it
RESYNC        procfs        arg 1 a scan begins, 2 it ended, 3: from ``time`` on all is in doubt, /proc is polled
RULES         audit         arg: every exec (1), every unshare and setns (2) makes an audit record, from cgroup on (a
                            time; 0: from now on)
INSIDE        perf          pid, tid of a child at its fork; ppid, ptid its numbers inside the pid namespace whose
                            number (as NSID) is in cgroup and whose inode in arg (0: not given); time that of its FORK
IDMAP         procfs        pid a process; cgroup number of its user namespace, arg its inode (0: not given); payload
                            JSON: {"uid": [[inside, outside, count] …], "gid": …}, outside as the host counts
NSGONE        procfs        of an instance without tasks: ppid, cgroup, payload as in NSID; arg 0 the kernel says it is
                            gone, 1 that it lives on, 2 it cannot tell
CHECK         pipeline      arg checksum of all before it, ptid 1 at the end; see journal/guard.py
LOGINS        procfs audit  payload: (s32 pid, u32 auid, u32 ses) of processes as /proc or their SYSCALL records show
                            them; of a LOGIN record one of them, and arg the record's time (ms since 1970), cgroup
                            its serial
PROGRAMS      procfs        payload: (s32 pid, u32 size, bytes) of processes: /proc/PID/exe
EXE           audit         pid; arg the time of an exec of it, as EXEC has it; payload: exe= of that exec's record,
                            NUL-ended
OWN           control       pid, arg its start: it is another program of ours; what it does is of no interest
NSLIST        procfs        namespaces that the kernel's own list has and the model has no serial of, each there at some
                            moment since ``time``; pid: bit n is set where all of type n were listed; arg 0: whenever
                            they began, 1: since the list before; payload: see NSLIST_ROW
LOGIN         control       pid; arg low 32 bits the login uid inside its container, high 32 bits the session

Sources of the layouts: include/uapi/linux/cn_proc.h, perf_event.h, include/trace/events/{sched,cgroup,task}.h.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from auditns_connector.errors import DecodeError
from auditns_connector.vocabulary.namespaces import ALL_ORDER, PERF_ORDER

HEADER: Final = struct.Struct("<IBBHQiiiiQQ")
HEADER_SIZE: Final = HEADER.size  # 48
NAMESPACES_PAYLOAD: Final = struct.Struct(f"<{1 + len(PERF_ORDER)}Q")
NM_PAYLOAD: Final = struct.Struct("<IIQQ")
IDS_PAYLOAD: Final = struct.Struct("<II")
#: the inodes in nstypes.ALL_ORDER and that of time_for_children, 0 for those not given; how many thread ids and how
#: many numbers in pid namespaces (ours first) follow (s32 each; of one thread alone no id), how many bytes of
#: /proc/PID/cgroup and, before that, of comm; state (a letter); 1 where the cgroup could be read
PROCESS_PAYLOAD: Final = struct.Struct(f"<{len(ALL_ORDER) + 1}QIIIHBB")
#: the kernel's id, the inode, index of the type in nstypes.ALL_ORDER, 0
NSLIST_ROW: Final = struct.Struct("<QQII")
CPU_UNKNOWN: Final = 0xFFFF
#: ptid of a PROCESS frame: its parent may have ended since the kernel's events began
UNPROVEN_PARENT: Final = -1
#: PID_MAX_LIMIT of the kernel: every pid and tid is smaller
PID_BITS: Final = 22
MOST_PIDS: Final = 1 << PID_BITS
#: no frame is larger: a PROC frame is the largest, kernel frames stay under 8 KiB
MAX_FRAME: Final = 256 * 1024 * 1024

K_FORK: Final = 1
K_EXEC: Final = 2
K_EXIT: Final = 3
K_EXIT_SAMPLE: Final = 4
K_COMM: Final = 5
K_NAMESPACES: Final = 6
K_CGROUP: Final = 7
K_ATTACH: Final = 8
K_NEWTASK: Final = 9
K_NM: Final = 10
K_UID: Final = 11
K_GID: Final = 12
K_SID: Final = 13
K_PTRACE: Final = 14
K_COREDUMP: Final = 15
K_ACK: Final = 16
K_UNSHARE: Final = 17
K_SETNS: Final = 18
K_UNKNOWN: Final = 31
K_LOST: Final = 32
K_HELLO: Final = 40
K_CLOCK: Final = 41
K_PROC: Final = 42
K_NSID: Final = 43
K_MARK: Final = 44
K_REGISTER: Final = 45
K_RESYNC: Final = 47
K_RULES: Final = 48
K_ADDRS: Final = 49
K_INSIDE: Final = 52
K_IDMAP: Final = 53
K_LOGIN: Final = 54
K_NSGONE: Final = 55
K_PROCESS: Final = 56
K_CHECK: Final = 57
K_LOGINS: Final = 58
K_PROGRAMS: Final = 59
K_OWN: Final = 60
K_NSLIST: Final = 61
K_EXE: Final = 62

#: bits of a RULES frame's arg
RULES_EXECS: Final = 1
RULES_CALLS: Final = 2

S_PERF: Final = 1
S_CN: Final = 2
S_PROCFS: Final = 3
S_AUDIT: Final = 4
S_PIPELINE: Final = 5
S_CONTROL: Final = 6

SOURCE_NAMES: Final[dict[int, str]] = {
    S_PERF: "perf",
    S_CN: "connector",
    S_PROCFS: "procfs",
    S_AUDIT: "audit",
    S_PIPELINE: "pipeline",
    S_CONTROL: "control",
}


class Frame(NamedTuple):
    """One decoded frame; ``payload`` still carries its padding."""

    kind: int
    source: int
    cpu: int
    time: int
    pid: int
    tid: int
    ppid: int
    ptid: int
    cgroup: int
    arg: int
    payload: bytes


def pack(
    kind: int,
    source: int,
    time: int,
    *,
    pid: int = 0,
    tid: int = 0,
    ppid: int = 0,
    ptid: int = 0,
    cgroup: int = 0,
    arg: int = 0,
    cpu: int = CPU_UNKNOWN,
    payload: bytes = b"",
) -> bytes:
    """Build one frame. ``arg`` may be negative (it is stored in two's complement)."""
    size = (HEADER_SIZE + len(payload) + 7) & ~7
    head = HEADER.pack(size, kind, source, cpu, time, pid, tid, ppid, ptid, cgroup, arg & 0xFFFFFFFFFFFFFFFF)
    return head + payload + bytes(size - HEADER_SIZE - len(payload))


def iter_frames(block: bytes | bytearray | memoryview) -> Iterator[Frame]:
    """Yield the frames of ``block``; raise :class:`DecodeError` where it is cut short or lies about a size."""
    off, end = 0, len(block)
    unpack = HEADER.unpack_from
    while off < end:
        if end - off < HEADER_SIZE:
            raise DecodeError(f"frame header cut short: {end - off} of {HEADER_SIZE} bytes at offset {off}")
        size, kind, source, cpu, time, pid, tid, ppid, ptid, cgroup, arg = unpack(block, off)
        if size < HEADER_SIZE or size & 7 or size > end - off:
            raise DecodeError(f"frame size {size} at offset {off} does not fit ({end - off} bytes left)")
        payload = bytes(block[off + HEADER_SIZE : off + size])
        yield Frame(kind, source, cpu, time, pid, tid, ppid, ptid, cgroup, arg, payload)
        off += size


def text(payload: bytes) -> bytes:
    """The NUL-ended string at the start of ``payload``."""
    return payload.partition(b"\0")[0]
