"""Points of a block by process, so that each process is asked for once, and what filters do to whole blocks: the C of
cdefs/attribution/group.c."""

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, TypeVar

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.vocabulary.values import CData, JsonObject

#: odd and random: pids cannot be chosen so that looking them up takes long
#: 0 for 1 and 1 for 0
_NOT: Final = bytes((1, 0)) + bytes(254)
_Column = TypeVar("_Column", bytes, bytearray)
_SEED: Final = int.from_bytes(os.urandom(8), "little") | 1


class Groups:
    """The groups of the last :meth:`find`; what its lists say holds until the next one."""

    def __init__(self) -> None:
        self._c: CData = ffi.new("struct auditns_groups *", {"seed": _SEED})
        self._arrays: JsonObject = {}
        self._which: tuple[CData, int] = (None, 0)
        self._count = 0
        self._grow(1024)

    def _grow(self, cap: int) -> None:
        for name, ctype, size in (
            *((name, "uint32_t[]", cap) for name in ("first", "count", "flags", "group")),
            *((name, "int64_t[]", cap) for name in ("low", "high")),
            ("pid", "int32_t[]", cap),
            ("slots", "uint32_t[]", 4 * cap),
        ):
            self._arrays[name] = ffi.new(ctype, size)
            setattr(self._c, name, self._arrays[name])
        self._c.cap = cap

    def find(self, points: InsertionPoints, which: CData, count: int, alone: int) -> int:
        """Group the first ``count`` points of ``which`` (their numbers, ascending) by pid, in the order of their first
        points; one that has a flag of ``alone``, or no pid above 0, is a group of its own. Returns how many groups
        there are."""
        if count > self._c.cap:
            self._grow(2 * count)
        self._c.which, self._which = which, (which, count)
        self._count = int(lib.auditns_group(self._c, points.c, count, alone))
        return self._count

    def _column(self, name: str) -> list[int]:
        return ffi.unpack(self._arrays[name], self._count) if self._count else []

    def rows(self) -> "zip[tuple[int, int, int, int, int, int]]":
        """Of each group: its first point, that one's pid and flags, how many it has, and between which times (ms) they
        lie."""
        return zip(*map(self._column, ("first", "pid", "flags", "count", "low", "high")), strict=True)

    def before(self, i: int) -> int:
        """How many of the points that were grouped come before point ``i``."""
        return bisect_left(ffi.unpack(*self._which), i)

    def spread(self, numbers: CData, count: int, choice: CData) -> None:
        """Put into ``choice``, for each of the first ``count`` points that were grouped, what ``numbers`` has for its
        group (both arrays of typecode I)."""
        if count:
            lib.auditns_spread(
                self._c, ffi.from_buffer("uint32_t[]", numbers), count, ffi.from_buffer("uint32_t[]", choice)
            )


def pick_numbers(which: "array[int]", numbers: "array[int]") -> "array[int]":
    """What ``numbers`` has at each place of ``which`` (all of typecode I, each place below the length)."""
    found = array("I", bytes(4 * len(which)))
    if found:
        lib.auditns_pick_numbers(
            ffi.from_buffer("uint32_t[]", which), len(which), ffi.from_buffer("uint32_t[]", numbers),
            ffi.from_buffer("uint32_t[]", found),
        )  # fmt: skip
    return found


def take_marked(choice: "array[int]", which: Iterable[int], mark: int) -> list[int]:
    """The places of ``which`` at which ``choice`` has ``mark``, and 0 from now on."""
    found = [i for i in which if choice[i] == mark]
    for i in found:
        choice[i] = 0
    return found


#: of a key: it must be looked at
UNCLEAR: Final = int(lib.AUDITNS_KEY_UNCLEAR)


def sequence_end(points: InsertionPoints, first: int, most: int, apart: bytes) -> int:
    """Up to where the points from ``first`` on are of events of which none is missing in between, the one with the
    highest serial last, all below ``most``, with the same in front of their records, and no type that has a 1 in
    ``apart`` (65536 bytes). On the way they may have another order: see cdefs/attribution/group.h."""
    return int(lib.auditns_sequence(points.c, first, most, apart))


def event_numbers(points: InsertionPoints) -> tuple[int, int]:
    """The number of the first event that the ready lines are of, and how many numbers there are from it to the last."""
    first, count = ffi.new("uint32_t *"), ffi.new("uint32_t *")
    lib.auditns_events(points.c, first, count)
    return first[0], count[0]


def find_keys(points: InsertionPoints, keys: list[bytes]) -> bytearray:
    """For each point 1 where its key is one of ``keys``, 0 where it is not or has none, UNCLEAR where it is not plainly
    quoted."""
    found = bytearray(points.n)
    off = array("I", accumulate(map(len, keys), initial=0))
    if found:
        lib.auditns_keys(
            points.c, ffi.from_buffer(points.block), b"".join(keys), ffi.from_buffer("uint32_t[]", off), len(keys),
            ffi.from_buffer("uint8_t[]", found),
        )  # fmt: skip
    return found


def pick(choice: "array[int]", table: bytearray) -> bytearray:
    """What ``table`` has for each number of ``choice`` (typecode I, each below the table's length)."""
    found = bytearray(len(choice))
    if found:
        lib.auditns_pick(
            ffi.from_buffer("uint32_t[]", choice), len(choice), ffi.from_buffer("uint8_t[]", table),
            ffi.from_buffer("uint8_t[]", found),
        )  # fmt: skip
    return found


def keep_events(points: InsertionPoints, good: bytes, first: int, count: int) -> bytearray:
    """One byte for each of ``count`` events from number ``first`` on: 1 for those with a ``good`` point."""
    kept = bytearray(count)
    if count:
        lib.auditns_keep(points.c, good, first, count, ffi.from_buffer("uint8_t[]", kept))
    return kept


def keep_types(points: InsertionPoints, types: bytes, first: int, count: int) -> bytearray:
    """The same for those with a record whose type has a 1 in ``types`` (65536 bytes)."""
    kept = bytearray(count)
    if count:
        lib.auditns_keep_types(points.c, types, first, count, ffi.from_buffer("uint8_t[]", kept))
    return kept


def inverted(column: _Column) -> _Column:
    """``column`` with 0 for 1 and 1 for 0."""
    return column.translate(_NOT)
