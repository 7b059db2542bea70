"""The scanner and the assembler once more, to be read: the reference that the C is held against by tests.

Not a second way to run: it keeps the whole text and counts its offsets from the beginning of the stream. What
each name means and the rules are in vocabulary/audit_text.py.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from auditns_connector.vocabulary import audit_text as p
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.syscalls import EXECS

HEADER: Final = re.compile(
    rb"(?P<node>node=[^ \n]{1,255} )?type=(?P<type>[^ \n]{1,63}) "
    rb"(?P<hdr>msg=audit\((?P<sec>[0-9]{1,11})\.(?P<ms>[0-9]{3}):(?P<serial>[0-9]{1,20})\):)"
)
_OWN_PREFIX: Final = ("CONTAINER_", "NS_")
#: complete when the next line is not of it
AWAITS: Final = 1
#: the same, and at the end of what was pushed unless records of ours may follow
COMPLETE: Final = 2


class Point:
    """One point; ``aux1``, ``aux2`` and ``key`` are the values themselves, offsets are those of the stream."""

    def __init__(self, head: "Head", line: int, at: int, flags: int, event: int, recno: int) -> None:
        self.ms, self.serial, self.at, self.line_off = head.ms, head.serial, at, line
        self.flags = flags | (p.P_NODE if head.node else 0)
        self.hdr, self.node = head.hdr, head.node
        self.rtype, self.recno, self.event = head.type, recno, event
        self.pid = self.ppid = self.sysno = -1
        self.arch = self.exit = 0
        self.aux1 = self.aux2 = self.key = b""

    def __repr__(self) -> str:
        return f"Point({self.__dict__})"


class Head(NamedTuple):
    """What the beginning of a line says."""

    node: bytes
    type: int
    own: bool
    hdr: bytes
    ms: int
    serial: int
    body: bytes


class Event:
    """An event that is not decided yet."""

    def __init__(self, number: int, first: int, base: int, recno: int) -> None:
        self.number, self.first, self.base, self.recno = number, first, base, recno
        self.own = self.kernel = self.syscall = False
        #: 0, or AWAITS or COMPLETE
        self.lone = 0
        self.point: Point | None = None


Key = tuple[bytes, int, int]


def read_head(line: bytes) -> Head | None:
    """The header of a line (without its newline), or None."""
    match = HEADER.match(line)
    if match is None or int(match["serial"]) >= 1 << 64:
        return None
    name = match["type"].decode("latin-1")
    number = rectypes.number(name)
    return Head(
        node=match["node"] or b"",
        type=number,
        own=number in rectypes.OWN or (number == 0 and name.startswith(_OWN_PREFIX) and name not in _OWN_PREFIX),
        hdr=match["hdr"],
        ms=int(match["sec"]) * 1000 + int(match["ms"]),
        serial=int(match["serial"]),
        body=line[match.end() :],
    )


def fields(body: bytes) -> dict[bytes, bytes]:
    """The kernel's fields of a body: name -> value, the first of each name."""
    found: dict[bytes, bytes] = {}
    for word in body.partition(b"\x1d")[0].split(b" "):
        if word.startswith(b"msg='"):
            break
        name, equals, value = word.partition(b"=")
        if equals:
            found.setdefault(name, value)
    return found


def number31(value: bytes | None) -> int:
    """A decimal number up to 2^31-1, else -1."""
    if value is None or not re.fullmatch(rb"[0-9]{1,10}", value) or int(value) >= 1 << 31:
        return -1
    return int(value)


def is_single(number: int) -> bool:
    """Whether a record of this type, coming first, is as a rule a whole event."""
    if number in rectypes.OWN:
        return number not in rectypes.OWN_AUXILIARY
    return number != 0 and not rectypes.FIRST_EVENT <= number < rectypes.FIRST_ANOM_MSG


def is_user(number: int) -> bool:
    """Whether a user process sent it."""
    return number == 1005 or 1100 <= number < 1200 or rectypes.FIRST_ANOM_MSG <= number < 3000


def fill_subject(point: Point, body: bytes) -> None:
    """Take the fields of a subject's record."""
    found = fields(body)
    point.pid, point.ppid = number31(found.get(b"pid")), number31(found.get(b"ppid"))
    point.sysno = number31(found.get(b"syscall"))
    if re.fullmatch(rb"[0-9a-f]{1,8}", arch := found.get(b"arch", b"")):
        point.arch = int(arch, 16)
    if re.fullmatch(rb"-?[0-9]{1,18}", result := found.get(b"exit", b"")):
        point.exit = int(result)
    point.aux1, point.key = found.get(b"comm", b""), found.get(b"key", b"")
    if found.get(b"success") == b"yes":
        point.flags |= p.P_SUCCESS


