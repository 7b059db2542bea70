"""What a segment file is, byte for byte. Pure.

A segment is a zstd file: what is not text stands in skippable frames, so that ``zstd -dc`` writes the text of all
blocks (grouped by container, not in its order). Numbers are little-endian.

========= ==================================================================================================
head      format, number of the segment, digest of the one before
block     a *table* frame, then a frame of text; one after the other, see below
about     JSON, compressed: groups, counts, serials, files; what the catalogue is made of
index     a row for each block, then the filter (``cdefs/archive/filter.c``)
trailer   where about and index are, the digest of the segment before, and that of all bytes before it (SHA-256)
========= ==================================================================================================

A block holds the events of one or more groups (containers), group by group, each in the order of the text. Its table
says where they belong. For each event: how much the number of its group is above the last one's; then for each part of
it, in LEB128, the distance of its place from the end of the part before (zigzag), and ``length << 2 | open << 1 |
more``. *open*: it does not end with a newline, and the block has one in its place; *more*: another part of the same
event follows. A table frame says how long the text's frame is, so blocks can be found when the index is lost.
"""

import struct
import zlib
from mmap import mmap
from typing import Final, NamedTuple

from auditns_connector.errors import AuditnsError

#: files of a later one are refused
FORMAT: Final = 1
#: magic and size of what a zstd reader skips
_SKIP: Final = struct.Struct("<II")
_SKIP_MAGIC: Final = 0x184D2A5A
_HEAD: Final = struct.Struct("<8sIIQ32s")
_HEAD_MAGIC: Final = b"AUDITNSS"
_TABLE: Final = struct.Struct("<4sIIIIII")
_TABLE_MAGIC: Final = b"ATBL"
_ABOUT_MAGIC: Final = b"ABOU"
_ABOUT: Final = struct.Struct("<4sI")
_INDEX: Final = struct.Struct("<4sIIII")
_INDEX_MAGIC: Final = b"AIDX"
_TRAILER: Final = struct.Struct("<4sIQQQQQ32s")
_TRAILER_MAGIC: Final = b"AEND"
DIGEST: Final = 32
TRAILER_SIZE: Final = _SKIP.size + _TRAILER.size + DIGEST
HEAD_SIZE: Final = _SKIP.size + _HEAD.size
#: bytes of a row of the index, struct archive_entry
ENTRY: Final = struct.Struct("<Qqq6I")
NO_DIGEST: Final = bytes(DIGEST)
#: more blocks, or more bytes in one, than any segment has
MAX_BLOCKS: Final = 1 << 16
MAX_BLOCK: Final = 1 << 27
#: or more groups; and more bytes of JSON about it
MAX_GROUPS: Final = 1 << 22
MAX_ABOUT: Final = 1 << 30
#: places in its text are numbers of 32 bits
MAX_LENGTH: Final = 1 << 32


class Damaged(AuditnsError):
    """It is not what was written."""


class LaterVersionError(AuditnsError):
    """A later version wrote it."""


class Head(NamedTuple):
    """The first frame: number of the segment, digest of the one before."""

    seq: int
    previous: bytes


class Table(NamedTuple):
    """The frame in front of a block's text: ``payload`` is the compressed table, ``raw`` its length; ``size`` bytes of
    text in a frame of ``frame`` bytes."""

    number: int
    events: int
    size: int
    frame: int
    raw: int
    payload: bytes


class Trailer(NamedTuple):
    """The last frame: where about and index begin and how long they are (bytes, their frames' heads included)."""

    seq: int
    about_at: int
    about_size: int
    index_at: int
    index_size: int
    previous: bytes
    digest: bytes


def skippable(payload: bytes) -> bytes:
    """A frame that readers of zstd skip."""
    return _SKIP.pack(_SKIP_MAGIC, len(payload)) + payload


def skipped(data: bytes | memoryview | mmap, offset: int = 0) -> int:
    """The length of the skippable frame at ``offset``, its head included. Raises :class:`Damaged`."""
    if len(data) - offset < _SKIP.size:
        raise Damaged("a frame is cut")
    magic, size = _SKIP.unpack_from(data, offset)
    if magic != _SKIP_MAGIC:
        raise Damaged("a frame is missing")
    return int(size) + _SKIP.size


def _later(version: int) -> None:
    if version > FORMAT:
        raise LaterVersionError(f"made by a later version (format {version}, this one reads {FORMAT})")


def pack_head(head: Head) -> bytes:
    """The first frame."""
    return skippable(_HEAD.pack(_HEAD_MAGIC, FORMAT, 0, head.seq, head.previous))


