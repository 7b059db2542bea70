"""Build perf records as the kernel writes them, for tests of the decoders."""

import struct

from tests.reference.perfring import Layout

#: as on Linux 6.18: ids are made up, offsets are real
LAYOUT = Layout(
    has_cgroup=True,
    ids={365: "exec", 369: "exit", 538: "attach", 205: "newtask", 192: "unshare", 343: "setns"},
    fields={
        "common_type": (0, 2),
        "exec_filename": (8, 4),
        "exec_old_pid": (16, 4),
        "exit_pid": (24, 4),
        "attach_root": (8, 4),
        "attach_id_field": (16, 8),
        "attach_pid": (24, 4),
        "attach_path": (28, 4),
        "newtask_pid": (8, 4),
        "newtask_flags": (32, 8),
        "unshare_flags": (16, 8),
        "setns_flags": (24, 8),
    },
)
INODES = (4026531833, 4026531838, 4026531839, 4026531836, 4026531837, 4026531832, 4026531835)


def record(kind: int, body: bytes, time: int, misc: int = 0, pid: int = 1, tid: int = 1, cpu: int = 0) -> bytes:
    """A record other than SAMPLE, with its sample_id."""
    body = body.ljust((len(body) + 7) & ~7, b"\0")
    trailer = struct.pack("<iiQIIQ", pid, tid, time, cpu, 0, 99)
    return struct.pack("<IHH", kind, misc, 8 + len(body) + len(trailer)) + body + trailer


def task(kind: int, time: int, pid: int, tid: int, ppid: int, ptid: int) -> bytes:
    """FORK (7) or EXIT (4)."""
    return record(kind, struct.pack("<iiiiQ", pid, ppid, tid, ptid, time), time)


def namespaces(time: int, pid: int, tid: int, inodes: tuple[int, ...] = INODES, dev: int = 4) -> bytes:
    """NAMESPACES of one task."""
    links = b"".join(struct.pack("<QQ", dev, inode) for inode in inodes)
    return record(16, struct.pack("<iiQ", pid, tid, len(inodes)) + links, time)


def comm(time: int, pid: int, tid: int, name: bytes, by_exec: bool = False) -> bytes:
    """COMM, its text padded with NUL."""
    return record(3, struct.pack("<ii", pid, tid) + name + b"\0", time, misc=0x2000 if by_exec else 0)


def sample(raw: bytes, time: int, pid: int, tid: int, cgroup: int | None = 77) -> bytes:
    """SAMPLE of a tracepoint; ``cgroup`` None where the kernel has no PERF_SAMPLE_CGROUP."""
    raw += bytes(-(len(raw) + 4) % 8)
    body = struct.pack("<QiiQIII", 99, pid, tid, time, 0, 0, len(raw)) + raw
    body += b"" if cgroup is None else struct.pack("<Q", cgroup)
    return struct.pack("<IHH", 9, 0, 8 + len(body)) + body


def raw_exec(pid: int, old_pid: int, filename: bytes, number: int = 365) -> bytes:
    """Raw data of sched:sched_process_exec."""
    text = filename + b"\0"
    return struct.pack("<HBBiIii", number, 0, 0, pid, len(text) << 16 | 20, pid, old_pid) + text


def raw_exit(pid: int) -> bytes:
    """Raw data of sched:sched_process_exit."""
    return struct.pack("<HBBi16siiB", 369, 0, 0, pid, b"sh", pid, 120, 1)


def raw_attach(pid: int, root: int, cgroup: int, path: bytes) -> bytes:
    """Raw data of cgroup:cgroup_attach_task."""
    text = path + b"\0"
    words = (len(text) << 16 | 36, 3 << 16 | 36 + len(text))
    return struct.pack("<HBBiiiQiII", 538, 0, 0, 1, root, 2, cgroup, pid, *words) + text + b"sh\0"


def raw_newtask(pid: int, flags: int) -> bytes:
    """Raw data of task:task_newtask."""
    return struct.pack("<HBBii16s4xQh", 205, 0, 0, 1, pid, b"sh", flags, 0)


def raw_unshare(flags: int) -> bytes:
    """Raw data of syscalls:sys_enter_unshare."""
    return struct.pack("<HBBii4xQ", 192, 0, 0, 1, 272, flags)


def raw_setns(fd: int, flags: int) -> bytes:
    """Raw data of syscalls:sys_enter_setns."""
    return struct.pack("<HBBii4xQQ", 343, 0, 0, 1, 308, fd, flags)
