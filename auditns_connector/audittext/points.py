"""The points and lines of audit text that a scan has found: arrays that the C fills. What each column means is written
in vocabulary/audit_text.py."""

from codecs import BOM_UTF8
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.type_names import type_names
from auditns_connector.vocabulary.audit_text import MAX_LINE
from auditns_connector.vocabulary.values import CData, JsonObject

_POINT_FIELDS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("ms", "exit"), ("int64_t[]", "q")),
    "serial": ("uint64_t[]", "Q"),
    **dict.fromkeys(
        ("flags", "at", "hdr_off", "node_off", "line_off", "aux1_off", "aux2_off", "key_off", "event", "arch",
         "aux1_len", "aux2_len", "key_len", "lead_len", "trail_off", "trail_len", "origin"),
        ("uint32_t[]", "I"),
    ),
    **dict.fromkeys(("pid", "ppid", "sysno"), ("int32_t[]", "i")),
    **dict.fromkeys(("hdr_len", "node_len", "rtype", "recno"), ("uint16_t[]", "H")),
}  # fmt: skip
_LINE_FIELDS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("l_off", "l_len", "l_event", "l_body"), ("uint32_t[]", "I")),
    "l_type": ("uint16_t[]", "H"),
}


_TYPES: Final = type_names()


class Range(NamedTuple):
    """The least and the greatest time (ms) and serial of some points; ``complete``: every serial between
    is there, and they are MAX_RANGE at most. Of no points the least are above the greatest."""

    first_ms: int
    last_ms: int
    low: int
    high: int
    complete: bool


