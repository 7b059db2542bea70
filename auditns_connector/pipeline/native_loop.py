"""The fast path of the pipeline: its round, without the interpreter.

On a quiet host each event wakes us, and finds the processor's caches cold: what a round costs is how much code it goes
through. So the round that most are is written down once more, in C (cdefs/loop/loop.c): a little audit text has come
and nothing else; its events follow those before without a hole; perf's frames are plain, so that the process table
applies them, and its rows answer all that is asked (row_lookup.py). The C waits for the next one, too, and comes back
with whatever else turns up: that the pipeline does as it always does, and what was done here is as if it had done it.

Where rows do not answer, or more is wanted than all events as one plain text or as JSON (filters, lines for people,
parents), the same round ends before the answer, which the interpreter gives, and nothing else.
"""

import select
import time
from typing import Final, Protocol

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.attributor import NEEDS_LOOKUP
from auditns_connector.attribution.clone_result import CLONES
from auditns_connector.attribution.record_numbers import NOT_CLEAR, OF_ONE
from auditns_connector.attribution.row_lookup import RowLookup
from auditns_connector.pipeline.text_side import TextSide
from auditns_connector.sinks.native import NativeOutput
from auditns_connector.sources.base import AuditSource
from auditns_connector.vocabulary.values import CData

#: more text than this is not a little (bytes)
_ROOM: Final = 256 * 1024
#: what the journal is to have is handed over before it is more (bytes)
_JOURNAL: Final = 512 * 1024
_NEVER: Final = (1 << 64) - 1
_DONE: Final = int(lib.LOOP_DONE)
_OPEN: Final = int(lib.LOOP_OPEN)
_NOTHING: Final = int(lib.LOOP_NOTHING)
_UNSEEN: Final = int(lib.LOOP_UNSEEN)
_ASKED: Final = int(lib.LOOP_ASKED)
_OTHER: Final = int(lib.LOOP_OTHER)


class Part(Protocol):
    """A part of a live program that the C may know too little of."""

    def needs_python_loop(self) -> bool:
        """Whether the next round is to be done by the interpreter for its sake."""


