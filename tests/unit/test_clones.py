"""What clone returned, as the host counts."""

import json

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.attribution.clone_result import KEPT, child_of
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.pipeline.text_stage import JSON, Enricher
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.world import MS, REAL, World

NET = INITIAL_INODES_618["net"]


def sandbox() -> World:
    """Process 100 is the first of a pid namespace."""
    w = World()
    w.fork(1, 100, 1000, pid=77)
    return w


def child(w: World, pid: int, at: float, number: int) -> int | None:
    return child_of(w.model, pid, [int(at * MS)], w.now, number)


def test_on_the_host_it_is_what_it_says() -> None:
    w = World()
    w.fork(1, 100, 1000, net=NET)
    w.fork(100, 101, 1100, net=NET)
    assert child(w, 100, 1099, 101) == 101


def test_in_a_container_the_only_child_that_can_be_meant() -> None:
    w = sandbox()
    w.fork(100, 101, 1100, pid=77)
    w.fork(100, 105, 5000, pid=77)
    w.put(f.K_COMM, 5100, pid=1, tid=1)
    assert [child(w, 100, at, n) for at, n in ((1099, 2), (4990, 3), (3000, 9))] == [101, 105, None]


def test_two_that_can_be_meant_are_unknown_unless_a_number_is_known() -> None:
    w = sandbox()
    w.fork(100, 101, 1100, pid=77)
    w.fork(100, 102, 1101, pid=77)
    w.put(f.K_COMM, 1200, pid=1, tid=1)
    assert child(w, 100, 1099, 3) is None
    w.proc(102, 100, 1201, start=1101, nspid=[102, 3], ns={**INITIAL_INODES_618, "pid": 77})
    assert child(w, 100, 1099, 3) == 102
    assert child(w, 100, 1099, 2) == 101, "the other one is known not to be it"


def test_a_thread() -> None:
    w = sandbox()
    w.put(f.K_FORK, 1100, pid=100, tid=107, ppid=100, ptid=100)
    w.put(f.K_COMM, 1200, pid=1, tid=1)
    assert child(w, 100, 1099, 2) == 107


def test_nobody_is_known_of_a_foreign_or_forgetful_creator() -> None:
    w = sandbox()
    assert child(w, 4711, 1100, 5) is None
    for n in range(KEPT + 10):
        w.fork(100, 200 + n, 1100 + n / 100, pid=77)
    w.put(f.K_COMM, 1200, pid=1, tid=1)
    assert child(w, 100, 1100, 50) is None


def test_lost_events_make_it_unknown() -> None:
    w = sandbox()
    w.fork(100, 101, 1100, pid=77)
    w.put(f.K_LOST, 1101, arg=3)
    w.put(f.K_COMM, 1200, pid=1, tid=1)
    assert child(w, 100, 1099, 2) is None


@pytest.mark.parametrize(("call", "told"), [(56, {"exit_pid": 101}), (435, {"exit_pid": 101}), (59, {})])
def test_in_json(call: int, told: dict[str, int]) -> None:
    w = sandbox()
    w.fork(100, 101, 1100, pid=77)
    w.put(f.K_COMM, 1200, pid=1, tid=1)
    seconds, ms = divmod(REAL // MS + 1099, 1000)
    stamp = f"msg=audit({seconds}.{ms:03d}:7):"
    text = f"type=SYSCALL {stamp} arch=c000003e syscall={call} success=yes exit=2 ppid=1 pid=100\ntype=EOE {stamp} \n"
    correlator = Correlator(w.model)
    enricher = Enricher(correlator, [JSON])
    stream = TextStream(whole=enricher.whole)
    points = stream.push(text.encode())
    out = enricher.take(points, lambda p: correlator.answer(p, w.now))[JSON]
    event = json.loads(out)
    assert {name: event[name] for name in event if name == "exit_pid"} == told


def test_in_json_where_it_is_not_known() -> None:
    w = sandbox()
    seconds, ms = divmod(REAL // MS + 1099, 1000)
    stamp = f"msg=audit({seconds}.{ms:03d}:7):"
    text = f"type=SYSCALL {stamp} arch=c000003e syscall=56 success=yes exit=2 ppid=1 pid=100\ntype=EOE {stamp} \n"
    correlator = Correlator(w.model)
    enricher = Enricher(correlator, [JSON])
    points = TextStream(whole=enricher.whole).push(text.encode())
    out = enricher.take(points, lambda p: correlator.answer(p, 1200 * MS))[JSON]
    assert json.loads(out)["exit_pid"] is None
