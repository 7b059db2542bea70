"""Kernel process events as lines for people and as JSON."""

import json
import struct

from auditns_connector.emit.events import EventWriter
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWNET, CLONE_NEWPID
from tests.unit.world import HEX, MS, REAL, World, contid

CN = f.S_CN


def show(w: World, *frames: bytes, **options: object) -> list[str]:
    """The lines that one block of frames makes."""
    events = EventWriter(w.model, **options)  # type: ignore[arg-type]
    block = b"".join(frames)
    events.frames(block)
    w.model.apply(block)
    outputs, w.model.outputs = w.model.outputs, []
    return events.tell(outputs).decode().splitlines()


def nm(at: float, pid: int, kind: int, reason: int, old: int, new: int) -> bytes:
    payload = f.NM_PAYLOAD.pack(reason, 0, old, new)
    return f.pack(f.K_NM, CN, int(at * MS), pid=pid, tid=pid, arg=kind, payload=payload)


def simple(kind: int, at: float, pid: int, source: int = CN, **fields: int | bytes) -> bytes:
    return f.pack(kind, source, int(at * MS), pid=pid, tid=pid, **fields)  # type: ignore[arg-type]


def test_the_example_of_the_proposal() -> None:
    lines = show(
        World(perf=False),
        simple(f.K_FORK, 10, 858, ppid=696, ptid=696),
        simple(f.K_EXEC, 11, 858),
        nm(12, 858, CLONE_NEWNET, 2, 4026531957, 4026532142),
        simple(f.K_FORK, 13, 859, ppid=858, ptid=858),
        simple(f.K_EXEC, 14, 859),
        simple(f.K_EXIT, 15, 859),
        simple(f.K_EXIT, 16, 858),
        connector_first=True,
        nm=True,
    )
    assert lines == [
        "fork: ppid=696 pid=858",
        "exec: pid=858",
        "ns: pid=858 type=net reason=set old_inum=4026531957 inum=4026532142",
        "fork: ppid=858 pid=859",
        "exec: pid=859",
        "exit: pid=859",
        "exit: pid=858",
    ]


def test_the_same_event_concluded_from_perf() -> None:
    w = World(lifecycle=True)
    w.fork(1, 100, 10, uts=4026531838)
    raw = f.pack(f.K_NAMESPACES, f.S_PERF, 20 * MS, pid=100, tid=100, payload=w.ns(net=77))
    assert show(w, raw) == ["ns: pid=100 type=net reason=unshare old_inum=4026531833 inum=77 source=perf"]
    w.fork(1, 101, 30, uts=4026531838)
    raw = f.pack(f.K_NAMESPACES, f.S_PERF, 40 * MS, pid=101, tid=101, payload=w.ns(net=77))
    assert show(w, raw) == ["ns: pid=101 type=net reason=setns old_inum=4026531833 inum=77 source=perf"]
    raw = f.pack(f.K_FORK, f.S_PERF, 50 * MS, pid=102, tid=102, ppid=1, ptid=1, payload=w.ns(user=78))
    assert show(w, raw) == [
        "fork: ppid=1 pid=102",
        "ns: pid=102 type=user reason=clone old_inum=4026531837 inum=78 source=perf",
    ]


def test_json_objects() -> None:
    w = World()
    w.fork(1, 100, 10)
    w.attach(100, f"/docker/{HEX}", 11)
    exec_, exit_, pid_ns, lost = (
        json.loads(line)
        for line in show(
            w,
            simple(f.K_EXEC, 20, 100, f.S_PERF, payload=b"/bin/\xff x\0", cpu=1),
            simple(f.K_EXIT, 21, 300, arg=2 << 8),
            nm(22, 100, CLONE_NEWPID, 1, 5, 6),
            f.pack(f.K_LOST, CN, 23 * MS, cpu=0, arg=7),
            json=True,
            connector_first=False,
            types=("exec", "ns", "exit", "lost"),
        )[:1]
        + show(w, simple(f.K_EXIT, 21, 300, arg=2 << 8), json=True, connector_first=True)
        + show(w, nm(22, 100, CLONE_NEWPID, 1, 5, 6), f.pack(f.K_LOST, CN, 23 * MS, cpu=0, arg=7), json=True, nm=True)
    )
    seconds, nanoseconds = divmod(REAL + 20 * MS, 1_000_000_000)
    assert exec_ == {
        "v": 1, "event": "exec", "time": f"{seconds}.{nanoseconds:09d}", "source": "perf", "cpu": 1, "pid": 100,
        "tid": 100, "file": "/bin/\\xff x", "contid": contid(HEX),
    }  # fmt: skip
    assert (exit_["exit_code"], exit_["signal"], exit_["contid"]) == (2, 0, "?")
    assert (pid_ns["source"], pid_ns["nstype"], pid_ns["reason"]) == ("nm", "pid", "clone")
    assert (pid_ns["old_inum"], pid_ns["inum"]) == (5, 6)
    assert lost == {
        "v": 1, "event": "lost", "time": lost["time"], "source": "auditns", "cpu": 0, "lost_source": "connector",
        "count": 7,
    }  # fmt: skip


def test_what_two_sources_tell_is_shown_once() -> None:
    both = [simple(f.K_FORK, 10, 100, source, ppid=1, ptid=1) for source in (CN, f.S_PERF)]
    for first in (True, False):
        assert show(World(), *both, connector_first=first) == ["fork: ppid=1 pid=100"]


def test_filters_and_limit() -> None:
    frames = [simple(f.K_FORK, 10 + i, 100 + i, f.S_PERF, ppid=1 + i, ptid=1 + i) for i in range(5)]
    frames.append(simple(f.K_EXEC, 20, 101, f.S_PERF, payload=b"/x\0"))
    assert show(World(), *frames, types=["exec"]) == ["exec: pid=101"]
    assert show(World(), *frames, pids=[101]) == ["fork: ppid=2 pid=101", "exec: pid=101"]
    assert show(World(), *frames, pids=[3]) == ["fork: ppid=3 pid=102"]
    assert show(World(), *frames, limit=2) == ["fork: ppid=1 pid=100", "fork: ppid=2 pid=101"]


def test_nothing_a_terminal_would_obey() -> None:
    line = show(World(), simple(f.K_COMM, 10, 100, f.S_PERF, payload=b"a\x1b[31m b\n\0"))
    assert line == ["comm: pid=100 comm=a\\x1b[31m\\x20b\\n"]


def test_ids_and_tracers() -> None:
    lines = show(
        World(perf=False),
        simple(f.K_UID, 10, 100, payload=struct.pack("<II", 0, 1000)),
        simple(f.K_PTRACE, 11, 100, ppid=7, ptid=8),
        simple(f.K_SID, 12, 100),
        simple(f.K_EXIT, 13, 100, arg=9),
        connector_first=True,
    )
    assert lines == [
        "uid: pid=100 real=0 effective=1000",
        "ptrace: pid=100 tracer=7",
        "sid: pid=100",
        "exit: pid=100 signal=9",
    ]


def test_details_and_times_where_wanted() -> None:
    frame = simple(f.K_EXEC, 10, 1, f.S_PERF, payload=b"/bin/ls\0", cpu=1)
    stamp = f"{(REAL + 10 * MS) // 1_000_000_000}.{(REAL + 10 * MS) % 1_000_000_000:09d}"
    assert show(World(), frame, times=True, details=True) == [f"{stamp} exec: pid=1 file=/bin/ls cpu=1 contid=unset"]
