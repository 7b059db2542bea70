"""Work is done in slices, between which others are served; and what text that waits may ask for is not forgotten."""

import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.daemon.log import Log
from auditns_connector.host.observer import KEEP
from auditns_connector.model.outputs import Loss
from auditns_connector.pipeline import loop
from auditns_connector.pipeline.coalescing import Coalescer
from auditns_connector.pipeline.loop import Pipeline
from auditns_connector.pipeline.text_stage import RAW, Enricher
from auditns_connector.sources.stdin import StdinSource
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

    @property
    def oldest(self) -> int:
        return self.at

    def fill(self, stream: Any) -> int | None:
        got = super().fill(stream)
        self.taken = self.at
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
