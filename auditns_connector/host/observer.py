"""The host as the model should see it: kernel events drained, /proc asked where events leave a question, all of it
journaled in the order it was applied.

The order at the start is *subscribe, scan /proc, replay what arrived meanwhile*, so that nothing falls between. Before
audit events are answered, :meth:`Observer.sync` drains every source up to now and has the model apply it: what happened
before is in hand.
"""

import os
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from auditns_connector._native import ffi, lib
from auditns_connector.auditrules.watch import RuleWatch
from auditns_connector.daemon.process import growing
from auditns_connector.errors import BehindError
from auditns_connector.host.bootstrap import Bootstrap
from auditns_connector.host.feed import Feed
from auditns_connector.host.pacing import Pacing
from auditns_connector.host.questions import Questions
from auditns_connector.journal.files import JournalWriter, ranges
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.state.namespace_serials import SerialStore
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.values import CData, JsonObject

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.sources.connector import ConnectorSource
    from auditns_connector.sources.perf import PerfSource
    from auditns_connector.sources.pidns import PidnsRing

#: dead processes are kept this long for audit records still on their way (ns)
KEEP: Final = 20_000_000_000
#: an offset that moved this much is worth a CLOCK frame (ns)
_CLOCK_STEP: Final = 100_000
#: so long a request waits for kernel events to be worked through (seconds)
PATIENCE: Final = 0.3
#: without any source of events /proc is read no more often than this (ns)
POLL: Final = 200_000_000


