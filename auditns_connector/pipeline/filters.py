"""Which events are wanted: by container, runtime, name, record type, key and pid.

A term on a container matches its identifier or that of any container around it. A container that only the cgroups
inside another one tell of is matched by that one, or by its whole chain (``4,^2``): what it is called may be the word
of whoever is inside. ``unset`` is a process of the host, ``unknown`` one whose container is not known. An event is
kept when one of its points (subject or target) fulfils every condition on processes, and its records those on types
and keys.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.grouping import UNCLEAR, find_keys, inverted, keep_events, keep_types, pick
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.audittext.values import untrusted
from auditns_connector.config.readers import number
from auditns_connector.errors import ConfigError, suggestion
from auditns_connector.model.containers import Containers
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.runtimes import UNSET
from auditns_connector.vocabulary.record_types import NUMBERS, marks
from auditns_connector.vocabulary.values import JsonObject, decimal

if TYPE_CHECKING:
    from auditns_connector.config.options import EventFilter as Configured


def both(columns: Sequence[bytes | bytearray], none: bytes | bytearray) -> bytes:
    """Where all ``columns`` have a 1, byte by byte; ``none`` where there are no columns."""
    found = int.from_bytes(none, "little")
    for column in columns:
        found &= int.from_bytes(column, "little")
    return found.to_bytes(len(none), "little")


def meant_by(ids: tuple[int | None, ...], inner: Sequence[bool]) -> set[object]:
    """The terms that mean a container with the chain ``ids``, innermost first; for those ``inner`` is true of that only
    the cgroups inside another container tell of, the whole chain alone does."""
    return {ids[i:] for i in range(len(ids))} | {one for one, hidden in zip(ids, inner, strict=True) if not hidden}


#: what means a process of the host, and one whose container is not known
MEANS_HOST: Final[frozenset[object]] = frozenset(("unset",))
MEANS_UNKNOWN: Final[frozenset[object]] = frozenset(("unknown",))


class Filter(Protocol):
    """What :class:`EventFilter` and :class:`ConfiguredFilter` are to whoever hands events out."""

    def __bool__(self) -> bool: ...

    def keep(
        self, points: InsertionPoints, choice: "array[int]", correlator: Correlator, first: int, count: int
    ) -> bytearray:
        """As :meth:`EventFilter.keep`."""


class LiveFilter(Filter, Protocol):
    """One that also says which of our records that stand alone are wanted."""

    def tells(self, containers: Containers, kind: int, pid: int, container: Container | None) -> bool:
        """As :meth:`EventFilter.tells`."""


class ContidTerms(NamedTuple):
    """Identifiers, chains of them and the words "unset" and "unknown"; ``negated`` for ``!=``."""

    wanted: frozenset[int | str | tuple[int, ...]]
    negated: bool = False

    def match(self, containers: Containers, container: Container | None) -> bool:
        """Whether a process of ``container`` (None: the host) is meant."""
        if container is None:
            return self.takes(MEANS_HOST)
        if container is UNKNOWN:
            return self.takes(MEANS_UNKNOWN)
        chain = container.chain()
        ids = tuple(containers.contid(link) for link in chain)
        return self.takes(meant_by(ids, [link.inner for link in chain]))

    def takes(self, meant: AbstractSet[object]) -> bool:
        """Whether what the terms ``meant`` mean is wanted."""
        return self.wanted.isdisjoint(meant) is self.negated


def parse_contids(text: str) -> ContidTerms:
    """``[=|!=]ID[,ID…]`` with decimal or 0x-hex ids, ``unset`` and ``unknown``; ``4,^2`` is 4 inside 2 and nothing
    else. Raises :class:`ConfigError`."""
    negated = text.startswith("!=")
    body = text[2:] if negated else text.removeprefix("=")
    wanted: set[int | str | tuple[int, ...]] = set()
    for term in re.split(r",(?!\^)", body):
        if ",^" in term:
            wanted.add(tuple(_contid(link) for link in term.split(",^")))
            continue
        if term in ("unset", "unknown"):
            wanted.add(term)
            continue
        value = _contid(term)
        wanted.add("unset" if value == UNSET else value)
    return ContidTerms(frozenset(wanted), negated)


def join_contids(texts: Sequence[str]) -> list[ContidTerms]:
    """What several options ask for: any of those to be had, and none of those not to be had."""
    terms = [parse_contids(text) for text in texts]
    wanted = [term.wanted for term in terms if not term.negated]
    joined = [ContidTerms(frozenset().union(*wanted))] if wanted else []
    return joined + [term for term in terms if term.negated]


def listed_wanted(listed: Sequence[JsonObject], terms: Sequence[ContidTerms], names: Sequence[str] = ()) -> list[bool]:
    """Which of the containers ``listed``, objects with "contid", "kind", "name" and "id" as contid-list and snapshots
    have them, all ``terms`` want, and one of the patterns ``names``."""
    inner = {about["contid"] for about in listed if about["kind"] == "runtime" and ",^" in about["contid"]}
    called = {
        about["contid"]: [str(word) for word in (about.get("name"), about.get("id")) if word]
        for about in listed
        if about["contid"] not in inner
    }
    out = []
    for about in listed:
        words = about["contid"].split(",^")
        ids = tuple(int(word) if word.isdecimal() else None for word in words)
        meant = meant_by(ids, [",^".join(words[i:]) in inner for i in range(len(words))])
        around = [word for i in range(len(words)) for word in called.get(",^".join(words[i:]), ())]
        named = not names or any(fnmatchcase(word, pattern) for word in around for pattern in names)
        out.append(named and all(term.takes(meant) for term in terms))
    return out


def _contid(term: str) -> int:
    """The identifier that ``term`` spells. Raises :class:`ConfigError`."""
    try:
        return number(term, 64)
    except ValueError as error:
        raise ConfigError(f"contid {term!r}: {error}, unset or unknown is allowed") from None


class EventFilter:
    """Conditions that must all hold; an empty one holds always."""

    def __init__(
        self,
        *,
        contids: Sequence[ContidTerms] = (),
        runtimes: Iterable[str] = (),
        names: Iterable[str] = (),
        types: Iterable[str] = (),
        keys: Iterable[str] = (),
        pids: Iterable[int] = (),
    ) -> None:
        self._contids = tuple(contids)
        self._runtimes = frozenset(runtimes)
        self._names = tuple(names)
        self._keys = frozenset(key.encode("utf-8", "surrogateescape") for key in keys)
        self._pids = frozenset(pids)
        self._types = frozenset(type_number(name) for name in types)
        self._key_list = sorted(self._keys)
        self._asks_who = bool(self._contids or self._runtimes or self._names)
        #: of the numbers of one correlator in one generation, as far as they were looked at
        self._verdicts = bytearray()
        self._judged: tuple[Correlator, int] | None = None
        self._type_table = marks(self._types) if self._types else b""

    def __bool__(self) -> bool:
        return any((self._contids, self._runtimes, self._names, self._keys, self._pids, self._types))

    def keep(
        self, points: InsertionPoints, choice: "array[int]", correlator: Correlator, first: int, count: int
    ) -> bytearray:
        """One byte for each of ``count`` events from number ``first`` on: 1 for those that are wanted; ``choice`` is
        what ``correlator`` has answered."""
        good: list[bytes | bytearray] = [self._good_keys(points)] if self._keys else []
        if self._pids:
            good.append(bytes(map(self._pids.__contains__, points.pid[: points.n].tolist())))
        if self._asks_who:
            good.append(pick(choice, self._good_numbers(choice, correlator)))
        kept = keep_events(points, both(good, b"\1" * points.n), first, count)
        if self._types:
            typed = keep_types(points, self._type_table, first, count)
            kept = bytearray(both([kept, typed], kept))
        for alone in correlator.alone(points):
            if 0 <= alone.event - first < count:
                kept[alone.event - first] = self.tells(
                    correlator.model.containers, alone.kind, alone.pid, alone.state.container
                )
        return kept

    def _good_numbers(self, choice: "array[int]", correlator: Correlator) -> bytearray:
        """One byte for each number that ``correlator`` may answer: 1 where its container is wanted."""
        holders, containers = correlator.holders, correlator.model.containers
        if self._names:  # what a container is called may change
            verdicts = bytearray(len(holders))
            for number in set(choice):
                verdicts[number] = self._who(containers, holders[number])
            return verdicts
        if self._judged != (correlator, correlator.generation):
            self._judged, self._verdicts = (correlator, correlator.generation), bytearray()
        self._verdicts += bytes(self._who(containers, holder) for holder in holders[len(self._verdicts) :])
        return self._verdicts

    def _good_keys(self, points: InsertionPoints) -> bytearray:
        """One byte for each point: 1 where it has one of the keys."""
        found = find_keys(points, self._key_list)
        at = found.find(UNCLEAR)
        while at >= 0:
            found[at] = self._has_key(points.key(at))
            at = found.find(UNCLEAR, at)
        return found

    def tells(self, containers: Containers, kind: int, pid: int, container: Container | None) -> bool:
        """Whether a record of ours that stands alone is wanted: of type ``kind``, about ``pid`` of ``container``."""
        if self._keys or (self._pids and pid not in self._pids) or (self._types and kind not in self._types):
            return False
        return self._who(containers, container)

    def _has_key(self, raw: bytes) -> bool:
        # several keys of one rule are joined by byte 1, which makes the kernel write them in hex
        value = untrusted(raw)
        return value is not None and not self._keys.isdisjoint(value.split(b"\1"))

    def _who(self, containers: Containers, container: Container | None) -> bool:
        if not all(terms.match(containers, container) for terms in self._contids):
            return False
        chain = [] if container is None else [link for link in container.chain() if not link.inner]
        if self._runtimes and self._runtimes.isdisjoint(word for link in chain for word in link.runtimes):
            return False
        if not self._names:
            return True
        called = [word for link in chain for word in (link.name, link.id) if word]
        return any(fnmatchcase(word, pattern) for word in called for pattern in self._names)


class ConfiguredFilter:
    """The configuration's filters: all of ``include`` must hold, none of ``exclude``."""

    def __init__(self, include: EventFilter, exclude: Sequence[EventFilter]) -> None:
        self._include = include if include else None
        self._exclude = [part for part in exclude if part]

    def __bool__(self) -> bool:
        return self._include is not None or bool(self._exclude)

    def keep(
        self, points: InsertionPoints, choice: "array[int]", correlator: Correlator, first: int, count: int
    ) -> bytearray:
        """As :meth:`EventFilter.keep`."""
        all_events = b"\1" * count
        included = [self._include.keep(points, choice, correlator, first, count)] if self._include is not None else []
        excluded = [part.keep(points, choice, correlator, first, count) for part in self._exclude]
        others = [inverted(dropped) for dropped in excluded]
        return bytearray(both([*included, *others], all_events))

    def tells(self, containers: Containers, kind: int, pid: int, container: Container | None) -> bool:
        """As :meth:`EventFilter.tells`."""
        if self._include is not None and not self._include.tells(containers, kind, pid, container):
            return False
        return not any(part.tells(containers, kind, pid, container) for part in self._exclude)


def configured(include: "Configured", exclude: "Configured") -> ConfiguredFilter:
    """The filter of a configuration's [filter.include] and [filter.exclude]."""
    everything = EventFilter(
        contids=[ContidTerms(frozenset(include.contid))] if include.contid else [],
        runtimes=include.runtime,
        names=include.name,
        types=include.record,
    )
    return ConfiguredFilter(
        everything,
        [
            EventFilter(contids=[ContidTerms(frozenset(exclude.contid))] if exclude.contid else []),
            EventFilter(runtimes=exclude.runtime),
            EventFilter(names=exclude.name),
            EventFilter(types=exclude.record),
        ],
    )


def type_number(name: str) -> int:
    number = NUMBERS.get(name.upper())
    if number is None:
        spelled = name.upper().startswith("UNKNOWN[") and name.endswith("]")
        number = decimal(name[8:-1] if spelled else name, 0xFFFF)
    if number is None:
        near = suggestion(name, NUMBERS)
        raise ConfigError(f"record type {name!r}: a name as in the log, UNKNOWN[n] or a number is allowed{near}")
    return number
