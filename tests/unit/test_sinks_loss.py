"""What is lost with lines: how many are audit's, and between which of these."""

import threading
from pathlib import Path

import pytest

from auditns_connector.audittext import own_records as text
from auditns_connector.emit import json_objects
from auditns_connector.sinks.loss import Lifecycle, Loss, loss_of, marked
from auditns_connector.sinks.threaded import BOUNDLESS, ThreadedSink
from tests.unit.sinkhelp import block, lost_line

HOST = json_objects.HOST


def record(kind: str, serial: int, ms: int = 5000, node: str = "") -> bytes:
    prefix = f"node={node} " if node else ""
    return f"{prefix}type={kind} msg=audit({ms // 1000}.{ms % 1000:03d}:{serial}): pid=1\n".encode()


def as_json(kind: str, serial: int, node: bytes = b"") -> bytes:
    return json_objects.event(5000, serial, node, HOST, (), [(kind, {"pid": 1}), ("PROCTITLE", {"proctitle": "x"})])


OWN = record("NS_INIT", 2147483700, 6000)
EVENT = record("SYSCALL", 7) + record("CONTAINER_ID", 7) + record("EOE", 7)


@pytest.mark.parametrize(
    ("data", "audit", "first", "last"),
    [
        (EVENT + record("USER_CMD", 8, 5001), 3, "5.000:7", "5.001:8"),
        (OWN + EVENT + OWN, 2, "5.000:7", "5.000:7"),
        (OWN + record("CONTAINER_LOST", 2147483701, 7000), 0, "6.000:?", "7.000:?"),
        (record("UNKNOWN[1345]", 2147483700), 0, "5.000:?", "5.000:?"),
        (record("UNKNOWN[1420]", 9), 1, "5.000:9", "5.000:9"),
        (record("NS_DEL", 2147483700, node="a") + record("SYSCALL", 9, node="a"), 1, "5.000:9", "5.000:9"),
        (as_json("SYSCALL", 9) + as_json("NS_CHANGE", 2147483700), 1, "5.000:9", "5.000:9"),
        (as_json("CONTAINER_OP", 2147483700, b"h"), 0, "5.000:?", "5.000:?"),
        (b"host  12:00:00.000 SYSCALL\n", 1, "", ""),
        (b"not a record\n" + record("SYSCALL", 9), 2, "5.000:9", "5.000:9"),
    ],
)
def test_which_records_of_audit_are_lost(data: bytes, audit: int, first: str, last: str) -> None:
    assert loss_of("file", data) == Loss("file", data.count(b"\n"), len(data), first, last, audit)


def test_lines_that_go_first_are_known_by_their_type() -> None:
    for kind in ("NS_INIT", "NS_CHANGE", "NS_DEL", "UNKNOWN[1345]", "UNKNOWN[1346]", "UNKNOWN[1347]"):
        assert isinstance(marked(record(kind, 1, node="n")), Lifecycle)
    for kind in ("NS_INFO", "SYSCALL", "CONTAINER_LOST"):
        assert not isinstance(marked(record(kind, 1)), Lifecycle)
    assert text.stamp(text.container_id("1", 1, False), 1, 1).startswith(b"type=CONTAINER_ID")


class Stuck:
    """A target whose write waits for its release: a disk that hangs."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.data = b""

    def write(self, views: list[memoryview]) -> int:
        self.free.wait()
        self.data += b"".join(views)
        return sum(map(len, views))

    def direct(self) -> tuple[int, int]:
        return -1, BOUNDLESS

    def wrote(self, count: int) -> None:
        assert not count

    def fell_short(self, view: memoryview, count: int) -> int:
        raise AssertionError

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass

    def counters(self) -> dict[str, int]:
        return {}


def test_a_storm_costs_no_record_of_audit_where_the_disk_hangs(tmp_path: Path) -> None:
    target = Stuck()
    sink = ThreadedSink("file", 40_000, lost_line, target)
    events = [block(i, 1) for i in range(300)]
    for i in range(300):
        sink.write(Lifecycle(record("NS_INIT", (1 << 31) + i) * 20))
        sink.write(events[i])
    counted = sink.counters()
    assert (counted["dropped_audit"], counted["queued_bytes"] <= 40_000) == (0, True)
    assert counted["dropped_records"] > 4000
    target.free.set()
    assert sink.flush(30)
    sink.close(5)
    got = [line for line in target.data.splitlines(keepends=True) if line.startswith(b"type=SYSCALL")]
    assert got == events
    assert target.data.count(b"LOST file") >= 1
