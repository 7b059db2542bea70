"""Audit text in blocks: find the points where records may stand, and put the chosen records there.

The work on bytes is done by ``cdefs/audittext/scan.c`` and ``insertion.c``; who belongs to which container
is decided by the caller, over arrays::

    stream = TextStream()
    for data in reads:
        points = stream.push(data)
        choice = [get(pid, 0) for pid in points.pid[: points.n]]  # numbers of tails, 0 for nothing
        sink(assemble(points, choice, tails))
    points = stream.flush(eof=True)                               # and once more the same

What comes out, less the records put in, is what went in, byte for byte. Names and rules: vocabulary/audit_text.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.points import InsertionPoints
from auditns_connector.vocabulary.audit_text import (
    AWAITS_HERE,
    AWAITS_MORE,
    AWAITS_NOTHING,
    MAX_PIDS,
    MAX_WHOLE,
    MAX_WHOLE_OPEN,
    MODE_AHEAD,
    MODE_EOF,
    MODE_FLUSH,
    MODE_IDLE,
    MODE_MORE,
)
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from array import array

__all__ = ["MOST_PART", "ROOM", "InsertionPoints", "Scanner", "TextStream", "count_lines"]

_MAX_PUSH: Final = 1 << 30
#: what a scan returns that needs more room for points and lines
_FULL: Final = -1
_NEVER: Final = (1 << 63) - 1
#: text is best worked on in parts that stay in the processor's cache (bytes)
MOST_PART: Final = 1 << 19
#: room is made for so much at once: what is read and not scanned yet costs most to move (bytes)
ROOM: Final = 768 * 1024


def count_lines(block: bytes | memoryview, start: int = 0, end: int | None = None) -> int:
    """``block.count(b"\\n", start, end)``, in half the time."""
    stop = len(block) if end is None else end
    return int(lib.auditns_lines(ffi.from_buffer(block) + start, stop - start)) if stop > start else 0


class Scanner:
    """The scan and its state. ``feed`` is given what the last one did not release, and more behind it.

    Lines are handed out as they come, and the points of an event when its place is reached or its end has shown.
    ``hold``: no line is, before its event is decided. ``at_end``: ours stand behind the event's PROCTITLE. ``whole``:
    each event is handed out when it has ended, with all its lines, wherever they stand among those of others; it is cut
    at ``limit`` bytes or where ``most`` younger ones are open, and says so. What works on whole ones needs it.
    ``patient``: a record of ours may follow any event, so none is complete before the line behind it is there
    (from the first such record on, and where whole events are wanted, it is so anyway). ``awaits`` (AWAITS_*): and it
    may stand far behind the end of its event, in text that is read back.
    """

    def __init__(
        self,
        whole: bool = False,
        patient: bool = False,
        *,
        at_end: bool = False,
        awaits: int = AWAITS_NOTHING,
        limit: int = MAX_WHOLE,
        most: int = MAX_WHOLE_OPEN,
    ) -> None:
        #: for the C functions
        self.state: CData = ffi.gc(ffi.new("struct auditns_scan *"), lib.auditns_scan_free)
        self.state.patient, self.state.at_end, self.state.awaits = patient or bool(awaits), at_end, awaits
        self._limits = limit, most
        self._calls: CData = ffi.new("struct auditns_call[]", MAX_PIDS)
        self.points = InsertionPoints()
        self.points.grow(1024, 4096)
        if whole:
            self.want_whole()

    @property
    def whole(self) -> bool:
        """Whether events are handed out whole."""
        return bool(self.state.whole)

    def want_whole(self) -> None:
        """From now on keep the lines of an event together; what was not consumed must be scanned once more."""
        if not lib.auditns_scan_whole(self.state, self.points.c, *self._limits):
            raise MemoryError("no memory for whole events")

    @property
    def lines(self) -> int:
        """How many newlines were scanned since the beginning."""
        return int(self.state.lines)

    @property
    def changes(self) -> int:
        """How many CONFIG_CHANGE records were scanned since the beginning."""
        return int(self.state.changes)

    @property
    def logins(self) -> int:
        """How many LOGIN records were scanned since the beginning."""
        return int(self.state.logins)

    @property
    def records(self) -> int:
        """How many lines were records."""
        return int(self.state.records)

    @property
    def foreign(self) -> int:
        """How many lines were neither records nor empty."""
        return int(self.state.foreign)

    @property
    def cut(self) -> int:
        """How many events were handed out before their end, for they or those open beside them were too many."""
        return int(self.state.cut)

    @property
    def oldest(self) -> int | None:
        """When the last record of the event came that has waited longest (see ``now`` of :meth:`TextStream.at`);
        ``None`` where no event is open."""
        found = int(lib.auditns_scan_oldest(self.state))
        return None if found == _NEVER else found

    @property
    def missing_before(self) -> int:
        """What an event of before this time (as given to :meth:`TextStream.at`) would have reported may be missing:
        then the newest hole in the serials of this host's events was found, or the first of them came. Later than all
        times where none has come."""
        return int(lib.auditns_missing_before(self.state))

    def open_calls(self) -> list[tuple[int, int]] | None:
        """(pid, serial) of the system calls whose events are open; ``None`` where those are too many."""
        found = lib.auditns_open_calls(self.state, self.points.c, self._calls)
        return None if found >= MAX_PIDS else [(call.pid, call.serial) for call in self._calls[0:found]]

    def keep_late(self, first: int, keep: "array[int]") -> None:
        """What came of an event after that was handed out goes where that went; to be called when ``keep`` ("Q"), a bit
        for each output and a number for each event from number ``first`` on, says so of the others."""
        where = ffi.from_buffer("uint64_t[]", keep)
        lib.auditns_keep_late(self.state, self.points.c, first, len(keep), where)

    def rest(self, first: int, keep: "array[int]") -> list[tuple[int, int]]:
        """The points of the first records that come of events that had not ended when they were handed out (P_REST),
        each with a bit for each output to which that went; ``keep`` is what is kept of the events now."""
        points = self.points
        which, kept = ffi.new("uint32_t[]", max(points.n, 1)), ffi.new("uint64_t[]", max(points.n, 1))
        where = ffi.from_buffer("uint64_t[]", keep)
        found = lib.auditns_rest(self.state, points.c, first, len(keep), where, which, kept)
        return [(which[i], kept[i]) for i in range(found)]

    def kept(self, first: int, keep: "array[int]") -> None:
        """Remember where events went, for what comes of them later."""
        lib.auditns_kept(self.state, self.points.c, first, len(keep), ffi.from_buffer("uint64_t[]", keep))

    def feed(self, block: bytes | bytearray | memoryview, mode: int = MODE_MORE) -> InsertionPoints:
        """Scan on. MODE_FLUSH decides the events that are open, MODE_EOF also takes an unterminated line."""
        points, c = self.points, self.points.c
        points.over(block)
        return points.ready(grown(points, lambda: lib.auditns_scan(self.state, c, c.buf, c.len, mode)))


def grown(points: InsertionPoints, scan: Callable[[], int]) -> int:
    """What ``scan`` returns, with as much room in ``points`` as it needs."""
    while (consumed := scan()) == _FULL:
        points.grow_both()
    if consumed < 0:
        raise MemoryError("no memory for audit text")
    return consumed


class TextStream:
    """Audit text that arrives in pieces of any size. It keeps the lines of open events: some 2 MiB at most, or twice
    ``limit`` when ``whole`` events are asked for (see :class:`Scanner`, for the others as well)."""

    def __init__(
        self,
        capacity: int = 512 * 1024,
        whole: bool = False,
        patient: bool = False,
        *,
        at_end: bool = False,
        awaits: int = AWAITS_NOTHING,
        limit: int = MAX_WHOLE,
        most: int = MAX_WHOLE_OPEN,
    ) -> None:
        self._scanner = Scanner(whole, patient, at_end=at_end, awaits=awaits, limit=limit, most=most)
        self._c: CData = ffi.new("struct auditns_stream *", {"least": ROOM})
        self._use(bytearray(capacity))

    def _use(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._c.buf = self._scanner.points.keep = ffi.from_buffer("char[]", buffer)
        self._c.size = len(buffer)

    def hold(self, wanted: bool) -> None:
        """Whether from now on no line is handed out before its event is decided."""
        self._scanner.state.hold = wanted

    def await_ours(self, *, more: bool) -> None:
        """Whether from now on records of ours are awaited in ``more`` text than there is (see AWAITS_MORE); where they
        were awaited before."""
        self._scanner.state.awaits = AWAITS_MORE if more else AWAITS_HERE

    def put_at_end(self, wanted: bool) -> None:
        """Whether ours stand at the end of the events that begin from now on."""
        self._scanner.state.at_end = wanted

    def want_whole(self) -> None:
        """From now on hand out whole events: to be called where none is open (:meth:`flush`). Ends the last points."""
        if self._scanner.whole:
            return
        c = self._c
        c.start, c.consumed = c.start + c.consumed, 0
        self._scanner.state.lines -= count_lines(memoryview(self._buffer), c.start, c.scanned)
        self._scanner.want_whole()
        self._scanner.points.drop()
        c.scanned = c.start

    @property
    def records(self) -> int:
        """As :attr:`Scanner.records`."""
        return self._scanner.records

    @property
    def foreign(self) -> int:
        """As :attr:`Scanner.foreign`."""
        return self._scanner.foreign

    @property
    def cut(self) -> int:
        """As :attr:`Scanner.cut`."""
        return self._scanner.cut

    @property
    def oldest(self) -> int | None:
        """As :attr:`Scanner.oldest`."""
        return self._scanner.oldest

    @property
    def missing_before(self) -> int:
        """As :attr:`Scanner.missing_before`."""
        return self._scanner.missing_before

    def open_calls(self) -> list[tuple[int, int]] | None:
        """As :meth:`Scanner.open_calls`."""
        return self._scanner.open_calls()

    def at(self, now: int) -> None:
        """What is scanned next came at ``now`` (CLOCK_MONOTONIC ns)."""
        self._scanner.state.now = now

    def idle(self, before: int) -> InsertionPoints:
        """Decide the events of which nothing has come since ``before`` (CLOCK_MONOTONIC ns)."""
        self._scanner.state.idle = before
        return self.filled(0, MODE_IDLE)

    @property
    def base(self) -> int:
        """Where in all the text the offsets of the last points begin, where whole events are handed out."""
        return int(self._scanner.state.base)

    def keep_late(self, first: int, keep: "array[int]") -> None:
        """As :meth:`Scanner.keep_late`."""
        self._scanner.keep_late(first, keep)

    def rest(self, first: int, keep: "array[int]") -> list[tuple[int, int]]:
        """As :meth:`Scanner.rest`."""
        return self._scanner.rest(first, keep)

    def kept(self, first: int, keep: "array[int]") -> None:
        """As :meth:`Scanner.kept`."""
        self._scanner.kept(first, keep)

    @property
    def pending(self) -> int:
        """Bytes taken in and not yet handed out, as of the last scan."""
        c = self._c
        return int(c.end - c.start - c.consumed)

    def reading(self) -> Any:
        """The C ``struct auditns_stream *`` to put text into, for :meth:`part`. Ends the last points."""
        self._scanner.points.drop()
        return self._c

    def held(self) -> bytes:
        """What was put in and not handed out, as it is."""
        c = self._c
        return bytes(memoryview(self._buffer)[c.start + c.consumed : c.end])

    def room(self, size: int) -> memoryview:
        """A writable place for ``size`` bytes, to read into; then call :meth:`filled`. Ends the last points."""
        if not 0 < size <= _MAX_PUSH:
            raise ValueError(f"between 1 and {_MAX_PUSH} bytes at a time, not {size}")
        self._scanner.points.drop()
        c = self._c
        if not lib.auditns_stream_room(c, size):
            kept, rest = c.end - c.start, self._buffer[c.start : c.end]
            self._use(bytearray(2 * (kept + size)))
            self._buffer[:kept] = rest
            c.scanned -= c.start
            c.start, c.end = 0, kept
        return memoryview(self._buffer)[c.end : c.end + size]

    def filled(self, size: int, mode: int = MODE_MORE) -> InsertionPoints:
        """Scan the ``size`` bytes that were put into :meth:`room`, and all else that is :attr:`left`."""
        self._c.end += size
        return self._scan(_MAX_PUSH, mode)

    def grew(self, size: int) -> None:
        """``size`` bytes were put into :meth:`room`, to be scanned with those of the next :meth:`filled`."""
        self._c.end += size

    def ahead(self) -> None:
        """Scan what :meth:`reading` brought, while it is in the processor's cache; to be decided by the next scan."""
        self._scan(_MAX_PUSH, MODE_AHEAD)

    def part(self, most: int = MOST_PART) -> InsertionPoints:
        """Scan ``most`` bytes of what :meth:`reading`, :meth:`grew` or :meth:`put` took in; the rest is
        :attr:`left`."""
        return self._scan(most, MODE_MORE)

    def _scan(self, most: int, mode: int) -> InsertionPoints:
        points, scan = self._scanner.points, self._scanner.state
        return points.ready(grown(points, lambda: lib.auditns_stream_scan(self._c, scan, points.c, most, mode)))

    def scanned(self) -> InsertionPoints:
        """The points of a scan that C has made of all that is there."""
        return self._scanner.points.ready(self._c.consumed)

    @property
    def c_parts(self) -> tuple[CData, CData, CData]:
        """The stream, the scan and the points as the C functions take them; they stay the same."""
        return self._c, self._scanner.state, self._scanner.points.c

    @property
    def left(self) -> bool:
        """There is something that was not scanned yet."""
        return bool(self._c.scanned < self._c.end)

    @property
    def lines(self) -> int:
        """How many newlines were scanned since the beginning."""
        return self._scanner.lines

    @property
    def changes(self) -> int:
        """How many CONFIG_CHANGE records were scanned since the beginning."""
        return self._scanner.changes

    @property
    def logins(self) -> int:
        """How many LOGIN records were scanned since the beginning."""
        return self._scanner.logins

    def push(self, data: bytes | bytearray | memoryview) -> InsertionPoints:
        """Take in more text; the points of what is decided by it (``n`` may be 0)."""
        if data:
            self.put(data)
        return self.filled(0)

    def put(self, data: bytes | bytearray | memoryview) -> int:
        """Take in more text, to be scanned at the next :meth:`filled`; returns its size."""
        size = len(data)
        if size:
            self.room(size)[:] = data
            self.grew(size)
        return size

    def flush(self, eof: bool = False) -> InsertionPoints:
        """Decide the events that are still open; ``eof``: also a last line without a newline."""
        return self.filled(0, MODE_EOF if eof else MODE_FLUSH)
