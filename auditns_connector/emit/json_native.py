"""Answered points as JSON lines, by the C of ``cdefs/json/json.c``; render.py with jsonout.py is the reference."""

import os
from array import array
from collections.abc import Mapping
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.insertion import RecordTexts
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.emit.fields import NUMERIC, UNTRUSTED
from auditns_connector.vocabulary.values import CData

_KINDS: Final = {
    **dict.fromkeys(sorted(NUMERIC), lib.AUDITNS_JSON_NUMERIC),
    **dict.fromkeys(sorted(UNTRUSTED), lib.AUDITNS_JSON_UNTRUSTED),
}
#: in a text, in place of which process it is about
WHICH: Final = chr(lib.AUDITNS_JSON_WHICH)
_names: Final = ffi.new("char[]", b"\0".join(name.encode("ascii") for name in _KINDS) + b"\0")
_kinds: Final = ffi.new("uint8_t[]", list(_KINDS.values()))
lib.auditns_json_names(_names, _kinds, len(_KINDS))


def _returned(made: Mapping[int, int], n: int) -> CData:
    if not made:
        return ffi.NULL
    found = array("i", [-1]) * n
    for i, child in made.items():
        found[i] = child
    return ffi.from_buffer("int32_t[]", found)


class JsonLines:
    """The buffers of the C, used again and again."""

    def __init__(self, silent: CData = ffi.NULL) -> None:
        """``silent``: which records are left out (see auditns_json_silent)."""
        self.c: CData = ffi.gc(lib.auditns_json_new(int.from_bytes(os.urandom(4), "little")), lib.auditns_json_free)
        self._out: CData = ffi.new("char **")
        if not self.c:
            raise MemoryError("no memory for JSON output")
        self._silent = silent
        lib.auditns_json_silent(self.c, silent)

    def lines(
        self,
        points: InsertionPoints,
        who: "array[int]",
        made: Mapping[int, int],
        texts: RecordTexts,
        keep: bytes | bytearray | None,
        first: int,
        alone: "array[int] | None" = None,
        starts: CData = ffi.NULL,
    ) -> memoryview:
        """One line for each event, all of which hold until the next call; ``who`` is for each point a number of
        ``texts``, 0 for a process of the host; ``made`` has for those of clones what they returned (0: not known);
        ``starts`` when processes began (ns), for those whose texts have a
        :data:`WHICH`; ``alone`` has pairs, in the order of the lines: the number of an event, and that of what is said
        of it instead.

        ``keep`` and ``first`` as in :func:`scanner.assemble`. The events must be whole ones.
        """
        if len(who) != points.n:
            raise ValueError(f"{len(who)} answers for {points.n} points")
        if not points.c.listed and points.line_n:
            raise ValueError("JSON is made of whole events")
        whose = ffi.NULL if alone is None else ffi.from_buffer("uint32_t[]", alone)
        size = lib.auditns_json(
            self.c, ffi.from_buffer(points.block), points.c,
            ffi.from_buffer("uint32_t[]", who), starts, _returned(made, points.n),
            whose, len(alone or ()) // 2, texts.c_struct(),
            ffi.NULL if keep is None else ffi.from_buffer("uint8_t[]", keep), first, len(keep or b""), self._out,
        )  # fmt: skip
        if size < 0:
            raise MemoryError("no memory for JSON output")
        return memoryview(ffi.buffer(self._out[0], size))


class OfRows:
    """What the C needs that makes JSON of events which rows answer (cdefs/json/rows.h); ``json`` and ``numbers`` are
    its struct auditns_json and row_texts."""

    def __init__(self, json: CData, numbers: CData) -> None:
        self._held = json, numbers
        self._texts: CData = None
        self.c: CData = ffi.new("struct json_rows *", {"json": json, "numbers": numbers})

    def use(self, texts: RecordTexts) -> None:
        """The numbers are of ``texts``, as they are now."""
        self.c.texts = self._texts = texts.c_struct()
