"""Work is done in slices, between which others are served; and what text that waits may ask for is not forgotten."""

import platform
import re
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector._native import lib
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.daemon.log import Log
from auditns_connector.errors import BehindError
from auditns_connector.host.observer import KEEP
from auditns_connector.model.outputs import Loss, Query
from auditns_connector.pipeline import loop
from auditns_connector.pipeline.coalescing import Coalescer
from auditns_connector.pipeline.loop import Pipeline
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.pipeline.text_side import TextSide
from auditns_connector.pipeline.text_stage import RAW, Enricher
from auditns_connector.sources.stdin import StdinSource
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.vocabulary import frames as f

from .test_native_loop import Kept
from .test_observer import Deaf
from .world import MS, World

SECOND = 1000 * MS


class Rings:
    """Kernel events up to each moment."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.cuts: list[int] = []

    def come(self, at: int, kind: int, **fields: Any) -> None:
        self.frames.append((at, f.pack(kind, f.S_PERF, at, **fields)))

    def live(self, pid: int, start: int, end: int) -> None:
        """A child of the first process."""
        self.come(start, f.K_FORK, pid=pid, tid=pid, ppid=1, ptid=1)
        self.come(end, f.K_EXIT_SAMPLE, pid=pid, tid=pid)
        self.come(end, f.K_EXIT, pid=pid, tid=pid)

    def drain(self, cut: int | None = None) -> bytes:
        assert cut is not None
        self.cuts.append(cut)
        due = b"".join(frame for at, frame in self.frames if at <= cut)
        self.frames = [(at, frame) for at, frame in self.frames if at > cut]
        return due

    def look(self, clock: object) -> tuple[int, bool, bytes]:
        return self.now, False, self.drain(self.now)

    def watch(self, clock: object) -> None:
        """Not for C."""

    def filenos(self) -> list[int]:
        return []

    def refresh(self) -> list[int]:
        return []

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass

    now = 60 * SECOND


class Waiting(StdinSource):
    """Text that was taken in at a moment the test says."""

    at = 0
    _taken = 0

    @property
    def oldest(self) -> int:
        return self.at

    @property
    def taken(self) -> int:
        return self._taken

    def fill(self, stream: Any) -> int | None:
        got = super().fill(stream)
        self._taken = self.at
        return got


class Host:
    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.world, self.rings = World(), Rings()
        self.observer = Deaf(self.world.model, perf=self.rings)  # type: ignore[arg-type]
        self.audit = Waiting(self.ours.fileno())
        correlator = Correlator(self.world.model)
        self.sink = Kept()
        self.pipeline = Pipeline(
            self.observer, correlator, Enricher(correlator, (RAW,)), self.audit, {RAW: [self.sink]}, Log(quiet=True),
            coalescer=Coalescer(0),
        )  # fmt: skip
        self.observer.between = self.pipeline._serve_between
        self.asked: list[int] = []
        self.keep: socket.socket | None = None

    def answers_requests(self) -> socket.socket:
        """Whoever writes to this is served by the pipeline."""
        ours, theirs = socket.socketpair()

        def serve() -> None:
            ours.recv(1)
            self.asked.append(self.world.model.applied)

        self.pipeline.selector.register(ours, selectors.EVENT_READ, serve)
        self.keep = ours
        return theirs


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.observer.close()
    made.audit.close()
    made.pipeline.selector.close()
    for held in (made.ours, made.theirs, made.keep):
        if held is not None:
            held.close()


def test_a_request_is_served_while_many_kernel_events_are_taken_in(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SLICE", 0.0)
    with host.answers_requests() as asker:
        asker.send(b"x")
        for number in range(20_000):
            host.rings.come(SECOND + number, f.K_COMM, pid=1, tid=1, payload=b"c%d\0" % number)
        host.observer.sync()
        assert len(host.asked) == 1
        assert host.asked[0] < host.world.model.applied
    assert host.world.model.processes[1].comm == b"c19999"


def test_whoever_is_served_in_between_finds_all_taken_in_that_came_before(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SLICE", 0.0)
    seen = []

    def ask() -> None:
        keep.recv(1)
        host.rings.come(2 * SECOND, f.K_COMM, pid=1, tid=1, payload=b"later\0")
        host.observer.sync()
        seen.append(host.world.model.processes[1].comm)

    keep, asker = socket.socketpair()
    with keep, asker:
        host.pipeline.selector.register(keep, selectors.EVENT_READ, ask)
        asker.send(b"x")
        for number in range(20_000):
            host.rings.come(SECOND + number, f.K_COMM, pid=1, tid=1, payload=b"c%d\0" % number)
        host.observer.sync()
    assert seen == [b"later"]
    assert host.world.model.processes[1].comm == b"later"


def test_a_request_is_served_while_much_text_is_answered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SLICE", 0.0)
    line = b'type=USER_CMD msg=audit(1700000000.001:%d): pid=1 uid=0 msg="x"\n'
    text = b"".join(line % serial for serial in range(3000))
    written: list[int] = []
    with host.answers_requests() as asker:
        host.pipeline.text.stream.put(text)
        asker.send(b"x")
        monkeypatch.setattr(host.pipeline.text, "_part", 8192)
        host.pipeline.selector.modify(
            host.keep, selectors.EVENT_READ, lambda: written.append(len(host.keep.recv(1)) and len(host.sink.text))
        )
        host.pipeline.text._deliver_all(host.pipeline.text.stream.part(8192), SECOND)
    assert 0 < written[0] < len(host.sink.text)
    assert host.sink.text.count(b"type=USER_CMD") == 3000


def test_kernel_events_are_drained_up_to_when_the_text_was_taken_in(host: Host) -> None:
    host.audit.at = 10 * SECOND
    host.rings.live(500, 9 * SECOND, 11 * SECOND)
    host.theirs.sendall(b"type=SYSCALL msg=audit(1700000009.500:7): arch=c000003e syscall=2 exit=3 pid=500\n")
    host.theirs.sendall(b"type=EOE msg=audit(1700000009.500:7): \n")
    assert host.pipeline.text.read()
    assert host.rings.cuts[-1] == 10 * SECOND
    assert host.world.model.processes[500].end is None


def test_nobody_is_forgotten_whom_text_that_waits_may_ask_for(host: Host) -> None:
    host.rings.live(500, 20 * SECOND, 21 * SECOND)
    host.audit.at = 40 * SECOND
    host.rings.now = 300 * SECOND
    host.pipeline._on_tick(0.0)
    assert host.world.model.horizon == 40 * SECOND - KEEP
    assert 500 in host.world.model.processes
    host.audit.at = 0
    host.pipeline._on_tick(0.0)
    assert host.world.model.horizon == 300 * SECOND - KEEP
    assert 500 not in host.world.model.processes


def test_who_is_forgotten_for_want_of_memory_is_unknown_and_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MOST_ENDED", 10)
    for number in range(50):
        at = (100 + number) * SECOND
        host.rings.live(500 + number, at, at + MS)
    host.audit.at, host.rings.now = 90 * SECOND, 300 * SECOND
    told: list[Any] = []
    monkeypatch.setattr(host.pipeline.text, "narrate", lambda **_: told.extend(host.world.model.outputs))
    host.pipeline._on_tick(0.0)
    assert host.world.model.horizon == 140 * SECOND + MS
    who = [host.world.who(500 + number, (100 + number) * 1000 + 0.5) for number in (0, 30, 45)]
    assert who == ["?", "?", None]
    host.pipeline._on_tick(0.0)
    host.pipeline._on_tick(0.0)
    losses = [output for output in told if isinstance(output, Loss)]
    times = [(100 + number) * SECOND + MS // 2 - MS for number in (0, 30)]
    assert {(loss.source, loss.number, loss.since, loss.time) for loss in losses} == {("table", 2, *times)}


def storm(host: Host, since: int, until: int, step: int = 20_000) -> None:
    """So much in each moment that it is much: processes that make others which end at once."""
    for number, at in enumerate(range(since, until, step)):
        host.rings.come(at, f.K_COMM, pid=1, tid=1, payload=b"c%d\0" % number)


def test_where_much_happens_it_is_taken_in_by_fifths_of_a_second(host: Host) -> None:
    now = time.monotonic_ns()
    host.rings.now = now + 3600 * SECOND
    storm(host, now - 3 * SECOND, now)
    host.observer.sync(now - 3 * SECOND)
    host.observer.sync(now - 2 * SECOND)
    before = host.observer.pacing.drained_to
    assert host.observer.sync_step() == before + SECOND // 5
    assert host.observer.pacing.behind
    while host.observer.pacing.behind:
        host.observer.sync_step()
    assert host.observer.pacing.drained_to >= now
    assert not host.rings.frames


def test_a_request_that_comes_while_much_is_left_is_told_to_come_again(host: Host) -> None:
    now = time.monotonic_ns()
    host.rings.now = now + 3600 * SECOND
    storm(host, now - 3 * SECOND, now)
    host.observer.sync(now - 3 * SECOND)
    host.observer.sync(now - 2 * SECOND)
    with pytest.raises(BehindError):
        host.observer.sync_within(0.0)
    left = len(host.rings.frames)
    with pytest.raises(BehindError):
        host.observer.sync_within(60.0)  # others are refused without a try
    assert len(host.rings.frames) == left > 0
    host.observer.pacing._refuse_until = 0
    assert host.observer.sync_within(600.0) >= now
    assert not host.rings.frames


def test_an_answer_of_proc_waits_for_what_happened_before_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic_ns()
    host.rings.now = now + 3600 * SECOND
    storm(host, now - 3 * SECOND, now)
    host.observer.sync(now - 3 * SECOND)
    host.observer.sync(now - 2 * SECOND)
    answer = f.pack(f.K_COMM, f.S_PROCFS, now, pid=1, tid=1, payload=b"asked\0")
    asked: list[int] = []
    monkeypatch.setattr(host.observer.questions, "ask", lambda query: asked.append(query.pid) or answer)
    host.world.model.queries.append(Query("alive", 1))
    while host.observer.pacing.drained_to < now - SECOND // 2:
        host.observer.sync_step()
        assert host.world.model.processes[1].comm != b"asked"
    assert asked == [1]
    while host.observer.pacing.behind:
        host.observer.sync_step()
    host.observer.sync()
    assert not host.observer.questions._early
    assert host.world.model.processes[1].comm == b"asked"


def test_what_is_to_be_said_is_written_and_who_ended_forgotten_while_more_is_taken_in(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MOST_ENDED", 100)
    monkeypatch.setattr(loop, "_MORE_ENDED", 10)
    monkeypatch.setattr(loop, "_MOST_OUTPUTS", 50)
    most: list[tuple[int, int]] = []
    apply = host.world.model.apply

    def watched(block: bytes) -> None:
        apply(block)
        most.append((len(host.world.model.outputs), len(host.world.model.dead)))

    monkeypatch.setattr(host.world.model, "apply", watched)
    written: list[int] = []

    class Standalone:
        def format_outputs(self, outputs: list[Any], read: int) -> list[Any]:
            written.append(len(outputs))
            return []

    host.pipeline.text.standalone = Standalone()  # type: ignore[assignment]
    for number in range(3000):
        host.rings.live(500 + number, SECOND + number * MS, SECOND + number * MS + 1)
    for number in range(200):
        host.rings.come(2 * SECOND + number * 10 * MS, f.K_LOST, cpu=0, arg=1)
    host.rings.frames.sort(key=lambda frame: frame[0])
    host.observer.sync(60 * SECOND)
    a_slice = 32768 // 48
    assert max(dead for _, dead in most) < 110 + a_slice
    assert host.world.model.horizon > SECOND
    assert written
    assert max(outputs for outputs, _ in most) <= 50 + 200


def test_the_journal_has_what_was_forgotten_where_it_was(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replayed, whoever was forgotten in between is so before the frames behind it."""
    monkeypatch.setattr(loop, "MOST_ENDED", 100)
    monkeypatch.setattr(loop, "_MORE_ENDED", 10)
    blocks: list[bytes] = []

    class Journal:
        full = torn = False

        def write(self, block: bytes) -> None:
            blocks.append(block)

        def close(self) -> None:
            pass

    host.observer.journal = Journal()  # type: ignore[assignment]
    for number in range(3000):
        host.rings.live(500 + number, SECOND + number * MS, SECOND + number * MS + 1)
    host.observer.sync(60 * SECOND)
    kinds = [frame.kind for frame in f.iter_frames(b"".join(blocks))]
    assert f.K_MARK in kinds[:-1]
    again = World()
    for block in blocks:
        again.model.apply(block)
    assert again.model.horizon == host.world.model.horizon
    assert again.model.processes.keys() == host.world.model.processes.keys()


