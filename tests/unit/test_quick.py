"""Rounds of few steps do what the usual ones do: the same text comes out, the same is counted, the same is told."""

import os
import random
import socket
import threading
import time
from typing import Any

import pytest

from auditns_connector._kernel import ffi, lib
from auditns_connector.correlate import Correlator
from auditns_connector.enricher import RAW, Enricher
from auditns_connector.lifecycle import open_narrator
from auditns_connector.observer import Observer
from auditns_connector.pace import Pace
from auditns_connector.pipeline import Pipeline
from auditns_connector.quick import Quick
from auditns_connector.sinks.base import Block
from auditns_connector.sources.stdin import StdinSource
from auditns_connector.talk import Talk

from .world import HEX, MS, World


class NoRings:
    """Perf without a CPU: the C that drains it is real, and finds nothing."""

    features = frozenset(("task",))

    def __init__(self) -> None:
        self._set = ffi.gc(lib.perf_set_new(), lib.perf_set_free)
        self._counters, self._layout = ffi.new("struct perf_counters *"), ffi.new("struct perf_layout *")

    def watch(self, clock: Any) -> Any:
        about = {"set": self._set, "layout": self._layout, "counters": self._counters, "clock": clock}
        self._look = ffi.new("struct perf_look *", about)
        return self._look

    def look(self, clock: Any) -> tuple[int, bool, bytes]:
        look = self.watch(clock)
        assert lib.perf_look(look) == 0
        return look.cut, look.told, b""

    def drain(self, cut: int | None = None) -> bytes:
        return b""

    def block(self, size: int, frames: Any, cut: int | None) -> bytes:
        return b""

    def filenos(self) -> list[int]:
        return []

    def counters(self) -> dict[str, int]:
        return {}

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        pass


class Kept:
    """A sink that keeps all."""

    name, broken, notices = "kept", False, ()

    def __init__(self) -> None:
        self._fd = os.eventfd(0)
        self.text = b""

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Block) -> None:
        self.text += bytes(data)

    def on_ready(self) -> None:
        raise AssertionError("nobody writes to it")

    def deadline(self) -> None:
        return None

    def counters(self) -> dict[str, int]:
        return {}

    def flush(self, timeout: float | None) -> bool:
        return True

    def close(self, timeout: float) -> None:
        os.close(self._fd)


class Slow(StdinSource):
    """The same without rounds of few steps."""

    def quick(self, pipeline: Pipeline) -> None:  # type: ignore[override]
        return None


