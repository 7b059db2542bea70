"""Events of a segment that are wanted: chosen block by block, then in the order of its text. The work on bytes is done
by ``cdefs/archive/found.c``."""

import mmap
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.memory import fresh
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.matching.native import Needles
from auditns_connector.vocabulary.values import CData

#: text is handed out in pieces of about so many bytes
_PIECE: Final = 1 << 20


class Part:
    """Events of a block, or some of them: event i is ``text[starts[i]:starts[i + 1]]`` and stands at ``positions[i]``
    in the segment. ``keep`` has a byte for each, 1 where it is wanted; all are at first."""

    def __init__(self, text: bytes | memoryview, starts: "array[int]", positions: "array[int]", count: int) -> None:
        self.text = text
        self.count = count
        self._starts, self._positions = starts, positions
        self.c: CData = ffi.new("struct archive_part *")
        self._views = [ffi.from_buffer("char[]", text)]
        self._views += [ffi.from_buffer("uint32_t[]", one) for one in (starts, positions)]
        self.c.text, self.c.starts, self.c.positions = self._views
        self.c.events = count
        self.keep = bytearray()
        self.use(bytearray(b"\1") * count)

    def use(self, keep: bytearray) -> None:
        """Whether each is wanted is in ``keep``."""
        self.keep = keep
        self._kept = self.c.keep = ffi.from_buffer("uint8_t[]", keep)

    def mark(self, needles: Needles) -> None:
        """Of those that are kept, keep those in which one of the needles stands."""
        lib.archive_mark(self.c, *needles.c_parts)

    def late(self) -> bytearray:
        """A byte for each: 1 where it is what came late of the one before; empty where there is none."""
        late = bytearray(self.count)
        return late if lib.archive_late(self.c, ffi.from_buffer("uint8_t[]", late)) else bytearray()

    def lines(self, points: InsertionPoints, wanted: bytearray, first: int) -> bytearray:
        """A byte for each: 1 where it holds lines of wanted events. ``wanted`` has a byte for each event from number
        ``first`` on, and ``points`` are of a scan of the text."""
        found = bytearray(self.count)
        views = [ffi.from_buffer("uint8_t[]", one) for one in (wanted, found)]
        lib.archive_lines(self.c, points.c, views[0], first, len(wanted), views[1])
        return found

    def joined(self, late: bytearray) -> "Part":
        """The same with what came ``late`` of an event as part of that, wanted or not as it is."""
        rows = [i for i in range(self.count) if not late[i]]
        starts = array("I", [*(self._starts[i] for i in rows), self._starts[self.count]])
        one = Part(self.text, starts, array("I", (self._positions[i] for i in rows)), len(rows))
        one.use(bytearray(self.keep[i] for i in rows))
        return one

    def less(self) -> "Part":
        """Those that are kept, alone."""
        text = fresh("char[]", max(len(self.text), 1))
        starts, positions = array("I", bytes(4 * (self.count + 1))), array("I", bytes(4 * self.count))
        views = [ffi.from_buffer("uint32_t[]", one) for one in (starts, positions)]
        count = int(lib.archive_less(self.c, text, *views))
        return Part(memoryview(ffi.buffer(text, starts[count])), starts, positions, count)


class Found:
    """Events of one segment. The memory is used again for the next one."""

    def __init__(self) -> None:
        self._c: CData = ffi.new("struct archive_found *")
        self._out: CData = fresh("char[]", _PIECE)
        self._text: mmap.mmap | None = None

    def begin(self, sizes: Sequence[int], events: Sequence[int]) -> None:
        """There are none; make room for those of blocks with so many bytes and events."""
        c, size, rows = self._c, sum(sizes), sum(events)
        c.used = c.rows = 0
        if size > c.room:
            c.text = ffi.NULL
            self._text = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._text.madvise(mmap.MADV_HUGEPAGE)
            self._keep = c.text = ffi.from_buffer("char[]", self._text)
            c.room = size
        if rows > c.row_room:
            self._rows = c.row = fresh("struct archive_row[]", rows)
            c.row_room = rows

    def add(self, part: Part) -> None:
        """Take in those events of ``part`` that are kept."""
        if not lib.archive_add(self._c, part.c):
            raise ValueError("blocks have more text or events than the index says")

    def sort(self) -> None:
        """Put them in the order of the segment's text."""
        if not lib.archive_sort(self._c):
            raise MemoryError("no memory for events in their order")

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._c.rows)

    def pieces(self) -> Iterator[memoryview]:
        """Their text, some whole events at a time; each piece is there until the next one."""
        size, at = ffi.new("uint64_t *"), 0
        while at < self.count:
            then = int(lib.archive_copy(self._c, at, self._out, len(self._out), size))
            if then == at:
                self._out = fresh("char[]", self._c.row[at].len)
                continue
            at = then
            yield memoryview(ffi.buffer(self._out, size[0]))

    def events(self, *, reverse: bool = False) -> Iterator[tuple[int, memoryview]]:
        """Each with its position in the segment."""
        numbers = range(self.count)
        for i in reversed(numbers) if reverse else numbers:
            row = self._c.row[i]
            yield row.position, memoryview(ffi.buffer(self._c.text + row.off, row.len))
