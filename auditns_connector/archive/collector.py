"""The text of a segment to be, and what is found in it: events, containers, terms, counts. The C of cdefs/archive."""

import mmap
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.archive.catalogue import Serials
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.vocabulary import archive as numbers
from auditns_connector.vocabulary.values import CData

#: text of a block (bytes), about
BLOCK: Final = 1 << 18
#: more than so many different values are not counted in one segment, nor so many CONTAINER_INFO kept
MOST_TALLIES: Final = 1 << 18
MOST_INFOS: Final = 1 << 15
#: events and terms of one segment: beyond them it is ended, so that its memory is bounded by more than its text
MOST_EVENTS: Final = 3 << 18
MOST_TERMS: Final = 10 << 20
#: bits of the filters for each byte of text: with the tables that is about 1 % of it
_FILTER_BITS: Final = 0.08
#: bits for each term: of blocks without a value about one in 300 is read in vain
_BITS_PER_TERM: Final = 12
_LEAST_ROWS: Final = 64


class Group(NamedTuple):
    """The events of one holder. Times are ms since 1970; ``size`` is bytes of text."""

    holder: int
    node: bytes
    contid: bytes
    events: int
    records: int
    execs: int
    failures: int
    size: int
    first_ms: int
    last_ms: int


class Tally(NamedTuple):
    """How often a value came in a group, and when; ``value`` as it stands in the text, ``arch:number`` for calls."""

    group: int
    kind: int
    value: bytes
    times: int
    first_ms: int
    last_ms: int


class PlannedBlock(NamedTuple):
    """A block that is to be written: number of events, groups from and to, times, and its row for the C."""

    events: int
    low_group: int
    high_group: int
    first_ms: int
    last_ms: int
    c: CData


class Collector:
    """Holds the text of a segment, ``capacity`` bytes at most, and takes in what a scanner finds in it."""

    def __init__(self, capacity: int) -> None:
        #: memory that takes none before it is written to
        self.buffer = mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.buffer.madvise(mmap.MADV_HUGEPAGE)
        self._keep: CData = ffi.from_buffer("char[]", self.buffer)
        self._c: CData = ffi.gc(ffi.new("struct archive_text *"), lib.archive_free)
        self._out: CData = ffi.new("char[]", 2 * BLOCK)
        self._order: CData = None
        self._blocks: CData = None
        self._count = 0
        self.reset()

    def reset(self) -> None:
        """Forget all but the text."""
        c = self._c
        lib.archive_free(c)
        c.text, c.size = self._keep, len(self.buffer)
        c.seed = int.from_bytes(os.urandom(8), "little")
        c.most_tallies, c.most_infos = MOST_TALLIES, MOST_INFOS
        self._order = self._blocks = None
        self._count = 0

    def take(self, points: InsertionPoints, base: int) -> None:
        """What a scan of the text from ``base`` on has handed out."""
        if not lib.archive_take(self._c, points.c, base):
            raise MemoryError("no memory for what stands in the text")

    @property
    def reach(self) -> int:
        """Where the last line ends that was taken in."""
        return int(self._c.reach)

    @property
    def full(self) -> bool:
        """It holds as many events as a segment should."""
        return bool(self._c.events >= MOST_EVENTS or self._c.terms >= MOST_TERMS)

    @property
    def events(self) -> int:
        """How many events there are, lines that are no records included."""
        return int(self._c.events)

    @property
    def records(self) -> int:
        """How many records there are."""
        return int(self._c.records)

    @property
    def dropped(self) -> int:
        """Values that were not counted, and CONTAINER_INFO not kept, because there were too many different ones."""
        return int(self._c.dropped_tallies + self._c.dropped_infos)

    def _text(self, off: int, length: int) -> bytes:
        return self.buffer[off : off + length]

    def plan(self) -> int:
        """Put the events in the order of blocks; returns how many blocks there are."""
        c, room = self._c, 1024
        self._order = ffi.new("uint32_t[]", max(c.events, 1))
        while True:
            self._blocks = ffi.new("struct archive_block[]", room)
            count = int(lib.archive_plan(c, self._order, BLOCK, self._blocks, room))
            if count < 0:
                raise MemoryError("no memory for the order of events")
            if count <= room:
                self._count = count
                return count
            room = count

    def blocks(self) -> Iterator[PlannedBlock]:
        """The blocks of the plan."""
        for i in range(self._count):
            b = self._blocks[i]
            yield PlannedBlock(
                b.count, b.low_group, b.high_group, b.first_ms, b.last_ms, ffi.addressof(self._blocks, i)
            )

    def table(self, block: PlannedBlock) -> bytes:
        """The block's table."""
        room = lib.archive_block_table(self._c, self._order, block.c, ffi.NULL, 0)
        out = ffi.new("uint8_t[]", room)
        return bytes(ffi.buffer(out, lib.archive_block_table(self._c, self._order, block.c, out, room)))

    def text(self, block: PlannedBlock) -> memoryview:
        """The block's text, until the next call."""
        room = lib.archive_block_text(self._c, self._order, block.c, ffi.NULL, 0)
        out = self._out = self._out if len(self._out) >= room else ffi.new("char[]", 2 * room)
        return memoryview(ffi.buffer(out, lib.archive_block_text(self._c, self._order, block.c, out, room)))

    def filters(self, size: int) -> tuple[int, bytes]:
        """How many rows the filters of the blocks have, and the filters; ``size`` bytes of text are in all blocks."""
        count = self._count
        most = int(lib.archive_block_terms(self._c, self._order, self._blocks, count))
        rows = max(min(most * _BITS_PER_TERM, int(size * _FILTER_BITS) // max(count, 1)), _LEAST_ROWS)
        out = ffi.new("uint8_t[]", lib.archive_filter_size(rows, count))
        lib.archive_filter_make(self._c, self._order, self._blocks, count, rows, out)
        return rows, bytes(ffi.buffer(out))

    def groups(self) -> list[Group]:
        """The groups, as the plan has summed them up."""
        return [
            Group(
                g.holder, self._text(g.node_off, g.node_len), self._text(g.contid_off, g.contid_len),
                g.events, g.records, g.execs, g.failures, g.size, g.first_ms, g.last_ms,
            )
            for g in ffi.unpack(self._c.group, self._c.groups)
        ] if self._c.groups else []  # fmt: skip

    def tallies(self) -> Iterator[Tally]:
        """What was counted."""
        for i in range(self._c.tallies):
            t = self._c.tally[i]
            if not t.count:
                continue  # it was another container's after all
            if t.kind == numbers.TALLY_TYPE:
                value = b"%d" % t.value
            elif t.kind == numbers.TALLY_SYSCALL:
                value = b"%x:%d" % (t.length, t.value)
            else:
                value = self._text(t.value, t.length)
            yield Tally(t.group, t.kind, value, t.count, t.first_ms, t.last_ms)

    def serials(self) -> list[Serials]:
        """Runs of serials, in the order in which they began."""
        return [
            Serials(self._text(s.node_off, s.node_len), s.low, s.high, s.events, s.first_ms, s.last_ms)
            for s in (self._c.serials[i] for i in range(self._c.serial_runs))
        ]

    def infos(self) -> list[tuple[int, bytes]]:
        """Group and fields of each different CONTAINER_INFO, in the order of the text."""
        return [(i.group, self._text(i.off, i.len)) for i in (self._c.info[k] for k in range(self._c.infos))]