def event(serial: int, ms: int, pid: int) -> bytes:
    stamp = b"msg=audit(%d.%03d:%d): " % (ms // 1000, ms % 1000, serial)
    return (
        b"type=SYSCALL %sarch=c000003e syscall=257 success=yes exit=3 ppid=1 pid=%d auid=0 comm=\"x\" key=\"k\"\n"
        b"type=PATH %sitem=0 name=\"/etc/shadow\"\ntype=PROCTITLE %sproctitle=\"x\"\ntype=EOE %s\n"
    ) % (stamp, pid, stamp, stamp, stamp)  # fmt: skip


def text(seed: int) -> list[bytes]:
    """What comes, piece by piece: mostly an event each, some cut or together, with a hole, a change of the rules, a
    record that stands alone, and processes of which one is not known."""
    chance, pieces, serial = random.Random(seed), [], 1000
    now = time.time_ns() // MS - 5
    for number in range(120):
        serial += 2 if number == 100 else 1
        one = event(serial, now, chance.choice((100, 100, 100, 2, 2, 999)))
        kind = chance.randrange(12)
        if kind == 0:
            at = chance.randrange(1, len(one))
            pieces += [one[:at], one[at:]]
        elif kind == 1 and pieces:
            pieces[-1] += one
        elif kind == 2:
            serial += 1
            alone = b"type=USER_CMD msg=audit(%d.%03d:%d): pid=100 uid=0 msg='op=x'\n"
            pieces += [one, alone % (now // 1000, now % 1000, serial)]
        elif number == 60:
            serial += 1
            change = b'type=CONFIG_CHANGE msg=audit(%d.%03d:%d): op=add_rule key="k" list=4 res=1\n'
            pieces += [one, change % (now // 1000, now % 1000, serial)]
        else:
            pieces.append(one)
    return pieces


def run(pieces: list[bytes], source: type[StdinSource], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, int]:
    """All that is to be seen of a run, and how many events it did in few steps."""
    quick = []
    settle = Quick.settle
    monkeypatch.setattr(Quick, "settle", lambda self: (quick.append(self._c.answered), settle(self))[1])
    mono = time.monotonic_ns() / MS
    world = World(real=time.time_ns() - time.monotonic_ns(), boot_id="ab" * 16)
    for pid, place in ((100, f"/docker/{HEX}"), (2, "/")):
        world.proc(pid, 1, at=mono - 3000, start=mono - 3000, cg=place)
    observer = Observer(world.model, perf=NoRings())
    correlator = Correlator(world.model)
    enricher = Enricher(correlator, (RAW,))
    ours, theirs = socket.socketpair()
    sink, audit = Kept(), source(ours.fileno())
    pipeline = Pipeline(observer, correlator, enricher, audit, {RAW: [sink]}, Talk(quiet=True))  # type: ignore[list-item]
    pipeline.pace = Pace(0)
    pipeline.narrator = open_narrator(observer, (RAW,), track=True, directory=None)

    def write() -> None:
        with theirs:
            for piece in pieces:
                theirs.sendall(piece)
                time.sleep(0.002)

    thread = threading.Thread(target=write)
    with ours:
        thread.start()
        pipeline.run()
        thread.join()
    observer.close()
    status = pipeline.status()
    seen = status["events"], status["sources"]["audit"], status["queue"], pipeline.narrator.next
    return (sink.text, seen), sum(quick)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_done_in_few_steps_is_what_is_done_in_many(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = text(seed)
    (usual, usual_seen), none = run(pieces, Slow, monkeypatch)
    (quick, quick_seen), many = run(pieces, StdinSource, monkeypatch)
    assert none == 0
    assert many > 40
    assert quick == usual
    assert quick.count(b"contid=") > 60
    assert quick.count(b"CONTAINER_LOST") == 1
    assert quick_seen == usual_seen


def test_a_change_of_the_rules_that_came_alone_is_not_overlooked() -> None:
    mono = time.monotonic_ns() / MS
    world = World(real=time.time_ns() - time.monotonic_ns(), boot_id="ab" * 16)
    world.proc(100, 1, at=mono - 3000, start=mono - 3000, cg=f"/docker/{HEX}")
    observer = Observer(world.model, perf=NoRings())
    correlator = Correlator(world.model)
    ours, theirs = socket.socketpair()
    audit = StdinSource(ours.fileno())
    pipeline = Pipeline(observer, correlator, Enricher(correlator, (RAW,)), audit, {RAW: []}, Talk(quiet=True))
    pipeline.pace = Pace(0)
    pipeline._register()
    quick = pipeline._quick
    assert quick is not None
    now = time.time_ns() // MS - 5

    def come(data: bytes) -> None:
        theirs.sendall(data)
        if quick.ready():
            quick.rounds(pipeline.selector._own, 0.01)
        else:
            pipeline.on_audit()

    for serial in range(1000, 1004):
        come(event(serial, now, 100))
    assert quick.ready()
    stamp = b"msg=audit(%d.%03d:1004): " % (now // 1000, now % 1000)
    come(b'type=CONFIG_CHANGE %sauid=0 ses=1 op=remove_rule key="k" list=4 res=1\n' % stamp)
    assert pipeline.stream.pending
    come(event(1004, now, 100))
    come(event(1005, now, 100))
    assert observer.exec_rules.changes == pipeline.stream.changes == 1
    assert pipeline.enricher.events == 6
    for sock in (ours, theirs):
        sock.close()
    observer.close()
