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
    rb"(?P<hdr>(?:msg=)?audit\((?P<sec>[0-9]{1,11})\.(?P<ms>[0-9]{3}):(?P<serial>[0-9]{1,20})\):)"
)
_OWN_PREFIX: Final = ("CONTAINER_", "NS_")
#: of which event a record of ours is that was set apart, and has a serial of its own
_EVENT: Final = re.compile(rb' event="?([0-9]{1,11})\.([0-9]{3}):([0-9]{1,20})"?(?: |$)')
#: complete when the next line is not of it
AWAITS: Final = 1
#: the same whatever comes of it, but a SYSCALL
STAYS: Final = 2
#: the same, and at the end of what was pushed unless records of ours may follow
COMPLETE: Final = 3
LOGIN: Final = 1006


class Point:
    """One point; ``aux1``, ``aux2`` and ``key`` are the values themselves, offsets are those of the stream."""

    def __init__(self, head: "Head", line: int, at: int, flags: int, event: int, recno: int) -> None:
        self.ms, self.serial, self.at, self.line_off = head.ms, head.serial, at, line
        self.flags = flags | (p.P_NODE if head.node else 0)
        self.hdr, self.node, self.lead, self.trail = head.hdr, head.node, head.lead, head.trail
        if not self.hdr:
            self.hdr = b"msg=audit(%d.%03d:%d):" % (*divmod(head.ms, 1000), head.serial)
        self.rtype, self.recno, self.event = head.type, recno, event
        self.pid = self.ppid = self.sysno = -1
        self.arch = self.exit = self.origin = 0
        self.aux1 = self.aux2 = self.key = b""

    def __repr__(self) -> str:
        return f"Point({self.__dict__})"


class Head(NamedTuple):
    """What the beginning of a line says."""

    node: bytes
    lead: bytes
    type: int
    own: bool
    hdr: bytes
    ms: int
    serial: int
    body: bytes
    trail: bytes


Key = tuple[bytes, int, int]


class Closed:
    """What is remembered of an event that was decided; ``pid`` is that of its subject."""

    def __init__(self, key: Key, at: int) -> None:
        #: which it was of those that were decided, counted when that was done first
        self.key, self.at = key, at
        self.recno, self.pid, self.ppid, self.number, self.own, self.syscall = 0, -1, -1, 0, False, False
        self.ended = self.cut = False
        #: more of it has come than was handed out first
        self.rest = False


class Event:
    """An event that is not decided yet; ``former`` is set where it was before."""

    def __init__(self, number: int, first: int, base: int, former: Closed | None, copy: bool = False) -> None:
        self.number, self.first, self.base, self.former = number, first, base, former
        self.recno = former.recno if former is not None else 0
        #: the process of which a place was handed out before; 0: none
        self.placed = former.pid if former is not None and not copy else 0
        self.own = former.own if former is not None and not copy else False
        #: whether that was with its SYSCALL or its end, and whether there was no room to wait for it
        self.complete = former is not None and (former.syscall or former.ended)
        self.of_cut = former is not None and former.cut
        self.awaits_rest = former is not None and not former.ended and not former.rest
        self.called = former is not None and former.syscall
        self.kernel = self.begun = self.syscall = self.titled = self.passed = False
        #: whether its PROCTITLE and its EOE have come
        self.ends: set[int] = set()
        #: 0, or AWAITS, STAYS or COMPLETE
        self.lone = 0
        self.point: Point | None = None
        #: where whole events are handed out: its lines
        self.noted: list[tuple[int, int, Head]] = []
        #: the line that may have been its last, counted from 1, and the newest time in the text then; 0: its end is
        #: seen otherwise
        self.turn = self.heard = 0

    def takes_waiting(self, head: Head) -> bool:
        """Whether a record is of it when it waits for ours alone."""
        return head.own or (head.type == rectypes.EOE and self.ends == {rectypes.PROCTITLE})

    def follow(self, head: Head, awaited: bool) -> bool:
        """What a record does to the end of its event: whether that is complete with it, and ``lone``. ``awaited``: a
        record of ours may follow the EOE."""
        if head.own:
            if is_single(head.type) and not self.begun:
                self.lone = COMPLETE
            return False
        if head.type in (rectypes.EOE, rectypes.PROCTITLE):
            self.ends.add(head.type)
        if head.type == rectypes.EOE:
            self.lone = COMPLETE
            return not awaited
        if is_single(head.type):
            alone = STAYS if head.type == LOGIN else COMPLETE
            self.lone = 0 if self.begun and not self.lone else alone
        elif head.type == rectypes.PROCTITLE:
            self.lone = COMPLETE
        elif self.lone < STAYS or head.type == rectypes.SYSCALL:
            self.lone = AWAITS if not self.begun and head.type in rectypes.LONE_KERNEL else 0
        self.begun = True
        return False