class NativeLoop:
    """Rounds of the text side ``text``, which reads from ``audit``; ``loop`` may have other work to do, and
    waits for ``others`` beside the text."""

    #: drains kernel events: int64_t (*)(struct perf_look *)
    see: CData = ffi.addressof(lib, "perf_look")

    def __init__(self, text: TextSide, audit: AuditSource, loop: Part, others: select.epoll) -> None:
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
                "careful": NEEDS_LOOKUP, "next": _NEVER, "table": self._model.table.c,
                "see": self.see, "look": self._look or ffi.NULL,
                "out": self._out, "room": _ROOM, "hold": text.hold, "others": others.fileno(),
                "coalescer": text.coalescer.c,
            },
        )  # fmt: skip
        self._tails: CData = None
        self._rows: RowLookup | None = None
        self._journal: CData = ffi.NULL
        #: what the C writes to by itself
        self._natives: list[NativeOutput] = []
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
        standalone, rules = text.standalone, observer.exec_rules
        if standalone is not None and standalone.events.next not in (rules.next, -1):
            return False
        self._put_answers()
        self._applied = self._model.applied
        c.next, c.changes, c.logins = rules.next, rules.changes, text.stream.logins
        if observer.journal is not None and self._journal == ffi.NULL:
            self._journal = ffi.new("char[]", _JOURNAL)
        c.journal, c.journal_room = self._journal, _JOURNAL if observer.journal is not None else 0
        if observer.journal is None:
            c.journal = ffi.NULL
        natives = text.outputs.natives()
        self._natives, c.by_caller = natives or [], natives is None
        c.outputs = len(self._natives)
        for number, output in enumerate(self._natives):
            output.put(c.output[number])
        return True

    def _put_answers(self) -> None:
        """Have the C answer from the rows as they are now, where it can put the answers in."""
        c, text, enricher = self._c, self._text, self._text.enricher
        tails, objects = enricher.plain_tails, enricher.plain_objects
        self._rows = None
        if tails is not None or objects is not None:
            self._rows = text.correlator.ready(time.monotonic_ns(), objects=objects is not None)
        if self._rows is None:
            c.lookup = ffi.NULL
            return
        c.lookup = self._rows.c
        c.objects = ffi.NULL if objects is None else objects.c
        c.clones = CLONES if objects is not None or text.correlator.info else ffi.NULL
        if tails is not None:
            c.tails = self._tails = tails.c_struct()

    def wait(self, epoll: select.epoll, timeout: float) -> list[tuple[int, int]]:
        """Wait for what ``epoll`` waits for up to ``timeout`` seconds, and do rounds of the fast path as long as they
        are; returns what it has found for the loop to do."""
        c = self._c
        self._text.adapt()
        c.coalescer = self._text.coalescer.c
        c.epoll, c.end = epoll.fileno(), time.monotonic_ns() + int(timeout * 1e9)
        if not self.ready():
            lib.loop_wait(c)
            return epoll.poll(0)
        try:
            while (how := lib.loop_rounds(c)) != _OTHER:
                if not self._go_on(how):
                    return []
            return epoll.poll(0)
        finally:
            self.settle()

    def work_off(self, seconds: float) -> bool:
        """Work for so long on text that was taken in while something else was worked on; False where that is the
        pipeline's from the first block on."""
        c = self._c
        c.end, c.waits, done = time.monotonic_ns() + int(seconds * 1e9), True, False
        while c.waits and c.end > time.monotonic_ns() and self.ready():
            done, how = True, lib.loop_backlog(c)
            self._observer.pacing.note(self._look.cut, c.bytes)
            if not self._go_on(how):
                break
        self.settle()
        return done

    def _go_on(self, how: int) -> bool:
        """After a round that went like that; False where the pipeline is to look after something now."""
        c, look, text, observer = self._c, self._look, self._text, self._observer
        self.settle()
        if how == _OPEN:
            return self._write_rest()
        if how == _ASKED and not observer.questions.open:
            points = text.stream.scanned()
            text.answer_next(points, look.cut)
            self._note_passed(points.serial[points.n - 1], points.ms[points.n - 1])
            return self.ready()
        if how == _NOTHING:
            text.read()
            return False
        if how == _UNSEEN:
            self._pass_on(observer.drained(c.drained))
            return False
        if how != _DONE:
            self._pass_on(ffi.buffer(look.frames, c.drained)[c.applied :] if c.drained else b"")
            return False
        return self._write_rest() and (self._applied == self._model.applied or self.ready())

    def _write_rest(self) -> bool:
        """Write what the C has not, or not whole; whether the fast path may go on."""
        if not self._c.size:
            return True
        block = ffi.buffer(self._c.text, self._c.size)[:]
        if self._c.by_caller:
            self._text.outputs.give(block)
        for number, output in enumerate(self._natives):
            c = self._c.output[number]
            if c.refused:
                output.write_rest(block, c.part)
        return self.ready()

    def _pass_on(self, block: bytes) -> None:
        """Text has been read, and frames drained, of which ``block`` is to be applied: the pipeline goes on."""
        observer, look, stream = self._observer, self._look, self._text.stream
        if look.clock_due:
            observer.tell_clock()
        observer.absorb(look.cut, block)
        self._text.process(stream.scanned() if self._c.scanned else stream.part(), look.cut)

    def settle(self) -> None:
        """Have all others know what was done here."""
        c, text = self._c, self._text
        if c.journal_len:
            self._observer.note_native(ffi.buffer(self._journal, c.journal_len)[:])
            c.journal_len = 0
        if c.bytes:
            self._observer.count_applied(c.bytes)
            self._model.note_applied()
            c.bytes = 0
        if not c.answered:
            return
        text.correlator.count(c.answered, c.counted[OF_ONE], c.counted[NOT_CLEAR])
        text.enricher.count(c.events)
        self._note_passed(c.next - 1, c.ms)
        c.answered = c.events = 0
        for kind in range(4):
            c.counted[kind] = 0
        for number, output in enumerate(self._natives):
            done = c.output[number]
            if done.bytes:
                output.passed(done.bytes, done.lines)
                done.bytes = done.lines = 0

    def _note_passed(self, serial: int, ms: int) -> None:
        """The next events up to ``serial``, of the time ``ms``, have come, and are with the outputs."""
        text = self._text
        self._observer.exec_rules.passed(serial)
        if text.standalone is not None:
            text.standalone.passed(serial, ms)
            text.note_position()
