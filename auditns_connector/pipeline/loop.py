"""The loop of a live program: waits for sources, control requests and outputs, and gives each its turn.

What there is to do with audit text is in text_side.py; timers, control requests and outputs that can take more are
served between two rounds of it.
"""

import math
import selectors
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Final

from auditns_connector._native import lib
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.daemon.collector import collecting
from auditns_connector.daemon.log import Log, RateLimitedLog
from auditns_connector.daemon.process import Handler, Stopped, woken
from auditns_connector.host.observer import KEEP, Observer
from auditns_connector.pipeline.coalescing import Coalescer
from auditns_connector.pipeline.native_loop import NativeLoop
from auditns_connector.pipeline.outputs import Outputs
from auditns_connector.pipeline.selector import Selector
from auditns_connector.pipeline.status import lost, status
from auditns_connector.pipeline.text_side import SLICE, TextSide
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.sinks.base import Sink
from auditns_connector.sources.base import AuditSource
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.emit.events import EventWriter
    from auditns_connector.pipeline.standalone_records import StandaloneRecords

_TICK: Final = 1.0
#: kernel events are drained at least this often while the connector's small buffer is in use (seconds)
_CONNECTOR_TICK: Final = 0.25
#: and while they are shown as they come
_EVENTS_TICK: Final = 0.1
#: how soon after it the outcome of a system call is looked for (seconds)
_OUTCOME: Final = 0.005
#: after the last process of a namespace has left, the kernel is soon asked again whether it is gone
_PROOF_TICK: Final = 0.1
#: so many processes, and namespaces, that have ended are kept at most: a storm makes them faster than they expire
MOST_ENDED: Final = 30_000
#: and so many more until some are forgotten
_MORE_ENDED: Final = 1000
#: when so many were remembered, and three quarters of them are forgotten, a storm is over: its memory is given back
_STORM: Final = 10_000
_give_back: Final = lib.memory_give_back
#: what the model has to say is written at the latest when it is so much
_MOST_OUTPUTS: Final = 4096
#: so long it is waited at the start for what the kernel says of its rules (seconds)
_RULES: Final = 1.0
#: each signal is a byte; those that are left are found by the next wait
_WAKEUPS: Final = 64
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: in the end all steps are bounded; a signal that comes so much later all the same cuts it short (seconds)
_MOST_END: Final = 20.0


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
        self.log = log
        #: for what others can bring about as often as they like
        self.rate_limited = RateLimitedLog(log)
        self.started = time.time()
        self.selector = Selector()
        self.outputs = Outputs(outputs, self.selector, standalone)
        self.text = TextSide(
            observer, correlator, enricher, audit, self.outputs,
            standalone=standalone, events=events, coalescer=coalescer,
        )  # fmt: skip
        self.text.between = self._serve_between
        #: the signal that asked for the end, written by its handler alone, for that may run between any two steps of a
        #: round; and why else the run is over, written by the round alone
        self._signal = self._over = ""
        self._end = None if duration is None else time.monotonic() + duration
        self._on_hup = on_hup
        self._hup = False
        #: what signals did before the run; and until when they do that no more (time.monotonic seconds)
        self._former: dict[signal.Signals, Handler] = {}
        self._undisturbed = math.inf
        self._tick = 0.0
        #: the most that have ended and were remembered, since memory was given back
        self._most_ended = 0
        self.early = early if early is not None else []
        #: called with each round's end, for the control server and others
        self.each_tick: list[Callable[[], object]] = []
        #: further sections of :meth:`status`
        self.more_status: dict[str, Callable[[], JsonObject]] = {}
        #: called after each round: must be quick
        self.each_round: list[Callable[[], None]] = []
        #: does rounds without the interpreter
        self._native: NativeLoop | None = None
        self._rings: list[int] = []
        #: when others were served last
        self._served = 0.0
        #: called once when the run ends, before anything is closed
        self.at_end: list[Callable[[], None]] = []

    # -- run

    def run(self) -> None:
        """Until it is over; leaves signal handlers and descriptors as they were. A signal in the end changes nothing of
        it, unless that takes far too long."""
        lib.memory_keep()
        self._former = {number: signal.getsignal(number) for number in _SIGNALS if self._heeds(number)}
        try:
            for number in self._former:
                signal.signal(number, self._on_signal)
            try:
                with woken() as signal_came:
                    self.selector.register(signal_came, selectors.EVENT_READ, lambda: signal_came.recv(_WAKEUPS))
                    self._go_on()
            finally:
                self._finish()
        except Stopped:
            if self.stopping:
                self.log.warning("a second signal has cut the end short: what came last may be missing")
            raise
        finally:
            for number, handler in self._former.items():
                signal.signal(number, handler)

    def _go_on(self) -> None:
        audit = self.text.audit
        for number in self.early:
            self._on_signal(number, None)
        self._register()
        if audit is not None:
            audit.begin()
        self.observer.between = self._serve_between
        self._read_rules()
        with collecting() as collector:
            while not self.stopping:
                collector.look(idle=not self._round())

    def _register(self) -> None:
        text, observer = self.text, self.observer
        if text.audit is not None:
            self.selector.share(text.audit.fileno(), self._read)
            for fd in text.audit.filenos():
                self.selector.register(fd, selectors.EVENT_READ, self._read)
            self._native = NativeLoop(text, text.audit, self, self.selector.others)
            text.before = self._native.settle
        self._register_rings()
        if observer.connector is not None and observer.tap is not None:
            self.selector.register(observer.connector.fileno(), selectors.EVENT_READ, self._sync)
        self.outputs.register()

    def _read_rules(self) -> None:
        rules = self.observer.exec_rules
        rules.begin()
        if (fd := rules.fileno()) >= 0:
            self.selector.register(fd, selectors.EVENT_READ, self._rules_answered)
        rules.read(_RULES)

    def _rules_answered(self) -> None:
        if not self.text.suspended:
            self.observer.exec_rules.go_on()

    def _register_rings(self) -> None:
        """Wait for the rings there are now; the numbers of those before may have become theirs."""
        for fd in self._rings:
            self.selector.unregister(fd)
        self._rings = self.observer.perf.filenos() if self.observer.perf is not None else []
        for fd in self._rings:
            self.selector.register(fd, selectors.EVENT_READ, self._sync)

    def _heeds(self, number: signal.Signals) -> bool:
        """nohup's SIGHUP stays ignored where it has no other meaning than the terminal's end."""
        return number != signal.SIGHUP or self._on_hup is not None or signal.getsignal(number) != signal.SIG_IGN

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        sign = signal.Signals(number)
        former = self._former.get(sign) if time.monotonic() > self._undisturbed else None
        if callable(former):
            former(number, frame)
        elif sign == signal.SIGHUP and self._on_hup is not None:
            self._hup = True
        else:
            self._signal = sign.name

    @property
    def stopping(self) -> str:
        """Why the run is over; empty while it goes on."""
        return self._over or self._signal

    def needs_python_loop(self) -> bool:
        """Whether a signal has come."""
        return self._hup or bool(self.stopping)

    def _round(self) -> bool:
        """False when nothing was there to be done."""
        timeout = 0.0 if self.observer.pacing.behind else self._timeout()
        came = self.selector.poll_once(timeout, None if self._native is None else self._native.wait)
        text = self.text
        now = self._served = time.monotonic()
        text.end_idle(time.monotonic_ns() - text.hold)
        if self.observer.pacing.behind:
            self._sync()
        if text.streams is not None:
            text.streams.go_on()
        if now >= self._tick:
            self._on_tick(now)
        for call in self.each_round:
            call()
        if self.observer.model.pending_outputs:
            text.narrate()  # a request of the control socket has something to tell
        text.tell_entries()
        broken = self.outputs.serve(now)
        if self._hup:
            self._hup = False
            self.outputs.reopen()
            if self._on_hup is not None:
                self._on_hup()
        self._over = self._reason(now, broken)
        return came

    def _reason(self, now: float, broken: bool) -> str:
        """Why the run is over at ``now``, signals apart; empty where it is not."""
        text = self.text
        if text.ended:
            return "end of input"
        if text.enricher.done or (text.events is not None and text.events.done):
            return "count reached"
        if self._end is not None and now >= self._end:
            return "duration over"
        return "output closed" if broken else ""

    def _serve_between(self) -> None:
        """In the middle of work on kernel events or text: serve control requests, sinks and streams, if that was long
        ago. Neither text nor kernel events are read."""
        text, now = self.text, time.monotonic()
        if text.suspended:
            return
        self._limit_memory()
        if now - self._served < SLICE:
            return
        text.suspended = True
        try:
            self.selector.poll_once(0.0)
            self.outputs.serve(now)
            if text.streams is not None:
                text.streams.go_on()
        finally:
            text.suspended = False
            self._served = time.monotonic()

    def _limit_memory(self) -> None:
        """What a storm's events leave behind is written, and who ended forgotten, while more of them are applied."""
        self.text.narrate_events(_MOST_OUTPUTS)
        self.observer.questions.drop_moot()
        model = self.observer.model
        dead, namespaces = model.dead, model.namespaces
        if len(dead) > MOST_ENDED + _MORE_ENDED:
            self.observer.forget(dead.end(len(dead) - MOST_ENDED))
        if len(namespaces.died) > MOST_ENDED + _MORE_ENDED:
            self.observer.forget(namespaces=namespaces.end(len(namespaces.died) - MOST_ENDED))

    def _timeout(self) -> float:
        due = self.outputs.due(self.text.due(self._tick))
        if self._end is not None:
            due = min(due, self._end)
        if self.text.streams is not None and (when := self.text.streams.deadline()) is not None:
            due = min(due, when)
        return max(0.0, due - time.monotonic())

    def replace(self, correlator: Correlator, enricher: Enricher, outputs: dict[str, list[Sink]]) -> None:
        """Go on with another text side (the configuration was read again); sinks it does not keep are closed."""
        if self._native is not None:
            self._native.settle()
        self.text.finish_open(enricher)
        self.outputs.replace(outputs)
        self.text.replace(correlator, enricher)

    # -- its steps

    def _read(self) -> None:
        text, native = self.text, self._native
        waits = native is not None and not text.suspended and text.audit is not None and text.audit.oldest
        if not (waits and native is not None and native.work_off(SLICE)):
            text.read()

    def _sync(self) -> None:
        if self.text.suspended:
            return
        self.observer.sync_step()
        self.text.narrate()
        # what made the source readable may be the beginning of a system call, whose outcome comes next
        self._tick = min(self._tick, time.monotonic() + _OUTCOME)

    def _on_tick(self, now: float) -> None:
        self._tick = now + self._interval()
        observer, text = self.observer, self.text
        if observer.tick():
            self._register_rings()
        cut = observer.sync_step()
        if observer.prove():
            self._tick = min(self._tick, now + _PROOF_TICK)
        text.narrate()
        text.narrate_late(cut)
        observer.exec_rules.go_on()
        observer.model.losses.tell_forgotten()
        observer.mark(cut, [], expire=self._expire(cut))
        self._end_storm()
        self._settle_journal()
        for notice in text.take_notices():
            self.log.warning(notice)
        for call in self.each_tick:
            call()
        self.outputs.say_notices(lambda notice: self.rate_limited.warning(notice, notice))

    def _expire(self, now: int) -> int:
        """Who ended before this time may be forgotten: text that has come, or is on its way, does not ask for them.
        Where too many have ended some must be forgotten earlier."""
        model, before = self.observer.model, max(1, self.text.expected(now) - KEEP)
        model.losses.expected = before
        if len(model.dead) > MOST_ENDED:
            before = max(before, model.dead.end(len(model.dead) - MOST_ENDED))
        return before

    def _end_storm(self) -> None:
        model = self.observer.model
        ended = len(model.dead) + len(model.namespaces.died)
        self._most_ended = max(self._most_ended, ended)
        if self._most_ended > _STORM and ended * 4 < self._most_ended:
            self._most_ended = ended
            _give_back()

    def _settle_journal(self) -> None:
        journal = self.observer.journal
        if journal is not None:
            journal.flush()
            while journal.notices:
                notice = journal.notices.pop(0)
                self.rate_limited.warning(notice, notice)

    def _interval(self) -> float:
        if self.text.events is not None:
            return _EVENTS_TICK
        return _CONNECTOR_TICK if self.observer.connector is not None else _TICK

    def _finish(self) -> None:
        self._undisturbed = time.monotonic() + _MOST_END
        events = self.text.events
        if events is not None and not events.done and self.stopping != "output closed":
            self.observer.sync()
            self.text.narrate(final=True)
        if self.stopping not in ("output closed", "count reached"):
            self.text.finish()
        for call in self.at_end:
            call()
        self._settle_journal()
        self.outputs.close(self.log.warning)
        self.selector.close()

    # -- what is going on

    def status(self) -> JsonObject:
        """Counters of every source, table, queue and sink, as a JSON-able object."""
        return {
            "v": 1,
            "uptime_s": round(time.time() - self.started, 3),
            **status(self.observer, self.text),
            **{name: section() for name, section in self.more_status.items()},
        }

    def lost(self) -> int:
        """Everything lost anywhere since the start: kernel events, audit records, lines dropped by sinks."""
        return lost(self.observer, self.text)
