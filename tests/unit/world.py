"""A small world to write kernel histories in: frames with the fields that the kernel would fill."""

import json
from typing import Any

from auditns_connector._native import ffi
from auditns_connector.attribution.exec_match import find_exec, find_only_exec
from auditns_connector.attribution.lookup import find
from auditns_connector.model import ancestry
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.places import Instance
from auditns_connector.model.process import State
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import FLAGS, INITIAL_INODES_618, PERF_ORDER

MS = 1_000_000
REAL = 1_700_000_000_000 * MS
HEX = "0123456789abcdef" * 4


def born(model: Model) -> list[Instance]:
    """Every namespace whose serial nobody has asked for yet, in the order in which they began."""
    c, namespaces = model.table.c, model.namespaces
    numbers = ffi.unpack(c.born, c.borns) if c.borns else []
    for number in numbers:
        model.lives.fetch_number(number)
    found = {inst.number: inst for inst in namespaces.born}
    found |= {number: namespaces.unnumbered[number] for number in numbers if number in namespaces.unnumbered}
    c.borns, namespaces.born = 0, []
    return [inst for _, inst in sorted(found.items())]


class World:
    """Feeds a :class:`Model`; times are milliseconds since a start."""

    def __init__(self, real: int = REAL, **hello: Any) -> None:
        self.model = Model()
        self.now = 0
        self.log: list[bytes] = []
        self.cgroups = {1: "/"}
        hello = {
            "boot_id": "b",
            "ns_dev": 4,
            "initial": INITIAL_INODES_618,
            "v2_only": True,
            "features": ["newtask", "exec_sample", "exit_sample"],
            **hello,
        }
        self.put(f.K_HELLO, source=f.S_PIPELINE, payload=json.dumps(hello).encode())
        self.put(f.K_CLOCK, source=f.S_PIPELINE, arg=real)
        self.put(f.K_CGROUP, cgroup=1, payload=b"/\0")
        self.proc(1, 0, ns={})

    def put(self, kind: int, at: float | None = None, source: int = f.S_PERF, **fields: Any) -> None:
        self.now = self.now if at is None else int(at * MS)
        frame = f.pack(kind, source, self.now, **fields)
        self.log.append(frame)
        self.model.apply(frame)

    def ns(self, **changed: int) -> bytes:
        inodes = {**INITIAL_INODES_618, **changed}
        return f.NAMESPACES_PAYLOAD.pack(4, *(inodes[name] for name in PERF_ORDER))

    def proc(
        self,
        pid: int,
        ppid: int,
        at: float | None = None,
        start: float = 0,
        cg: str | dict[str, str] = "/",
        **more: Any,
    ) -> None:
        answer = {
            "pid": pid, "ppid": ppid, "tids": [pid], "start": int(start * MS), "comm": "c",
            "ns": dict(INITIAL_INODES_618), "ns_dev": 4, "cg": {"0": cg} if isinstance(cg, str) else cg, **more,
        }  # fmt: skip
        self.put(f.K_PROC, at, f.S_PROCFS, pid=pid, payload=json.dumps(answer).encode())

    def fork(self, parent: int, child: int, at: float, *, thread: int = 0, **changed: int) -> None:
        payload = self.ns(**changed) if changed else b""
        self.put(f.K_FORK, at, pid=child, tid=child, ppid=parent, ptid=thread or parent, payload=payload)

    def thread(self, pid: int, tid: int, at: float) -> None:
        self.put(f.K_FORK, at, pid=pid, tid=tid, ppid=pid, ptid=pid)

    def unshare(self, who: int, at: float, /, tid: int = 0, **changed: int) -> None:
        self.put(f.K_NAMESPACES, at, pid=who, tid=tid or who, payload=self.ns(**changed))

    def called_unshare(self, who: int, entered: float, done: float, **changed: int) -> None:
        """The system call as well: ``who`` enters it, and is in other namespaces when it is ``done``."""
        self.put(f.K_UNSHARE, entered, pid=who, tid=who, arg=sum(FLAGS[name] for name in changed))
        self.unshare(who, done, **changed)

    def attach(self, pid: int, path: str, at: float) -> None:
        number = 1000 + len(self.cgroups)
        self.cgroups[number] = path
        self.put(f.K_CGROUP, at, cgroup=number, payload=path.encode() + b"\0")
        self.put(f.K_ATTACH, at, tid=pid, cgroup=number, payload=path.encode() + b"\0")

    def exec(self, pid: int, at: float, name: str = "/bin/x", cgroup: int = 0, old: int = 0) -> None:
        comm = name.rpartition("/")[2][:15].encode() + b"\0"
        self.put(f.K_COMM, at, pid=pid, tid=pid, arg=1, payload=comm)
        self.put(f.K_EXEC, at, pid=pid, tid=pid, ppid=old or pid, cgroup=cgroup, payload=name.encode() + b"\0")

    def exit(self, pid: int, at: float, tid: int = 0) -> None:
        """The end of a task."""
        self.put(f.K_EXIT_SAMPLE, at, pid=pid, tid=tid or pid)
        self.put(f.K_EXIT, at, pid=pid, tid=tid or pid)

    def changes_user(self, pid: int, at: float, name: str = "/bin/su", *, cgroup: int = 0, old: int = 0) -> None:
        """An exec of a set-user-ID program: perf tells an EXIT of the task, which lives on."""
        comm = name.rpartition("/")[2][:15].encode() + b"\0"
        self.put(f.K_COMM, at, pid=pid, tid=pid, arg=1, payload=comm)
        self.put(f.K_EXIT, at, pid=pid, tid=pid)
        self.put(f.K_EXEC, at, pid=pid, tid=pid, ppid=old or pid, cgroup=cgroup, payload=name.encode() + b"\0")

    def state(self, pid: int, at: float, ppid: int = -1) -> State:
        """The answer for a syscall record of ``pid`` stamped at ``at``, asked now."""
        return find(self.model, pid, ppid, [int(at * MS)], max(self.now, int(at * MS)))

    def who(self, pid: int, at: float, ppid: int = -1) -> str | None:
        """The contid text for a syscall record of ``pid`` stamped ``at``; None is the host."""
        return self._text(self.state(pid, at, ppid))

    def who_exec(self, pid: int, at: float, name: str = "/bin/x") -> str | None:
        """The contid text for an execve record."""
        comm = name.rpartition("/")[2][:15].encode()
        self.model.table.hold(pid)
        times, process = [int(at * MS)], self.model.processes[pid]
        before = process.execs, process.not_before
        answer = self._text(find_exec(self.model, pid, -1, times, self.now, name.encode(), comm))
        after = process.execs, process.not_before
        process.execs, process.not_before = before
        quick = find_only_exec(self.model, pid, times, self.now)
        assert quick is None or (self._text(quick), process.execs, process.not_before) == (answer, *after)
        process.execs, process.not_before = after
        return answer

    def inode(self, pid: int, at: float, index: int) -> int | None:
        """The inode of the namespace of that type in the answer for a syscall record; None: not known."""
        nsset = self.state(pid, at).nsset
        inst = nsset.inst[index] if nsset is not None else None
        return None if inst is None else inst.ino

    def born(self) -> list[Instance]:
        return born(self.model)

    def told_call(self, pid: int, at: float, *also: int) -> None:
        """The record of an unshare or setns of ``pid``, stamped ``at``, has come."""
        low = int(at * MS)
        process = self.model.processes[pid]
        self.model.table.not_before(process, self.model.calls.consume(process, [low, *also], 0))

    def _text(self, state: State) -> str | None:
        return None if state.container is None else self.model.containers.text(state.container)


def contid(hexid: str) -> str:
    """The contid of a runtime's hexadecimal id."""
    return str(int(hexid[:16], 16))


def shown_programs(programs: list[tuple[int, bytes]], now: int) -> bytes:
    """The PROGRAMS frame of what /proc shows at ``now``: (pid, program) of each process."""
    payload = b"".join(ancestry.ONE.pack(pid, len(program)) + program for pid, program in programs)
    return f.pack(f.K_PROGRAMS, f.S_PROCFS, now, payload=payload)
