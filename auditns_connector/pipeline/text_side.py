"""The text side of a live program: audit text is taken in, answered and written, with what the model has to say.

The order is *read audit text → note the moment → drain the kernel's events up to it → decide → write*. Much text is
worked on in parts, between which others are served.
"""

import select
import time
from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import MOST_PART, InsertionPoints, TextStream
from auditns_connector.host.observer import Observer
from auditns_connector.pipeline.coalescing import MOST, Coalescer
from auditns_connector.pipeline.outputs import Outputs
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.sources.base import AuditSource
from auditns_connector.vocabulary.timing import HOLD
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.config.streams import Definition
    from auditns_connector.config.users import UserOptions
    from auditns_connector.emit.events import EventWriter
    from auditns_connector.pipeline.standalone_records import StandaloneRecords
    from auditns_connector.state.position import Position

#: what a read leaves in the socket is no more than this, unless it was so much (bytes)
_ALL: Final = 1 << 19
#: how long the end waits for an event whose successors have come already (seconds)
_LATE: Final = 0.05
#: how long what had arrived when the run was to end is worked on; what is left then is reported (seconds)
_REST: Final = 2.0
#: work is done in slices of about this: in between others are served (seconds)
SLICE: Final = 0.05
#: so much text is answered at once at least (bytes)
_LEAST_PART: Final = 8 << 10
#: later than all events (CLOCK_MONOTONIC ns)
END_OF_TIME: Final = 1 << 63
#: bytes of audit text that are kept without copying
_TEXT: Final = 3 << 19


class AnswerTaker(Protocol):
    """Whoever is given each answered event as well: the streams of containers."""

    @property
    def watched(self) -> bool:
        """Whether somebody reads, and wants events soon."""

    def take(self, points: InsertionPoints, now: int) -> None:
        """Points that were just answered."""

    def needs_python_loop(self) -> bool:
        """Whether anybody is to be given them."""

    def go_on(self) -> None:
        """Do what is due; called in every round."""

    def deadline(self) -> float | None:
        """When :meth:`go_on` is due (time.monotonic seconds)."""

    def attach(self) -> None:
        """The text side is another one now."""

    def configure(self, configured: "Iterable[Definition]", users: "UserOptions | None" = None) -> None:
        """The configuration's streams are now these, and this is what users may have."""

    def status(self) -> JsonObject:
        """Counters."""


def _nothing() -> None:
    """Nobody is to be called."""


