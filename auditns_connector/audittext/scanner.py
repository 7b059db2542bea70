"""Audit text in blocks: find the points where records may stand, and put the chosen records there.

The work on bytes is done by ``cdefs/audittext/scan.c`` and ``insertion.c``; who belongs to which container
is decided by the caller, over arrays::

    stream = TextStream()
    for data in reads:
        points = stream.push(data)
        choice = [get(pid, 0) for pid in points.pid[: points.n]]  # numbers of tails, 0 for nothing
        sink(assemble(points, choice, tails))
    points = stream.flush(eof=True)                               # and once more the same

What comes out, less the records put in, is what went in, byte for byte. Names and rules: vocabulary/audit_text.py.
"""

import functools
from array import array
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.memory import SMALL, fresh
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.audit_text import (
    MAX_WHOLE,
    MAX_WHOLE_OPEN,
    MODE_AHEAD,
    MODE_EOF,
    MODE_FLUSH,
    MODE_IDLE,
    MODE_MORE,
)  # fmt: skip
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

_MAX_PUSH: Final = 1 << 30
#: what a scan returns that needs more room for points and lines
_FULL: Final = -1
_NEVER: Final = (1 << 63) - 1
#: text is best worked on in parts that stay in the processor's cache (bytes)
MOST_PART: Final = 1 << 19
#: msg=audit(1700000000.000:1234567):
_HEADER: Final = 40
#: room is made for so much at once: what is read and not scanned yet costs most to move (bytes)
ROOM: Final = 768 * 1024
#: so much is moved to the front of the buffer at once, where it is in the processor's cache
_LITTLE: Final = 1 << 16


_type_names: Final = ffi.new("char[]", b"\0".join(name.encode() for name in rectypes.NUMBERS) + b"\0")
lib.auditns_text_types(
    _type_names, ffi.new("uint32_t[]", [rectypes.flagged(n) for n in rectypes.NUMBERS.values()]), len(rectypes.NUMBERS)
)


def count_lines(block: bytes | memoryview, start: int = 0, end: int | None = None) -> int:
    """``block.count(b"\\n", start, end)``, in half the time."""
    stop = len(block) if end is None else end
    return int(lib.auditns_lines(ffi.from_buffer(block) + start, stop - start)) if stop > start else 0


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
        #: as many bytes as one of them has at most, where headers are no longer than is usual
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


class LineHead(NamedTuple):
    """What a record's line says of it: ``body`` is what follows the header, ``escaped`` whether that lies in a string
    of JSON, ``number`` the type's (0: not known)."""

    node: bytes
    ms: int
    serial: int
    kind: bytes
    number: int
    body: bytes
    escaped: bool


_head: Final = ffi.new("struct auditns_head *")


def read_head(line: bytes) -> LineHead | None:
    """The head of a line, with or without its newline; ``None`` where it is no record."""
    bare = line.removesuffix(b"\n")
    h = _head
    if not lib.auditns_head(bare, len(bare), h):
        return None
    return LineHead(
        bare[h.node_off : h.node_off + h.node_len],
        h.ms,
        h.serial,
        bare[h.name_off : h.name_off + h.name_len],
        h.type,
        bare[h.body : h.end],
        len(bare) - h.end > 1,
    )


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

    def line(self, i: int) -> bytes:
        """Line ``i`` of the ready lines, newline included."""
        return self.bytes_at(self.l_off[i], self.l_len[i])


