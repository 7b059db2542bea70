"""Archives for the fuzzers: whatever stands in their files, they are read, or refused by an error that is meant for it.

Bytes alone would hardly pass a checksum, so what a segment says is put together here with the checksums that it needs,
and a catalogue is a good one of which some bytes, or rows, are others.
"""

import contextlib
import json
import sqlite3
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from auditns_connector.archive.catalogue import Catalogue
from auditns_connector.archive.check import check
from auditns_connector.archive.files import CATALOGUE, ArchiveFiles, segment_name
from auditns_connector.archive.index_terms import Term
from auditns_connector.archive.reader import Archive, Wanted
from auditns_connector.archive.seal import open_catalogue
from auditns_connector.archive.segment_layout import (
    ENTRY,
    FORMAT,
    HEAD_SIZE,
    NO_DIGEST,
    Head,
    Table,
    Trailer,
    pack_about,
    pack_head,
    pack_index,
    pack_table,
    pack_trailer,
)
from auditns_connector.archive.zstd import module
from auditns_connector.errors import AuditnsError

#: bytes of a segment's input that say how the rest is meant
_HEAD: Final = struct.Struct("<8B")
_TERMS: Final = ((Term("path", b"/etc/passwd"), Term("key", b"cat")), (Term("pid", b"7"),))
_TABLES: Final = ("segments", "pruned", "holders", "holdings", "aggregates", "serials", "parts")


def _place(folder: Path) -> Path:
    """An empty archive."""
    place = folder / "archive"
    place.mkdir(exist_ok=True)
    (place / "format").write_text(f"auditns archive {FORMAT}\n")
    for name in (segment_name(1), CATALOGUE, CATALOGUE + "-journal"):
        (place / name).unlink(missing_ok=True)
    return place


def _ask(place: Path) -> None:
    """All that an archive is asked."""
    with Archive(str(place)) as archive:
        for question in (archive.containers, archive.aggregates, archive.serials, archive.pruned):
            with contextlib.suppress(AuditnsError):
                question()
        wanted = Wanted(since=1, until=1 << 40, terms=_TERMS)
        nodes = Wanted(nodes=frozenset((b"",)), containers=frozenset((1, 2)))
        for one in (Wanted(), wanted, nodes):
            with contextlib.suppress(AuditnsError):
                for event in archive.events(one):
                    assert event.text
        with contextlib.suppress(AuditnsError):
            for text in archive.texts():
                assert len(text)
        with open(place / "format", "rb") as other:
            archive.sealed_upto(other.fileno())


def _look(place: Path) -> None:
    with contextlib.suppress(AuditnsError):
        _ask(place)
    with ArchiveFiles(str(place)) as files:
        check(files)
        with contextlib.suppress(AuditnsError):
            open_catalogue(files, lambda text: None).close()


