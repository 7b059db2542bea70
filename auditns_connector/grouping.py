"""Points of a block by process, so that each process is asked for once: the C of cdefs/text_group.c."""

import os
from typing import Any, Final

from ._text import ffi, lib
from .reassemble import Points

#: odd, and known to nobody: pids cannot be chosen so that looking them up takes long
_SEED: Final = int.from_bytes(os.urandom(8), "little") | 1


class Groups:
    """The groups of the last :meth:`find`; what its lists say holds until the next one."""

    def __init__(self) -> None:
        self._c: Any = ffi.new("struct auditns_groups *", {"seed": _SEED})
        self._arrays: dict[str, Any] = {}
        self._count = 0
        self._grow(1024)

    def _grow(self, cap: int) -> None:
        for name, ctype, size in (
            *((name, "uint32_t[]", cap) for name in ("first", "count", "group")),
            *((name, "int64_t[]", cap) for name in ("low", "high")),
            ("slots", "uint32_t[]", 4 * cap),
        ):
            self._arrays[name] = ffi.new(ctype, size)
            setattr(self._c, name, self._arrays[name])
        self._c.cap = cap

    def find(self, points: Points, first: int, end: int, alone: int) -> int:
        """Group ``points`` from ``first`` up to ``end`` by pid, in the order of their first points; one that has a flag
        of ``alone``, or no pid above 0, is a group of its own. Returns how many groups there are."""
        if end - first > self._c.cap:
            self._grow(2 * (end - first))
        self._count = int(lib.auditns_group(self._c, points.c, first, end, alone))
        return self._count

    def _column(self, name: str) -> list[int]:
        return ffi.unpack(self._arrays[name], self._count) if self._count else []

    def rows(self) -> "zip[tuple[int, int, int, int]]":
        """Of each group: its first point, how many it has, and between which times (ms) they lie."""
        return zip(*map(self._column, ("first", "count", "low", "high")), strict=True)

    def of_points(self, count: int) -> list[int]:
        """The number of its group for each of the first ``count`` points."""
        return ffi.unpack(self._arrays["group"], count) if count else []

    def spread(self, numbers: Any, count: int, choice: Any, first: int) -> list[int]:
        """Put into ``choice``, from ``first`` on, for each of the first ``count`` points what ``numbers`` has for its
        group (both arrays of typecode I). Returns for each group how many of these points it has."""
        if not count:
            return []
        lib.auditns_spread(
            self._c, ffi.from_buffer("uint32_t[]", numbers), self._count, count,
            ffi.from_buffer("uint32_t[]", choice) + first,
        )  # fmt: skip
        return self._column("count")