class Scanner:
    """The scan and its state. ``feed`` is given what the last one did not release, and more behind it.

    Lines are handed out as they come, and the points of an event when its place is reached or its end has shown.
    ``hold``: no line is, before its event is decided. ``at_end``: ours stand behind the event's PROCTITLE. ``whole``:
    each event is handed out when it has ended, with all its lines, wherever they stand among those of others; it is cut
    at ``limit`` bytes or where ``most`` younger ones are open, and says so. What works on whole ones needs it.
    ``patient``: a record of ours may follow any event, so none is complete before the line behind it is there
    (from the first such record on, and where whole events are wanted, it is so anyway).
    """

    def __init__(
        self,
        whole: bool = False,
        patient: bool = False,
        *,
        at_end: bool = False,
        limit: int = MAX_WHOLE,
        most: int = MAX_WHOLE_OPEN,
    ) -> None:
        #: for the C functions
        self.state: CData = ffi.gc(ffi.new("struct auditns_scan *"), lib.auditns_scan_free)
        self.state.patient, self.state.at_end = patient, at_end
        self._limits = limit, most
        self.points = InsertionPoints()
        self.points.grow(1024, 4096)
        if whole:
            self.want_whole()

    @property
    def whole(self) -> bool:
        """Whether events are handed out whole."""
        return bool(self.state.whole)

    def want_whole(self) -> None:
        """From now on keep the lines of an event together; what was not consumed must be scanned once more."""
        if not lib.auditns_scan_whole(self.state, self.points.c, *self._limits):
            raise MemoryError("no memory for whole events")

    @property
    def lines(self) -> int:
        """How many newlines were scanned since the beginning."""
        return int(self.state.lines)

    @property
    def changes(self) -> int:
        """How many CONFIG_CHANGE records were scanned since the beginning."""
        return int(self.state.changes)

    @property
    def logins(self) -> int:
        """How many LOGIN records were scanned since the beginning."""
        return int(self.state.logins)

    @property
    def records(self) -> int:
        """How many lines were records."""
        return int(self.state.records)

    @property
    def foreign(self) -> int:
        """How many lines were neither records nor empty."""
        return int(self.state.foreign)

    @property
    def oldest(self) -> int | None:
        """When the last record of the event came that has waited longest (see ``now`` of :meth:`TextStream.at`);
        ``None`` where no event is open."""
        found = int(lib.auditns_scan_oldest(self.state))
        return None if found == _NEVER else found

    def keep_late(self, first: int, keep: bytearray) -> None:
        """What came of an event after that was handed out is kept if that was; to be called when ``keep``, one byte for
        each event from number ``first`` on, says of the others whether they are."""
        where = ffi.from_buffer("uint8_t[]", keep)
        lib.auditns_keep_late(self.state, self.points.c, first, len(keep), where)

    def kept(self, first: int, keep: bytearray) -> None:
        """Remember which events were kept, for what comes of them later."""
        lib.auditns_kept(self.state, first, len(keep), ffi.from_buffer("uint8_t[]", keep))

    def feed(self, block: bytes | bytearray | memoryview, mode: int = MODE_MORE) -> InsertionPoints:
        """Scan on. MODE_FLUSH decides the events that are open, MODE_EOF also takes an unterminated line."""
        points, c = self.points, self.points.c
        points.over(block)
        return points.ready(grown(points, lambda: lib.auditns_scan(self.state, c, c.buf, c.len, mode)))


def grown(points: InsertionPoints, scan: Callable[[], int]) -> int:
    """What ``scan`` returns, with as much room in ``points`` as it needs."""
    while (consumed := scan()) == _FULL:
        points.grow_both()
    if consumed < 0:
        raise MemoryError("no memory for audit text")
    return consumed


