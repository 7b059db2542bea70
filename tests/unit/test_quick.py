"""Rounds of few steps do what the usual ones do: the same text comes out, the same is counted, the same is told."""

import os
import random
import re
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector._native import ffi, lib
from auditns_connector._native import lib as text_lib
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.config.options import FileOutput
from auditns_connector.daemon.log import Talk
from auditns_connector.host.observer import Observer
from auditns_connector.model.table import Query
from auditns_connector.pipeline.coalescing import Pace
from auditns_connector.pipeline.loop import Pipeline
from auditns_connector.pipeline.native_loop import NativeLoop
from auditns_connector.pipeline.standalone_records import open_narrator
from auditns_connector.pipeline.text_stage import RAW, Enricher
from auditns_connector.sinks.base import Block
from auditns_connector.sinks.file import FileSink
from auditns_connector.sources.stdin import StdinSource
from auditns_connector.vocabulary import frames as f

from .sinkhelp import lost_line
from .world import HEX, MS, World


class Rings:
    """Perf without a CPU: the C that drains it is real, and finds nothing; frames come from :meth:`come`."""

    features = frozenset(("task",))

    def __init__(self) -> None:
        self._set = ffi.gc(lib.perf_set_new(), lib.perf_set_free)
        self._counters, self._layout = ffi.new("struct perf_counters *"), ffi.new("struct perf_layout *")
        self._came: list[bytes] = []
        self._kept = b""
        #: in place of perf_look
        self.see = ffi.callback("int64_t(struct perf_look *)", self._see)

    def come(self, frames: bytes) -> None:
        self._came.append(frames)

    def _see(self, look: Any) -> int:
        assert lib.perf_look(look) == 0
        came, self._came = self._came, []
        self._kept = b"".join(came)
        look.frames = ffi.cast("uint8_t *", ffi.from_buffer(self._kept))
        return len(self._kept)

    def watch(self, clock: Any) -> Any:
        about = {"set": self._set, "layout": self._layout, "counters": self._counters, "clock": clock}
        self._look = ffi.new("struct perf_look *", about)
        return self._look

    def look(self, clock: Any) -> tuple[int, bool, bytes]:
        look = self.watch(clock)
        size = self._see(look)
        return look.cut, look.told, self.block(size, look.frames, look.cut)

    def drain(self, cut: int | None = None) -> bytes:
        came, self._came = self._came, []
        self._kept = bytes(len(self._kept))  # as the C does: what was drained before is there no more
        return b"".join(came)

    def block(self, size: int, frames: Any, cut: int | None) -> bytes:
        return bytes(ffi.buffer(frames, size))

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


