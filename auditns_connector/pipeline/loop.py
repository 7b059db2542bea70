"""The one place that wires sources, core and sinks together, with the clock, signals and selectors.

Order of a round: read audit text → note the moment → drain the kernel event sources up to it → decide → write. What
does not fit that order (timers, control requests, sinks that can take more) is done between rounds.
"""

import select
import selectors
import signal
import socket
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol

from auditns_connector._native import lib
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import MOST_PART, InsertionPoints, TextStream
from auditns_connector.daemon.collector import collecting
from auditns_connector.daemon.log import Log, RateLimitedLog
from auditns_connector.host.observer import KEEP, Observer
from auditns_connector.pipeline.coalescing import Coalescer
from auditns_connector.pipeline.native_loop import NativeLoop
from auditns_connector.pipeline.selector import Selector
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.sinks.base import Sink
from auditns_connector.sinks.loss import Block
from auditns_connector.sources.base import AuditSource
from auditns_connector.vocabulary.values import CData, JsonObject

if TYPE_CHECKING:
    from auditns_connector.config.streams import Definition
    from auditns_connector.emit.events import EventWriter
    from auditns_connector.pipeline.standalone_records import StandaloneRecords
    from auditns_connector.state.position import Position

#: an event whose end has not come is answered so long after its last record (ns): the kernel hands the records of one
#: over together
HOLD: Final = 20_000_000
#: what a read leaves in the socket is no more than this, unless it was so much (bytes)
_ALL: Final = 1 << 19
_TICK: Final = 1.0
#: kernel events are drained at least this often while the connector's small buffer is in use (seconds)
_CONNECTOR_TICK: Final = 0.25
#: and while they are shown as they come
_EVENTS_TICK: Final = 0.1
#: how soon after it the outcome of a system call is looked for (seconds)
_OUTCOME: Final = 0.005
#: after the last process of a namespace has left, the kernel is soon asked again whether it is gone
_PROOF_TICK: Final = 0.1
_CLOSE: Final = 2.0
#: text gathers no longer than this while somebody reads a stream (seconds)
_WATCHED: Final = 0.0005
#: how long the end waits for an event whose successors have come already (seconds)
_LATE: Final = 0.05
#: how long what had arrived when the run was to end is worked on; what is left then is told (seconds)
_REST: Final = 2.0
#: work is done in slices of about this: in between others are served (seconds)
_SLICE: Final = 0.05
#: so much text is answered at once at least (bytes)
_LEAST_PART: Final = 8 << 10
#: so many processes that have ended are kept at most: a storm makes them faster than they expire
MOST_ENDED: Final = 30_000


#: later than all events (CLOCK_MONOTONIC ns)
END_OF_TIME: Final = 1 << 63
#: bytes of audit text that are kept without copying
_TEXT: Final = 3 << 19


class AnswerTaker(Protocol):
    """Whoever is given each answered event as well: the streams of containers."""

    @property
    def streams(self) -> "Mapping[str, object]":
        """By name; while there are none, nothing needs to be taken."""

    @property
    def watched(self) -> bool:
        """Whether somebody reads, and wants events soon."""

    def take(self, points: InsertionPoints, now: int) -> None:
        """Points that were just answered."""

    def go_on(self) -> None:
        """Do what is due; called in every round."""

    def deadline(self) -> float | None:
        """When :meth:`go_on` is due (time.monotonic seconds)."""

    def attach(self) -> None:
        """The text side is another one now."""

    def configure(self, configured: "Iterable[Definition]") -> None:
        """The configuration's streams are now these."""

    def status(self) -> JsonObject:
        """Counters."""