class TextStream:
    """Audit text that arrives in pieces of any size. It keeps the lines of open events: some 2 MiB at most, or twice
    ``limit`` when ``whole`` events are asked for (see :class:`Scanner`, for the others as well)."""

    def __init__(
        self,
        capacity: int = 512 * 1024,
        whole: bool = False,
        patient: bool = False,
        *,
        at_end: bool = False,
        limit: int = MAX_WHOLE,
        most: int = MAX_WHOLE_OPEN,
    ) -> None:
        self._scanner = Scanner(whole, patient, at_end=at_end, limit=limit, most=most)
        self._c: CData = ffi.new("struct auditns_stream *", {"least": ROOM})
        self._use(bytearray(capacity))

    def _use(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._c.buf = self._scanner.points.keep = ffi.from_buffer("char[]", buffer)
        self._c.size = len(buffer)

    def hold(self, wanted: bool) -> None:
        """Whether from now on no line is handed out before its event is decided."""
        self._scanner.state.hold = wanted

    def put_at_end(self, wanted: bool) -> None:
        """Whether ours stand at the end of the events that begin from now on."""
        self._scanner.state.at_end = wanted

    def want_whole(self) -> None:
        """From now on hand out whole events: to be called where none is open (:meth:`flush`). Ends the last points."""
        if self._scanner.whole:
            return
        c = self._c
        c.start, c.consumed = c.start + c.consumed, 0
        self._scanner.state.lines -= count_lines(memoryview(self._buffer), c.start, c.scanned)
        self._scanner.want_whole()
        self._scanner.points.drop()
        c.scanned = c.start

    @property
    def records(self) -> int:
        """As :attr:`Scanner.records`."""
        return self._scanner.records

    @property
    def foreign(self) -> int:
        """As :attr:`Scanner.foreign`."""
        return self._scanner.foreign

    @property
    def oldest(self) -> int | None:
        """As :attr:`Scanner.oldest`."""
        return self._scanner.oldest

    def at(self, now: int) -> None:
        """What is scanned next came at ``now`` (CLOCK_MONOTONIC ns)."""
        self._scanner.state.now = now

    def idle(self, before: int) -> InsertionPoints:
        """Decide the events of which nothing has come since ``before`` (CLOCK_MONOTONIC ns)."""
        self._scanner.state.idle = before
        return self.filled(0, MODE_IDLE)

    @property
    def base(self) -> int:
        """Where in all the text the offsets of the last points begin, where whole events are handed out."""
        return int(self._scanner.state.base)

    def keep_late(self, first: int, keep: bytearray) -> None:
        """As :meth:`Scanner.keep_late`."""
        self._scanner.keep_late(first, keep)

    def kept(self, first: int, keep: bytearray) -> None:
        """As :meth:`Scanner.kept`."""
        self._scanner.kept(first, keep)

    @property
    def pending(self) -> int:
        """Bytes taken in and not yet handed out, as of the last scan."""
        c = self._c
        return int(c.end - c.start - c.consumed)

    def reading(self) -> Any:
        """The C ``struct auditns_stream *`` to put text into, for :meth:`part`. Ends the last points."""
        self._scanner.points.drop()
        return self._c

    def held(self) -> bytes:
        """What was put in and not handed out, as it is."""
        c = self._c
        return bytes(memoryview(self._buffer)[c.start + c.consumed : c.end])

    def room(self, size: int) -> memoryview:
        """A writable place for ``size`` bytes, to read into; then call :meth:`filled`. Ends the last points."""
        if not 0 < size <= _MAX_PUSH:
            raise ValueError(f"between 1 and {_MAX_PUSH} bytes at a time, not {size}")
        self._scanner.points.drop()
        c = self._c
        c.start += c.consumed
        c.consumed = 0
        kept = c.end - c.start
        if c.end + size > c.size or (c.start and kept <= _LITTLE):
            rest = self._buffer[c.start : c.end]
            if kept + size > c.size:
                self._use(bytearray(2 * (kept + size)))
            if kept:
                self._buffer[:kept] = rest
            c.scanned -= c.start
            c.start, c.end = 0, kept
        return memoryview(self._buffer)[c.end : c.end + size]

    def filled(self, size: int, mode: int = MODE_MORE) -> InsertionPoints:
        """Scan the ``size`` bytes that were put into :meth:`room`, and all else that is :attr:`left`."""
        self._c.end += size
        return self._scan(_MAX_PUSH, mode)

    def grew(self, size: int) -> None:
        """``size`` bytes were put into :meth:`room`, to be scanned with those of the next :meth:`filled`."""
        self._c.end += size

    def ahead(self) -> None:
        """Scan what :meth:`reading` brought, while it is in the processor's cache; to be decided by the next scan."""
        self._scan(_MAX_PUSH, MODE_AHEAD)

    def part(self, most: int = MOST_PART) -> InsertionPoints:
        """Scan ``most`` bytes of what :meth:`reading`, :meth:`grew` or :meth:`put` took in; the rest is
        :attr:`left`."""
        return self._scan(most, MODE_MORE)

    def _scan(self, most: int, mode: int) -> InsertionPoints:
        points, scan = self._scanner.points, self._scanner.state
        return points.ready(grown(points, lambda: lib.auditns_stream_scan(self._c, scan, points.c, most, mode)))

    def scanned(self) -> InsertionPoints:
        """The points of a scan that C has made of all that is there."""
        return self._scanner.points.ready(self._c.consumed)

    @property
    def c_parts(self) -> tuple[CData, CData, CData]:
        """The stream, the scan and the points as the C functions take them; they stay the same."""
        return self._c, self._scanner.state, self._scanner.points.c

    @property
    def left(self) -> bool:
        """There is something that was not scanned yet."""
        return bool(self._c.scanned < self._c.end)

    @property
    def lines(self) -> int:
        """How many newlines were scanned since the beginning."""
        return self._scanner.lines

    @property
    def changes(self) -> int:
        """How many CONFIG_CHANGE records were scanned since the beginning."""
        return self._scanner.changes

    @property
    def logins(self) -> int:
        """How many LOGIN records were scanned since the beginning."""
        return self._scanner.logins

    def push(self, data: bytes | bytearray | memoryview) -> InsertionPoints:
        """Take in more text; the points of what is decided by it (``n`` may be 0)."""
        if data:
            self.put(data)
        return self.filled(0)

    def put(self, data: bytes | bytearray | memoryview) -> int:
        """Take in more text, to be scanned at the next :meth:`filled`; returns its size."""
        size = len(data)
        if size:
            self.room(size)[:] = data
            self.grew(size)
        return size

    def flush(self, eof: bool = False) -> InsertionPoints:
        """Decide the events that are still open; ``eof``: also a last line without a newline."""
        return self.filled(0, MODE_EOF if eof else MODE_FLUSH)


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
    if size > room:  # headers may be longer than is usual
        out = new(size)
        lib.auditns_assemble(*args, out, size)
    if lasting and not own:
        copy: bytes = ffi.buffer(out, size)[:]
        return copy
    return memoryview(ffi.buffer(out, size))