def unpack_head(data: bytes) -> Head:
    """Raises :class:`Damaged`, :class:`LaterVersionError`."""
    if len(data) < HEAD_SIZE or skipped(data) != HEAD_SIZE:
        raise Damaged("no segment begins here")
    magic, version, _, seq, previous = _HEAD.unpack_from(data, _SKIP.size)
    if magic != _HEAD_MAGIC:
        raise Damaged("this is no segment")
    _later(version)
    return Head(seq, previous)


def pack_table(table: Table) -> bytes:
    """The frame in front of a block's text."""
    numbers = (table.number, table.events, table.size, table.frame, table.raw)
    check = zlib.crc32(table.payload, zlib.crc32(struct.pack("<5I", *numbers)))
    return skippable(_TABLE.pack(_TABLE_MAGIC, *numbers, check) + table.payload)


def unpack_table(data: bytes | memoryview) -> Table:
    """Of the whole frame. Raises :class:`Damaged`."""
    if skipped(data) != len(data) or len(data) < _SKIP.size + _TABLE.size:
        raise Damaged("the table of a block is cut")
    magic, *numbers, check = _TABLE.unpack_from(data, _SKIP.size)
    payload = bytes(data[_SKIP.size + _TABLE.size :])
    if magic != _TABLE_MAGIC or zlib.crc32(payload, zlib.crc32(struct.pack("<5I", *numbers))) != check:
        raise Damaged("the table of a block is damaged")
    number, events, size, frame, raw_size = numbers
    table = Table(number, events, size, frame, raw_size, payload)
    if max(table.size, table.frame, table.raw) > MAX_BLOCK or table.events > table.size:
        raise Damaged("the table of a block makes no sense")
    return table


def pack_about(payload: bytes) -> bytes:
    """``payload`` is compressed JSON."""
    return skippable(_ABOUT.pack(_ABOUT_MAGIC, zlib.crc32(payload)) + payload)


def unpack_about(data: bytes | memoryview) -> bytes:
    """The compressed JSON of the whole frame. Raises :class:`Damaged`."""
    if skipped(data) != len(data) or len(data) < _SKIP.size + _ABOUT.size:
        raise Damaged("what it says of itself is cut")
    magic, check = _ABOUT.unpack_from(data, _SKIP.size)
    payload = bytes(data[_SKIP.size + _ABOUT.size :])
    if magic != _ABOUT_MAGIC or zlib.crc32(payload) != check:
        raise Damaged("what it says of itself is damaged")
    return payload


def pack_index(entries: bytes, blocks: int, rows: int, filters: bytes) -> bytes:
    """``entries`` are ``blocks`` rows of :data:`ENTRY`."""
    head = _INDEX.pack(_INDEX_MAGIC, blocks, rows, zlib.crc32(entries), len(filters) & 0xFFFFFFFF)
    return skippable(head + entries + filters)


class Index(NamedTuple):
    """``filter_at`` is where in the frame the filter begins."""

    blocks: int
    rows: int
    entries: bytes
    filter_at: int


def unpack_index(data: bytes | memoryview) -> Index:
    """Of the whole frame. Raises :class:`Damaged`."""
    start = _SKIP.size + _INDEX.size
    if skipped(data) != len(data) or len(data) < start:
        raise Damaged("the index is cut")
    magic, blocks, rows, check, filter_size = _INDEX.unpack_from(data, _SKIP.size)
    end = start + blocks * ENTRY.size
    row = ((blocks + 63) // 64 + 1) * 8
    if magic != _INDEX_MAGIC or blocks > MAX_BLOCKS or end + filter_size != len(data) or rows * row != filter_size:
        raise Damaged("the index is damaged")
    entries = bytes(data[start:end])
    if zlib.crc32(entries) != check:
        raise Damaged("the index is damaged")
    return Index(blocks, rows, entries, end)


def pack_trailer(trailer: Trailer) -> bytes:
    """The last frame without its digest, which comes behind."""
    body = _TRAILER.pack(_TRAILER_MAGIC, FORMAT, *trailer[:5], trailer.previous)
    return _SKIP.pack(_SKIP_MAGIC, len(body) + DIGEST) + body


def unpack_trailer(data: bytes) -> Trailer:
    """Of the last TRAILER_SIZE bytes. Raises :class:`Damaged`, :class:`LaterVersionError`."""
    if len(data) != TRAILER_SIZE or skipped(data) != TRAILER_SIZE:
        raise Damaged("its end is missing")
    magic, version, *numbers, previous = _TRAILER.unpack_from(data, _SKIP.size)
    if magic != _TRAILER_MAGIC:
        raise Damaged("its end is damaged")
    _later(version)
    seq, about, about_size, index, index_size = numbers
    return Trailer(seq, about, about_size, index, index_size, previous, bytes(data[-DIGEST:]))
