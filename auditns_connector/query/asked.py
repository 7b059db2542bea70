"""What is asked for: the conditions of a search, on events and on whose they are. Pure.

An event is wanted when one of its processes (subject or target) fulfils every condition on containers, entries and
pids, and its records fulfil those on values, times and types.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.grouping import inverted, keep_events, keep_types, pick
from auditns_connector.audittext.heads import read_head
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.errors import ConfigError
from auditns_connector.matching import patterns as p
from auditns_connector.matching.conditions import of_option
from auditns_connector.matching.judged import Judges, by_number
from auditns_connector.pipeline.filters import (
    MEANS_HOST,
    MEANS_UNKNOWN,
    ContidTerms,
    both,
    join_contids,
    meant_by,
    type_number,
)
from auditns_connector.query.answers import Holder, LogAnswers, ids_of
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.values import MOST_PID, decimal

#: options on what a container is called, and the members of its fields that they mean
CALLED: Final[dict[str, tuple[str, ...]]] = {
    "name": ("name", "id"), "image": ("image",), "pod": ("pod", "pod_uid"), "runtime": ("runtime",),
}  # fmt: skip
#: what --entered-by means: any of these of the entry
_ENTERED: Final = ("auid", "comm", "exe", "from", "how", "unit", "id", "ses", "login")
#: more needles than that are no help
_MANY: Final = 32
_FOREVER: Final = 1 << 62


class Options(NamedTuple):
    """As given on the command line, each option's texts; times in ms since 1970."""

    contids: Sequence[str] = ()
    called: Mapping[str, Sequence[str]] = MappingProxyType({})
    entered_by: Sequence[str] = ()
    hosts: Sequence[str] = ()
    since: int | None = None
    until: int | None = None
    pids: Sequence[str] = ()
    types: Sequence[str] = ()
    values: Mapping[str, Sequence[str]] = MappingProxyType({})


