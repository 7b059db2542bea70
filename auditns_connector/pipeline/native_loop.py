"""The fast path of the pipeline: its round, without the interpreter.

On a quiet host each event wakes us, and finds the processor's caches cold: what a round costs is how much code it goes
through. So the round that most are is written down once more, in C (cdefs/loop/loop.c): a little audit text has come
and nothing else; its events follow those before without a hole; perf's frames are plain, so that the process table
applies them, and its rows answer all that is asked (row_lookup.py). The C waits for the next one, too, and comes back
with whatever else turns up: that the pipeline does as it always does, and what was done here is as if it had done it.
"""

import select
import time
from typing import Final, Protocol

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.attributor import NEEDS_LOOKUP
from auditns_connector.attribution.record_numbers import NOT_CLEAR, OF_ONE
from auditns_connector.attribution.row_lookup import RowLookup
from auditns_connector.pipeline.coalescing import BUSY, WINDOW
from auditns_connector.pipeline.text_side import TextSide
from auditns_connector.sources.base import AuditSource
from auditns_connector.vocabulary.values import CData

#: more text than this is not a little (bytes)
_ROOM: Final = 64 * 1024
_NEVER: Final = (1 << 64) - 1
_DONE: Final = int(lib.LOOP_DONE)
_NOTHING: Final = int(lib.LOOP_NOTHING)
_OPEN: Final = int(lib.LOOP_OPEN)
_UNSEEN: Final = int(lib.LOOP_UNSEEN)
_OTHER: Final = int(lib.LOOP_OTHER)


class Part(Protocol):
    """A part of a live program that the C may know too little of."""

    def needs_python_loop(self) -> bool:
        """Whether the next round is to be done by the interpreter for its sake."""


class NativeLoop:
    """Rounds of the text side ``text``, which reads from ``audit``; ``loop`` may have other work to do."""

    #: drains kernel events: int64_t (*)(struct perf_look *)
    see: CData = ffi.addressof(lib, "perf_look")

    def __init__(self, text: TextSide, audit: AuditSource, loop: Part) -> None:
        self._text, self._loop = text, loop
        self._observer, self._model = text.observer, text.observer.model
        self._fd = audit.fileno()
        self._out: CData = ffi.new("char[]", _ROOM)
        self._stream, scan, self._points = text.stream.c_parts
        self._look: CData = text.observer.watch()
        self._c: CData = ffi.new(
            "struct native_loop *",
            {
                "fd": self._fd, "intake": audit.reader, "stream": self._stream, "scan": scan, "points": self._points,
                "careful": NEEDS_LOOKUP, "next": _NEVER,
                "see": self.see, "look": self._look or ffi.NULL,
                "out": self._out, "room": _ROOM, "window": int(WINDOW * 1e9), "hold": text.hold,
            },
        )  # fmt: skip
        self._tails: CData = None
        self._rows: RowLookup | None = None
        self._applied = -1

    @property
    def _parts(self) -> tuple[Part | None, ...]:
        """Whoever may need the interpreter's rounds."""
        text, observer = self._text, self._observer
        return (
            self._loop, text, observer, observer.model, observer.exec_rules, text.enricher,
            text.outputs, text.standalone, text.streams, text.events,
        )  # fmt: skip

    def ready(self) -> bool:
        """Whether the next round may be one of the fast path; what it works on is put in its place."""
        self.settle()
        text, observer, c = self._text, self._observer, self._c
        if any(part is not None and part.needs_python_loop() for part in self._parts):
            return False
        standalone, tails, rules = text.standalone, text.enricher.plain_tails, observer.exec_rules
        if standalone is not None and standalone.next not in (rules.next, -1):
            return False
        self._rows = text.correlator.ready(time.monotonic_ns())
        assert tails is not None
        assert self._rows is not None
        c.lookup = self._rows.c
        self._tails = tails.c_struct()
        self._applied = self._model.applied
        c.tails, c.next, c.changes, c.logins = self._tails, rules.next, rules.changes, text.stream.logins
        c.writer = text.outputs.writer or ffi.NULL
        c.most = _NEVER if text.coalescer.fixed == 0 else int(BUSY * WINDOW)
        return True

    def rounds(self, epoll: select.epoll, timeout: float) -> list[tuple[int, int]]:
        """Wait for what ``epoll`` waits for up to ``timeout`` seconds, and do rounds of the fast path as long as they
        are; returns what it has found for the pipeline to do."""
        c, coalescer = self._c, self._text.coalescer
        c.epoll, c.end = epoll.fileno(), time.monotonic_ns() + int(timeout * 1e9)
        try:
            while True:
                if not coalescer.gathers:
                    how = lib.loop_rounds(c)
                    if how == _OTHER:
                        return epoll.poll(0)
                else:
                    oldest = self._text.stream.oldest
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

    def _go_on(self, how: int) -> bool:
        """After a round that went like that; False where the pipeline is to look after something now."""
        c, look, text, observer = self._c, self._look, self._text, self._observer
        self.settle()
        if how == _OPEN:
            return not c.size or text.outputs.give(ffi.buffer(self._out, c.size)[:])
        if how == _NOTHING:
            text.read()
            return False
        if how == _UNSEEN:
            self._pass_on(observer.drained(c.drained))
            return False
        if how != _DONE:
            self._pass_on(ffi.buffer(look.frames, c.drained)[c.applied :] if c.drained else b"")
            return False
        open_ = not c.size or text.outputs.give(ffi.buffer(self._out, c.size)[:])
        text.coalescer.note_batch(c.came, look.cut / 1e9)
        c.came = 0
        return open_ and (self._applied == self._model.applied or self.ready())

    def _pass_on(self, block: bytes) -> None:
        """Text has been read, and frames drained, of which ``block`` is to be applied: the pipeline goes on."""
        observer, look, stream = self._observer, self._look, self._text.stream
        if look.told:
            observer.tell_clock()
        observer.absorb(look.cut, block)
        self._text.process(stream.scanned() if self._c.scanned else stream.part(), look.cut)

    def settle(self) -> None:
        """Have all others know what was done here."""
        c, text = self._c, self._text
        if c.bytes:
            self._observer.count_applied(c.bytes)
            self._model.note_applied()
            c.bytes = 0
        if not c.answered:
            return
        text.correlator.count(c.answered, c.counted[OF_ONE], c.counted[NOT_CLEAR])
        text.enricher.count(c.events)
        self._observer.exec_rules.passed(c.next - 1)
        if text.standalone is not None:
            text.standalone.passed(c.next - 1, c.ms)
            text.note_position()
        c.answered = c.events = 0
        for kind in range(4):
            c.counted[kind] = 0