class TextSide:
    """Answers what comes from ``audit`` and writes it to ``outputs``.

    ``standalone`` makes records of what the model has to say; ``events`` shows kernel events themselves.
    """

    def __init__(
        self,
        observer: Observer,
        correlator: Correlator,
        enricher: Enricher,
        audit: AuditSource | None,
        outputs: Outputs,
        *,
        standalone: "StandaloneRecords | None" = None,
        events: "EventWriter | None" = None,
        coalescer: Coalescer | None = None,
    ) -> None:
        self.observer = observer
        self.correlator = correlator
        self.enricher = enricher
        self.audit = audit
        self.outputs = outputs
        self.standalone = standalone
        self.events = events
        self.coalescer = coalescer or Coalescer()
        self.stream = TextStream(_TEXT, whole=enricher.whole, at_end=enricher.at_end)
        enricher.stream = self.stream
        if standalone is not None:
            standalone.events.open_calls = self.stream.open_calls
        #: how long an event is waited for whose end has not come (ns)
        self.hold = HOLD
        #: where the serial that was handed to the outputs last is kept
        self.position: Position | None = None
        #: is given every answered event
        self.streams: AnswerTaker | None = None
        #: called between two parts of much text: others may be served
        self.between: Callable[[], None] = _nothing
        #: where packets are logged, called with points before they are answered, and with up to when they were read
        self.before_packets: Callable[[InsertionPoints, int], None] | None = None
        #: called before text is worked on here: what the loop in C did is to be taken note of
        self.before: Callable[[], None] = _nothing
        #: others are being served in the middle of some work: no text is read
        self.suspended = False
        #: the input has ended
        self.ended = False
        #: how many LOGIN records the model has been given
        self._logins = 0
        #: how much text is worked on at once (bytes)
        self._part = MOST_PART
        #: up to when kernel events were drained for the newest text (CLOCK_MONOTONIC ns)
        self._cut = 0

    def finish_open(self, enricher: Enricher) -> None:
        """``enricher`` will take over: where it takes events otherwise, what is open is answered on this side."""
        if (enricher.whole, enricher.at_end) != (self.enricher.whole, self.enricher.at_end):
            self._deliver(self.stream.flush(), self.observer.sync())

    def replace(self, correlator: Correlator, enricher: Enricher) -> None:
        """The configuration was read again."""
        for counter in ("answered", "attributed", "unknown", "contradicted"):
            setattr(correlator, counter, getattr(self.correlator, counter))
        for counter in ("events", "shown", "divided"):
            setattr(enricher, counter, getattr(self.enricher, counter))
        self.correlator, self.enricher = correlator, enricher
        enricher.stream = self.stream
        self.stream.put_at_end(enricher.at_end)
        if enricher.whole:
            self.stream.want_whole()
        if self.standalone is not None:
            self.standalone.formats = tuple(self.outputs.by_format)
        if self.streams is not None:
            self.streams.attach()

    def needs_python_loop(self) -> bool:
        """Whether the text is at its end."""
        return self.ended

    def adapt(self) -> None:
        """Text may gather as long as it suits those who wait for it now."""
        watched = self.streams is not None and self.streams.watched
        most = MOST if self.audit is None else self.audit.room
        self.coalescer.adapt(most=most, prompt=watched or self.outputs.prompt, soon=watched)

    # -- its steps

    def read(self) -> int:
        """Take in what audit has to say; how many bytes that is. Where we are behind, more of it was taken in before
        the kernel's events were drained last: that needs no further drain."""
        if self.audit is None or self.suspended:
            return 0
        came = more = self._read_block(self.audit)
        while more and 0 < self.audit.oldest <= self.observer.pacing.drained_to:
            self.between()
            more = self._read_block(self.audit)
            came += more
        return came

    def _read_block(self, audit: AuditSource) -> int:
        came = audit.fill(self.stream)
        self.ended |= came is None
        if not came:
            return 0
        self.stream.at(time.monotonic_ns())
        self.stream.hold(self.streams is not None and self.streams.needs_python_loop())  # they take whole events
        points = self.stream.part(self._part)
        self.process(points, self.observer.sync(audit.taken) if points.some or self.stream.left else 0)
        return came

    def process(self, points: InsertionPoints, cut: int) -> None:
        """Audit text has come, with ``points``; ``cut`` is up to when the observer has looked."""
        now = time.monotonic()
        self.before()
        if points.some or self.stream.left:
            self.coalescer.note_batch(points.n, now, points.size)
            self._deliver_all(points, cut)

    def end_idle(self, before: int) -> None:
        """Decide the events of which nothing has come since ``before``; what has come and was not read yet comes
        first."""
        oldest = self.stream.oldest
        if oldest is None or oldest > before or self.read() > _ALL:
            return
        oldest = self.stream.oldest
        if oldest is not None and oldest <= before:
            taken = self.audit.taken if self.audit is not None else 0
            points = self.stream.idle(before)
            self._deliver(points, self.observer.sync(taken))
            self.correlator.unfinished.remember(points, self.correlator.states)

    def due(self, latest: float) -> float:
        """When :meth:`end_idle` or :meth:`tell_entries` has something to do (time.monotonic seconds), at the
        ``latest``."""
        oldest = self.stream.oldest
        due = self.standalone.containers.due if self.standalone is not None else 0
        latest = min(latest, due / 1e9) if due else latest
        return latest if oldest is None else min(latest, (oldest + self.hold) / 1e9)

    def tell_entries(self) -> None:
        """Write of entries whose text has been read, where it is time for that."""
        due = self.standalone.containers.due if self.standalone is not None else 0
        if due and due <= time.monotonic_ns():
            self.narrate()

    def take_notices(self) -> list[str]:
        """What people should see of audit text, and of the records that are ours."""
        notices = self.audit.take_notices() if self.audit is not None else []
        return notices + (self.standalone.serials.take_notices() if self.standalone is not None else [])

    def note_position(self) -> None:
        """All that was seen of audit is with the outputs."""
        if self.position is not None and self.standalone is not None:
            self.position.note(self.standalone.events)

    def _deliver_all(self, points: InsertionPoints, cut: int) -> None:
        """Deliver ``points`` and those of what else was read before ``cut``."""
        self._cut = cut
        began = time.monotonic()
        self._deliver(points, cut)
        while self.stream.left:
            now = time.monotonic()
            if now - began > SLICE / 2:
                self._part = max(self._part // 2, _LEAST_PART)
            elif now - began < SLICE / 8:
                self._part = min(self._part * 2, MOST_PART)
            self.between()
            began = time.monotonic()
            self._deliver(self.stream.part(self._part), cut)

    def _deliver(self, points: InsertionPoints, cut: int) -> None:
        self.narrate()
        if points.n and self.observer.ns_source == "audit":
            self.observer.take_calls(points, self.correlator.nodes)
        if self.stream.logins != self._logins:
            # also of events that have not ended: answers about those behind them may come first
            self.observer.take_logins(points, self.correlator.nodes, self.stream.held())
            self._logins = self.stream.logins
        if points.n and self.observer.model.logins.unsure:
            self.observer.take_sessions(points, self.correlator.nodes)
        if points.n and self.standalone is not None:
            self.standalone.saw(points)
        rules_changed = self._answer_and_write(points, cut)
        self.note_position()
        if self.streams is not None:
            self.streams.take(points, cut)
        if rules_changed:
            self.observer.exec_rules.read()

    def answer_next(self, points: InsertionPoints, cut: int) -> None:
        """Answer and write ``points``, of this host's next events without a hole; all that happened before ``cut`` was
        applied, and nothing else is to be said or to be seen in them."""
        self.coalescer.note_batch(points.n, time.monotonic(), points.size)
        self._answer_and_write(points, cut, rows=False)

    def _answer_and_write(self, points: InsertionPoints, cut: int, *, rows: bool = True) -> bool:
        """Answer ``points``, without the model where ``rows`` may have all answers; whether the audit rules may have
        changed."""
        if points.n:
            self.observer.take_programs(points, cut, self.correlator.nodes)
        if points.n and self.before_packets is not None and self.observer.model.packets.wanted:
            self.before_packets(points, cut)
        rules_changed = self.observer.exec_rules.before_answer(points, self.stream)
        blocks = self.enricher.take_ready(points, cut) if rows else None
        if blocks is None:
            blocks = self.enricher.take(points, lambda p: self._answer(p, cut))
        if points.n and self.observer.journal is not None:
            self.observer.mark(cut, points.serial[: points.n].tolist())
        self.outputs.write(blocks)
        return rules_changed

    def _answer(self, points: InsertionPoints, cut: int) -> "array[int]":
        found = self.correlator.answer_ready(points, cut) if self.enricher.plain_tails is None else None
        if found is None:
            found = self.correlator.answer(points, cut)
        return found

    def narrate(self, *, final: bool = False) -> None:
        """Write what there is to be said beside the answers; ``final``: nothing more will come."""
        model = self.observer.model
        outputs = model.take_outputs()
        shown = model.read_outputs(outputs) if self.events is not None else []
        if self.standalone is not None:
            if outputs or self.standalone.containers.waits:
                read = END_OF_TIME if final or self.audit is None else self.expected(time.monotonic_ns())
                self.outputs.write_all(self.standalone.format_outputs(outputs, read))
            model.outputs_consumed()
            dropped = self.audit.take_dropped() if self.audit is not None else []
            if dropped:
                self.outputs.write_all(self.standalone.dropped(dropped))
            if final:
                self.standalone.events.finish()
                self.narrate_late(END_OF_TIME)
            self.outputs.write_all(self.standalone.absent())
            if self.standalone.events.missing:
                self.outputs.write_all(self.standalone.gaps())
        if self.events is not None:
            now = END_OF_TIME if final else time.monotonic_ns()
            self.outputs.write({"events": self.events.tell(shown, now)})
        model.outputs_consumed()

    def narrate_events(self, most: int) -> None:
        """Write what there is to be said of kernel events where it is more than ``most``; they are still coming."""
        model = self.observer.model
        if self.standalone is not None and model.pending_outputs > most:
            read = self.expected(time.monotonic_ns())
            self.outputs.write_all(self.standalone.format_outputs(model.take_outputs(), read))
            model.outputs_consumed()

    def narrate_late(self, now: int) -> None:
        """It is ``now`` (CLOCK_MONOTONIC ns): say what was left out of the seconds before."""
        if self.standalone is not None:
            self.outputs.write_all(self.standalone.late(now))

    def expected(self, now: int) -> int:
        """Since when text that is still to be answered may ask for processes (CLOCK_MONOTONIC ns): it has come already,
        or is on its way."""
        oldest = self.audit.oldest if self.audit is not None else 0
        if self.stream.pending or self.stream.left:
            oldest = min(oldest or now, self._cut or now)
        return oldest or now

    def behind(self, now: int) -> int:
        """For how long the oldest text that is not answered has been here (ns); ``now`` is CLOCK_MONOTONIC."""
        return max(0, now - self.expected(now))

    # -- the end

    def finish(self) -> None:
        """The run is over: answer what has come."""
        if self.audit is None:
            return
        if not self.ended:
            self._take_rest(self.audit)
        self._deliver(self.stream.flush(eof=True), self.observer.sync())
        self.narrate(final=True)

    def _take_rest(self, audit: AuditSource) -> None:
        """Answer what had arrived when the run was to end, as far as there is time for it; tell what is left."""
        if self.standalone is not None and self.standalone.events.incomplete:
            select.select([audit.fileno()], [], [], _LATE)  # another CPU was about to hand it over when we stopped
        audit.finish()
        end = time.monotonic() + _REST
        while (came := audit.fill(self.stream)) is not None:
            if came:
                self.stream.at(time.monotonic_ns())
                self._deliver_all(self.stream.part(self._part), self.observer.sync(audit.taken))
            else:
                select.select([audit.fileno(), *audit.filenos()], [], [], _LATE)
            if time.monotonic() > end and not audit.within_line:
                dropped = audit.take_dropped(rest=True)
                if dropped and self.standalone is not None:
                    self.outputs.write_all(self.standalone.dropped(dropped))
                break
