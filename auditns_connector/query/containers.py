"""All containers of a text: what they are called, when they were seen, and how much they did."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from auditns_connector.archive.reader import Archive
from auditns_connector.audittext.grouping import event_numbers
from auditns_connector.audittext.own_records import UNKNOWN
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.matching.columns import fields_of
from auditns_connector.matching.conditions import of_option
from auditns_connector.matching.native import Values
from auditns_connector.query.answers import Holder, LogAnswers
from auditns_connector.query.archived import about_of, entries_of_events
from auditns_connector.query.asked import Asked
from auditns_connector.query.names import same_container
from auditns_connector.vocabulary.audit_text import P_EXEC, P_LATE, P_NODE, P_TARGET
from auditns_connector.vocabulary.values import JsonObject

_NEVER: Final = 1 << 62
_MOST_VALUES: Final = 1 << 16


class Row:
    """A container on a host: ``first`` and ``last`` are ms since 1970; ``events`` are those of its processes, ``execs``
    and ``failures`` of them. ``entries`` are the ids of who came in from outside."""

    __slots__ = (
        "about",
        "contid",
        "counted_entries",
        "entries",
        "events",
        "execs",
        "failures",
        "first",
        "host",
        "last",
    )

    def __init__(self, host: str, contid: str, about: dict[str, str]) -> None:
        self.host, self.contid, self.about = host, contid, about
        self.first, self.last = _NEVER, -_NEVER
        self.events = self.execs = self.failures = self.counted_entries = 0
        self.entries: set[str] = set()

    @property
    def came(self) -> int:
        """How many entries there are: those of events, and those that were counted at sealing."""
        return len(self.entries) + self.counted_entries

    def seen(self, ms: int) -> None:
        """It was there at ``ms``."""
        self.first, self.last = min(self.first, ms), max(self.last, ms)

    def object(self) -> JsonObject:
        """As JSON."""
        times = {"first_seen": stamp(self.first), "last_seen": stamp(self.last)} if self.last >= self.first else {}
        return {
            "v": 1, "contid": self.contid or None, "host": self.host or None, **self.about, **times,
            "events": self.events, "execs": self.execs, "failures": self.failures, "entries": self.came,
        }  # fmt: skip


def stamp(ms: int) -> str:
    """Seconds with three decimals, as records have them."""
    return f"{ms // 1000}.{ms % 1000:03d}"


class Containers:
    """Counts the events that ``asked`` wants, by container."""

    def __init__(self, answers: LogAnswers, asked: Asked) -> None:
        self._answers, self._asked = answers, asked
        self._rows: dict[tuple[str, str], list[Row]] = {}
        (self._failed,) = of_option("success", ["no"])
        self._values = Values(fields_of(["success"]), 1)
        self._verdict = bytearray(1)
        #: of the last events, by number from the first on, which were counted
        self.kept = bytearray()

    def take(self, stream: TextStream, points: InsertionPoints) -> bool:
        """Count whole events."""
        choice = self._answers.answer(points)
        first, count = event_numbers(points)
        kept = self.kept = self._asked.keep(points, choice, self._answers, first, count)
        failed = self._failures(points)
        rows = {number: row for row, number in enumerate(self._answers.table.number)}
        by_number: dict[int, Row] = {}
        columns = (points.flags, points.ms, points.event)
        for i, (number, flags, ms, event) in enumerate(
            zip(self._answers.numbers_of, *(column[: points.n].tolist() for column in columns), strict=True)
        ):
            if flags & (P_TARGET | P_LATE) or not kept[event - first]:
                continue
            if flags & P_NODE:
                row = self._row(self._answers.people[number], points.node(i).decode("utf-8", "surrogateescape"))
            else:
                row = by_number.get(number) or by_number.setdefault(number, self._row(self._answers.people[number], ""))
            row.events += 1
            row.execs += flags & P_EXEC == P_EXEC
            row.failures += failed[rows[event]]
            row.seen(ms)
            entry = self._answers.people[number].entry
            if entry:
                row.entries.add(entry)
        self._stand_alone(points, kept, first, rows)
        return True

    def _stand_alone(self, points: InsertionPoints, kept: bytearray, first: int, rows: dict[int, int]) -> None:
        """Records of ours that are events count as those of the container that they speak of."""
        table = self._answers.table
        for alone, holder in zip(self._answers.alone(points), self._answers.alone_holders, strict=True):
            if kept[alone.event - first]:
                row = self._row(holder, "")
                row.events += 1
                row.seen(table.ms[rows[alone.event]])

    def _failures(self, points: InsertionPoints) -> bytearray:
        values, strings = self._values, self._values.strings[0]
        if len(strings) > _MOST_VALUES:
            strings.clear()
            self._verdict = bytearray(1)
        values.read(points)
        judge = self._failed.judge
        self._verdict += bytes(judge(strings[number]) for number in range(len(self._verdict), len(strings) + 1))
        return values.good(0, self._verdict, len(self._answers.table.number))

    def _row(self, holder: Holder, node: str) -> Row:
        host = node or self._asked.host
        lives = self._rows.setdefault((host, holder.contid), [])
        for row in lives:
            if same_container(row.about, holder.about):
                row.about = row.about | holder.about
                return row
        lives.append(Row(host, holder.contid, holder.about))
        return lives[-1]

    def add_archive(self, archive: Archive) -> bool:
        """Take what the catalogue of an archive has counted, where containers are all that is asked about, and nothing
        was sealed since it was opened; else False, and nothing is taken."""
        if not self._asked.about_containers:
            return False
        hosts = {row.host for row in archive.segments()}
        host = hosts.pop() if len(hosts) == 1 else ""
        entries: Counter[int] = Counter()
        for tally in archive.aggregates(("entry",)):
            entries[tally.container] += tally.times
        counted = archive.containers()
        # of a log that was enriched afterwards nothing but the events says who came in
        unsealed = entries_of_events(archive, frozenset(found.number for found in counted) - entries.keys())
        if not archive.current:
            return False
        for found in counted:
            contid = {"container": found.contid, "host": "", "unknown": UNKNOWN, "several": found.contid}.get(
                found.kind
            )
            if contid is None or not self._asked.wants(holder := Holder(contid, "", about_of(found))):
                continue
            row = self._row(holder, found.node.decode("utf-8", "surrogateescape") or host)
            row.events, row.execs = row.events + found.events, row.execs + found.execs
            row.failures += found.failures
            row.counted_entries += entries[found.number]
            if not entries[found.number]:
                row.entries |= unsealed.get(found.contid, set())
            row.seen(found.first_ms)
            row.seen(found.last_ms)
        return True

    def rows(self) -> Iterator[Row]:
        """In the order in which they were first seen; the host and what is not known come last."""
        found = [row for lives in self._rows.values() for row in lives]
        return iter(sorted(found, key=lambda row: (row.contid in ("", UNKNOWN), row.first, row.contid)))
