"""Rules: events by what their records say, kept, dropped, or written to a file of their own.

Of the rules that keep or drop, the first that matches decides; what none matches is kept. A rule that logs writes what
was not dropped before it. What a match looks at is what a search looks at (matching/conditions.py); the container is
the one that this program answers.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Final

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.grouping import inverted
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.config.rules import Rule
from auditns_connector.errors import ConfigError
from auditns_connector.matching import patterns as p
from auditns_connector.matching.conditions import Condition, of_option
from auditns_connector.matching.judged import Judges, by_number
from auditns_connector.matching.native import Events, events_of
from auditns_connector.model.containers import Containers
from auditns_connector.model.places import Container
from auditns_connector.pipeline.filters import EventFilter, LiveFilter, both, join_contids
from auditns_connector.vocabulary.values import MOST_PID, JsonObject, decimal

#: field of a match -> option of a search
_VALUES: Final = {
    "key": "key", "exe": "exe", "comm": "comm", "auid": "auid", "syscall": "syscall", "success": "success",
    "sockaddr": "addr",
}  # fmt: skip


class EventMatch:
    """Which events match: all ``fields``, of each any value, and none with ``!=``. Raises :class:`ConfigError`."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self._positive: list[EventFilter] = []
        self._negative: list[EventFilter] = []
        contids = fields.get("contid", ())
        if contids:
            self._positive.append(EventFilter(contids=join_contids(contids)))
        for field in ("runtime", "name", "pid", "record"):
            patterns = p.parse(fields.get(field, ()), listed=field != "name")
            for words, filters in ((patterns.wanted, self._positive), (patterns.unwanted, self._negative)):
                if words:
                    filters.append(_filter(field, words))
        conditions = [one for field in _VALUES if field in fields for one in _conditions(field, fields[field])]
        self._judges = Judges(conditions)

    def __bool__(self) -> bool:
        return True

    @property
    def looks_inside(self) -> bool:
        """Whether it asks what records say."""
        return bool(self._judges)

    def keep(
        self,
        points: InsertionPoints,
        choice: "array[int]",
        correlator: Correlator,
        first: int,
        count: int,
        events: Events | None = None,
    ) -> bytearray:
        """One byte for each of ``count`` events from number ``first`` on: 1 for those that match. ``events`` are the
        events of ``points``, where somebody has them already."""
        columns: list[bytes | bytearray] = [
            one.keep(points, choice, correlator, first, count) for one in self._positive
        ]
        columns += [inverted(one.keep(points, choice, correlator, first, count)) for one in self._negative]
        if self._judges:
            table = events or events_of(points)
            good = both(self._judges.good(points, len(table.number)), b"\1" * len(table.number))
            columns.append(by_number(good, table.number, first, count))
        return bytearray(both(columns, b"\1" * count))

    def tells(self, containers: Containers, kind: int, pid: int, container: Container | None) -> bool:
        """Whether a record of ours that stands alone matches: of type ``kind``, about ``pid`` of ``container``."""
        if self._judges:
            return False  # it has no such values
        return all(one.tells(containers, kind, pid, container) for one in self._positive) and not any(
            one.tells(containers, kind, pid, container) for one in self._negative
        )


def _conditions(field: str, words: Sequence[str]) -> list[Condition]:
    option = _VALUES[field]
    try:
        return of_option(option, words)
    except ConfigError as error:  # it speaks of the option of a search
        raise ConfigError(f"{field}: {str(error).removeprefix(f'--{option}: ')}") from None


def _filter(field: str, words: Sequence[str]) -> EventFilter:
    if field == "runtime":
        return EventFilter(runtimes=words)
    if field == "name":
        return EventFilter(names=words)
    if field == "record":
        return EventFilter(types=words)
    if any(not decimal(word, MOST_PID) for word in words):
        raise ConfigError(f"pid: {', '.join(words)}: a process id is a number from 1 to {MOST_PID}")
    return EventFilter(pids=map(int, words))


class AllOf:
    """Several filters that must all want an event."""

    def __init__(self, filters: Sequence[LiveFilter]) -> None:
        self._filters = [one for one in filters if one]

    def __bool__(self) -> bool:
        return bool(self._filters)

    def keep(
        self, points: InsertionPoints, choice: "array[int]", correlator: Correlator, first: int, count: int
    ) -> bytearray:
        """As :meth:`EventMatch.keep`."""
        columns = [one.keep(points, choice, correlator, first, count) for one in self._filters]
        return bytearray(both(columns, b"\1" * count))

    def tells(self, containers: Containers, kind: int, pid: int, container: Container | None) -> bool:
        """As :meth:`EventMatch.tells`."""
        return all(one.tells(containers, kind, pid, container) for one in self._filters)


def _match(rule: Rule) -> EventMatch:
    try:
        return EventMatch(rule.match)
    except ConfigError as error:
        raise ConfigError(f"rule {rule.name}: match: {error}") from None


class RuleSet:
    """The filter of ``rules`` behind another one, ``base``."""

    def __init__(self, rules: Sequence[Rule], base: LiveFilter | None = None) -> None:
        self._rules = [(rule, _match(rule)) for rule in rules]
        self._base = base if base else None
        self.matched = dict.fromkeys((rule.name for rule in rules), 0)
        #: name of a rule that logs -> one byte for each event that :meth:`keep` was asked about last
        self.logged: dict[str, bytearray] = {}

    def __bool__(self) -> bool:
        return bool(self._rules) or self._base is not None

    def keep(
        self, points: InsertionPoints, choice: "array[int]", correlator: Correlator, first: int, count: int
    ) -> bytearray:
        """As :meth:`EventMatch.keep`."""
        ones = b"\1" * count
        kept: bytes = ones if self._base is None else bytes(self._base.keep(points, choice, correlator, first, count))
        undecided = kept
        events = events_of(points) if any(match.looks_inside for _, match in self._rules) else None
        for rule, match in self._rules:
            found: bytes | bytearray = match.keep(points, choice, correlator, first, count, events)
            if rule.action == "log":
                found = both([found, kept], ones)
                self.logged[rule.name] = bytearray(found)
            else:
                found = both([found, undecided], ones)
                undecided = both([undecided, inverted(found)], ones)
            if rule.action == "drop":
                kept = both([kept, inverted(found)], ones)
            self.matched[rule.name] += found.count(1)
        return bytearray(kept)

    def tells(self, containers: Containers, kind: int, pid: int, container: Container | None) -> bool:
        """As :meth:`EventMatch.tells`."""
        if self._base is not None and not self._base.tells(containers, kind, pid, container):
            return False
        for rule, match in self._rules:
            if rule.action != "log" and match.tells(containers, kind, pid, container):
                return rule.action == "keep"
        return True

    def status(self) -> JsonObject:
        """For ``auditns status``: how many events each rule matched."""
        return dict(self.matched)