def test_namespaces_that_have_ended_are_forgotten_where_they_are_many(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process makes a namespace after the other and leaves each. Nobody's end is forgotten for that, and a replay
    of the journal remembers the same."""
    monkeypatch.setattr(loop, "MOST_ENDED", 100)
    monkeypatch.setattr(loop, "_MORE_ENDED", 10)
    blocks: list[bytes] = []
    most: list[int] = []

    class Journal:
        full = torn = False

        def write(self, block: bytes) -> None:
            blocks.append(block)
            most.append(len(host.world.model.namespaces.died))

        def close(self) -> None:
            pass

    again = World()
    host.observer.journal = Journal()  # type: ignore[assignment]
    host.rings.live(400, SECOND // 2, SECOND // 2 + 1)
    for number in range(3000):
        payload = host.world.ns(uts=5000 + number)
        host.rings.come(SECOND + number * MS, f.K_NAMESPACES, pid=1, tid=1, payload=payload)
    host.observer.sync(60 * SECOND)
    a_slice = 32768 // 112
    assert 100 < max(most) < 110 + a_slice
    assert host.world.model.horizon == 0
    assert host.world.model.processes.get(400) is not None
    for block in blocks:
        again.model.apply(block)
    kept, then = (model.namespaces for model in (host.world.model, again.model))
    assert [inst.number for inst, _ in then.died] == [inst.number for inst, _ in kept.died]
    assert then.unnumbered.keys() == kept.unnumbered.keys()


def test_frames_that_come_in_between_wait_for_those_before_them(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SLICE", 0.0)
    ours, theirs = socket.socketpair()
    seen: list[bytes | None] = []

    def serve() -> None:
        ours.recv(1)
        host.observer.feed(f.pack(f.K_COMM, f.S_CONTROL, 2 * SECOND, pid=1, tid=1, payload=b"fed\0"))
        seen.append(host.world.model.processes[1].comm)

    with ours, theirs:
        host.pipeline.selector.register(ours, selectors.EVENT_READ, serve)
        theirs.send(b"x")
        storm(host, SECOND, 2 * SECOND, 50_000)
        host.observer.sync(60 * SECOND)
    assert seen
    assert seen[0] != b"fed"
    assert host.world.model.processes[1].comm == b"fed"


def test_text_that_was_taken_in_before_the_last_drain_needs_none(host: Host) -> None:
    """Where we are behind, all of it is answered in one round."""
    host.observer.sync(50 * SECOND)
    host.audit.at = 40 * SECOND
    fills: list[int] = []
    fill = host.audit.fill

    def once(stream: Any) -> int | None:
        fills.append(1)
        host.theirs.sendall(b'type=USER_CMD msg=audit(1700000000.001:%d): pid=1 uid=0 msg="x"\n' % len(fills))
        got = fill(stream)
        if len(fills) == 5:
            host.audit.at = 55 * SECOND
        return got

    host.audit.fill = once  # type: ignore[method-assign]
    host.pipeline.text.read()
    assert len(fills) == 5


def user(serial: int) -> bytes:
    return b'type=USER_CMD msg=audit(1700000000.001:%d): pid=1 uid=0 msg="x"\n' % serial


@pytest.mark.parametrize("behind", ["in a later read", "at the end of the same"])
def test_an_event_that_has_begun_to_come_is_not_lost_whatever_comes_before_its_end(host: Host, behind: str) -> None:
    """Who writes it may be kept from its CPU while others write thousands: it was told to be missing."""
    pipeline = host.pipeline
    pipeline.text.standalone = StandaloneRecords(host.world.model, EventSerials(None), (RAW,), track=True)
    text = TextSide(
        host.observer, pipeline.text.correlator, pipeline.text.enricher, host.audit, pipeline.outputs,
        standalone=pipeline.text.standalone,
    )  # fmt: skip
    begun = b"type=SYSCALL msg=audit(1700000000.001:7): arch=c000003e syscall=2 exit=3 pid=1\n"
    end = b"type=EOE msg=audit(1700000000.001:7): \n"
    others = b"".join(map(user, range(8, 5000)))
    for block in (user(6) + begun, others, end) if behind == "in a later read" else (user(6), others + begun + end):
        text.stream.put(block)
        text._deliver_all(text.stream.part(1 << 20), SECOND)
    text.stream.put(b"".join(map(user, range(5001, 10_000))))
    text._deliver_all(text.stream.part(1 << 20), SECOND)
    text.narrate()
    lost = [line for line in bytes(host.sink.text).splitlines() if b"source=audit" in line]
    assert [re.findall(rb"from=(\d+) to=(\d+)", line) for line in lost] == [[(b"5000", b"5000")]]


def test_a_storms_memory_is_given_back_once_when_it_is_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(loop, "_give_back", lambda: given.append(host.rings.now))
    monkeypatch.setattr(loop, "_STORM", 100)
    for number in range(200):
        host.rings.live(500 + number, SECOND + number * MS, SECOND + number * MS + 1)
    for seconds in (2, 3, 60, 61):
        host.rings.now = seconds * SECOND
        host.pipeline._on_tick(0.0)
    assert given == [60 * SECOND]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc keeps what it likes")
def test_memory_that_is_given_back_is_the_kernels() -> None:
    def anonymous() -> int:
        rollup = Path("/proc/self/smaps_rollup").read_text()
        return int(re.findall(r"Anonymous: +(\d+)", rollup)[0])

    kept = [b"%d" % number + bytes(10_000) for number in range(10_000)]
    del kept[: len(kept) - 1]  # the last one keeps the heap from its end
    before = anonymous()
    lib.memory_give_back()
    assert before - anonymous() > 50_000
