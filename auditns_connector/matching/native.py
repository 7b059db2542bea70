"""The C of cdefs/query: bytes in text, distinct values of fields, whole events."""

import mmap
import os
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.vocabulary.values import CData, JsonObject

#: what :func:`who` says of a process
WHO_HOST: Final = int(lib.AUDITNS_WHO_HOST)
WHO_UNCLEAR: Final = int(lib.AUDITNS_WHO_UNCLEAR)
WHO_FIRST: Final = int(lib.AUDITNS_WHO_FIRST)

#: where a field stands in a body, and what is done with it
KERNEL: Final = int(lib.AUDITNS_FIELD_KERNEL)
MESSAGE: Final = int(lib.AUDITNS_FIELD_MESSAGE)
JOINED: Final = int(lib.AUDITNS_FIELD_JOINED)
PREFIX: Final = int(lib.AUDITNS_FIELD_PREFIX)

_NONE: Final = 0xFFFFFFFF
_NARROW: Final = -2
_NO_MEMORY: Final = -3


class Needles:
    """Byte strings that are looked for together."""

    def __init__(self, needles: Sequence[bytes]) -> None:
        self.needles = tuple(sorted(set(needles)))
        self._text = b"".join(self.needles)
        self._off = ffi.new("uint32_t[]", list(accumulate(map(len, self.needles), initial=0)))

    def find(self, block: bytes | memoryview) -> int:
        """Where the first of them stands; -1: nowhere."""
        where = ffi.from_buffer(block)
        return int(lib.auditns_find(where, len(block), self._text, self._off, len(self.needles)))

    @property
    def c_parts(self) -> tuple[bytes, CData, int]:
        """As the C functions take them: one behind the other, where each begins, and how many."""
        return self._text, self._off, len(self.needles)

    def stands_in(self, block: bytes | memoryview) -> bool:
        """Whether one of them stands in ``block``."""
        return self.find(block) >= 0


def has_time(block: bytes | memoryview, since: int, until: int) -> bool:
    """Whether a record in ``block`` may be of a time between two (seconds since 1970, both included)."""
    return bool(lib.auditns_has_time(ffi.from_buffer(block), len(block), since, until))


class Strings:
    """Distinct texts, numbered from 1."""

    def __init__(self) -> None:
        seed = int.from_bytes(os.urandom(8), "little")
        self.c: CData = ffi.gc(lib.auditns_strings_new(seed), lib.auditns_strings_free)
        self._len = ffi.new("uint32_t *")
        if not self.c:
            raise MemoryError("no memory for distinct values")

    def __len__(self) -> int:
        return int(lib.auditns_strings_count(self.c))

    def __getitem__(self, number: int) -> bytes:
        text = lib.auditns_strings_text(self.c, number, self._len)
        return bytes(ffi.buffer(text, self._len[0]))

    def clear(self) -> None:
        """Forget all; numbers begin at 1 again."""
        lib.auditns_strings_clear(self.c)


def who(points: InsertionPoints, strings: Strings) -> "array[int]":
    """For each point whose its process is by the records of ours in its event: WHO_HOST, WHO_UNCLEAR, or WHO_FIRST and
    a number of ``strings`` less 1, whose text is contid, NUL, entry."""
    found = array("I", bytes(4 * points.n))
    if found and not lib.auditns_who(points.c, strings.c, ffi.from_buffer("uint32_t[]", found)):
        raise MemoryError("no memory for distinct containers")
    return found


class Events(NamedTuple):
    """Whole events, one row each: the number that lines and points have, the first line and how many, time (ms since
    1970), serial, and 1 where there is a record of ours, 2 where that is the event, 3 where nothing but ours is here of
    an event."""

    number: "array[int]"
    first: "array[int]"
    lines: "array[int]"
    ms: "array[int]"
    serial: "array[int]"
    own: bytes


def events_of(points: InsertionPoints) -> Events:
    """The ready events, which must be whole ones."""
    room = points.line_n
    columns = [array(code, bytes(size * room)) for code, size in (("I", 4), ("I", 4), ("I", 4), ("q", 8), ("Q", 8))]
    own = bytearray(room)
    count = 0
    if room:
        types = ("uint32_t[]", "uint32_t[]", "uint32_t[]", "int64_t[]", "uint64_t[]")
        views = [ffi.from_buffer(ctype, column) for ctype, column in zip(types, columns, strict=True)]
        count = int(lib.auditns_query_events(points.c, *views, ffi.from_buffer("uint8_t[]", own)))
    number, first, lines, ms, serial = (column[:count] for column in columns)
    return Events(number, first, lines, ms, serial, bytes(own[:count]))


