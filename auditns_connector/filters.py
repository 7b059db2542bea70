"""Which events are wanted: by container, runtime, name, record type, key and pid.

A term on a container matches its identifier or that of any container around it. A container that only the cgroups
inside another one tell of is matched by that one, or by its whole chain (``4,^2``): what it is called may be the word
of whoever is inside. ``unset`` is a process of the host, ``unknown`` one whose container is not known. An event is
kept when one of its points (subject or target) fulfils every condition on processes, and its records those on types
and keys.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from .config import EventFilter as Configured
from .correlate import untrusted
from .decode.rectypes import NUMBERS
from .errors import ConfigError
from .model.containers import UNKNOWN, Container, Containers
from .model.process import State
from .reassemble import Points

_MAX_U64 = (1 << 64) - 1


def meant_by(ids: tuple[int | None, ...], inner: Sequence[bool]) -> set[object]:
    """The terms that mean a container with the chain ``ids``, innermost first; for those ``inner`` is true of that only
    the cgroups inside another container tell of, the whole chain alone does."""
    return {ids[i:] for i in range(len(ids))} | {
        number for number, hidden in zip(ids, inner, strict=True) if not hidden
    }


class ContidTerms(NamedTuple):
    """Identifiers, chains of them and the words "unset" and "unknown"; ``negated`` for ``!=``."""

    wanted: frozenset[int | str | tuple[int, ...]]
    negated: bool = False

    def match(self, containers: Containers, container: Container | None) -> bool:
        """Whether a process of ``container`` (None: the host) is meant."""
        if container is None:
            found = "unset" in self.wanted
        elif container is UNKNOWN:
            found = "unknown" in self.wanted
        else:
            chain = container.chain()
            ids = tuple(containers.contid(link) for link in chain)
            found = not self.wanted.isdisjoint(meant_by(ids, [link.inner for link in chain]))
        return found is not self.negated


def parse_contids(text: str) -> ContidTerms:
    """``[=|!=]ID[,ID…]`` with decimal or 0x-hex ids, ``unset`` and ``unknown``; ``4,^2`` is 4 inside 2 and nothing
    else. Raises :class:`ConfigError`."""
    negated = text.startswith("!=")
    body = text[2:] if negated else text.removeprefix("=")
    wanted: set[int | str | tuple[int, ...]] = set()
    for term in re.split(r",(?!\^)", body):
        if ",^" in term:
            wanted.add(tuple(contid(link) for link in term.split(",^")))
            continue
        if term in ("unset", "unknown"):
            wanted.add(term)
            continue
        number = contid(term)
        wanted.add("unset" if number == _MAX_U64 else number)
    return ContidTerms(frozenset(wanted), negated)


def contid(term: str) -> int:
    """The identifier that ``term`` spells. Raises :class:`ConfigError`."""
    try:
        number = int(term, 16) if term[:2].lower() == "0x" else int(term, 10)
    except ValueError:
        number = -1
    if not term.isascii() or not 0 <= number <= _MAX_U64:
        raise ConfigError(f"contid {term!r}: a number (decimal or 0x-hex), unset or unknown is allowed")
    return number


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
        self._types = frozenset(_type_number(name) for name in types)

    def __bool__(self) -> bool:
        return any((self._contids, self._runtimes, self._names, self._keys, self._pids, self._types))

    @property
    def needs_states(self) -> bool:
        """Whether the correlator must keep the state it found for each point."""
        return bool(self._contids or self._runtimes or self._names)

    def keep(
        self, points: Points, states: Sequence[State], containers: Containers, first: int, count: int
    ) -> bytearray:
        """One byte for each of ``count`` events from number ``first`` on: 1 for those that are wanted."""
        kept = bytearray(count)
        event, key_len = points.event, points.key_len
        for i in range(points.n):
            number = event[i] - first
            if not 0 <= number < count or kept[number]:  # a late record belongs to no event of these
                continue
            if self._pids and points.pid[i] not in self._pids:
                continue
            if self._keys and not (key_len[i] and self._has_key(points.key(i))):
                continue
            if self.needs_states and not self._who(containers, states[i]):
                continue
            kept[number] = 1
        if self._types:
            typed = bytearray(count)
            for number, kind in zip(points.l_event[: points.line_n], points.l_type[: points.line_n], strict=True):
                if kind in self._types and 0 <= number - first < count:
                    typed[number - first] = 1
            kept = bytearray(a & b for a, b in zip(kept, typed, strict=True))
        return kept

    def tells(self, containers: Containers, kind: int, pid: int, container: Container | None) -> bool:
        """Whether a record of ours that stands alone is wanted: of type ``kind``, about ``pid`` of ``container``."""
        if self._keys or (self._pids and pid not in self._pids) or (self._types and kind not in self._types):
            return False
        return not self.needs_states or self._who(containers, State(0, container, None, ""))

    def _has_key(self, raw: bytes) -> bool:
        # several keys of one rule are joined by byte 1, which makes the kernel write them in hex
        value = untrusted(raw)
        return value is not None and not self._keys.isdisjoint(value.split(b"\1"))

    def _who(self, containers: Containers, state: State) -> bool:
        container = state.container
        if not all(terms.match(containers, container) for terms in self._contids):
            return False
        chain = [] if container is None else [link for link in container.chain() if not link.inner]
        if self._runtimes and not any(link.runtime in self._runtimes for link in chain):
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

    @property
    def needs_states(self) -> bool:
        """Whether the correlator must keep the state it found for each point."""
        return any(part.needs_states for part in (self._include, *self._exclude) if part is not None)

    def keep(
        self, points: Points, states: Sequence[State], containers: Containers, first: int, count: int
    ) -> bytearray:
        """One byte for each of ``count`` events from number ``first`` on: 1 for those that are wanted."""
        kept = bytearray(b"\1" * count)
        if self._include is not None:
            kept = self._include.keep(points, states, containers, first, count)
        for part in self._exclude:
            dropped = part.keep(points, states, containers, first, count)
            kept = bytearray(a & ~b & 1 for a, b in zip(kept, dropped, strict=True))
        return kept

    def tells(self, containers: Containers, kind: int, pid: int, container: Container | None) -> bool:
        """As :meth:`EventFilter.tells`."""
        if self._include is not None and not self._include.tells(containers, kind, pid, container):
            return False
        return not any(part.tells(containers, kind, pid, container) for part in self._exclude)


def configured(include: Configured, exclude: Configured) -> ConfiguredFilter:
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


def _type_number(name: str) -> int:
    number = NUMBERS.get(name.upper())
    if number is None and name.upper().startswith("UNKNOWN[") and name.endswith("]") and name[8:-1].isdecimal():
        number = int(name[8:-1])
    if number is None and name.isdecimal():
        number = int(name)
    if number is None or not 0 <= number < 65536:
        raise ConfigError(f"record type {name!r}: a name as in the log, UNKNOWN[n] or a number is allowed")
    return number