def fill_target(point: Point, body: bytes) -> None:
    """Take the fields of an OBJ_PID."""
    found = target_words(body)
    point.pid, point.aux1 = number31(found.get(b"opid")), found.get(b"ocomm", b"")


def target_words(body: bytes) -> dict[bytes, bytes]:
    """Like :func:`fields`, in a record that never holds a user's text."""
    found: dict[bytes, bytes] = {}
    for word in body.partition(b"\x1d")[0].split(b" "):
        name, equals, value = word.partition(b"=")
        if equals:
            found.setdefault(name, value)
    return found


class Reference:
    """The scan over a whole stream. ``points`` and ``lines`` grow; those before ``consumed`` are decided. ``whole``: an
    event is waited for as long as where whole events are wanted. ``patient``: records of ours may follow."""

    def __init__(self, whole: bool = False, patient: bool = False) -> None:
        self._whole = whole
        self._patient = patient
        #: the event that the next line ends unless it is of it
        self._lone: Key | None = None
        self._span = p.MAX_WHOLE if whole else p.MAX_SPAN
        self.text = bytearray()
        self.points: list[Point] = []
        self.lines: list[tuple[int, int, int]] = []  # offset, event, type
        self.consumed = 0
        self._line = 0
        self._in_long = False
        self._clock = 0
        self._next = 0
        self._open: dict[Key, Event] = {}
        self._closed: dict[int, tuple[Key, int]] = {}

    def push(self, data: bytes, mode: int = p.MODE_MORE) -> None:
        """Take in more text."""
        self.text += data
        while (end := self.text.find(b"\n", self._line) + 1) > 0:
            self._one_line(self._line, end)
            self._line = end
        rest = len(self.text) - self._line
        if rest and (mode == p.MODE_EOF or self._in_long or rest > p.MAX_LINE):
            self._close_all()
            self.lines.append((self._line, p.LINE_FOREIGN, 0))
            self._in_long = mode != p.MODE_EOF
            self._line = len(self.text)
        if mode != p.MODE_MORE:
            self._close_all()
        elif self._lone is not None and self._open[self._lone].lone == COMPLETE and not self._patient:
            self._close(self._lone)
        self.consumed = min([event.first for event in self._open.values()], default=self._line)

    def _close(self, key: Key) -> None:
        event = self._open.pop(key)
        self._closed[key[2] % p.CLOSED] = (key, event.recno)
        if key == self._lone:
            self._lone = None

    def _close_all(self) -> None:
        for key in list(self._open):
            self._close(key)

    def _one_line(self, line: int, end: int) -> None:
        for key, event in list(self._open.items()):
            if line - event.first > self._span:
                self._close(key)
        if end - line > p.MAX_LINE:
            self._close_all()
        head = None
        if not self._in_long and end - line <= p.MAX_LINE:
            head = read_head(bytes(self.text[line : end - 1]))
        self._in_long = False
        lone = self._lone
        if lone is not None and (head is None or lone != (head.node, head.ms, head.serial)):
            self._close(lone)
        self._lone = None
        if head is None:
            self.lines.append((line, p.LINE_FOREIGN, 0))
            return
        if head.ms > self._clock:
            self._clock = head.ms
            for key, event in list(self._open.items()):
                if head.ms - event.base >= p.OLDER_MS:
                    self._close(key)
        self.lines.append((line, self._record(head, line, end), head.type))

    def _begin(self, key: Key, line: int, recno: int) -> Event:
        if len(self._open) == p.MAX_OPEN:
            self._close(next(iter(self._open)))
        event = self._open[key] = Event(self._next, line, self._clock, recno)
        self._next += 1
        return event

    def _late(self, head: Head, key: Key, recno: int, line: int, end: int) -> int:
        if not head.own:
            recno = min(recno + 1, 0xFFFF)
            self._closed[head.serial % p.CLOSED] = (key, recno)
        if head.type == rectypes.OBJ_PID:
            point = Point(head, line, end, p.P_TARGET | p.P_LATE, p.LINE_LATE, recno)
            fill_target(point, head.body)
            self.points.append(point)
        return p.LINE_LATE

    def _record(self, head: Head, line: int, end: int) -> int:
        key = (head.node, head.ms, head.serial)
        single = is_single(head.type)
        event = self._open.get(key)
        if event is None:
            was, recno = self._closed.get(head.serial % p.CLOSED, (None, 0))
            if was != key:
                recno = 0
            elif head.type != rectypes.SYSCALL and not single:
                return self._late(head, key, recno, line, end)
            event = self._begin(key, line, recno)
        if head.own:
            event.own = self._patient = True
            if event.point is not None:
                event.point.flags |= p.P_OWN
            if event.lone:
                self._lone = key
            elif single and not event.kernel:
                self._close(key)
            return event.number
        event.recno = min(event.recno + 1, 0xFFFF)
        own = p.P_OWN if event.own else 0

        if single:
            if event.point is None:
                flags = own | p.P_SINGLE | p.P_SUBJECT | (p.P_USER if is_user(head.type) else 0)
                event.point = self._add_subject(head, line, end, flags, event)
            event.lone = COMPLETE if not event.kernel or event.lone else 0
            event.kernel = True
            self._lone = key if event.lone else None
            return event.number
        if event.lone != COMPLETE or head.type == rectypes.SYSCALL:
            event.lone = AWAITS if not event.kernel and head.type in rectypes.LONE_KERNEL else 0
        if head.type == rectypes.SYSCALL and not event.syscall:
            flags = own | p.P_SUBJECT | p.P_SYSCALL
            if event.point is not None:
                flags |= event.point.flags & p.P_HAS_TARGET
                self.points.remove(event.point)
            event.point = self._add_subject(head, line, end, flags, event)
            if event.point.flags & p.P_SUCCESS and event.point.sysno in EXECS.get(event.point.arch, ()):
                event.point.flags |= p.P_EXEC
            event.syscall = True
        elif not event.kernel and head.type != rectypes.EOE:
            who = p.P_NETFILTER if head.type == rectypes.NETFILTER_PKT else p.P_SUBJECT
            who |= p.P_SINGLE if event.lone else 0
            event.point = self._add_subject(head, line, end, own | who, event)
        event.kernel |= head.type != rectypes.EOE
        if head.type == rectypes.OBJ_PID:
            point = Point(head, line, end, own | p.P_TARGET, event.number, event.recno)
            fill_target(point, head.body)
            self.points.append(point)
            if event.point is not None:
                event.point.flags |= p.P_HAS_TARGET
        elif head.type == rectypes.PATH:
            if event.point is not None and event.point.flags & p.P_EXEC and not event.point.aux2:
                found = target_words(head.body)
                if found.get(b"item") == b"0":
                    event.point.aux2 = found.get(b"name", b"")
        elif head.type == rectypes.PROCTITLE:
            event.lone = AWAITS if self._whole else COMPLETE
        elif head.type == rectypes.EOE:
            self._close(key)
            return event.number
        if event.lone:
            self._lone = key
        return event.number

    def _add_subject(self, head: Head, line: int, at: int, flags: int, event: Event) -> Point:
        point = Point(head, line, at, flags, event.number, event.recno)
        fill_subject(point, head.body)
        self.points.append(point)
        return point


def assemble(
    text: bytes,
    points: Iterable[Point],
    choice: Sequence[int],
    tails: Sequence[bytes],
    lines: Sequence[tuple[int, int, int]] = (),
    keep: Sequence[int] | None = None,
) -> bytes:
    """``text`` with ``tails[choice - 1]`` put in at each point; with ``keep`` (by event number) only those events'
    lines."""
    inserted: dict[int, list[bytes]] = {}
    for point, pick in zip(points, choice, strict=True):
        kept = keep is None or (point.event < len(keep) and keep[point.event])
        if 0 < pick <= len(tails) and kept:
            tail = re.sub(rb"[\0\1]", lambda m, q=point: q.node if m[0] == b"\1" else q.hdr, tails[pick - 1])  # type: ignore[misc]
            inserted.setdefault(point.at, []).append(tail)
    out: list[bytes] = []
    cuts = [line[0] for line in lines] + [len(text)] if lines else sorted({0, *inserted, len(text)})
    for i, begin in enumerate(cuts):
        out += inserted.get(begin, [])
        if i + 1 < len(cuts) and (keep is None or (lines[i][1] < len(keep) and keep[lines[i][1]])):
            out.append(text[begin : cuts[i + 1]])
    return b"".join(out)
