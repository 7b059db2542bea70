"""Whose the events of a text are, by the records of ours in it and nothing else, for the same filters, JSON and lines
as live answers. The rules are those of attribution/text_answers.py, which a test holds against this.

Where no record of ours is anywhere in a text nobody has looked at whose its events are: silence is "not known" then.
"""

import re
from array import array
from typing import Final, NamedTuple

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.attribution.states import PointStates
from auditns_connector.attribution.text_answers import HOST, LOG, UNCLEAR, Alone
from auditns_connector.audittext.grouping import pick_numbers
from auditns_connector.audittext.own_records import UNKNOWN as NOT_KNOWN
from auditns_connector.audittext.own_records import UNSET, contid_links, is_contid
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.matching import native
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.places import Container
from auditns_connector.model.process import State
from auditns_connector.query.names import Names, words_of
from auditns_connector.vocabulary.audit_text import P_LATE, P_TARGET
from auditns_connector.vocabulary.record_types import CONTAINER_ID

#: numbers of holders that are always there
HOST_NUMBER: Final = 0
UNKNOWN_NUMBER: Final = 1
#: so many distinct containers and entries are numbered before all are numbered anew
_MOST: Final = 1 << 16
#: and so many records of ours in one event are looked at
_MOST_LINES: Final = 64
_EVENT_IS_OURS: Final = b"\2"
_PARTS: Final = b"\3"


class Holder(NamedTuple):
    """Who made some points: ``contid`` as text ("" the host, "?" not known), the entry that they are of ("": none), and
    the fields of the container."""

    contid: str
    entry: str
    about: dict[str, str]