def segment(data: bytes, folder: Path) -> None:
    """A segment of one block, whose checksums hold: table, text, what it says of itself, and a filter."""
    how, tables, texts, events, size, low, high, rows = _HEAD.unpack(data[: _HEAD.size].ljust(_HEAD.size, b"\0"))
    rest = data[_HEAD.size :]
    table, text, rest = rest[:tables], rest[tables : tables + 4 * texts], rest[tables + 4 * texts :]
    about, _, filters = rest.partition(b"\0")
    zstd = module().ZstdCompressor(level=1, write_content_size=bool(how & 1))
    frame = text if how & 2 else zstd.compress(text)
    length = (size if how & 4 else len(text)) & 0xFFFFFFFF
    packed = pack_table(Table(0, events, length, len(frame), len(table), zstd.compress(table)))
    entry = ENTRY.pack(HEAD_SIZE, low, high << 30, len(packed), len(frame), length, events, low, high)
    count = how >> 4 & 1 if how & 8 else 1
    said, row = pack_about(zstd.compress(about)), ((count + 63) // 64 + 1) * 8
    index = pack_index(entry * count, count, rows, filters.ljust(rows * row, b"\0")[: rows * row])
    begin = HEAD_SIZE + len(packed) + len(frame)
    end = pack_trailer(Trailer(1, begin, len(said), begin + len(said), len(index), NO_DIGEST, b""))
    place = _place(folder)
    whole = pack_head(Head(1, NO_DIGEST)) + packed + frame + said + index + end + bytes(32)
    (place / segment_name(1)).write_bytes(whole[: len(whole) - 40] if how & 32 else whole)
    _look(place)


_ABOUT: Final[dict[str, Any]] = {
    "seq": 1, "previous": "00" * 32, "length": 24, "records": 1, "events": 1, "blocks": 1, "dropped": 0, "host": "h",
    "boot": "b", "sealed": 1, "groups": [[1, "", "7", 1, 1, 1, 0, 24, 1, 2, 0, 0]], "serials": [["", 1, 2, 1, 1, 2]],
    "infos": [[0, 'contid="7" runtime="docker" ctr-name="x"']], "tallies": [[0, 1, "/bin/cat", 1, 1, 2]],
    "parts": [{"head": "x", "at": 0, "start": 0, "length": 24, "path": "/l", "dev": 1, "ino": 2}],
}  # fmt: skip


def segment_seeds() -> Iterator[bytes]:
    """Good ones, and some that are nearly so."""
    text, said = b"type=A msg=audit(1.0:1):", json.dumps(_ABOUT).encode()
    table = bytes((0, 0, len(text) << 2 & 127 | 128, len(text) << 2 >> 7))
    for how in (0, 1, 4, 8, 16, 24, 32, 64):
        yield _HEAD.pack(how, len(table), len(text) // 4, 1, len(text), 0, 1, 64) + table + text + said + b"\0\1\2"
    # a frame of 2^40 bytes, as it says
    claim = struct.pack("<IBQ", 0xFD2FB528, 0xE0, 1 << 40) + b"\1\0\0xxx"
    yield _HEAD.pack(2 | 4, len(table), len(claim) // 4, 1, 200, 0, 1, 1) + table + claim + said
    yield _HEAD.pack(1, 7, len(text) // 4, 1, 0, 0, 1, 1) + b"\xff\xff\xff\xff\x0f\0\x60" + text + b"[" * 3000


@cache
def _good_catalogue(folder: Path) -> bytes:
    path = folder / "good.sqlite"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA page_size = 512")
    db.close()
    catalogue = Catalogue(str(path), write=True)
    catalogue.add(1, _ABOUT, "00" * 32, 100)
    catalogue.commit()
    catalogue.close()
    return path.read_bytes()


def catalogue(data: bytes, folder: Path) -> None:
    """A catalogue: JSON is a list of rows that it has, ``[table, values]``; else three bytes each say where one of its
    bytes is another."""
    place = _place(folder)
    path = place / CATALOGUE
    found = bytearray(_good_catalogue(folder))
    if not data.startswith(b"["):
        for at, value in struct.iter_unpack("<HB", data[: len(data) // 3 * 3]):
            found[at % len(found)] = value
        path.write_bytes(found)
        _look(place)
        return
    path.write_bytes(found)
    refused = contextlib.suppress(ValueError, RecursionError, TypeError, sqlite3.Error, OverflowError)
    with refused, contextlib.closing(sqlite3.connect(path)) as db:
        for name, values in json.loads(data):
            if name in _TABLES:
                db.execute(f"DELETE FROM {name}")
                db.execute(f"INSERT INTO {name} VALUES ({','.join('?' * len(values))})", values)
                db.commit()
    _look(place)


def catalogue_seeds() -> Iterator[bytes]:
    """Bytes of it, and rows."""
    yield b""
    yield b"\x00\x02\xff\x10\x00\x00\x20\x08\x01"
    yield json.dumps([["segments", [1, "x", "y", None, "z", -1, 5, 5, 5, 5, 5, "h", "b"]]]).encode()
    yield json.dumps([["holders", [1, 99, "\u0100", "7", *[None] * 6, 1, 2, "3", 4, 5, 6]]]).encode()
    yield json.dumps([["holdings", [1, 1, 1 << 60, -1, 0, 0, 0]], ["parts", ["x", 1, None, 2, 3, 4, 5, 6]]]).encode()
    yield json.dumps([["aggregates", [1, 1, None, 1, 1, 1]], ["serials", [1, 5, 1, 2, 3, 4, "x"]]]).encode()
