"""The degrees of fallback: which source of namespace changes is used, and what the poorest ones can say."""

import pytest

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.errors import NotSupportedError
from auditns_connector.host import audit_calls as auditcalls
from auditns_connector.host.namespace_source import BLIND, SOURCES, choose, describe
from auditns_connector.model.clock import Clock
from auditns_connector.vocabulary import frames as f
from tests.unit.world import HEX, MS, REAL, World, contid

DOCKER = f"/docker/{HEX}"


@pytest.mark.parametrize(
    ("had", "chosen"),
    [
        ({"perf": True, "connector": True, "nm": True, "audit": True}, "nm"),
        ({"perf": True, "connector": True, "nm": False, "audit": True}, "perf"),
        ({"perf": True, "connector": False, "nm": False, "audit": True}, "perf"),
        ({"perf": False, "connector": True, "nm": False, "audit": True}, "audit"),
        ({"perf": False, "connector": True, "nm": False, "audit": False}, "procfs"),
        ({"perf": False, "connector": False, "nm": False, "audit": True}, "procfs"),
    ],
)
def test_the_best_that_is_had(had: dict[str, bool], chosen: str) -> None:
    assert choose("auto", **had) == chosen


@pytest.mark.parametrize("source", ["nm", "perf", "audit"])
def test_what_is_forced_and_not_had_is_refused(source: str) -> None:
    with pytest.raises(NotSupportedError, match=f"namespace source {source}"):
        choose(source, perf=False, connector=False, nm=False, audit=False)


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_forced_is_taken(source: str) -> None:
    assert choose(source, perf=True, connector=True, nm=True, audit=True) == source


def test_what_each_cannot_see_is_told() -> None:
    assert all(BLIND[source] in describe(source, perf=False) for source in SOURCES)
    assert BLIND["nm+perf"] in describe("nm", perf=True)


# -- audit


def record(number: int, ms: int, *fields: str) -> str:
    seconds, rest = divmod(REAL // MS + ms, 1000)
    body = " ".join(fields)
    return f"type=SYSCALL msg=audit({seconds}.{rest:03d}:{number}): {body}\n"


def test_audit_records_of_unshare_and_setns_become_frames() -> None:
    x86, i386 = "arch=c000003e", "arch=40000003"
    text = "".join(
        [
            record(1, 10, x86, "syscall=272 success=yes exit=0 a0=44000000 a1=7 ppid=1 pid=100 comm=a"),
            record(2, 11, x86, "syscall=308 success=yes exit=0 a0=3 a1=20000 ppid=1 pid=101 comm=a"),
            record(3, 12, x86, "syscall=272 success=no exit=-1 ppid=1 pid=102 comm=a"),
            record(4, 13, x86, "syscall=310 success=yes exit=0 ppid=1 pid=103 comm=a"),  # there: process_vm_readv
            record(5, 14, i386, "syscall=310 success=yes exit=0 ppid=1 pid=104 comm=a"),
            record(6, 15, x86, "syscall=272 success=yes exit=0 ppid=1 pid=7 comm=ourselves"),
            "node=here " + record(7, 16, x86, "syscall=272 success=yes exit=0 ppid=1 pid=105 comm=a"),
            "node=there " + record(8, 17, x86, "syscall=272 success=yes exit=0 ppid=1 pid=106 comm=a"),
        ]
    )
    clock = Clock()
    clock.sample(0, REAL)
    stream = TextStream()
    points = stream.push(text.encode())
    block = auditcalls.call_frames(points, clock, 100 * MS, 7, {b"here"})
    block += auditcalls.call_frames(stream.flush(eof=True), clock, 100 * MS, 7, {b"here"})
    describe = [(frame.kind, frame.pid, frame.time, frame.source, frame.arg) for frame in f.iter_frames(block)]
    assert describe == [
        (f.K_UNSHARE, 100, 10 * MS, f.S_AUDIT, 0x44000000),
        (f.K_SETNS, 101, 11 * MS, f.S_AUDIT, 0x20000),
        (f.K_UNSHARE, 104, 14 * MS, f.S_AUDIT, 0),  # its arguments are not there
        (f.K_UNSHARE, 105, 16 * MS, f.S_AUDIT, 0),
    ]


# -- polling


class Polled(World):
    """A world of scans alone; each of processes is (pid, cgroup)."""

    def __init__(self) -> None:
        super().__init__(perf=False, connector=False, ns_source="procfs")

    def scan(self, at: float, *processes: tuple[int, str], start: float = 100) -> None:
        self.put(f.K_RESYNC, at, f.S_PROCFS, arg=1)
        for pid, cgroup in ((1, "/"), *processes):
            self.proc(pid, int(pid != 1), at, start=start if pid != 1 else 0, cg=cgroup)
        self.put(f.K_RESYNC, at, f.S_PROCFS, arg=2)
        self.put(f.K_RESYNC, at, f.S_PROCFS, arg=3)


def test_between_two_scans_that_agree_it_was_so_all_the_time() -> None:
    w = Polled()
    w.scan(1000, (100, DOCKER))
    assert w.who(100, 1500) == "?", "nobody knows yet"
    w.scan(2000, (100, DOCKER))
    assert (w.who(100, 1500), w.state(100, 1500).origin) == (contid(HEX), "procfs")
    assert w.who(1, 1500) is None


def test_between_two_scans_that_differ_nobody_knows() -> None:
    w = Polled()
    w.scan(1000, (100, "/"))
    w.scan(2000, (100, DOCKER))
    w.scan(3000, (100, DOCKER))
    assert [w.who(100, at) for at in (1500, 2500)] == ["?", contid(HEX)]


def test_who_ended_between_two_scans_is_unknown_from_the_first_on() -> None:
    w = Polled()
    w.scan(1000, (100, DOCKER))
    w.scan(2000, (100, DOCKER))
    w.scan(3000)
    assert [w.who(100, at) for at in (1500, 2500)] == [contid(HEX), "?"]


def test_where_a_process_was_before_its_first_scan_is_not_known() -> None:
    w = Polled()
    w.scan(1000)
    w.scan(2000, (100, DOCKER), start=1100)
    w.scan(3000, (100, DOCKER), start=1100)
    assert [w.who(100, at) for at in (1500, 2500)] == ["?", contid(HEX)]


def test_a_long_time_of_polling_is_not_kept() -> None:
    w = Polled()
    for n in range(600):
        w.scan(1000 + n, (100, DOCKER))
    assert w.model.doubted.count(0) > 300
    assert w.who(100, 1500) == contid(HEX)
