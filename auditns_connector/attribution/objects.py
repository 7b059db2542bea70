"""Landlock domains and BPF programs: whose they are when their end is reported, which names no process.

The kernel frees them when nobody holds them any more, often long after their maker has ended: ``BPF … op=UNLOAD`` and
``LANDLOCK_DOMAIN … status=deallocated`` stand alone. Their beginning stands in an event with a SYSCALL; when that was
attributed, the end is the same container's. A domain's record names its maker (``pid=``), which may be another process
than the one that was denied: then its number must be that of the one denied, or of a living ancestor of it. Without a
SYSCALL that number says nothing: the maker may have ended long ago, and its number be another's. Identifiers are not
used twice in a boot (kernel/bpf/syscall.c counts up cyclically, security/landlock/id.c never goes back); an owner
is dropped at its end, and with the model of its boot.
"""

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.attribution.lookup import NOBODY
from auditns_connector.audittext.grouping import event_numbers, keep_types
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.model.process import Process, State
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.timing import EPSILON, MS

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.places import Instance

#: so many are kept, the oldest are given up: their end is unknown
_MOST: Final = 65_536
#: a 1 at each type that tells of objects
_TYPES: Final = rectypes.marks((rectypes.BPF, rectypes.LANDLOCK_DOMAIN))
_ANCESTORS: Final = 64
#: what is looked for stands within so many bytes of a line
_LINE: Final = 1024
_BPF: Final = rb"(?: |^)prog-id=([0-9]{1,10}) op=(LOAD|UNLOAD)\b"
_DOMAIN: Final = rb"(?: |^)domain=([0-9a-f]{1,16}) status=(allocated|deallocated)\b(?:.*? pid=([0-9]{1,10})\b)?"
_ENDS: Final = (b"UNLOAD", b"deallocated")


class Owner(NamedTuple):
    """Whose an object is, and the serial of the event of its beginning."""

    state: State
    serial: int


class Objects:
    """What was attributed of the objects that live."""

    def __init__(self) -> None:
        self._owners: dict[tuple[int, bytes], Owner] = {}
        self._model: Model | None = None
        self._points: InsertionPoints | None = None
        self._lines: dict[int, list[int]] = {}

    def answer(self, points: InsertionPoints, i: int, model: "Model") -> State | None:
        """The state for point ``i``, whose record tells of an object alone; ``None`` where that is not known."""
        start = points.line_off[i]
        match = _match(points.rtype[i], bytes(points.block[start : start + _LINE]).partition(b"\n")[0])
        if match is None:
            return None
        self._of(model)
        key = points.rtype[i], match[1]
        owner = self._owners.pop(key, None) if match[2] in _ENDS else self._owners.get(key)
        return owner.state if owner is not None and owner.serial < points.serial[i] else None

    def learn(self, points: InsertionPoints, i: int, state: State, model: "Model") -> None:
        """Point ``i`` has ``state``: the objects that its event begins are of the same container."""
        self._of(model)
        for n in self._lines_of(points).get(points.event[i], ()):
            kind, line = points.l_type[n], points.line(n)
            match = _match(kind, line)
            if match is None:
                continue
            if match[2] in _ENDS:
                self._owners.pop((kind, match[1]), None)
                continue
            if kind == rectypes.LANDLOCK_DOMAIN and not _made_by(model, match[3], points.pid[i]):
                continue
            if len(self._owners) >= _MOST:
                del self._owners[next(iter(self._owners))]
            self._owners[kind, match[1]] = Owner(state, points.serial[i])

    def begin(self) -> None:
        """Other points come next."""
        self._points = None

    def _lines_of(self, points: InsertionPoints) -> dict[int, list[int]]:
        """Number of an event -> its lines that tell of objects."""
        if self._points is not points:
            self._points, self._lines = points, {}
            if 1 in keep_types(points, _TYPES, *event_numbers(points)):
                for n, kind in enumerate(points.l_type[: points.line_n].tolist()):
                    if _TYPES[kind]:
                        self._lines.setdefault(points.l_event[n], []).append(n)
        return self._lines

    def _of(self, model: "Model") -> None:
        if self._model is not model:
            self._model, self._owners = model, {}


def _match(kind: int, line: bytes) -> re.Match[bytes] | None:
    body = line.partition(b"): ")[2]
    if kind == rectypes.BPF:
        return re.search(_BPF, body)
    return re.search(_DOMAIN, body) if kind == rectypes.LANDLOCK_DOMAIN else None


def _made_by(model: "Model", maker: bytes | None, pid: int) -> bool:
    """Whether the process ``maker`` is ``pid``, or a living ancestor of it: nobody else can have had its number."""
    if maker is None:
        return False
    number = int(maker)
    process: Process | None = model.processes.get(pid)
    if number == pid:
        return True
    for _ in range(_ANCESTORS):
        if process is None or process.creator is None:
            return False
        creator, start = process.creator
        process = model.processes.get(creator)
        if process is None or process.start != start or process.end is not None:
            return False
        if creator == number:
            return True
    return False


def of_packet(points: InsertionPoints, i: int, ms: int, now: int, model: "Model") -> State | None:
    """The containers that the packet of point ``i`` may belong to: unknown where its stamp is of no time of this model,
    for the addresses of today say nothing about it."""
    asked = _packet(points, i, ms, now, model)
    return NOBODY if asked is None else model.packets.answer(*asked, now)


def rivals(points: InsertionPoints, now: int, model: "Model") -> "set[Instance]":
    """The namespaces of which it is to be found out whether they can have logged packets among ``points``."""
    found: set[Instance] = set()
    for i in range(points.n):
        if points.flags[i] & pt.P_NETFILTER and (asked := _packet(points, i, points.ms[i], now, model)) is not None:
            found |= model.packets.rivals(*asked, now)
    return found


def _packet(
    points: InsertionPoints, i: int, ms: int, now: int, model: "Model"
) -> tuple[dict[bytes, bytes], int, int] | None:
    """The fields of point ``i`` and the times that its stamp may mean; ``None`` where it can mean none."""
    times = model.clock.candidates(ms * MS, now)
    if not times:
        return None
    line = bytes(points.block[points.line_off[i] : points.at[i]]).partition(b"\n")[0]
    fields = dict(word.partition(b"=")[::2] for word in line.partition(b"): ")[2].split())
    # a stamp is that of the tick before
    return fields, min(times) - EPSILON, max(times) + model.lag + EPSILON
