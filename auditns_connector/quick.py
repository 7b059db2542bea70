"""The usual round of the pipeline, in few steps.

On a quiet host each event wakes us, and finds the processor's caches cold: what a round costs is how much code it goes
through. So the round that most are is written down once more here, with the C of cdefs/text_quick.c: a little audit
text has come and nothing else; its events follow those before without a hole; perf's frames tell nothing that is not
followed, and all that is asked is remembered (known.py). Whatever else turns up, the pipeline does as it always does,
and what was done here is as if it had done it.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ._kernel import ffi as kernel_ffi
from ._kernel import lib as kernel
from ._text import ffi, lib
from .correlate import CAREFUL, NOT_CLEAR, OF_ONE

if TYPE_CHECKING:
    from .pipeline import Pipeline

#: more text than this is not a little (bytes)
_ROOM: Final = 64 * 1024
_NEVER: Final = (1 << 64) - 1


class Quick:
    """Rounds of ``pipeline``, which reads audit text from the descriptor ``fd``; ``took`` is told how many bytes."""

    def __init__(self, pipeline: "Pipeline", fd: int, took: Callable[[int], None]) -> None:
        self._pipeline = pipeline
        self._observer, self._model = pipeline.observer, pipeline.observer.model
        self._fd = fd
        self._took = took
        self._out: Any = ffi.new("char[]", _ROOM)
        self._stream, scan, self._points = pipeline.stream.c_parts
        self._c: Any = ffi.new(
            "struct auditns_quick *",
            {
                "fd": fd, "stream": self._stream, "scan": scan, "points": self._points,
                "touched": self._model.touched.c, "out": self._out, "room": _ROOM, "careful": CAREFUL, "next": _NEVER,
            },
        )  # fmt: skip
        self._look: Any = pipeline.observer.watch()
        self._tails: Any = None
        self._applied = -1
        self._end = 0.0

    def ready(self) -> bool:
        """Whether the next round may be a usual one; what it works on is put in its place."""
        self.settle()
        pipeline, observer, c = self._pipeline, self._observer, self._c
        narrator, tails, rules = pipeline.narrator, pipeline.enricher.plain_tails, observer.exec_rules
        if (
            tails is None
            or not observer.alone
            or pipeline.busy
            or rules.next is None
            or (narrator is not None and narrator.next not in (rules.next, -1))
            or pipeline.correlator.ready(time.monotonic_ns()) is None
        ):
            return False
        self._tails = tails.c_struct()
        self._applied = self._model.applied
        c.tails, c.next, c.changes = self._tails, rules.next, rules.changes
        return True

    def rounds(self, poll: Any, timeout: float) -> list[tuple[int, int]]:
        """Wait with ``poll`` up to ``timeout`` seconds, and do usual rounds as long as they are; returns what ``poll``
        has found for the pipeline to do."""
        fd, take, pace, self._end = self._fd, self._take, self._pipeline.pace, time.monotonic() + timeout
        try:
            while True:
                ready: list[tuple[int, int]] = poll(timeout)
                if len(ready) != 1 or ready[0][0] != fd:
                    return ready
                if pace.gathers:
                    time.sleep(pace.pause(time.monotonic()))
                if not take() or (timeout := self._end - time.monotonic()) <= 0:
                    return []
        finally:
            self.settle()

    def _take(self) -> bool:
        """One round; False where the pipeline is to look after something now."""
        c, look, pipeline = self._c, self._look, self._pipeline
        got = lib.auditns_quick_read(c)
        if not got:
            pipeline.on_audit()
            return False
        if got > 0 and not self._stream.consumed:  # the event's end is still to come
            self._end = min(self._end, pipeline.wait_for_more() + pipeline.hold)
            return True
        size = kernel.perf_look(look)
        if got < 0 or size < 0 or look.told or look.counters.suspect:
            self._pass_on(got, self._observer.drained(size), None)
            return False
        block = kernel_ffi.buffer(look.frames, size)[:] if size else b""
        size = lib.auditns_quick_join(c, block, len(block), look.cut)
        if size < 0:
            self._pass_on(got, block, bool(c.quiet))
            return False
        open_ = pipeline.give(ffi.buffer(self._out, size)[:])
        pipeline.pace.took(self._points.n, look.cut / 1e9)
        if block:
            self._observer.heard(look.cut, block, True)
            self._observer.take_in_much()
        if pipeline.stream.pending:
            self._end = min(self._end, pipeline.wait_for_more() + pipeline.hold)
        return open_ and (self._applied == self._model.applied or self.ready())

    def _pass_on(self, got: int, block: bytes, quiet: bool | None) -> None:
        """Text has been read (and scanned, ``got`` 1), and frames drained, but this is no usual round. ``quiet`` says
        what the model said of the frames, ``None`` where it was not shown them."""
        observer, look, stream = self._observer, self._look, self._pipeline.stream
        if look.told:
            observer.tell_clock()
        if quiet is None:
            quiet = bool(block) and self._model.saw(block)
        observer.heard(look.cut, block, quiet)
        self._pipeline.came(stream.scanned() if got > 0 else stream.part(), look.cut)

    def settle(self) -> None:
        """Have all others know what was done here."""
        c, pipeline = self._c, self._pipeline
        self._took(c.bytes)
        c.bytes = 0
        if not c.answered:
            return
        pipeline.correlator.count(c.answered, c.counted[OF_ONE], c.counted[NOT_CLEAR])
        pipeline.enricher.count(c.events)
        pipeline.observer.exec_rules.passed(c.next - 1)
        if pipeline.narrator is not None:
            pipeline.narrator.passed(c.next - 1, c.ms)
        c.answered = c.events = 0
        for kind in range(4):
            c.counted[kind] = 0