class LogAnswers(Correlator):
    """A correlator whose evidence is the text alone. ``assume`` : there are records of ours in the text, or it is from
    where such text comes from."""

    def __init__(self, names: Names, *, assume: bool = True) -> None:
        super().__init__(Model())
        self.names = names
        self.assume = assume
        self._strings = native.Strings()
        #: by the number of a holder
        self.people: list[Holder] = []
        self._found: list[State] = []
        #: what :func:`native.who` says -> number of the holder
        self._holder_of = array("I")
        #: (what it says, since) -> number of the holder, where a contid was that of several containers
        self._lives: dict[tuple[int, int], int] = {}
        self._generation = 0
        self._seen_changes = 0
        #: of the last answer: its events, and for each point the number of its holder
        self.table = native.events_of(InsertionPoints())
        self.numbers_of = array("I")
        self._alone: list[Alone] = []
        #: whose those of :meth:`alone` are, in the same order
        self.alone_holders: list[Holder] = []
        #: and what they say, by the names of their fields
        self.alone_words: list[dict[str, bytes]] = []
        self._clear()

    def _clear(self) -> None:
        self._strings.clear()
        self._generation += 1
        self._seen_changes = self.names.changes
        self.people = [Holder("", "", {}), Holder(NOT_KNOWN, "", {})]
        self._found = [HOST, UNCLEAR]
        self._holder_of = array("I", (HOST_NUMBER, UNKNOWN_NUMBER))
        self._lives.clear()

    @property
    def generation(self) -> int:
        """Counts how often holders were numbered anew."""
        return self._generation

    def answer(
        self, points: InsertionPoints, now: int = 0, choice: "array[int] | None" = None, first: int = 0,
        end: int | None = None,
    ) -> "array[int]":  # fmt: skip
        """As :meth:`Correlator.answer`; nothing is ever to be put in."""
        if len(self._strings) > _MOST or self.names.changes != self._seen_changes:
            self._clear()
        self.table = native.events_of(points)
        said = native.who(points, self._strings)
        for number in range(len(self._holder_of), len(self._strings) + native.WHO_FIRST):
            self._holder_of.append(self._new(self._strings[number - native.WHO_FIRST + 1]))
        self.assume = self.assume or any(self.table.own)
        if not self.assume:
            said = array("I", (number or native.WHO_UNCLEAR for number in said))
        if points.c.late:
            self._late(points, said)
        numbers = pick_numbers(said, self._holder_of)
        if self.names.several:
            self._by_time(points, said, numbers)
        self.numbers_of = numbers
        self._alone = self._stand_alone(points)
        self.states = PointStates(points.n)
        self.states.found, self.states.which = self._found, numbers
        return array("I", bytes(4 * points.n))

    @staticmethod
    def _late(points: InsertionPoints, said: "array[int]") -> None:
        """What came late without a record of ours is of whom its event is; where that is not here, it is not known."""
        by_origin: dict[int, int] = {}
        for i, number in enumerate(said):
            flags = points.flags[i]
            if not flags & P_TARGET and not flags & P_LATE:
                by_origin.setdefault(points.event[i], number)
            elif flags & P_LATE and not flags & P_TARGET and number == native.WHO_HOST:
                said[i] = by_origin.get(points.origin[i], native.WHO_UNCLEAR)

    def alone(self, points: InsertionPoints) -> list[Alone]:
        """The records of ours in the last answer that are events of their own."""
        return self._alone

    def holder(self, contid: str, ms: int) -> Holder:
        """Who is called ``contid`` in a record of ours of that time; the host where it says that none is set."""
        if contid in ("", UNSET):
            return self.people[HOST_NUMBER]
        return Holder(contid, "", self.names.at(contid, ms)) if is_contid(contid) else self.people[UNKNOWN_NUMBER]

    def _stand_alone(self, points: InsertionPoints) -> list[Alone]:
        found = []
        self.alone_holders, self.alone_words = [], []
        table = self.table
        row = table.own.find(_EVENT_IS_OURS)
        while row >= 0:
            line = table.first[row]
            words = words_of(points.line(line)[points.l_body[line] - points.l_off[line] :].rstrip(b"\r\n"))
            pid = words.get("pid", words.get("opid", b""))
            holder = self.holder(words.get("contid", b"").strip(b'"').decode("latin-1"), table.ms[row])
            number = int(pid) if re.fullmatch(rb"[0-9]{1,9}", pid) else -1
            self.alone_holders.append(holder)
            self.alone_words.append(words)
            found.append(Alone(table.number[row], points.l_type[line], number, state_of(holder)))
            row = table.own.find(_EVENT_IS_OURS, row + 1)
        row = table.own.find(_PARTS)
        while row >= 0:
            holder = self._of_parts(points, table.first[row], table.lines[row], table.ms[row])
            self.alone_holders.append(holder)
            self.alone_words.append({})
            found.append(Alone(table.number[row], points.l_type[table.first[row]], -1, state_of(holder)))
            row = table.own.find(_PARTS, row + 1)
        return found

    def _of_parts(self, points: InsertionPoints, first: int, lines: int, ms: int) -> Holder:
        """Whose an event is of which nothing but records of ours is here, by what they say of its subject."""
        said = set()
        for n in range(first, first + min(lines, _MOST_LINES)):
            words = words_of(points.line(n)[points.l_body[n] - points.l_off[n] :].rstrip(b"\r\n"))
            if points.l_type[n] == CONTAINER_ID and words.get("record", b"").strip(b'"') in (b"", b"1"):
                said.add(words.get("contid", b"").strip(b'"').decode("latin-1"))
        said = said - {NOT_KNOWN} or said
        contid = said.pop() if len(said) == 1 else NOT_KNOWN
        return Holder(contid, "", self.names.at(contid, ms)) if is_contid(contid) else self.people[UNKNOWN_NUMBER]

    def _by_time(self, points: InsertionPoints, said: "array[int]", numbers: "array[int]") -> None:
        """Where a contid was that of several containers, the time says which it is."""
        for i, number in enumerate(numbers):
            holder = self.people[number]
            if holder.contid not in self.names.several:
                continue
            life = self.names.at(holder.contid, points.ms[i])
            key = said[i], id(life)
            if key not in self._lives:
                self._lives[key] = self._add(holder._replace(about=life))
            numbers[i] = self._lives[key]

    def _about(self, contid: str) -> dict[str, str]:
        lives = self.names.lives(contid)
        return lives[-1].about if lives else {}

    def _new(self, raw: bytes) -> int:
        """The number of a new holder."""
        contid, _, entry = raw.decode("latin-1").partition("\0")
        if not is_contid(contid):
            return UNKNOWN_NUMBER
        return self._add(Holder(contid, entry, self._about(contid)))

    def _add(self, holder: Holder) -> int:
        self.people.append(holder)
        self._found.append(state_of(holder))
        return len(self.people) - 1


def ids_of(contid: str) -> tuple[int | None, ...]:
    """The numbers of a chain, innermost first; ``None`` for one that is not known, and for all those that a list which
    was cut leaves out."""
    return tuple(None if one == NOT_KNOWN else int(one) for one in contid_links(contid))


def state_of(holder: Holder) -> State:
    """The state that JSON and lines for people are made of."""
    if not holder.contid:
        return HOST
    if ids_of(holder.contid)[0] is None:
        return UNCLEAR
    about = holder.about
    container = Container((("", holder.contid),), about.get("kind", LOG), 0, None)
    container.text = holder.contid
    container.contid = ids_of(holder.contid)[0]
    for name in ("runtime", "id", "name", "image", "pod", "namespace", "pod_uid", "role"):
        setattr(container, name, about.get(name, ""))
    return State(0, container, None, LOG)