class Pipeline:
    """Runs until a signal, the end of the input, ``duration`` seconds or the enricher's limit."""

    def __init__(
        self,
        observer: Observer,
        correlator: Correlator,
        enricher: Enricher,
        audit: AuditSource | None,
        outputs: dict[str, list[Sink]],
        log: Log,
        *,
        standalone: "StandaloneRecords | None" = None,
        events: "EventWriter | None" = None,
        coalescer: Coalescer | None = None,
        early: list[int] | None = None,
        duration: float | None = None,
        on_hup: Callable[[], None] | None = None,
    ) -> None:
        """``standalone`` makes stand-alone records of what the model has to say; ``events`` shows kernel events
        themselves; ``early`` are signals that came before :meth:`run`, and handlers append to it those behind it."""
        self.observer = observer
        self.correlator = correlator
        self.enricher = enricher
        self.audit = audit
        self.outputs = outputs
        self._sinks = _flat(outputs)
        self.log = log
        #: for what others can bring about as often as they like
        self.rate_limited = RateLimitedLog(log)
        self.started = time.time()
        self.stream = TextStream(_TEXT, whole=enricher.whole)
        enricher.stream = self.stream
        #: how long an event is waited for whose end has not come (ns)
        self.hold = HOLD
        self.coalescer = coalescer or Coalescer()
        self.selector = Selector()
        self.stopping = ""
        self._end = None if duration is None else time.monotonic() + duration
        self._on_hup = on_hup
        self._hup = False
        self._tick = 0.0
        self.standalone = standalone
        #: where the serial that was handed to the outputs last is kept
        self.position: Position | None = None
        self.events = events
        self.early = early if early is not None else []
        #: is given every answered event
        self.streams: AnswerTaker | None = None
        #: called with each round's end, for the control server and others
        self.each_tick: list[Callable[[], None]] = []
        #: further sections of :meth:`status`
        self.more_status: dict[str, Callable[[], JsonObject]] = {}
        #: called after each round: must be quick
        self.each_round: list[Callable[[], None]] = []
        #: called when the audit rules may have changed
        self.on_rules: list[Callable[[], None]] = []
        #: the rounds of the fast path
        self._quick: NativeLoop | None = None
        #: when others were served last, and whether that is being done in the middle of something
        self._served, self._between = 0.0, False
        #: how much text is worked on at once (bytes)
        self._part = MOST_PART
        #: up to when kernel events were drained for the newest text (CLOCK_MONOTONIC ns)
        self._cut = 0
        #: called once when the run ends, before anything is closed
        self.at_end: list[Callable[[], None]] = []

    # -- run

    def run(self) -> None:
        """Until it is over; leaves signal handlers and descriptors as they were."""
        lib.memory_keep()
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        former_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        former = {number: signal.signal(number, self._on_signal) for number in _SIGNALS if not self._deaf_to(number)}
        try:
            for number in self.early:
                self._on_signal(number, None)
            self.selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(64))
            self._register()
            if self.audit is not None:
                self.audit.begin()
            self.observer.between = self._serve_between
            self.observer.exec_rules.read()
            with collecting() as collector:
                while not self.stopping:
                    collector.look(idle=not self._round())
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(former_fd)
            reader.close()
            writer.close()
            self._finish()

    def _register(self) -> None:
        if self.audit is not None:
            self.selector.share(self.audit.fileno(), self._on_audit_ready)
            for fd in self.audit.filenos():
                self.selector.register(fd, selectors.EVENT_READ, self.on_audit)
            self._quick = NativeLoop(self, self.audit, self.hold)
        if self.observer.perf is not None:
            for fd in self.observer.perf.filenos():
                self.selector.register(fd, selectors.EVENT_READ, self._sync)
        if self.observer.connector is not None and self.observer.tap is not None:
            self.selector.register(self.observer.connector.fileno(), selectors.EVENT_READ, self._sync)
        for sink in self._sinks:
            self.selector.register(sink.fileno(), selectors.EVENT_READ, sink.on_ready)

    def _deaf_to(self, number: signal.Signals) -> bool:
        """nohup's SIGHUP stays ignored where it has no other meaning than the terminal's end."""
        return number == signal.SIGHUP and self._on_hup is None and signal.getsignal(number) == signal.SIG_IGN

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._on_hup is not None:
            self._hup = True
        else:
            self.stopping = signal.Signals(number).name

    def _round(self) -> bool:
        """False when nothing was there to be done."""
        quick = self._quick.rounds if self._quick is not None and self._quick.ready() else None
        came = self.selector.poll_once(self._timeout(), quick)
        now = self._served = time.monotonic()
        self._end_idle(time.monotonic_ns() - self.hold)
        if self.streams is not None:
            self.streams.go_on()
        if now >= self._tick:
            self._on_tick(now)
        for call in self.each_round:
            call()
        if self.observer.model.outputs:
            self._narrate()  # a request of the control socket has something to tell
        broken = self._serve_sinks(now)
        if self._hup:
            self._hup = False
            for sink in self._sinks:
                sink.reopen()
            if self._on_hup is not None:
                self._on_hup()
        if self.enricher.done or (self.events is not None and self.events.done):
            self.stopping = self.stopping or "count reached"
        elif self._end is not None and now >= self._end:
            self.stopping = self.stopping or "duration over"
        elif broken:
            self.stopping = self.stopping or "output closed"
        return came

    def _end_idle(self, before: int) -> None:
        """Decide the events of which nothing has come since ``before``; what has come and was not read yet comes
        first."""
        oldest = self.stream.oldest
        if oldest is None or oldest > before or self.on_audit() > _ALL:
            return
        oldest = self.stream.oldest
        if oldest is not None and oldest <= before:
            self._deliver(self.stream.idle(before), self.observer.sync())

    def _serve_sinks(self, now: float) -> bool:
        """Let those go on whose time has come; True where one is broken."""
        broken = False
        for sink in self._sinks:
            due = sink.deadline()
            if due is not None and due <= now:
                sink.on_ready()
            broken |= sink.broken
        return broken

    def _serve_between(self) -> None:
        """In the middle of work on kernel events or text: serve control requests, sinks and streams, if that was long
        ago. Neither text nor kernel events are read."""
        now = time.monotonic()
        if self._between or now - self._served < _SLICE:
            return
        self._between = True
        try:
            self.selector.poll_once(0.0)
            self._serve_sinks(now)
            if self.streams is not None:
                self.streams.go_on()
        finally:
            self._between = False
            self._served = time.monotonic()

    def _timeout(self) -> float:
        due = self._tick
        if (oldest := self.stream.oldest) is not None:
            due = min(due, (oldest + self.hold) / 1e9)
        if self._end is not None:
            due = min(due, self._end)
        for sink in self._sinks:
            if (when := sink.deadline()) is not None:
                due = min(due, when)
        if self.streams is not None and (when := self.streams.deadline()) is not None:
            due = min(due, when)
        return max(0.0, due - time.monotonic())

    def replace(self, correlator: Correlator, enricher: Enricher, outputs: dict[str, list[Sink]]) -> None:
        """Go on with another text side (the configuration was read again); sinks it does not keep are closed."""
        staying = set(_flat(outputs))
        for sink in self._sinks:
            self.selector.unregister(sink.fileno())
            if sink not in staying:
                sink.close(_CLOSE)
        if self._quick is not None:
            self._quick.settle()
        for counter in ("answered", "attributed", "unknown", "contradicted"):
            setattr(correlator, counter, getattr(self.correlator, counter))
        enricher.events, enricher.shown = self.enricher.events, self.enricher.shown
        self.correlator, self.enricher, self.outputs = correlator, enricher, outputs
        enricher.stream = self.stream
        if enricher.whole:
            self.stream.want_whole()
        self._sinks = _flat(outputs)
        if self.standalone is not None:
            self.standalone.formats = tuple(outputs)
        for sink in self._sinks:
            self.selector.register(sink.fileno(), selectors.EVENT_READ, sink.on_ready)
        if self.streams is not None:
            self.streams.attach()

    # -- its steps

    def _on_audit_ready(self) -> None:
        if self._between:
            return
        pause = self.coalescer.pause(time.monotonic())
        if pause:
            if self.streams is not None and self.streams.watched:
                pause = min(pause, _WATCHED)
            time.sleep(pause)
        self.on_audit()

    def on_audit(self) -> int:
        """Take in what audit has to say; how many bytes that is."""
        if self.audit is None or self._between:
            return 0
        came = self.audit.fill(self.stream)
        if came is None:
            self.stopping = self.stopping or "end of input"
        if not came:
            return 0
        self.stream.at(time.monotonic_ns())
        points = self.stream.part(self._part)
        self.process_text(
            points, self.observer.drain_to_now(self.audit.taken) if points.some or self.stream.left else 0
        )
        return came

    def process_text(self, points: InsertionPoints, cut: int) -> None:
        """Audit text has come, with ``points``; ``cut`` is up to when the observer has looked."""
        now = time.monotonic()
        if self._quick is not None:
            self._quick.settle()
        if points.some or self.stream.left:
            self.coalescer.note_batch(points.n, now, points.consumed)
            self._deliver_all(points, cut)
            self.observer.apply_many_deferred()

    def note_position(self) -> None:
        """All that was seen of audit is with the outputs."""
        if self.position is not None and self.standalone is not None and self.standalone.newest is not None:
            self.position.note(*self.standalone.newest)
            if (absence := self.standalone.absence) is not None:
                self.position.note_absent(absence)

    def _deliver_all(self, points: InsertionPoints, cut: int) -> None:
        """Deliver ``points`` and those of what else was read before ``cut``."""
        self._cut = cut
        began = time.monotonic()
        self._deliver(points, cut)
        while self.stream.left:
            now = time.monotonic()
            if now - began > _SLICE / 2:
                self._part = max(self._part // 2, _LEAST_PART)
            elif now - began < _SLICE / 8:
                self._part = min(self._part * 2, MOST_PART)
            self._serve_between()
            began = time.monotonic()
            self._deliver(self.stream.part(self._part), cut)

    def _sync(self) -> None:
        if self._between:
            return
        self.observer.sync()
        self._narrate()
        # what made the source readable may be the beginning of a system call, whose outcome comes next
        self._tick = min(self._tick, time.monotonic() + _OUTCOME)

    def _deliver(self, points: InsertionPoints, cut: int) -> None:
        self._narrate()
        if points.n and self.observer.ns_source == "audit":
            self.observer.take_calls(points, self.correlator.nodes)
        rules_changed = self.observer.exec_rules.before_answer(points, self.stream.changes)
        blocks = self.enricher.take_known(points, cut)
        if blocks is None:
            blocks = self.enricher.take(points, lambda p: self._answer(p, cut))
        if points.n and self.observer.journal is not None:
            self.observer.mark(cut, points.serial[: points.n].tolist())
        if points.n and self.standalone is not None:
            self.standalone.saw(points)
        self.write(blocks)
        self.note_position()
        if self.streams is not None:
            self.streams.take(points, cut)
        if rules_changed:
            self.observer.exec_rules.read()
            for call in self.on_rules:
                call()

    def _answer(self, points: InsertionPoints, cut: int) -> "array[int]":
        found = self.correlator.answer_known(points, cut) if self.enricher.plain_tails is None else None
        if found is None:
            self.observer.apply_deferred()
            found = self.correlator.answer(points, cut)
        return found

    def _narrate(self, *, final: bool = False) -> None:
        """Tell what there is to tell."""
        outputs, self.observer.model.outputs = self.observer.model.outputs, []
        if self.standalone is not None:
            if outputs:
                self._write_all(self.standalone.format_outputs(outputs))
            dropped = self.audit.take_dropped() if self.audit is not None else []
            if dropped:
                self._write_all(self.standalone.dropped(dropped))
            if final:
                self.standalone.finish()
                self._write_all(self.standalone.late(END_OF_TIME))
            self._write_all(self.standalone.absent())
            if self.standalone.missing:
                self._write_all(self.standalone.gaps())
        if self.events is not None:
            self.write({"events": self.events.tell(outputs)})

    @property
    def busy(self) -> bool:
        """Whether there is more to do in a round than with audit text, or for others than sinks."""
        streams = self.streams is not None and self.streams.streams
        waiting = self.observer.model.outputs or self.observer.model.packets.wanted or self._hup or self.stopping
        return bool(
            streams or waiting or self.events is not None or self.observer.ns_source == "audit"
            or any(sink.broken or sink.deadline() is not None for sink in self._sinks)
        )  # fmt: skip

    @property
    def writer(self) -> CData:
        """A ``struct writer *`` that the only output takes small blocks by; ``None`` where there is none."""
        return getattr(self._sinks[0], "writer", None) if len(self._sinks) == 1 else None

    def give(self, block: Block) -> bool:
        """Give the only format's block to its outputs; False where one of them is broken."""
        broken = False
        for sink in self._sinks:
            sink.write(block)
            broken |= sink.broken
        return not broken

    def write(self, blocks: Mapping[str, Block]) -> None:
        """Give each format's block to its outputs."""
        for name, block in blocks.items():
            if block:
                for sink in self.outputs[name]:
                    sink.write(block)

    def _write_all(self, several: Iterable[Mapping[str, Block]]) -> None:
        for blocks in several:
            self.write(blocks)

    def _on_tick(self, now: float) -> None:
        self._tick = now + self._interval()
        self.observer.tick()
        cut = self.observer.sync()
        if self.observer.prove():
            self._tick = min(self._tick, now + _PROOF_TICK)
        self._narrate()
        if self.standalone is not None:
            self._write_all(self.standalone.late(cut))
        self.observer.model.losses.tell_forgotten(cut)
        self.observer.mark(cut, [], expire=self._expire(cut))
        self._settle_journal()
        for notice in self.audit.take_notices() if self.audit is not None else []:
            self.log.warning(notice)
        for call in self.each_tick:
            call()
        for sink in self._sinks:
            while sink.notices:
                notice = sink.notices.pop(0)
                self.rate_limited.warning(notice, notice)

    def _expire(self, now: int) -> int:
        """Who ended before this time may be forgotten: text that has come and is not answered yet does not ask for
        them, nor does what is still on its way. Where too many have ended some must be forgotten earlier."""
        oldest = self.audit.oldest if self.audit is not None else 0
        if self.stream.pending or self.stream.left:
            oldest = min(oldest or now, self._cut or now)
        model, before = self.observer.model, max(1, (oldest or now) - KEEP)
        model.losses.expected = before
        if len(model.dead) > MOST_ENDED:
            before = max(before, model.dead.end(len(model.dead) - MOST_ENDED))
        return before

    def _settle_journal(self) -> None:
        journal = self.observer.journal
        if journal is not None:
            journal.flush()
            while journal.notices:
                notice = journal.notices.pop(0)
                self.rate_limited.warning(notice, notice)

    def _interval(self) -> float:
        if self.events is not None:
            return _EVENTS_TICK
        return _CONNECTOR_TICK if self.observer.connector is not None else _TICK

    def _finish(self) -> None:
        if self.events is not None and not self.events.done and self.stopping != "output closed":
            self._sync()
        if self.audit is not None and self.stopping not in ("output closed", "count reached"):
            if self.stopping != "end of input":
                self._take_rest(self.audit)
            self._deliver(self.stream.flush(eof=True), self.observer.sync())
            self._narrate(final=True)
        for call in self.at_end:
            call()
        self._settle_journal()
        end = time.monotonic() + _CLOSE
        for sink in self._sinks:
            sink.flush(max(0.0, end - time.monotonic()))
            while sink.notices:
                self.log.warning(sink.notices.pop(0))
            sink.close(0.1)
        self.selector.close()

    def _take_rest(self, audit: AuditSource) -> None:
        """Answer what had arrived when the run was to end, as far as there is time for it; tell what is left."""
        if self.standalone is not None and self.standalone.incomplete:
            select.select([audit.fileno()], [], [], _LATE)  # another CPU was about to hand it over when we stopped
        audit.finish()
        end = time.monotonic() + _REST
        while (came := audit.fill(self.stream)) is not None:
            if came:
                self.stream.at(time.monotonic_ns())
                self._deliver_all(self.stream.part(self._part), self.observer.drain_to_now(audit.taken))
            else:
                select.select([audit.fileno(), *audit.filenos()], [], [], _LATE)
            if time.monotonic() > end and not audit.within_line:
                dropped = audit.take_dropped(rest=True)
                if dropped and self.standalone is not None:
                    self._write_all(self.standalone.dropped(dropped))
                break

    # -- what is going on

    def status(self) -> JsonObject:
        """Counters of every source, table, queue and sink, as a JSON-able object."""
        if not self._between:
            self.observer.apply_deferred()
        model, correlator = self.observer.model, self.correlator
        sources: JsonObject = {}
        if self.observer.perf is not None:
            sources["perf"] = self.observer.perf.counters()
        if self.observer.connector is not None:
            sources["connector"] = self.observer.connector.counters()
        if self.audit is not None:
            sources["audit"] = {"received": self.stream.lines, **self.audit.counters()}
            if self.standalone is not None:
                sources["audit"]["lost"] += self.standalone.lost
        sources["procfs"] = self.observer.counters
        if self.observer.journal is not None:
            sources["journal"] = {"written": self.observer.journal.written, "failed": self.observer.journal.failed}
        return {
            "v": 1,
            "uptime_s": round(time.time() - self.started, 3),
            "events": {
                "seen": self.enricher.events,
                "shown": self.enricher.shown,
                "answered": correlator.answered,
                "attributed": correlator.attributed,
                "unknown": correlator.unknown,
                "contradicted": correlator.contradicted,
            },
            "lost": self.lost(),
            "table": {
                "processes": len(model.processes),
                "ended": len(model.dead),
                "threads": len(model.threads),
                "containers": len(model.containers.by_key),
                "namespaces": sum(map(len, model.namespaces.current)),
                "losses": model.epoch,
                "unknown_frames": model.unknown_frames,
            },
            "sources": sources,
            "ns_source": self.observer.ns_source,
            "queue": {"pending_bytes": self.stream.pending},
            "sinks": {sink.name: sink.counters() for sink in self._sinks},
            **{name: section() for name, section in self.more_status.items()},
            **({"streams": self.streams.status()} if self.streams is not None else {}),
        }

    def lost(self) -> int:
        """Everything lost anywhere since the start: kernel events, audit records, lines dropped by sinks."""
        found = 0
        for source in (self.observer.perf, self.observer.connector, self.audit):
            if source is not None:
                found += source.counters().get("lost", 0)
        if self.standalone is not None:
            found += self.standalone.lost
        return found + sum(sink.counters().get("dropped_records", 0) for sink in self._sinks)


def _flat(outputs: dict[str, list[Sink]]) -> tuple[Sink, ...]:
    """All sinks of all formats."""
    return tuple(sink for sinks in outputs.values() for sink in sinks)


_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