class Line(NamedTuple):
    """A line of the text: where it begins, its event and type, and where it ends."""

    off: int
    event: int
    type: int
    end: int


TIME: Final = re.compile(
    rb"(?:[A-Za-z]{3} [\s\S][0-9] (?:[0-9]..[0-9] )?|[0-9]..[0-9]-..-..[T ])"
    rb"[0-9]{2}:[0-9]{2}:[0-9]{2}[^ ]{0,32} "
)
HOST: Final = re.compile(rb"([^ ]{1,255}) ")
BRACKET: Final = re.compile(rb"\[[^\]]{0,46}\] ")
TAG: Final = re.compile(rb"([^ ]{1,128})( +)")
PRIORITY: Final = re.compile(rb"<[0-9][^>]{0,2}>")
WORDS: Final = re.compile(rb"[^ ]{1,255} ([^ ]{1,255}) [^ ]{1,255} [^ ]{1,255} [^ ]{1,255} ")
DATA: Final = re.compile(rb'-?(?:\[(?:[^"\]]|"(?:[^"\\]|\\[\s\S])*")*\])* ')
KMSG: Final = re.compile(rb"[0-9][^;]{0,46};")
BOM: Final = b"\xef\xbb\xbf"


class Lead(NamedTuple):
    """What stands in front of a record: where that begins, the host it names, where the record ends, and, where it has
    no header, its type, time and serial and where its body begins."""

    start: int
    host: bytes = b""
    end: int = -1
    made: tuple[int, int, int, int] | None = None


def is_record(line: bytes, at: int) -> bool:
    """Whether a record may begin there."""
    return len(line) - at > 5 and line[at : at + 5] in (b"type=", b"node=")


def skip_tags(line: bytes, at: int) -> int:
    """Behind the names of programs; -1 where no record follows."""
    programs = 0
    for _ in range(5):
        if is_record(line, at):
            return at
        if line[at : at + 1] == b"[":
            bracket = BRACKET.match(line, at)
            if bracket is None:
                return -1
            at = bracket.end()
            continue
        tag = TAG.match(line, at)
        if tag is None:
            return -1
        if not tag[1].startswith(b":") and tag[1] not in (b"kernel:", b"audit:", b"audispd:"):
            programs += 1
            if programs > 1:
                return -1
        if tag[1].endswith(b":"):
            at = tag.end(1) + 1
        else:
            at = tag.end()
            if line[at : at + 1] != b":":
                return -1
    return -1


def member(line: bytes, name: bytes) -> tuple[int, int] | None:
    """Where the value of a member of JSON begins and ends."""
    found = re.search(rb'"%b" *: *"((?:[^"\\]|\\[\s\S])*)"' % name, line)
    return found.span(1) if found else None