class InsertionPoints:
    """The points and lines that the last scan decided: arrays of which the first ``n`` (``line_n``) count.

    The arrays and ``block`` are reused: what is wanted later must be taken before the next scan. For a large
    block, ``points.pid[: points.n].tolist()`` is the quick way through.
    """

    ms: memoryview
    exit: memoryview
    serial: memoryview
    flags: memoryview
    at: memoryview
    hdr_off: memoryview
    hdr_len: memoryview
    node_off: memoryview
    node_len: memoryview
    line_off: memoryview
    aux1_off: memoryview
    aux1_len: memoryview
    aux2_off: memoryview
    aux2_len: memoryview
    key_off: memoryview
    key_len: memoryview
    lead_len: memoryview
    trail_off: memoryview
    trail_len: memoryview
    origin: memoryview
    event: memoryview
    arch: memoryview
    pid: memoryview
    ppid: memoryview
    sysno: memoryview
    rtype: memoryview
    recno: memoryview
    l_off: memoryview
    l_event: memoryview
    l_body: memoryview
    l_len: memoryview
    l_type: memoryview

    def __init__(self) -> None:
        self.n = 0
        self.line_n = 0
        #: so much of the block is not needed any more
        self.released = 0
        self.c: CData = ffi.new("struct auditns_points *")
        #: what holds the block's memory
        self.keep: CData = None
        self._arrays: JsonObject = {}
        self._out: CData = None
        self._range: CData = ffi.new("struct auditns_range *")

    @property
    def block(self) -> memoryview:
        """The text that the offsets count in."""
        return memoryview(ffi.buffer(self.c.buf, self.c.len)) if self.c.len else memoryview(b"")

    def over(self, block: bytes | bytearray | memoryview) -> None:
        """The offsets are to count in ``block``."""
        self.keep = ffi.from_buffer("char[]", block)
        self.c.buf, self.c.len = self.keep, len(block)

    @property
    def consumed(self) -> int:
        """Up to where in the block lines have been handed out, these included."""
        return int(self.c.out_end)

    @property
    def size(self) -> int:
        """How many bytes of text are handed out: those in front of :attr:`consumed`."""
        return int(self.c.out_end - self.c.out_from)

    @property
    def some(self) -> bool:
        """Whether there is anything to hand on."""
        return bool(self.n or self.size or (self.line_n and self.c.listed))

    def ready(self, released: int) -> "InsertionPoints":
        """A scan needs so many bytes no more."""
        self.n, self.line_n, self.released = self.c.n, self.c.line_n, released
        return self

    def drop(self) -> None:
        """There are none any more."""
        self.released = self.n = self.line_n = self.c.len = self.c.out_from = self.c.out_end = 0

    def range(self, first: int = 0, end: int | None = None) -> Range:
        """What the points from ``first`` up to ``end`` (None: all ready ones) lie between."""
        found = self._range
        lib.auditns_range(self.c, first, self.n if end is None else end, found)
        return Range(
            found.first_ms, found.last_ms, found.low, found.high, bool(found.complete),
        )  # fmt: skip

    def out(self, size: int) -> CData:
        """A buffer of at least ``size`` bytes for the assembled text, used again and again."""
        if self._out is None or len(self._out) < size:
            self._out = ffi.new("char[]", size + size // 4)
        return self._out

    def grow(self, cap: int, line_cap: int) -> None:
        """Make room for that many points and lines, keeping what is there."""
        for fields, size in ((_POINT_FIELDS, cap), (_LINE_FIELDS, line_cap)):
            for field, (ctype, code) in fields.items():
                fresh = ffi.new(ctype, size)
                old = self._arrays.get(field)
                if old is not None:
                    ffi.memmove(fresh, old, ffi.sizeof(old))
                self._arrays[field] = fresh
                setattr(self.c, field, fresh)
                view: CData = memoryview(ffi.buffer(fresh)).cast("B")
                setattr(self, field, view.cast(code))
        self.c.cap, self.c.line_cap = cap, line_cap

    def grow_both(self) -> None:
        """Make much more room."""
        self.grow(4 * self.c.cap, 4 * self.c.line_cap)

    def bytes_at(self, off: int, length: int) -> bytes:
        """That part of the block."""
        if not length:
            return b""
        return bytes(ffi.buffer(self.c.buf + off, min(length, max(self.c.len - off, 0))))

    def header(self, i: int) -> bytes:
        """``msg=audit(…):`` of point ``i``."""
        if not self.hdr_len[i]:  # journald has it in members of its own
            return b"msg=audit(%d.%03d:%d):" % (*divmod(self.ms[i], 1000), self.serial[i])
        return self.bytes_at(self.hdr_off[i], self.hdr_len[i])

    def node(self, i: int) -> bytes:
        """The name of the host that point ``i`` is of; empty where the text does not say."""
        return self.bytes_at(self.node_off[i], self.node_len[i])

    def lead(self, i: int) -> bytes:
        """What stands in front of the ``type=`` of point ``i``: ``node=HOST `` with its space, what syslog and the like
        put there, or nothing."""
        skip = 3 if self.lead_len[i] and self.bytes_at(self.line_off[i], 3) == BOM_UTF8 else 0
        return self.bytes_at(self.line_off[i] + skip, self.lead_len[i])

    def comm(self, i: int) -> bytes:
        """The value of comm= (ocomm= of a target) as it stands in the text."""
        return self._value(self.aux1_off[i], self.aux1_len[i], i)

    def path(self, i: int) -> bytes:
        """The file name of a P_EXEC as it stands in the text."""
        return self._value(self.aux2_off[i], self.aux2_len[i], i)

    def key(self, i: int) -> bytes:
        """The value of key= as it stands in the text."""
        return self._value(self.key_off[i], self.key_len[i], i)

    def _value(self, off: int, length: int, i: int) -> bytes:
        raw = self.bytes_at(off, length)
        return raw.replace(b'\\"', b'"') if self.trail_len[i] > 1 else raw

    def record(self, i: int) -> bytes:
        """The record that point ``i`` is of, without a newline."""
        start = self.line_off[i]
        return bytes(self.block[start : start + MAX_LINE]).partition(b"\n")[0]

    def line(self, i: int) -> bytes:
        """Line ``i`` of the ready lines, newline included."""
        return self.bytes_at(self.l_off[i], self.l_len[i])