class Field(NamedTuple):
    """A field that is looked for: its name, the number of its column, where it stands, and in records of which
    types."""

    name: str
    column: int
    where: int
    types: frozenset[int]


class Values:
    """The values of ``fields`` in whole events; ``argv`` is the column of their arguments, None where these are not
    wanted. The values of each column are numbered for themselves, in :attr:`strings`."""

    def __init__(self, fields: Sequence[Field], columns: int, argv: int | None = None) -> None:
        self.strings = [Strings() for _ in range(columns)]
        self._c: CData = ffi.new("struct auditns_values *")
        of_type = memoryview(mmap.mmap(-1, 8 << 16)).cast("Q")  # of which little is used, and each rule has one
        self._field: CData = ffi.new("struct auditns_field[]", max(len(fields), 1))
        self._names = []
        for i, field in enumerate(fields):
            name = ffi.new("char[]", field.name.encode("ascii"))
            self._names.append(name)
            self._field[i] = {"name": name, "len": len(field.name), "column": field.column, "where": field.where}
            for number in field.types:
                of_type[number] |= 1 << i
        self._arrays: JsonObject = {"of_type": of_type}
        self._c.of_type = ffi.from_buffer("uint64_t[]", of_type)
        self._c.field, self._c.fields = self._field, len(fields)
        self._c.argv = _NONE if argv is None else argv
        for i, strings in enumerate(self.strings):
            self._c.strings[i] = strings.c
        self._grow(4096)
        self._widen(1 << 20)

    def _grow(self, cap: int) -> None:
        for name, ctype in (("event", "uint32_t[]"), ("number", "uint32_t[]"), ("column", "uint8_t[]")):
            self._arrays[name] = ffi.new(ctype, cap)
            setattr(self._c, name, self._arrays[name])
        self._c.cap = cap

    def _widen(self, size: int) -> None:
        self._arrays["room"] = self._c.room = ffi.new("char[]", size)
        self._c.room_len = size

    def read(self, points: InsertionPoints) -> None:
        """Take in the values of the ready events; those before are dropped."""
        while rc := int(lib.auditns_values(self._c, points.c)):
            if rc == _NO_MEMORY:
                raise MemoryError("no memory for distinct values")
            if rc == _NARROW:
                self._widen(2 * self._c.room_len)
            else:
                self._grow(4 * self._c.cap)

    def rows(self) -> "zip[tuple[int, int, int]]":
        """Event (its row in :class:`Events`), column and number of each value, in the order of the text."""
        n = self._c.n
        return zip(
            *(ffi.unpack(self._arrays[name], n) if n else () for name in ("event", "column", "number")), strict=True
        )

    def good(self, column: int, verdict: bytearray, events: int) -> bytearray:
        """One byte for each of ``events``: 1 for those with a value whose number has a 1 in ``verdict``."""
        found = bytearray(events)
        if events and self._c.n:
            lib.auditns_values_good(
                self._c, column, ffi.from_buffer("uint8_t[]", verdict), ffi.from_buffer("uint8_t[]", found)
            )
        return found


#: so many new lines are handed over at once
_INFOS: Final = 4096


class NewInfos:
    """Finds the CONTAINER_INFO records of a text that say what none before has said."""

    def __init__(self) -> None:
        self._seen: CData = ffi.new("struct auditns_seen *")
        self._next, self._own = ffi.new("uint64_t *"), ffi.new("uint32_t *")
        self._found = ffi.new("uint64_t[]", _INFOS)

    @property
    def own(self) -> bool:
        """There was a record of ours, of whatever type."""
        return bool(self._own[0])

    def lines(self, block: bytes | memoryview) -> list[bytes]:
        """The lines of such records in ``block``, which are whole ones."""
        where, size = ffi.from_buffer(block), len(block)
        found: list[bytes] = []
        self._next[0] = 0
        while self._next[0] < size:
            count = lib.auditns_infos(where, size, self._seen, self._next, self._own, self._found, _INFOS)
            for start in ffi.unpack(self._found, count) if count else ():
                end = lib.auditns_find(where + start, size - start, b"\n", [0, 1], 1)
                found.append(bytes(block[start : size if end < 0 else start + end]))
        return found