def json_lead(line: bytes, at: int) -> Lead | None:
    """A record in what journalctl -o json prints."""
    part = line[at:]
    message, host = member(part, b"MESSAGE"), member(part, b"_HOSTNAME")
    if message is None:
        return None
    named = part[host[0] : host[1]] if host is not None and host[1] - host[0] <= 255 else b""
    start = skip_tags(part[: message[1]], message[0])
    if start >= 0:
        return Lead(at + start, named, at + message[1])
    word = re.compile(rb"[^ ]{1,63}(?= )").match(part[: message[1]], message[0])
    numbers = []
    for name in (b"_AUDIT_TYPE", b"_AUDIT_ID", b"_SOURCE_REALTIME_TIMESTAMP"):
        where = member(part, name)
        value = part[where[0] : where[1]] if where else b""
        if word is None or not re.fullmatch(rb"[0-9]{1,18}", value):
            return None
        numbers.append(int(value))
    if word is None or not 0 < numbers[0] <= 0xFFFF:
        return None
    made = (numbers[0], numbers[2] // 1000, numbers[1], at + word.end())
    return Lead(at + message[0], named, at + message[1], made)


def skip_lead(line: bytes) -> Lead | None:
    """What stands in front of the record of a line; None where it is none."""
    at = 3 if line.startswith(BOM) else 0
    if is_record(line, at):
        return Lead(at)
    if len(line) - at < 20:
        return None
    if line[at : at + 1] == b"{":
        return json_lead(line, at)
    if line[at : at + 1] == b"<":
        priority = PRIORITY.match(line, at)
        if priority is None:
            return None
        at = priority.end()
        if line[at : at + 2] == b"1 " and len(line) - at > 2:
            words = WORDS.match(line, at + 2)
            data = DATA.match(line, words.end()) if words else None
            if words is None or data is None:
                return None
            at = data.end() + (3 if line[data.end() : data.end() + 3] == BOM else 0)
            start = skip_tags(line, at)
            return Lead(start, b"" if words[1].startswith(b"-") else words[1]) if start >= 0 else None
    host = b""
    time = TIME.match(line, at) if len(line) - at >= 20 else None
    if time is not None:
        named = HOST.match(line, time.end())
        if named is None:
            return None
        host, at = named[1], named.end()
    elif line[at : at + 1].isdigit():
        kmsg = KMSG.match(line, at)
        if kmsg is None or b"," not in kmsg[0]:
            return None
        at = kmsg.end()
    start = skip_tags(line, at)
    return Lead(start, host) if start >= 0 else None


def read_head(line: bytes) -> Head | None:
    """The header of a line (without its newline), or None."""
    trail = line[-1:] if line.endswith(b"\r") else b""
    text = line.removesuffix(trail)
    found = skip_lead(text) if len(text) >= 20 else None
    if found is None:
        return None
    bom = 3 if text.startswith(BOM) else 0
    if found.end >= 0:
        trail, text = text[found.end :] + trail, text[: found.end]
    match = HEADER.match(text, found.start)
    if found.made is not None and not text.startswith(b"node=", found.start):
        number, ms, serial, body = found.made
        return Head(
            found.host, text[bom : found.start], number, number in rectypes.OWN, b"", ms, serial, text[body:], trail
        )
    if match is None or int(match["serial"]) >= 1 << 64:
        return None
    name = match["type"].decode("latin-1")
    number = int(name) if re.fullmatch("[0-9]{4}", name) else rectypes.number(name)
    ms, serial = int(match["sec"]) * 1000 + int(match["ms"]), int(match["serial"])
    body = text[match.end() :]
    if number in rectypes.OWN_AUXILIARY and (at := body.find(b" event=")) >= 0:
        of = _EVENT.match(body.partition(b"\x1d")[0], at)
        if of is not None and int(of[3]) < 1 << 64:
            ms, serial = int(of[1]) * 1000 + int(of[2]), int(of[3])
    return Head(
        node=match["node"][5:-1] if match["node"] else found.host,
        lead=text[bom : match.start("type") - 5],
        type=number,
        own=number in rectypes.OWN or (number == 0 and name.startswith(_OWN_PREFIX) and name not in _OWN_PREFIX),
        hdr=match["hdr"],
        ms=ms,
        serial=serial,
        body=body,
        trail=trail,
    )


#: of a record without a newline: no record of the kernel ends with the number of a process, so it is cut there
_CUT_PID = re.compile(rb"(?<= )[po]?pid=[^ ]*\Z|\A[po]?pid=[^ ]*\Z")


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
    return bool(rectypes.range_bits(number) & rectypes.SINGLE_BIT)


def is_user(number: int) -> bool:
    """Whether a user process sent it."""
    return bool(rectypes.range_bits(number) & rectypes.USER_BIT)


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
    """The scan over a whole stream. ``points`` and ``lines`` grow by what each push hands out; lines have been up to
    ``given``. ``patient``: records of ours may follow. ``hold``: no line is handed out before its event is decided.
    ``at_end``: ours stand behind the PROCTITLE. ``awaits``: as for the C.

    ``whole``: events are handed out as they end, each with all its lines, and ``points`` and ``lines`` are in that
    order.
    """

    def __init__(
        self,
        whole: bool = False,
        patient: bool = False,
        *,
        hold: bool = False,
        at_end: bool = False,
        awaits: int = p.AWAITS_NOTHING,
        limit: int = p.MAX_WHOLE,
        most: int = p.MAX_WHOLE_OPEN,
    ) -> None:
        self._whole, self._patient, self._hold, self._at_end = whole, patient or bool(awaits), hold, at_end
        self._awaits = awaits
        #: a record of ours has come
        self._ours = False
        self._limit, self._most = (limit, most) if whole else (0, p.MAX_OPEN)
        self._span = 2 * limit if whole else p.MAX_SPAN
        #: the event that the next line ends unless it is of it
        self._lone: Key | None = None
        #: lines that have come
        self._turn = 0
        #: where records of ours were with a PROCTITLE: 0 none was seen yet, 1 before, 2 behind it
        self._behind = 0
        self.text = bytearray()
        self.points: list[Point] = []
        self.lines: list[Line] = []
        self.given = 0
        #: points in the order of their places, of events that are open, too
        self._made: list[Point] = []
        self._line = 0
        self._in_long = False
        self._clock = 0
        self._next = 0
        self._open: dict[Key, Event] = {}
        self._closed: dict[Key, Closed] = {}
        #: how many events were decided, and how many of them are remembered
        self._decided = 0
        #: by serial: those decided with their SYSCALL, and when
        self._answered: dict[int, tuple[Key, int]] = {}
        self._room = p.CLOSED
        if whole:
            while self._room < p.CLOSED_WHOLE + 2 * most:
                self._room *= 2

    def push(self, data: bytes, mode: int = p.MODE_MORE) -> None:
        """Take in more text."""
        self.text += data
        while (end := self.text.find(b"\n", self._line) + 1) > 0:
            self._long_line(end)
            self._one_line(self._line, end)
            self._line = end
        self._long_line(len(self.text))
        if mode == p.MODE_EOF and self._line < len(self.text):
            self._one_line(self._line, len(self.text))
            self._line = len(self.text)
        if mode != p.MODE_MORE:
            self._close_all()
        else:
            self._end_text()
        self._give()

    def _end_text(self) -> None:
        """At the end of the text that there is: close what is complete there."""
        if self._whole:
            return
        if self._awaits == p.AWAITS_HERE and not self._ours:
            self._close_waiting()
        if self._lone is not None and self._ends_here(self._open[self._lone]):
            self._close(self._lone)

    def _close_waiting(self) -> None:
        """Close what waits for ours alone; behind the last line nobody knows yet what comes next."""
        waiting = sorted((event.turn, key) for key, event in self._open.items() if event.turn)
        for turn, key in waiting:
            if not self._whole or (turn < self._turn and self._open[key].ends):
                self._close(key)

    def _ends_here(self, event: Event) -> bool:
        """Whether an event is complete at the end of the text that there is."""
        patient = self._patient and (self._hold or not (event.titled and event.syscall) or self._behind != 1)
        return event.lone == COMPLETE and not patient and not self._awaits

    def _is_placed(self, event: Event) -> bool:
        """Whether the place of an open event stays as it is while a record of ours may still follow."""
        if event.point is None or event.own:
            return False
        targets = event.point.flags & p.P_HAS_TARGET and event.syscall and not self._at_end
        return bool(event.ends or event.turn or targets)

    def _give(self) -> None:
        """Hand out points and lines."""
        decided = min([event.first for event in self._open.values()], default=self._line)
        if self._whole:
            self.points, self.given = self._made, decided
            return
        if self._hold:
            ready, end = [point for point in self._made if point.at <= decided], decided
            self._made = [point for point in self._made if point.at > decided]
        else:
            ready, end = self._give_lines()
        for point in ready:
            point.at = max(point.at, self.given)
        self.points += ready
        self.given = max(self.given, end)

    def _give_lines(self) -> tuple[list[Point], int]:
        """The points that are handed out with the lines, and where these end: at the first place that stays, of an
        event that records of ours are awaited for."""
        waiting = {event.number: event for event in self._open.values()}
        placed = [event.point for event in waiting.values() if self._awaits and self._is_placed(event)]
        end = min((i for i, point in enumerate(self._made) if point in placed), default=len(self._made))
        front, held = self._made[:end], self._made[end:]
        ready, deferred = [], []
        for point in front:
            waits = self._waits(point, waiting.get(point.event), held)
            (deferred if waits else ready).append(point)
        for event in waiting.values():
            if event.point in ready:
                event.placed, event.passed = max(event.point.pid, 0), True
                event.point = None
        for point in deferred:
            point.at = self._line if self._awaits else point.at
        deferred.sort(key=lambda point: point.event)  # event by event
        self._made = held + deferred
        return ready, held[0].at if held else self._line

    def _waits(self, point: Point, event: Event | None, held: list[Point]) -> bool:
        """Whether a point in front of those that are ``held`` waits for the end of its event, if that is open: not
        where targets have come, for then its place is behind us; a target at the end of the text does, where a record
        of ours may follow."""
        if event is None or point.flags & p.P_LATE:
            return False
        subject = event.point
        if subject in held:
            return False
        if subject is not None and (self._at_end or not event.syscall or not subject.flags & p.P_HAS_TARGET):
            return True
        return bool(not held and point.flags & p.P_TARGET and self._patient and point.at == self._line)

    def _long_line(self, end: int) -> None:
        while end - self._line > p.MAX_LINE:
            self._close_all()
            self.lines.append(Line(self._line, p.LINE_FOREIGN, 0, self._line + p.MAX_LINE))
            self._in_long = True
            self._line += p.MAX_LINE

    def _close(self, key: Key, cut: bool = False) -> None:
        event = self._open[key]
        if self._whole:
            self._hand_out(event, cut)
        del self._open[key]
        if key == self._lone:
            self._lone = None
        ours_alone = not event.begun and not event.ends and event.lone == COMPLETE
        if not ours_alone or (self._whole and event.former is not None):
            self._remember(key, event, cut=cut)

    def _remember(self, key: Key, event: "Event", *, cut: bool) -> None:
        former, point = event.former, event.point
        closed = self._closed.get(key)
        if closed is None or former is None:
            if self._whole and former is not None:
                return  # what it belongs to is not remembered any more
            self._closed.pop(key, None)
            closed = self._closed[key] = Closed(key, self._decided)
            self._decided += 1
            while self._decided - self._closed[oldest := next(iter(self._closed))].at > self._room:
                del self._closed[oldest]
        pid, ppid = (point.pid, point.ppid) if point is not None and point.pid > 0 else (-1, -1)
        closed.recno, closed.syscall, closed.cut = event.recno, closed.syscall or event.syscall, closed.cut or cut
        closed.ended |= bool(event.ends)
        closed.rest |= former is not None and event.kernel
        if self._whole:
            closed.number = event.number if former is None else former.number
            if former is None or former.pid <= 0:
                closed.pid, closed.ppid = pid, ppid
        else:
            closed.own = event.own
            closed.pid = event.placed or max(pid, 0)
            if closed.syscall:
                self._answered[key[2] % p.CLOSED_WHOLE] = key, closed.at

    def _was_answered(self, key: Key) -> bool:
        found, at = self._answered.get(key[2] % p.CLOSED_WHOLE, (None, 0))
        return found == key and self._decided - at <= p.CLOSED_WHOLE

    def _hand_out(self, event: "Event", cut: bool) -> None:
        event.number = self._next
        self._next += 1
        for line, end, head in event.noted:
            self._place(event, head, line, end)
            self.lines.append(Line(line, event.number, head.type, end))
        if event.former is not None:
            self._make_late(event, event.former, *event.noted[-1])
        if cut and event.point is not None:
            event.point.flags |= p.P_CUT

    def _make_late(self, event: "Event", former: "Closed", line: int, end: int, head: Head) -> None:
        point = event.point
        if point is None:
            point = Point(head, line, end, 0, event.number, event.recno)
            self._made.append(point)
        first_call = event.syscall and not event.called
        more = event.of_cut or first_call or (event.called and not event.syscall)
        rest = p.P_REST * (event.kernel and event.awaits_rest and more)
        point.origin = former.number
        if event.point is not None and point.pid > 0 and point.pid != former.pid:
            point.flags |= rest
            return
        subject = p.P_SUBJECT if event.kernel or event.own else 0
        anew = event.kernel and ((event.syscall and not event.complete) or event.of_cut)
        point.flags = subject | p.P_LATE | p.P_ANEW * anew | point.flags & (p.P_NODE | p.P_HAS_TARGET | p.P_OWN)
        point.flags |= rest
        point.pid, point.ppid, point.sysno = former.pid, former.ppid, -1
        event.point = point

    def _close_all(self) -> None:
        if self._whole:
            self._close_waiting()
        for key in list(self._open):
            self._close(key)

    def _one_line(self, line: int, end: int) -> None:
        head = None
        if not self._in_long:
            head = read_head(bytes(self.text[line : end - self.text.endswith(b"\n", line, end)]))
            if head is not None and not head.trail and not self.text.endswith(b"\n", line, end):
                head = head._replace(body=_CUT_PID.sub(b"", head.body))
        if head is None and not self.text.endswith(b"\n", line, end):
            self._close_all()
        self._in_long = False
        for key, event in list(self._open.items()):
            if line - event.first > self._span:
                self._close(key, cut=not (event.turn and event.ends))
        lone = self._lone
        if lone is not None and not self._goes_on(lone, head):
            self._behind = self._behind or int(self._open[lone].titled)
            if self._awaits and not self._whole:
                self._open[lone].turn, self._open[lone].heard = self._turn, self._clock
            else:
                self._close(lone)
        self._lone = None
        if head is not None and head.ms > self._clock:
            self._clock = head.ms
            for key, event in list(self._open.items()):
                if head.ms - event.base >= p.OLDER_MS:
                    self._close(key)
        self._end_patient()
        if head is None:
            self.lines.append(Line(line, p.LINE_FOREIGN, 0, end))
            return
        number = self._record(head, line, end)
        if not self._whole:
            self.lines.append(Line(line, number, head.type, end))

    def _end_patient(self) -> None:
        """One more line has come: close the events that have been waited for long enough, the one that was heard of
        first at first, and none behind one that is waited for still."""
        waiting = sorted((event.turn, key) for key, event in self._open.items() if event.turn)
        for turn, key in waiting:
            if self._turn + 1 - turn < p.PATIENT_LINES and self._clock - self._open[key].heard < p.PATIENT_MS:
                break
            self._close(key)
        self._turn += 1

    def _goes_on(self, lone: Key, head: Head | None) -> bool:
        """Whether the event that the next line ends unless it is of it goes on: behind its EOE with ours alone."""
        if head is None or lone != (head.node, head.ms, head.serial):
            return False
        return head.own or rectypes.EOE not in self._open[lone].ends

    def _former(self, key: Key) -> Closed | None:
        former = self._closed.get(key)
        if former is None or not self._whole or self._ours:
            return former
        return former if self._decided - former.at <= p.CLOSED_WHOLE else None

    def _takes(self, event: Event, head: Head) -> bool:
        """Whether a record is of an event that is open: of one that has ended, and has others' lines behind it, what it
        waits for alone."""
        if not event.turn or event.takes_waiting(head):
            return True
        if not self._whole:
            return bool(self._ours and not event.ends and not event.syscall)
        return not event.ends or (event.turn + 1 == self._turn and rectypes.EOE not in event.ends)

    def _begin(self, key: Key, line: int, former: "Closed | None", *, call: bool) -> Event:
        copy = not self._whole and call and former is not None and former.syscall
        if len(self._open) == self._most:
            oldest = next(iter(self._open))
            self._close(oldest, cut=not (self._open[oldest].turn and self._open[oldest].ends))
        event = self._open[key] = Event(self._next, line, self._clock, former, copy)
        self._next += not self._whole
        return event

    def _late(self, head: Head, former: "Closed", line: int, end: int) -> int:
        former.own |= head.own
        if not head.own:
            former.recno = min(former.recno + 1, 0xFFFF)
        if head.type == rectypes.OBJ_PID:
            point = Point(head, line, end, p.P_OWN * former.own | p.P_TARGET | p.P_LATE, p.LINE_LATE, former.recno)
            fill_target(point, head.body)
            self._made.append(point)
        return p.LINE_LATE

    def _record(self, head: Head, line: int, end: int) -> int:
        key = (head.node, head.ms, head.serial)
        event = self._open.get(key)
        if event is not None and not self._takes(event, head):
            if self._whole:
                self._close_waiting()
            else:
                self._close(key)
            event = None
        if event is None:
            former = self._former(key)
            if former and self._whole and not head.own:  # what is late comes behind all that ended before it
                self._close_waiting()
                former = self._former(key)
            self._ours = self._ours or head.own
            if former and not self._whole and head.type != rectypes.SYSCALL and not is_single(head.type):
                return self._late(head, former, line, end)
            if not former and not self._whole and head.type in p.PART and self._was_answered(key):
                return p.LINE_LATE
            event = self._begin(key, line, former, call=head.type == rectypes.SYSCALL)
            event.lone = STAYS if former and self._whole else 0
        self._patient |= head.own
        self._ours = self._ours or head.own
        event.turn = 0
        if head.own and event.titled:
            self._behind = 2
        lone = event.lone
        ended = event.follow(head, bool(self._awaits or (self._patient and (self._whole or self._hold))))
        if self._whole:
            event.noted.append((line, end, head))
        else:
            self._place(event, head, line, end)
            if event.point is not None and 0 < event.placed == event.point.pid:
                self._made.remove(event.point)
                event.point = None
        if self._whole and event.former is not None:
            event.lone = lone
        waits = self._whole and event.former is None and event.begun and event.lone
        waits = waits and (self._awaits or not event.ends)
        event.turn, event.heard = self._turn * bool(waits), self._clock
        if ended:
            self._close(key)
        elif self._whole and sum(end - line for line, end, _ in event.noted) > self._limit:
            self._close(key, cut=True)
        elif event.lone and not event.turn:
            self._lone = key
        return event.number

    def _place(self, event: Event, head: Head, line: int, end: int) -> None:
        """The points that a record makes, and where the event's stand with it."""
        if head.own:
            self._place_own(event)
            return
        event.recno = min(event.recno + 1, 0xFFFF)
        if head.type == rectypes.EOE:
            self._follow_place(event, head, line, end)
            return
        if event.point is not None and event.point.flags & p.P_SINGLE:
            event.point.flags |= p.P_FOLLOWED
        if head.type == rectypes.SYSCALL and not event.syscall:
            self._place_syscall(event, head, line, end)
        elif event.point is None and not event.passed if is_single(head.type) else not event.kernel:
            who = p.P_NETFILTER if head.type == rectypes.NETFILTER_PKT else p.P_SUBJECT
            who |= p.P_SINGLE if is_single(head.type) or head.type in rectypes.LONE_KERNEL else 0
            who |= p.P_USER if is_user(head.type) else 0
            event.point = self._add_subject(head, line, end, who, event)
        else:
            self._name_subject(event, head)
            self._follow_place(event, head, line, end)
        event.kernel = True
        event.titled |= head.type == rectypes.PROCTITLE
        if head.type in (rectypes.BPF, rectypes.LANDLOCK_DOMAIN) and event.point is not None:
            event.point.flags |= p.P_OBJECT
        if head.type == rectypes.OBJ_PID:
            point = Point(head, line, end, p.P_OWN * event.own | p.P_TARGET, event.number, event.recno)
            fill_target(point, head.body)
            self._made.append(point)
            if event.point is not None:
                event.point.flags |= p.P_HAS_TARGET
        elif head.type == rectypes.PATH and event.point and event.point.flags & p.P_EXEC and not event.point.aux2:
            found = target_words(head.body)
            if found.get(b"item") == b"0":
                event.point.aux2 = found.get(b"name", b"")

    def _name_subject(self, event: Event, head: Head) -> None:
        """Another record of an event whose first one has named no process may do so."""
        point = event.point
        if point is None or point.pid >= 0 or point.flags & (p.P_SYSCALL | p.P_NETFILTER):
            return
        if head.type != rectypes.LANDLOCK_DOMAIN:
            former, found = vars(point).copy(), fields(head.body)
            fill_subject(point, head.body)
            for name, what in ((b"ppid", "ppid"), (b"syscall", "sysno"), (b"comm", "aux1"), (b"key", "key")):
                if name not in found:  # it stays what the records before have said
                    setattr(point, what, former[what])

    def _place_own(self, event: Event) -> None:
        """A record of ours: what follows it in its event, and the points that are there, know of it."""
        if event.point is not None:
            event.point.flags |= p.P_OWN
        if not event.own and (event.point is not None or event.passed):  # and the targets behind it
            first = 0 if event.point is None else self._made.index(event.point)
            for point in self._made[first:]:
                point.flags |= p.P_OWN if point.event == event.number else 0
        event.own = True

    def _place_syscall(self, event: Event, head: Head, line: int, end: int) -> None:
        """The SYSCALL says whose the event is."""
        flags = p.P_SUBJECT | p.P_SYSCALL
        if event.point is not None:
            flags |= event.point.flags & (p.P_HAS_TARGET | p.P_OBJECT)
            self._made.remove(event.point)
        event.point = self._add_subject(head, line, end, flags, event)
        if event.point.flags & p.P_SUCCESS and event.point.sysno in EXECS.get(event.point.arch, ()):
            event.point.flags |= p.P_EXEC
        event.syscall = True

    def _follow_place(self, event: Event, head: Head, line: int, end: int) -> None:
        """Move the place of an event on, behind those of all other points."""
        ends = head.type in (rectypes.EOE, rectypes.PROCTITLE)
        point = event.point
        if point is None or event.titled or (point.flags & p.P_HAS_TARGET and not (self._at_end and ends)):
            return
        front = head.type == rectypes.OBJ_PID or (ends and not self._at_end)
        if front and self._whole:
            return  # the lines of the event stand together: behind the last one is in front of this one
        at = line if front else end
        behind = self._made[self._made.index(point) :]
        mine = [one for one in behind if one.event == event.number]
        for one in mine:
            one.at = at
            if len(behind) > len(mine):
                self._made.remove(one)
                self._made.append(one)

    def _add_subject(self, head: Head, line: int, at: int, flags: int, event: Event) -> Point:
        recno = 0 if head.type == rectypes.OBJ_PID else event.recno  # that is a record of somebody else
        point = Point(head, line, at, flags | p.P_OWN * event.own, event.number, recno)
        if head.type != rectypes.LANDLOCK_DOMAIN:  # its pid= is the maker's, who may have ended long ago
            fill_subject(point, head.body)
        self._made.append(point)
        return point


def assemble(
    text: bytes,
    points: Iterable[Point],
    choice: Sequence[int],
    tails: Sequence[bytes],
    lines: Sequence[Line],
    keep: Sequence[int] | None = None,
) -> bytes:
    """``lines`` of ``text`` with ``tails[choice - 1]`` put in at each point; with ``keep`` (by event number) only those
    events' lines."""
    inserted: dict[int, list[bytes]] = {}
    for point, pick in zip(points, choice, strict=True):
        if 0 < pick <= len(tails) and tails[pick - 1] and point.flags & (p.P_LATE | p.P_TARGET) != p.P_LATE:
            tail = tails[pick - 1]
            if len(point.trail) > 1:
                tail = re.sub(rb'["\\]', rb"\\\g<0>", tail)
            put = {b"\1": point.lead, b"\0": point.hdr, b"\n": point.trail + b"\n"}  # whatever bytes are in these
            tail = re.sub(rb"[\0\1\n]", lambda m, put=put: put[m[0]], tail)  # type: ignore[misc]
            if not text.endswith(b"\n", 0, point.at):
                tail = b"\n" + tail[:-1]
            inserted.setdefault(point.at, []).append(tail)
    out: list[bytes] = []
    unended = False  # the last line of the text may be of an event that is not the last
    for line in lines:
        if keep is None or (line.event < len(keep) and keep[line.event]):
            out += [b"\n" * unended, text[line.off : line.end], *inserted.get(line.end, [])]
            unended = line.event < p.LINE_LATE and not text.endswith(b"\n", 0, line.end)
    return b"".join(out)
