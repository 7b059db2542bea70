"""Whose an event is where its text says so already: CONTAINER_ID and CONTAINER_INFO records in it, in either spelling.

They are of the event itself (same node, time and serial), wherever in it they stand; what stands inside ``msg='…'`` is
no record. ``record=N`` names the record of the event that one is about; without it that is its subject. An event that
has records of ours and no CONTAINER_ID for a process has it of the host: silence means that. ``contid=?`` is no
answer, and contradicts none. Records that contradict each other, or cannot be read, leave the event unknown, and so do
more of them in one event than :data:`_MOST`; silence does not mean the host where something is missing of what they
say.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.own_records import contid_links, is_contid
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.audittext.values import untrusted
from auditns_connector.model.containers import Containers
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.process import NOT_KNOWN, State
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.values import CData

LOG: Final = "log"
JOURNAL: Final = "journal"
UNCLEAR: Final = State(0, UNKNOWN, None, NOT_KNOWN)
HOST: Final = State(0, None, None, LOG)
#: records of ours in one event that are looked at
_MOST: Final = 64
_PART, _BY_REASON, _ALONE = int(lib.SAID_PART), int(lib.SAID_BY_REASON), int(lib.SAID_ALONE)
_RECORD: Final = rb"[1-9][0-9]{0,5}"
_FIELDS: Final = (
    (b"ctr-id", "id"),
    (b"runtime", "runtime"),
    (b"ctr-name", "name"),
    (b"pod", "pod"),
    (b"image", "image"),
    (b"pod-ns", "namespace"),
    (b"pod-uid", "pod_uid"),
    (b"role", "role"),
)


class Alone(NamedTuple):
    """A record of ours that is an event of its own: number of the event, type, ``pid=`` (-1: none), whose it is."""

    event: int
    kind: int
    pid: int
    state: State


class TextAnswers:
    """What the records of ours in the points' text say; containers are the same objects for the same words."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], Container] = {}
        self._points: InsertionPoints | None = None
        self._lines: dict[int, list[int]] = {}

    def begin(self) -> None:
        """Other points come next."""
        self._points = None
        if len(self._made) > 10_000:
            self._made.clear()

    def answer(self, points: InsertionPoints, i: int, containers: Containers) -> State | None:
        """What the text says of the process of point ``i``; ``None`` where it says ``?``, or nothing of this event."""
        lines = self._of(points).get(points.event[i], [])
        if not lines or len(lines) > _MOST:
            return UNCLEAR if lines else None
        target = bool(points.flags[i] & pt.P_TARGET)
        said, about, whole = self._said(points, lines, points.recno[i], target)
        if not said:  # of what came late, what says whose it is may have come before
            return HOST if whole and not points.flags[i] & pt.P_LATE else UNCLEAR
        if len(said) > 1:
            return UNCLEAR
        return self._state(said.pop(), about, containers)

    def _of_subject(self, points: InsertionPoints, n: int, containers: Containers) -> State | None:
        """Of an event that is nothing but records of ours, from line ``n`` on: what they say of its subject, where that
        is one thing. ``None``: the event is more."""
        event, lines = points.l_event[n], self._of(points)[points.l_event[n]]
        behind = n + len(lines)
        if (n and points.l_event[n - 1] == event) or (behind < points.line_n and points.l_event[behind] == event):
            return None
        said, about, _ = self._said(points, lines[:_MOST], 1, target=False)
        return (self._state(said.pop(), about, containers) if len(said) == 1 else None) or UNCLEAR

    @staticmethod
    def _said(
        points: InsertionPoints, lines: list[int], recno: int, target: bool
    ) -> tuple[set[bytes], dict[str, str], bool]:
        """The identifiers that these lines have for record ``recno`` of their event, and names of containers; and
        whether nothing is missing of what they say: each tells about which record it is, and a container that a
        CONTAINER_INFO tells of is that of a CONTAINER_ID beside it."""
        said: set[bytes] = set()
        every: set[bytes] = set()
        described: set[bytes] = set()
        whole = True
        about: dict[str, str] = {}
        for n in lines:
            kind = points.l_type[n]
            if kind not in (rectypes.CONTAINER_ID, rectypes.CONTAINER_INFO):
                continue
            fields = _fields(points, n)
            contid, record = _bare(fields.get(b"contid", b"")), fields.get(b"record", b"").strip(b'"')
            if kind == rectypes.CONTAINER_INFO:
                about |= _words(fields)
                described.add(contid)
                continue
            every.add(contid)
            whole = whole and (b"record" not in fields or re.fullmatch(_RECORD, record) is not None)
            if _is_about(record, recno, target):
                said.add(contid)
        return said - {b"?"} or said, about, whole and described <= every

    def alone(self, points: InsertionPoints, containers: Containers) -> list[Alone]:
        """The records of ours among the lines of ``points`` that are events of their own; whose they are says their
        ``contid=``: none is the host. Of an event of which nothing else has come, what they say of its subject."""
        found = []
        for n in _lines(lib.said_alone, points):
            event, kind = points.l_event[n], points.l_type[n]
            fields = _fields(points, n)
            if kind in rectypes.OWN_AUXILIARY and b"reason" not in fields:
                if (state := self._of_subject(points, n, containers)) is not None:
                    found.append(Alone(event, kind, -1, state))
                continue
            pid = fields.get(b"pid", fields.get(b"opid", b""))
            contid = _bare(fields.get(b"contid", b"-1"))
            about = _words(fields) if kind == rectypes.CONTAINER_INFO else {}
            state = HOST if contid == b"-1" else self._state(contid, about, containers) or UNCLEAR
            found.append(Alone(event, kind, int(pid) if re.fullmatch(rb"[0-9]{1,9}", pid) else -1, state))
        return found

    def _of(self, points: InsertionPoints) -> dict[int, list[int]]:
        """Number of an event -> its lines of ours."""
        if self._points is not points:
            self._points, self._lines = points, {}
            for n in _lines(lib.said_lines, points):
                self._lines.setdefault(points.l_event[n], []).append(n)
        return self._lines

    def _state(self, contid: bytes, about: dict[str, str], containers: Containers) -> State | None:
        words = contid.decode("latin-1")
        if contid == b"?":
            return None
        if not is_contid(words):
            return UNCLEAR
        ids = contid_links(words)
        match = containers.by_contid.get(int(ids[0])) if ids[0] != "?" else None
        if match is not None and containers.text(match) == words:
            return State(0, match, None, LOG)
        mine = about if about.get("contid") == words else {}
        key = (words, *(mine.get(name, "") for _, name in _FIELDS))
        container = self._made.get(key)
        if container is None:
            container = self._made[key] = _container(words, ids, mine)
        return State(0, container, None, LOG)