class Asked:
    """The filter of a search; see the module. It tests what ``answers`` has answered last."""

    def __init__(self, options: Options, answers: LogAnswers) -> None:
        self._answers, self._names = answers, answers.names
        self._contids: list[ContidTerms] = join_contids(options.contids)
        self._called = [(CALLED[name], p.parse(texts)) for name, texts in options.called.items() if texts]
        self._entered = p.parse(options.entered_by)
        self._hosts = p.parse(options.hosts)
        self.since = options.since
        self.until = options.until
        self._pids, self._not_pids = _numbers("pid", options.pids)
        types = p.parse(options.types, listed=True)
        self._types = [frozenset(map(type_number, part)) for part in types]
        conditions = [one for option, texts in options.values.items() if texts for one in of_option(option, texts)]
        self._judges = Judges(conditions)
        #: what the holders of one generation are judged as
        self._verdicts = bytearray()
        self._generation: tuple[LogAnswers, int] | None = None
        #: the name of the host that text without node= is of
        self.host = ""

    def __bool__(self) -> bool:
        return True

    @property
    def asks_names(self) -> bool:
        """Whether it is asked what containers are called, or who entered them."""
        return bool(self._called or self._entered)

    @property
    def asks_entries(self) -> bool:
        """Whether it is asked who entered."""
        return bool(self._entered)

    @property
    def about_containers(self) -> bool:
        """Whether containers decide alone, and not what an event is or when it was."""
        return (
            not (self._judges or self._entered or self._hosts or self._pids or self._not_pids or any(self._types))
            and self.since is self.until is None
        )

    @property
    def asks_silence(self) -> bool:
        """Whether it is asked which events are the host's, or not known."""
        wanted = {one for terms in self._contids for one in terms.wanted}
        return bool(wanted & {"unset", "unknown"}) or any(terms.negated for terms in self._contids) or self.asks_names

    # -- which bytes a match must have

    def needles(self, *, named: bool) -> list[list[bytes]]:
        """For each condition that has some: byte strings of which one stands in every event that is wanted; ``named``:
        all names are known that will be."""
        found: list[Sequence[bytes] | None] = [condition.needles for condition in self._judges.conditions]
        wanted = [terms.wanted for terms in self._contids if not terms.negated]
        found += [self._id_needles(one) for one in wanted]
        for members, patterns in self._called if named else ():
            if patterns.wanted and not patterns.unwanted:
                match = p.matcher(patterns.wanted)
                found.append(self._called_needles(members, match))
        if self._pids:
            found.append([b"pid=%d" % pid for pid in sorted(self._pids)])
        if self._types[0]:
            found.append([spelled for number in sorted(self._types[0]) for spelled in _type_needles(number)])
        return [list(one) for one in found if one is not None and 0 < len(one) <= _MANY]

    def terms(self, *, named: bool) -> list[list[tuple[str, bytes]]]:
        """The same as :meth:`needles` for the index of an archive: of each list an event that is wanted has one."""
        found = [list(condition.terms) for condition in self._judges.conditions]
        contids = [self._id_needles(terms.wanted) for terms in self._contids if not terms.negated]
        for members, patterns in self._called if named else ():
            if patterns.wanted and not patterns.unwanted:
                contids.append(self._called_needles(members, p.matcher(patterns.wanted)))
        found += [[("contid", one) for one in ids or ()] for ids in contids]
        if self._entered.wanted:
            found.append(self._entry_terms(self._entered.wanted))
        if self._pids:
            found.append([("pid", b"%d" % pid) for pid in sorted(self._pids)])
        if self._types[0]:
            found.append([("type", b"%d" % number) for number in sorted(self._types[0])])
        return [one for one in found if one]

    def _entry_terms(self, wanted: Sequence[str]) -> list[tuple[str, bytes]]:
        """A pattern may mean an entry of which nothing but the id is known."""
        if any(map(p.is_wild, wanted)):
            return [("entry", b"*")]
        match = p.matcher(wanted)
        ids = {*wanted, *self._names.entries(lambda about: any(map(match, _words_of(about))))}
        return [("entry", one.encode("utf-8", "surrogateescape")) for one in sorted(ids)]

    @staticmethod
    def _id_needles(wanted: Iterable[object]) -> list[bytes] | None:
        ids = {(one[0] if isinstance(one, tuple) else one) for one in wanted}
        numbers = [one for one in ids if isinstance(one, int)]
        return [b"%d" % one for one in numbers] if len(numbers) == len(ids) else None

    def _called_needles(self, members: Sequence[str], match: p.Match) -> list[bytes]:
        found = self._names.contids(lambda about: any(match(about[name]) for name in members if name in about))
        # where nothing is called so no event is wanted
        return [b"%d" % ids[0] for contid in found if (ids := ids_of(contid))[0] is not None] or [b"\n\n"]

    # -- events

    def keep(
        self, points: InsertionPoints, choice: "array[int]", correlator: Correlator, first: int, count: int
    ) -> bytearray:
        """One byte for each of ``count`` events from number ``first`` on: 1 for those that are wanted."""
        table = self._answers.table
        rows = len(table.number)
        columns: list[bytes | bytearray] = []
        if self.since is not None or self.until is not None:
            low = -_FOREVER if self.since is None else self.since
            high = _FOREVER if self.until is None else self.until
            columns.append(bytes(low <= ms <= high for ms in table.ms))
        if self._hosts:
            columns.append(self._good_hosts(points, table.first))
        columns += self._judges.good(points, rows)
        kept = by_number(both(columns, b"\1" * rows), table.number, first, count)
        for wanted, negated in zip(self._types, (False, True), strict=True):
            if wanted:
                having = keep_types(points, rectypes.marks(wanted), first, count)
                kept = bytearray(both([kept, inverted(having) if negated else having], kept))
        if self._asks_who:
            kept = bytearray(both([kept, self._good_processes(points, self._answers, first, count)], kept))
        return kept

    @property
    def _asks_who(self) -> bool:
        return bool(self._contids or self._called or self._entered or self._pids or self._not_pids)

    def _good_hosts(self, points: InsertionPoints, lines: "array[int]") -> bytes:
        wanted, unwanted = p.matcher(self._hosts.wanted), p.matcher(self._hosts.unwanted)
        verdicts: dict[bytes, bool] = {}
        found = bytearray()
        for line in lines:
            head = read_head(points.line(line))
            node = b"" if head is None else head.node
            verdict = verdicts.get(node)
            if verdict is None:
                name = node.decode("utf-8", "surrogateescape") or self.host
                short = name.partition(".")[0]
                good = not self._hosts.wanted or wanted(name) or wanted(short)
                verdict = verdicts[node] = bool(name) and good and not unwanted(name) and not unwanted(short)
            found.append(verdict)
        return bytes(found)

    def _good_processes(self, points: InsertionPoints, answers: LogAnswers, first: int, count: int) -> bytearray:
        good: list[bytes | bytearray] = []
        pids = points.pid[: points.n].tolist()
        if self._pids:
            good.append(bytes(map(self._pids.__contains__, pids)))
        if self._contids or self._called or self._entered:
            good.append(pick(answers.numbers_of, self._judge_holders(answers)))
        kept = keep_events(points, both(good, b"\1" * points.n), first, count)
        if self._not_pids:
            bad = keep_events(points, bytes(map(self._not_pids.__contains__, pids)), first, count)
            kept = bytearray(both([kept, inverted(bad)], kept))
        for alone, holder in zip(answers.alone(points), answers.alone_holders, strict=True):
            if 0 <= alone.event - first < count:
                kept[alone.event - first] = self._good_pid(alone.pid) and self.wants(holder)
        return kept

    def _good_pid(self, pid: int) -> bool:
        return (not self._pids or pid in self._pids) and pid not in self._not_pids

    def _judge_holders(self, answers: LogAnswers) -> bytearray:
        if self._generation != (answers, answers.generation):
            self._generation, self._verdicts = (answers, answers.generation), bytearray()
        self._verdicts += bytes(self.wants(one) for one in answers.people[len(self._verdicts) :])
        return self._verdicts

    def wants(self, holder: Holder) -> bool:
        """Whether the conditions on containers and entries take ``holder``."""
        meant = self._meant(holder)
        if not all(terms.takes(meant) for terms in self._contids):
            return False
        return all(self._is_called(holder, *one) for one in self._called) and self._was_entered(holder)

    def _meant(self, holder: Holder) -> "set[object] | frozenset[object]":
        if not holder.contid:
            return MEANS_HOST
        ids = ids_of(holder.contid)
        if ids[0] is None:
            return MEANS_UNKNOWN
        if ",^" not in holder.contid:  # a list: the packet may be any of theirs
            return {one for one in ids if one is not None}
        inner = [self._links(holder, i).get("kind") == "runtime" and i < len(ids) - 1 for i in range(len(ids))]
        return meant_by(ids, inner)

    def _links(self, holder: Holder, i: int) -> dict[str, str]:
        """The fields of the container ``i`` steps outside of that of ``holder``."""
        if not i:
            return holder.about
        lives = self._names.lives(",^".join(holder.contid.split(",^")[i:]))
        return lives[-1].about if lives else {}

    def _is_called(self, holder: Holder, members: Sequence[str], patterns: p.Patterns) -> bool:
        """What is not known is neither called so nor otherwise."""
        chain = [self._links(holder, i) for i in range(holder.contid.count(",^") + 1)] if holder.contid else []
        words = [about[name] for about in chain for name in members if name in about]
        if patterns.unwanted and (not words or any(map(p.matcher(patterns.unwanted), words))):
            return False
        return not patterns.wanted or any(map(p.matcher(patterns.wanted), words))

    def _was_entered(self, holder: Holder) -> bool:
        if not self._entered:
            return True
        entry = self._names.entry(holder.entry) if holder.entry else {}
        words = [holder.entry, *_words_of(entry)]
        if not holder.entry or (self._entered.unwanted and any(map(p.matcher(self._entered.unwanted), words))):
            return False
        return not self._entered.wanted or any(map(p.matcher(self._entered.wanted), words))


def _words_of(entry: dict[str, str]) -> list[str]:
    """What an entry may be asked for by."""
    return [*(entry[name] for name in _ENTERED if name in entry), *_user_names(entry)]


def _user_names(entry: dict[str, str]) -> list[str]:
    """What this host calls the user who entered."""
    import pwd

    try:
        return [pwd.getpwuid(int(entry["auid"])).pw_name]
    except (KeyError, ValueError, OverflowError):
        return []


def _numbers(option: str, texts: Sequence[str]) -> tuple[frozenset[int], frozenset[int]]:
    patterns = p.parse(texts, listed=True)
    if any(not decimal(word, MOST_PID) for part in patterns for word in part):
        raise ConfigError(f"--{option}: a number from 1 to {MOST_PID} is allowed")
    wanted, unwanted = (frozenset(map(int, part)) for part in patterns)
    return wanted, unwanted


def _type_needles(number: int) -> list[bytes]:
    return [spelled.encode() for spelled in {rectypes.name(number), f"UNKNOWN[{number}]", str(number)}]