class Observer:
    """Feeds ``model`` from this host. ``perf`` and ``connector`` are sources or ``None``; ``all_serials`` asks for the
    kernel's id of every namespace that appears, not only of those an identifier is made from."""

    def __init__(
        self,
        model: Model,
        *,
        perf: "PerfSource | None",
        connector: "ConnectorSource | None" = None,
        ns_source: str = "perf",
        journal: JournalWriter | None = None,
        all_serials: bool = False,
        options: JsonObject | None = None,
    ) -> None:
        self.model = model
        self.perf = perf
        self.connector = connector
        #: where changes of namespaces are seen, see host/namespace_source.py
        self.ns_source = ns_source
        #: called with connector and perf frames before the model takes them (listen --events)
        self.tap: Callable[[bytes], None] | None = None
        #: called at the end of each :meth:`sync` with its moment: what else must be known before an answer
        self.followed: list[Callable[[int], None]] = []
        self._to_model = Feed(model, journal)
        self.pacing = Pacing()
        self.questions = Questions(model, self._to_model, self._drain_all, self.pacing, all_serials=all_serials)
        self.bootstrap = Bootstrap(model, self._to_model, self.questions, options or {}, self._drain_now)
        self._epoch = 0
        self._polled = 0
        #: rings inside pid namespaces (sources.pidns.PidnsRing) by the namespace's number; streams open and close them
        self.insiders: dict[int, PidnsRing] = {}
        self.clock: CData = ffi.new("struct clock_sample *", {"watch": lib.clock_watch_open(), "step": _CLOCK_STEP})
        lib.clock_look(self.clock)  # stamps from the subscription on have a time
        self.exec_rules = RuleWatch(self._to_model.feed)

    # -- its parts

    @property
    def journal(self) -> JournalWriter | None:
        """Where frames are written, if anywhere."""
        return self._to_model.journal

    @journal.setter
    def journal(self, journal: JournalWriter | None) -> None:
        self._to_model.journal = journal

    @property
    def store(self) -> SerialStore | None:
        """The serials of a former run of ours."""
        return self.bootstrap.store

    @store.setter
    def store(self, store: SerialStore | None) -> None:
        self.bootstrap.store = store

    @property
    def between(self) -> Callable[[], None]:
        """Called now and then while much is applied, for others to be served."""
        return self._to_model.between

    @between.setter
    def between(self, between: Callable[[], None]) -> None:
        self._to_model.between = between

    @property
    def counters(self) -> dict[str, int]:
        """Bytes of frames, and what was asked of /proc."""
        return {"frames_bytes": self._to_model.bytes, **self.questions.counters}

    def count_applied(self, size: int) -> None:
        """So many bytes of frames were applied by the C loop."""
        self._to_model.bytes += size

    def note_native(self, block: bytes) -> None:
        """The C loop had these frames applied, and gave the answers that are marked in them: for the journal."""
        if self.journal is not None:
            self.journal.write(block)

    # -- start

    def start(self) -> None:
        """Subscribe was done by whoever opened the sources; scan /proc and replay what has arrived since."""
        with growing():
            self._describe_sources()
            self.bootstrap.hello()
            self.tell_clock()
            self._sample_clock()
            self.bootstrap.scan(self.perf.began if self.perf is not None else 0)
            self.bootstrap.restore()
            self.questions.ask_all()
            self.questions.list_namespaces()

    def _describe_sources(self) -> None:
        self.bootstrap.sources = {
            "perf": self.perf is not None,
            "connector": self.connector is not None,
            "ns_source": self.ns_source,
            "features": sorted(self.perf.features) if self.perf is not None else [],
        }

    # -- the stream

    def sync(self, upto: int = 0) -> int:
        """Drain and apply all that happened before ``upto`` (CLOCK_MONOTONIC ns; 0: now); returns that moment."""
        if upto or self.perf is None or self.connector is not None or self.insiders:
            cut = upto or time.monotonic_ns()
            self._sample_clock()
            block = self._drain(cut)
        else:
            cut, clock_due, block = self.perf.look(self.clock)
            if clock_due:
                self.tell_clock()
            if block and self.tap is not None:
                self.tap(block)
        self.absorb(cut, block)
        return cut

    def sync_step(self) -> int:
        """:meth:`sync`, but where much happens of a fifth of a second alone: see host/pacing.py."""
        return self.sync(self.pacing.step(time.monotonic_ns()))

    def sync_within(self, seconds: float = PATIENCE) -> int:
        """:meth:`sync` for a request that is to be answered soon. Raises :class:`BehindError` where so much has
        happened that it takes longer than ``seconds``; what was done of it stays done."""
        pacing, now = self.pacing, time.monotonic_ns()
        if pacing.refuses(now):
            raise BehindError
        while (cut := self.sync_step()) and pacing.behind:
            if time.monotonic_ns() - now > seconds * 1e9:
                pacing.refuse(time.monotonic_ns())
                raise BehindError
        return cut

    def sync_unless_applying(self) -> None:
        """:meth:`sync`, but for whoever is served in the middle of it."""
        if not self._to_model.applying:
            self.sync()

    def forget(self, before: int = 0, *, namespaces: int = 0) -> None:
        """Forget who ended before ``before``, and ``namespaces`` that did before that (CLOCK_MONOTONIC ns; 0: nobody),
        ahead of frames that are still to be applied."""
        self._to_model.feed_first(f.pack(f.K_MARK, f.S_PIPELINE, self.model.now, arg=before, cgroup=namespaces))

    def absorb(self, cut: int, block: bytes) -> None:
        """Apply ``block``, the frames up to ``cut``, ask what they leave open, and tell who must know each moment."""
        self.pacing.note(cut, len(block))
        self._to_model.feed(block)
        self.questions.ask_wanted()
        if self._epoch != self.model.epoch:
            self._epoch = self.model.epoch
            self.bootstrap.scan()
            self.questions.ask_all()
            self.questions.list_namespaces(news=True)
        if self.perf is None and self.connector is None:
            self._poll(cut)
        for call in self.followed:
            call(cut)

    def watch(self) -> CData:
        """For drains in C: what they are given, ``None`` without perf. See :meth:`PerfSource.watch`."""
        return self.perf.watch(self.clock) if self.perf is not None else None

    def drained(self, size: int) -> bytes:
        """What such a drain, that returned ``size``, has found."""
        assert self.perf is not None
        look = self.watch()
        block: bytes = self.perf.block(size, look.frames, look.cut)
        return block

    def needs_python_loop(self) -> bool:
        """Whether perf is not the only source, or somebody else looks at its frames or waits for each drain."""
        others = self.connector is not None or self.insiders or self.followed
        return bool(self.perf is None or self.tap is not None or others or self.ns_source == "audit")

    def _poll(self, now: int) -> None:
        """No source of events: look at all processes again, and doubt all answers from this moment on."""
        if now - self._polled < POLL:
            return
        self._polled = time.monotonic_ns()
        self.bootstrap.scan()
        self._to_model.feed(f.pack(f.K_RESYNC, f.S_PROCFS, self._polled, arg=3))
        self._epoch = self.model.epoch
        self.questions.ask_all()

    def tick(self) -> bool:
        """Once in a while: have every CPU speak, so that a loss at the end of its events shows; look for CPUs that have
        come or gone. True where perf has other descriptors now."""
        if self.connector is not None:
            self.connector.heartbeat()
        return self.perf is not None and self.perf.refresh()

    def mark(self, now: int, serials: list[int], expire: int = 0) -> None:
        """Note that the audit events ``serials`` were answered at ``now``, and forget who ended before ``expire``."""
        self._to_model.feed(f.pack(f.K_MARK, f.S_PIPELINE, now, arg=expire, payload=ranges(serials)))
        journal = self.journal
        if journal is None:
            return
        if journal.full and journal.rotate():
            self._begin_again(now)
        elif journal.torn and expire and journal.mend():
            self._begin_again(now, journal)

    def _begin_again(self, now: int, torn: JournalWriter | None = None) -> None:
        self._describe_sources()
        self.bootstrap.begin_again(now, f.S_PERF if self.perf is not None else f.S_CN, self._sample_anew, torn)

    def _sample_anew(self) -> None:
        self.clock.emitted = 0
        self._sample_clock()

    def _drain(self, cut: int | None) -> bytes:
        block: bytes = self.perf.drain(cut) if self.perf is not None else b""
        # rings inside come behind all else: what they say is about children that the model must know first
        inside = b"".join([ring.drain(block, cut) for ring in self.insiders.values()])
        if self.connector is not None:
            events: bytes = self.connector.drain(cut)
            block = _merge(block, events) if block and events else block or events
        if block and self.tap is not None:
            self.tap(block)
        return block + inside

    def _drain_all(self) -> None:
        """Apply all that has happened by now, without asking anything."""
        self._to_model.feed(self._drain_now())

    def _drain_now(self) -> bytes:
        # up to a moment: an EXIT must not come without the sample that was raised on another CPU before it
        cut = time.monotonic_ns()
        block = self._drain(cut)
        self.pacing.note(cut, len(block))
        return block

    def feed(self, block: bytes) -> None:
        """Let the model take frames from elsewhere than the kernel, as requests of the control socket."""
        self._to_model.feed_behind(block)

    def _sample_clock(self) -> None:
        if lib.clock_look(self.clock):
            self.tell_clock()

    def tell_clock(self) -> None:
        """Have the model know the newest sample of the clock."""
        now = self.clock
        self._to_model.feed(f.pack(f.K_CLOCK, f.S_PIPELINE, now.at, arg=now.offset, cgroup=now.before, ppid=now.missed))

    # -- questions

    def name_namespaces(self, pid: int) -> None:
        """See :meth:`Questions.name_namespaces`."""
        self.questions.name_namespaces(pid)

    def take_calls(self, points: "InsertionPoints", nodes: Collection[bytes]) -> None:
        """See :meth:`Questions.take_calls`."""
        self.questions.take_calls(points, nodes)

    def take_logins(self, points: "InsertionPoints", nodes: Collection[bytes], held: bytes = b"") -> None:
        """See :meth:`Questions.take_logins`."""
        self.questions.take_logins(points, nodes, held)

    def take_sessions(self, points: "InsertionPoints", nodes: Collection[bytes]) -> None:
        """See :meth:`Questions.take_sessions`."""
        self.questions.take_sessions(points, nodes)

    def take_programs(self, points: "InsertionPoints", now: int, nodes: Collection[bytes]) -> None:
        """See :meth:`Questions.take_programs`."""
        self.questions.take_programs(points, now, nodes)

    def ask_now(self, pid: int) -> bool:
        """See :meth:`Questions.ask_now`."""
        return self.questions.ask_now(pid)

    def prove(self) -> bool:
        """See :meth:`Questions.prove`; not while we are behind."""
        return not self.pacing.behind and self.questions.prove()

    def tell_lifecycle(self, wanted: bool, all_serials: bool = False) -> None:
        """Have the model make outputs of how namespaces come and go, or no more; that, or ``all_serials``, asks for the
        kernel's id of every namespace from now on."""
        self.model.lifecycle = wanted
        if wanted or all_serials:
            self.questions.want_all_serials()

    def close(self) -> None:
        """Let go of the sources and finish the journal."""
        self.exec_rules.close()
        if self.clock.watch >= 0:
            os.close(self.clock.watch)
            self.clock.watch = -1
        for source in (self.perf, self.connector, self.journal):
            if source is not None:
                source.close()


def _merge(one: bytes, other: bytes) -> bytes:
    """Two blocks of frames, each in order, as one in the order of their times."""
    block = bytearray(one + other)
    view = ffi.from_buffer(block)
    failed = lib.frames_sort(view, len(block))
    ffi.release(view)
    if failed:
        raise MemoryError(f"no memory to sort {len(block)} bytes of frames")
    return bytes(block)
