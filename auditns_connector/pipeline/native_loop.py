"""The fast path of the pipeline: its round, without the interpreter.

On a quiet host each event wakes us, and finds the processor's caches cold: what a round costs is how much code it goes
through. So the round that most are is written down once more, in C (cdefs/loop/loop.c): a little audit text has come
and nothing else; its events follow those before without a hole; perf's frames tell nothing that is not followed, and
all that is asked is remembered (cache.py). The C waits for the next one, too, and comes back with whatever else turns
up: that the pipeline does as it always does, and what was done here is as if it had done it.
"""

import select
import time
from typing import TYPE_CHECKING, Final

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.attributor import NEEDS_LOOKUP
from auditns_connector.attribution.record_numbers import NOT_CLEAR, OF_ONE
from auditns_connector.host.observer import MUCH
from auditns_connector.pipeline.coalescing import BUSY, WINDOW
from auditns_connector.sources.base import AuditSource
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from auditns_connector.pipeline.loop import Pipeline

#: more text than this is not a little (bytes)
_ROOM: Final = 64 * 1024
_NEVER: Final = (1 << 64) - 1
_DONE: Final = int(lib.LOOP_DONE)
_NOTHING: Final = int(lib.LOOP_NOTHING)
_OPEN: Final = int(lib.LOOP_OPEN)
_UNSEEN: Final = int(lib.LOOP_UNSEEN)
_OTHER: Final = int(lib.LOOP_OTHER)


class NativeLoop:
    """Rounds of ``pipeline``, which reads audit text from ``audit``. ``hold`` is how long an event is waited for whose
    end has not come (ns)."""

    #: drains kernel events: int64_t (*)(struct perf_look *)
    see: CData = ffi.addressof(lib, "perf_look")

    def __init__(self, pipeline: "Pipeline", audit: AuditSource, hold: int) -> None:
        self._pipeline = pipeline
        self._observer, self._model = pipeline.observer, pipeline.observer.model
        self._fd = audit.fileno()
        self._out: CData = ffi.new("char[]", _ROOM)
        self._held: CData = ffi.new("char[]", _ROOM)
        self._stream, scan, self._points = pipeline.stream.c_parts
        self._look: CData = pipeline.observer.watch()
        self._c: CData = ffi.new(
            "struct native_loop *",
            {
                "fd": self._fd, "intake": audit.reader, "stream": self._stream, "scan": scan, "points": self._points,
                "touched": self._model.touched.c, "careful": NEEDS_LOOKUP, "next": _NEVER,
                "see": self.see, "look": self._look or ffi.NULL,
                "out": self._out, "room": _ROOM, "held": self._held, "held_room": _ROOM, "much": MUCH,
                "window": int(WINDOW * 1e9), "hold": hold,
            },
        )  # fmt: skip
        self._tails: CData = None
        self._applied = -1

    def ready(self) -> bool:
        """Whether the next round may be one of the fast path; what it works on is put in its place."""
        self.settle()
        pipeline, observer, c = self._pipeline, self._observer, self._c
        standalone, tails, rules = pipeline.standalone, pipeline.enricher.plain_tails, observer.exec_rules
        if (
            tails is None
            or not observer.alone
            or pipeline.busy
            or rules.next is None
            or (standalone is not None and standalone.next not in (rules.next, -1))
            or pipeline.correlator.ready(time.monotonic_ns()) is None
        ):
            return False
        self._tails = tails.c_struct()
        self._applied = self._model.applied
        c.tails, c.next, c.changes = self._tails, rules.next, rules.changes
        c.writer = pipeline.writer or ffi.NULL
        c.most = _NEVER if pipeline.coalescer.fixed == 0 else int(BUSY * WINDOW)
        return True

    def rounds(self, epoll: select.epoll, timeout: float) -> list[tuple[int, int]]:
        """Wait for what ``epoll`` waits for up to ``timeout`` seconds, and do rounds of the fast path as long as they
        are; returns what it has found for the pipeline to do."""
        c, pipeline = self._c, self._pipeline
        coalescer = pipeline.coalescer
        c.epoll, c.end = epoll.fileno(), time.monotonic_ns() + int(timeout * 1e9)
        try:
            while True:
                if not coalescer.gathers:
                    how = lib.loop_rounds(c)
                    if how == _OTHER:
                        return epoll.poll(0)
                else:
                    oldest = pipeline.stream.oldest
                    end = c.end if oldest is None else min(c.end, oldest + c.hold)
                    left = (end - time.monotonic_ns()) / 1e9
                    ready = epoll.poll(max(left, 0.0))
                    if left <= 0 or len(ready) != 1 or ready[0][0] != self._fd:
                        return ready
                    time.sleep(coalescer.pause(time.monotonic()))
                    how = lib.loop_round(c)
                if not self._go_on(how):
                    return []
        finally:
            self.settle()
            self._observer.apply_many_deferred()

    def _go_on(self, how: int) -> bool:
        """After a round that went like that; False where the pipeline is to look after something now."""
        c, look, pipeline, observer = self._c, self._look, self._pipeline, self._observer
        self.settle()
        if how == _OPEN:
            return True
        if how == _NOTHING:
            pipeline.on_audit()
            return False
        if how == _UNSEEN:
            self._pass_on(observer.drained(c.drained), None)
            return False
        block = ffi.buffer(look.frames, c.drained)[:] if c.drained else b""
        if how != _DONE:
            self._pass_on(block, bool(c.quiet))
            return False
        open_ = not c.size or pipeline.give(ffi.buffer(self._out, c.size)[:])
        pipeline.coalescer.note_batch(c.came, look.cut / 1e9)
        c.came = 0
        if block:
            observer.absorb(look.cut, block, True)
        observer.apply_many_deferred()
        return open_ and (self._applied == self._model.applied or self.ready())

    def _pass_on(self, block: bytes, quiet: bool | None) -> None:
        """Text has been read, and frames drained, but this is no round of the fast path. ``quiet`` says what the
        model said of the frames, ``None`` where it was not shown them."""
        observer, look, stream = self._observer, self._look, self._pipeline.stream
        if look.told:
            observer.tell_clock()
        if quiet is None:
            quiet = bool(block) and self._model.saw(block)
        observer.absorb(look.cut, block, quiet)
        self._pipeline.process_text(stream.scanned() if self._c.scanned else stream.part(), look.cut)

    def settle(self) -> None:
        """Have all others know what was done here."""
        c, pipeline = self._c, self._pipeline
        if c.held_len:
            block, c.held_len = ffi.buffer(self._held, c.held_len)[:], 0
            self._observer.defer(block)
        if not c.answered:
            return
        pipeline.correlator.count(c.answered, c.counted[OF_ONE], c.counted[NOT_CLEAR])
        pipeline.enricher.count(c.events)
        pipeline.observer.exec_rules.passed(c.next - 1)
        if pipeline.standalone is not None:
            pipeline.standalone.passed(c.next - 1, c.ms)
            pipeline.note_position()
        c.answered = c.events = 0
        for kind in range(4):
            c.counted[kind] = 0
