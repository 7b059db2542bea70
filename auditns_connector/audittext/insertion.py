"""The chosen texts, put into audit text at its points."""

import functools
from array import array
from collections.abc import Sequence
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.memory import SMALL, fresh
from auditns_connector.audittext.points import InsertionPoints
from auditns_connector.vocabulary.values import CData

#: msg=audit(1700000000.000:1234567):
_HEADER: Final = 40


class RecordTexts:
    """The texts that may be inserted, numbered from 1; number 0 inserts nothing.

    In a text a byte 0 stands for the point's ``msg=audit(…):`` and a byte 1 for its ``node=HOST `` (or nothing).
    """

    __slots__ = ("_c", "_headers", "_keep", "_nodes", "_off", "_text", "count", "most")

    def __init__(self, texts: Sequence[bytes] = ()) -> None:
        self.clear()
        for text in texts:
            self.add(text)

    def clear(self) -> None:
        """Forget all; numbers begin at 1 again."""
        self._text = bytearray()
        self._off = array("I", [0])
        self._headers = bytearray()
        self._nodes = bytearray()
        self.count = 0
        #: as many bytes as one of them has at most, where headers are no longer than auditd's
        self.most = 0
        self._c: CData = None
        self._keep: CData = None

    def add(self, text: bytes) -> int:
        """Add a text (whole lines, newlines included) and return its number."""
        self._c = self._keep = None
        headers, nodes = text.count(0), text.count(1)
        if headers > 255 or nodes > 255 or len(self._text) + len(text) >= 1 << 31:
            raise ValueError("a text for insertion is too large")
        self._text += text
        self._off.append(len(self._text))
        self._headers.append(headers)
        self._nodes.append(nodes)
        self.count += 1
        self.most = max(self.most, len(text) + headers * _HEADER)
        return self.count

    def text(self, number: int) -> bytes:
        """The text of that number."""
        return bytes(self._text[self._off[number - 1] : self._off[number]])

    def c_struct(self) -> CData:
        """The same as the C functions take it; valid until the next ``add``."""
        if self._c is None:
            parts = [ffi.from_buffer(b) for b in (self._text, self._off, self._headers, self._nodes)]
            tails = ffi.new("struct auditns_tails *")
            tails.text = ffi.cast("const char *", parts[0])
            tails.off = ffi.cast("const uint32_t *", parts[1])
            tails.headers = ffi.cast("const uint8_t *", parts[2])
            tails.nodes = ffi.cast("const uint8_t *", parts[3])
            tails.count = self.count
            self._c, self._keep = tails, parts
        return self._c


def assemble(
    points: InsertionPoints,
    choice: Sequence[int],
    tails: RecordTexts | Sequence[bytes],
    keep: bytes | bytearray | None = None,
    keep_first: int = 0,
) -> bytes:
    """The text that is handed out, with the chosen tail put in at every point.

    ``choice[i]`` is a number of ``tails``, 0 for nothing (a plain sequence is numbered from 1 as well). With
    ``keep``, one byte for each event from number ``keep_first`` on, only the lines of events whose byte is not 0
    are written: the filters work so. Foreign and late lines then go too.
    """
    if not isinstance(tails, RecordTexts):
        tails = RecordTexts(tails)
    chosen = choice if isinstance(choice, array) and choice.typecode == "I" else array("I", choice)
    if len(chosen) != points.n:
        raise ValueError(f"{len(chosen)} choices for {points.n} points")
    return bytes(insert_records(points, chosen, tails, keep, keep_first))


def insert_records(
    points: InsertionPoints,
    chosen: "array[int]",
    tails: RecordTexts,
    keep: bytes | bytearray | None = None,
    keep_first: int = 0,
    *,
    lasting: bool = False,
) -> bytes | memoryview:
    """As :func:`assemble`, but what is returned holds only until the next call for the same ``points``, unless it is to
    be ``lasting``."""
    if keep is None and not points.c.listed and not any(chosen):
        text = points.block[points.c.out_from : points.consumed]
        return bytes(text) if lasting else text
    buf = points.c.buf
    picks = ffi.from_buffer("uint32_t[]", chosen)
    kept = ffi.NULL if keep is None else ffi.from_buffer("uint8_t[]", keep)
    args = (buf, points.consumed, points.c, picks, tails.c_struct(), kept, keep_first, 0 if keep is None else len(keep))
    plain = keep is None and not points.c.listed
    room = points.size + points.n * tails.most if plain else lib.auditns_assemble(*args, ffi.NULL, 0)
    own = lasting and room > SMALL
    new = functools.partial(fresh, "char[]") if own else points.out
    out = new(room)
    size = lib.auditns_assemble(*args, out, room)
    if size > room:  # headers may be longer than auditd's
        out = new(size)
        lib.auditns_assemble(*args, out, size)
    if lasting and not own:
        copy: bytes = ffi.buffer(out, size)[:]
        return copy
    return memoryview(ffi.buffer(out, size))