def contradiction(said: Container | None, found: Container | None, containers: Containers) -> list[str]:
    """How whose a text says it is, and whose it is by the evidence, are called where they contradict each other."""
    if UNKNOWN in (said, found):
        return []
    names = ["host" if one is None else containers.text(one) for one in (said, found)]
    return names if names[0] != names[1] else []


def _marks() -> CData:
    """What each type is to the C."""
    marks = bytearray(1 << 16)
    for kind in rectypes.OWN:
        marks[kind] = _PART if kind in rectypes.OWN_AUXILIARY else _ALONE
    marks[rectypes.CONTAINER_INFO] = _BY_REASON
    return ffi.new("uint8_t[]", bytes(marks))


_OURS: Final = _marks()


def _lines(find: Callable[[CData, CData, CData], int], points: InsertionPoints) -> list[int]:
    """The numbers of lines that a function of the C finds."""
    found = ffi.new("uint32_t[]", max(points.line_n, 1))
    count = find(points.c, _OURS, found)
    return ffi.unpack(found, count) if count else []


def _fields(points: InsertionPoints, n: int) -> dict[bytes, bytes]:
    """The words of line ``n``; of a repeated name the first counts."""
    body = points.line(n)[points.l_body[n] - points.l_off[n] :].partition(b"\x1d")[0]
    return dict(word.partition(b"=")[::2] for word in reversed(body.split()))


def _is_about(record: bytes, recno: int, target: bool) -> bool:
    """Whether ``record=`` (empty: there is none) means the record number ``recno``, that of a target or not."""
    return record == b"%d" % recno if record else not target


def _words(fields: dict[bytes, bytes]) -> dict[str, str]:
    """What a CONTAINER_INFO says, by the names of a container's attributes, and of which contid."""
    found = {"contid": _bare(fields.get(b"contid", b"")).decode("latin-1")}
    for field, name in _FIELDS:
        value = untrusted(fields.get(field, b""))
        if value is not None:
            found[name] = value.decode("utf-8", "surrogateescape")
    return found


def _container(words: str, ids: Iterable[str], about: dict[str, str]) -> Container:
    """The container that a text calls ``words``; a list of several is one whose chain has them all."""
    container: Container | None = None
    for one in reversed(list(ids)):
        container = UNKNOWN if one == "?" else _link(int(one), container)
    if container is None or container is UNKNOWN:
        return UNKNOWN
    container.text = words
    container.runtime, container.id = about.get("runtime", ""), about.get("id", "")
    for _, name in _FIELDS[2:]:
        setattr(container, name, about.get(name, ""))
    return container


def _bare(value: bytes) -> bytes:
    """``value`` without the quotes around it. With one alone, as the first word of "7 7" has it, it is no contid."""
    return value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value


def _link(contid: int, parent: Container | None) -> Container:
    link = Container((("", str(contid)),), LOG, 0, parent)
    link.contid, link.text, link.id = contid, str(contid), ""
    return link
