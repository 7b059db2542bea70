"""Read a segment: its index, the blocks that may hold something, their text. Everything in the file may be damaged."""

import hashlib
import json
import mmap
import os
import sys
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.archive import zstd
from auditns_connector.archive.segment_layout import (
    DIGEST,
    ENTRY,
    HEAD_SIZE,
    MAX_ABOUT,
    MAX_GROUPS,
    TRAILER_SIZE,
    Damaged,
    Table,
    Trailer,
    skipped,
    unpack_about,
    unpack_head,
    unpack_index,
    unpack_table,
    unpack_trailer,
)
from auditns_connector.vocabulary.values import CData, JsonObject

_EVER: Final = (-(1 << 63), (1 << 63) - 1)


class Entry(NamedTuple):
    """A block's row of the index; times are ms since 1970, sizes bytes."""

    offset: int
    first_ms: int
    last_ms: int
    table: int
    frame: int
    size: int
    events: int
    low_group: int
    high_group: int


class Contents(NamedTuple):
    """A block read: ``text`` has event i at ``starts[i]`` up to ``starts[i + 1]``; ``positions`` are their places in
    the segment's text, ``groups`` whose they are."""

    text: bytes
    starts: "array[int]"
    positions: "array[int]"
    groups: "array[int]"


class Segment:
    """The file behind ``fd``, which is closed with it. Raises :class:`Damaged` where its end cannot be read; with
    ``salvage`` its blocks are then found one after the other."""

    def __init__(self, fd: int, name: str, *, salvage: bool = False) -> None:
        self.name = name
        self.notices: list[str] = []
        self._fd = fd
        self._map: mmap.mmap | None = None
        self._about: JsonObject | None = None
        self._zstd: zstd.Decompressor | None = None
        self.rows = 0
        self._filter: CData = None
        try:
            self.size = os.fstat(fd).st_size
            if self.size < HEAD_SIZE:
                raise Damaged("it is cut")
            self._map = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
            self.head = unpack_head(self._map[:HEAD_SIZE])
            try:
                self._open_index()
            except Damaged as error:
                if not salvage:
                    raise
                self.notices.append(f"{name}: {error}: its blocks are looked for one by one")
                self.trailer: Trailer | None = None
                self._use(list(self._walk()))
        except BaseException:
            self.close()
            raise

    def _open_index(self) -> None:
        data = self._view
        self.trailer = trailer = unpack_trailer(data[max(self.size - TRAILER_SIZE, 0) :])
        end = self.size - TRAILER_SIZE
        if trailer.seq != self.head.seq or not 0 < trailer.about_at < trailer.index_at or trailer.index_size > end:
            raise Damaged("its end is damaged")
        with memoryview(data) as view:
            index = unpack_index(view[trailer.index_at : trailer.index_at + trailer.index_size])
        self.blocks, self.rows = index.blocks, index.rows
        if sys.byteorder == "little":
            self._entries: CData = ffi.new("struct archive_entry[]", max(index.blocks, 1))
            ffi.memmove(self._entries, index.entries, len(index.entries))
        else:
            self._use([Entry(*fields) for fields in ENTRY.iter_unpack(index.entries)])
        self._filter = ffi.from_buffer("uint8_t[]", data) + trailer.index_at + index.filter_at

    def _use(self, entries: list[Entry]) -> None:
        self.blocks = len(entries)
        self._entries = ffi.new("struct archive_entry[]", max(len(entries), 1))
        for i, entry in enumerate(entries):
            self._entries[i] = tuple(entry)

    @property
    def _view(self) -> mmap.mmap:
        assert self._map is not None
        return self._map

    def _walk(self) -> Iterator[Entry]:
        """The blocks whose tables can be read, from the start of the file on."""
        at, data = HEAD_SIZE, self._view
        while at < self.size and not self._at_about(at):
            try:
                table = self._table_at(at)
            except Damaged:
                at = data.find(b"\x5a\x2a\x4d\x18", at + 1)  # where the next frame that is skipped begins
                if at < 0:
                    return
                continue
            length = skipped(data, at)
            if at + length + table.frame > self.size:
                return
            yield Entry(at, *_EVER, length, table.frame, table.size, table.events, 0, 0xFFFFFFFF)
            at += length + table.frame

    def _at_about(self, at: int) -> bool:
        return self._view[at + 8 : at + 12] in (b"ABOU", b"AIDX", b"AEND")

    def _table_at(self, at: int) -> Table:
        length = skipped(self._view, at)
        if length > self.size - at:
            raise Damaged("the table of a block is cut")
        return unpack_table(self._view[at : at + length])

    @property
    def _decompressor(self) -> zstd.Decompressor:
        if self._zstd is None:
            self._zstd = zstd.new_decompressor()
        return self._zstd

    def entry(self, number: int) -> Entry:
        """A row of the index."""
        e = self._entries[number]
        return Entry(
            e.offset, e.first_ms, e.last_ms, e.table, e.frame, e.size, e.events, e.low_group, e.high_group
        )  # fmt: skip

    @property
    def about(self) -> JsonObject:
        """What it says of itself. Raises :class:`Damaged`."""
        if self._about is None:
            if self.trailer is None:
                raise Damaged(f"{self.name}: what it says of itself is lost")
            start = self.trailer.about_at
            payload = unpack_about(self._view[start : start + self.trailer.about_size])
            try:
                self._about = dict(json.loads(zstd.decompress(self._decompressor, payload, MAX_ABOUT)))
            except (Damaged, ValueError, TypeError, RecursionError) as error:
                raise Damaged(f"{self.name}: what it says of itself is damaged ({error})") from error
        return self._about

    def pick(
        self,
        terms: tuple[list[int], list[int]] = ([], []),
        since: int | None = None,
        until: int | None = None,
        groups: bytes | None = None,
    ) -> list[int]:
        """Numbers of the blocks that may have events with one term of each set (hashes, and where each set ends),
        between two times, of a group with a 1 in ``groups``."""
        words = (self.blocks + 63) // 64
        found = ffi.new("uint64_t[]", max(words, 1))
        ffi.memmove(found, b"\xff" * (8 * words), 8 * words)
        hashes, ends = terms
        if ends and self.rows and self.blocks:
            damaged = lib.archive_filter(
                self._filter, self.rows, self.blocks, ffi.new("uint32_t[]", hashes), ffi.new("uint32_t[]", ends),
                len(ends), found,
            )  # fmt: skip
            if damaged:
                self.notices.append(f"{self.name}: {damaged} rows of its index are damaged: more blocks are read")
        out = ffi.new("uint32_t[]", max(self.blocks, 1))
        low, high = (_EVER[0] if since is None else since), (_EVER[1] if until is None else until)
        wanted = ffi.NULL if groups is None else ffi.from_buffer("uint8_t[]", groups)
        count = lib.archive_pick(
            self._entries, self.blocks, found, low, high, wanted, len(groups or b""), out
        )  # fmt: skip
        return ffi.unpack(out, count) if count else []

    def _parts(self, number: int) -> tuple[Table, bytes, bytes]:
        """The table's frame, the table and the text of a block. Raises :class:`Damaged`."""
        e = self._entries[number]
        try:
            if e.offset + e.table + e.frame > self.size:
                raise Damaged("it is cut")
            table = unpack_table(self._view[e.offset : e.offset + e.table])
            if (table.size, table.events) != (e.size, e.events):
                raise Damaged("it is not what the index says")
            start = e.offset + e.table
            raw = zstd.decompress(self._decompressor, table.payload, table.raw)
            text = zstd.decompress(self._decompressor, self._view[start : start + e.frame], table.size)
            if len(text) != table.size or len(raw) != table.raw:
                raise Damaged("it is not what its table says")
        except Damaged as error:
            raise Damaged(f"{self.name}: block {number} is damaged ({error})") from error
        return table, raw, text

    def read(self, number: int) -> Contents:
        """A block. Raises :class:`Damaged`."""
        table, raw, text = self._parts(number)
        starts = array("I", bytes(4 * (table.events + 1)))
        positions, groups = array("I", bytes(4 * table.events)), array("I", bytes(4 * table.events))
        views = (ffi.from_buffer("uint32_t[]", one) for one in (starts, positions, groups))
        good = lib.archive_open(raw, len(raw), table.events, len(text), *views)
        if not good or max(groups, default=0) >= MAX_GROUPS:
            raise Damaged(f"{self.name}: block {number} is damaged (its table makes no sense)")
        return Contents(text, starts, positions, groups)

    def scatter(self, out: memoryview, start: int = 0, *, compare: bool = False) -> "Coverage":
        """Put the text from ``start`` on into ``out``; ``compare``: hold it against that instead. What is damaged or
        differs is reported in :attr:`notices` and stays away."""
        coverage = Coverage(len(out))
        window = ffi.new("struct archive_window *")
        window.out = target = ffi.from_buffer("char[]", out)
        window.covered, window.begin, window.len = coverage.c, start, len(out)
        for number in range(self.blocks):
            try:
                table, raw, text = self._parts(number)
            except Damaged as error:
                self.notices.append(str(error))
                continue
            if not lib.archive_scatter(raw, len(raw), table.events, text, len(text), window, compare):
                self.notices.append(f"{self.name}: block {number} is damaged (its text is not in its place)")
        del target
        return coverage

    def is_text(self, text: memoryview) -> bool:
        """Whether it holds exactly this."""
        coverage = self.scatter(text, compare=True)
        return not self.notices and coverage.whole

    def measure(self) -> bytes:
        """The digest of the file as it is now."""
        sha = hashlib.sha256()
        end, step = self.size - DIGEST, 1 << 20
        for at in range(0, end, step):
            sha.update(self._view[at : min(at + step, end)])
        return sha.digest()

    def close(self) -> None:
        """Close the file."""
        self._filter = None
        if self._map is not None:
            try:
                self._map.close()
            except BufferError:
                pass  # something of it is still held: it goes with that
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "Segment":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Coverage:
    """Which bytes of a window were filled."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.c: CData = ffi.new("uint8_t[]", length // 8 + 1)

    def runs(self) -> Iterator[tuple[int, int]]:
        """From where to where it was."""
        at = 0
        while (start := int(lib.archive_next(self.c, self.length, at, 1))) < self.length:
            at = int(lib.archive_next(self.c, self.length, start, 0))
            yield start, at

    @property
    def whole(self) -> bool:
        """All of them were."""
        return int(lib.archive_next(self.c, self.length, 0, 0)) == self.length