def text(seed: int, world: World) -> list[tuple[bytes, bytes]]:
    """What comes, piece by piece, and which frames before it: mostly an event each, some cut or together, with a hole,
    a change of the rules, a record that stands alone, processes of which one is not known, and children of one that
    is."""
    chance, pieces, serial = random.Random(seed), [], 1000
    now = time.time_ns() // MS - 5
    mono = now * MS - (time.time_ns() - time.monotonic_ns()) - MS
    for number in range(120):
        serial += 2 if number == 100 else 1
        who, frames = chance.choice((100, 100, 100, 2, 2, 999)), b""
        if chance.randrange(3) == 0:
            who = 2000 + number
            frames = f.pack(f.K_FORK, f.S_PERF, mono, pid=who, tid=who, ppid=100, ptid=100, payload=world.ns())
        if number > 20 and chance.randrange(3) == 0:
            gone = 2000 + number - 20
            frames += f.pack(f.K_EXIT, f.S_PERF, mono + 2 * MS, pid=gone, tid=gone, ppid=100, ptid=100)
        one = event(serial, now, who)
        kind = chance.randrange(12)
        if kind == 0:
            at = chance.randrange(1, len(one))
            pieces += [(frames, one[:at]), (b"", one[at:])]
        elif kind == 1 and pieces:
            before, last = pieces[-1]
            pieces[-1] = (before + frames, last + one)
        elif kind == 2:
            serial += 1
            alone = b"type=USER_CMD msg=audit(%d.%03d:%d): pid=100 uid=0 msg='op=x'\n"
            pieces += [(frames, one), (b"", alone % (now // 1000, now % 1000, serial))]
        elif number == 60:
            serial += 1
            change = b'type=CONFIG_CHANGE msg=audit(%d.%03d:%d): op=add_rule key="k" list=4 res=1\n'
            pieces += [(frames, one), (b"", change % (now // 1000, now % 1000, serial))]
        else:
            pieces.append((frames, one))
    return pieces


def known() -> World:
    """A world that knows two processes, one of them in a container."""
    mono = time.monotonic_ns() / MS
    world = World(real=time.time_ns() - time.monotonic_ns(), boot_id="ab" * 16)
    for pid, place in ((100, f"/docker/{HEX}"), (2, "/")):
        world.proc(pid, 1, at=mono - 3000, start=mono - 3000, cg=place)
    return world


def run(
    seed: int,
    source: type[StdinSource],
    monkeypatch: pytest.MonkeyPatch,
    log: Path | None = None,
    pace: float | None = 0,
) -> tuple[bytes, Any, int]:
    """The text that comes out of a run, into a file if there is a ``log``; what else is to be seen of it; and how many
    events it did in few steps."""
    quick, given, rings = [], [], Rings()
    settle = NativeLoop.settle
    monkeypatch.setattr(NativeLoop, "see", rings.see)
    give = Pipeline.give
    monkeypatch.setattr(Pipeline, "give", lambda self, block: (given.append(len(block)), give(self, block))[1])
    monkeypatch.setattr(NativeLoop, "settle", lambda self: (quick.append(self._c.answered), settle(self))[1])
    world = known()
    observer = Observer(world.model, perf=rings)  # type: ignore[arg-type]
    correlator = Correlator(world.model)
    enricher = Enricher(correlator, (RAW,))
    ours, theirs = socket.socketpair()
    sink = Kept() if log is None else FileSink(FileOutput(path=str(log), group=""), lost_line)
    audit = source(ours.fileno())
    pipeline = Pipeline(observer, correlator, enricher, audit, {RAW: [sink]}, Talk(quiet=True))  # type: ignore[list-item]
    pipeline.pace = Pace(pace)
    pipeline.narrator = open_narrator(observer, (RAW,), track=True, directory=None)
    pieces = text(seed, world)

    def write() -> None:
        with theirs:
            for frames, piece in pieces:
                rings.come(frames)
                theirs.sendall(piece)
                time.sleep(0.002)

    thread = threading.Thread(target=write)
    with ours:
        thread.start()
        pipeline.run()
        thread.join()
    observer.close()
    monkeypatch.undo()
    assert log is None or len(given) < 10  # as long as all goes well the C gives it
    status = pipeline.status()
    lives = sorted((pid, process.end is None) for pid, process in world.model.processes.items())
    seen = status["events"], status["sources"]["audit"], status["queue"], pipeline.narrator.next, lives
    return sink.text if isinstance(sink, Kept) else log.read_bytes(), seen, sum(quick)  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", ["kept", "file", "gathered"])
def test_what_is_done_in_few_steps_is_what_is_done_in_many(
    seed: int, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual, usual_seen, none = run(seed, Slow, monkeypatch)
    log, pace = tmp_path / "log" if way == "file" else None, 1 if way == "gathered" else 0
    quick, quick_seen, many = run(seed, StdinSource, monkeypatch, log, pace)
    assert none == 0
    assert many > 40
    stamps = re.compile(rb"audit\(\d+\.\d+:")  # the two runs are not of the same time
    assert stamps.sub(b"", quick) == stamps.sub(b"", usual)
    assert quick.count(b"contid=") > 60
    assert quick.count(b"CONTAINER_LOST") == 1
    assert quick_seen == usual_seen


class Quiet:
    """A pipeline that does nothing but when text is given to it."""

    def __init__(self) -> None:
        self.rings = Rings()
        self.observer = Observer(known().model, perf=self.rings)  # type: ignore[arg-type]
        correlator = Correlator(self.observer.model)
        self._ours, self._theirs = socket.socketpair()
        audit = StdinSource(self._ours.fileno())
        enricher = Enricher(correlator, (RAW,))
        self.pipeline = Pipeline(self.observer, correlator, enricher, audit, {RAW: []}, Talk(quiet=True))
        self.pipeline.pace = Pace(0)
        self.pipeline._register()
        assert self.pipeline._quick is not None
        self.quick = self.pipeline._quick
        self.now = time.time_ns() // MS - 5
        for serial in range(1000, 1004):
            self.come(event(serial, self.now, 100))
        assert self.quick.ready()

    def come(self, data: bytes) -> list[tuple[int, int]]:
        """Text comes; returns what else is ready."""
        if data:
            self._theirs.sendall(data)
        if self.quick.ready():
            return self.quick.rounds(self.pipeline.selector._own, 0.01)
        self.pipeline.on_audit()
        return []

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()
        self.observer.close()


@pytest.fixture
def quiet() -> Iterator[Quiet]:
    host = Quiet()
    yield host
    host.close()


def test_a_change_of_the_rules_that_came_alone_is_not_overlooked(quiet: Quiet) -> None:
    stamp = b"msg=audit(%d.%03d:1004): " % (quiet.now // 1000, quiet.now % 1000)
    quiet.come(b'type=CONFIG_CHANGE %sauid=0 ses=1 op=remove_rule key="k" list=4 res=1\n' % stamp)
    assert quiet.pipeline.stream.pending
    quiet.come(event(1004, quiet.now, 100))
    quiet.come(event(1005, quiet.now, 100))
    assert quiet.observer.exec_rules.changes == quiet.pipeline.stream.changes == 1
    assert quiet.pipeline.enricher.events == 6


@pytest.mark.parametrize("whole", [b"", event(1004, time.time_ns() // MS - 5, 100)], ids=["alone", "behind-another"])
def test_an_event_without_its_end_is_waited_for_from_when_it_came(quiet: Quiet, whole: bytes) -> None:
    before = time.monotonic()
    quiet.come(whole + event(1004 + bool(whole), quiet.now, 100)[:40])
    assert quiet.pipeline.stream.pending
    assert quiet.pipeline._pending_since >= before
    since = quiet.pipeline._pending_since
    quiet.come(b"")
    assert quiet.pipeline._pending_since == since


def test_a_clock_that_was_set_is_told_before_the_answer(quiet: Quiet, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(quiet.observer, "tell_clock", lambda: told.append(quiet.pipeline.enricher.events))
    quiet.observer.clock.known = 0  # as after a journal that begins anew
    quiet.come(event(1004, quiet.now, 100))
    assert told[:1] == [4]


def test_what_is_drained_for_an_answer_comes_behind_what_was_drained_before(
    quiet: Quiet, monkeypatch: pytest.MonkeyPatch
) -> None:
    mono = quiet.now * MS - (time.time_ns() - time.monotonic_ns())

    def exec_(at: int) -> bytes:
        return f.pack(f.K_EXEC, f.S_PERF, mono + at, pid=100, tid=100, ppid=100, payload=b"/bin/x\0")

    took: list[int] = []
    take = quiet.observer._apply

    def apply(block: bytes, *, seen: bool) -> None:
        took.extend(frame.time - mono for frame in f.iter_frames(block) if frame.kind == f.K_EXEC)
        take(block, seen=seen)

    monkeypatch.setattr(quiet.observer, "_apply", apply)
    see, blocks = quiet.rings._see, [exec_(1), exec_(2)]

    def drained(look: Any) -> int:
        quiet.rings.come(blocks.pop(0))
        size = see(look)
        if not blocks:  # both rounds are drained: a question comes up, and more has happened by then
            quiet.observer.model.queries.append(Query("proc", 100))
            quiet.rings.come(exec_(3))
        return size

    see_ = ffi.callback("int64_t(struct perf_look *)", drained)
    quiet.quick._c.see = see_
    for serial, who in ((1004, 100), (1005, 999)):
        quiet._theirs.sendall(event(serial, quiet.now, who))
        how = text_lib.loop_round(quiet.quick._c)
    quiet.quick._go_on(how)
    quiet.observer.take_in()
    assert took == [1, 2, 3]


def test_whoever_else_is_ready_is_not_overlooked(quiet: Quiet) -> None:
    other = os.eventfd(1)
    quiet.pipeline.selector.register(other, selectors.EVENT_READ, lambda: None)
    assert quiet.come(b"") == [(other, selectors.EVENT_READ)]
    ready = quiet.come(event(1004, quiet.now, 100))
    assert (other, selectors.EVENT_READ) in ready
    quiet.pipeline.selector.unregister(other)
    os.close(other)
