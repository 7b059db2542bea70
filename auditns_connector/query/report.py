"""A report of a whole log: containers, programs, failures by key, logins inside, what crossed containers, losses.
Of sealed text, whose tallies have no namespaces, setns is not reported.

Works on distinct values in columns, so that ten million records take seconds.
"""

from collections import Counter
from typing import Final

from auditns_connector.archive.catalogue import ContainerRow
from auditns_connector.archive.reader import Archive
from auditns_connector.audittext.grouping import event_numbers
from auditns_connector.audittext.own_records import UNKNOWN
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.daemon.terminal import HOST, NOT_KNOWN
from auditns_connector.matching.columns import fields_of
from auditns_connector.matching.conditions import of_option, text_of
from auditns_connector.matching.native import Values
from auditns_connector.query.answers import Holder, LogAnswers
from auditns_connector.query.archived import about_of
from auditns_connector.query.asked import Asked
from auditns_connector.query.containers import Containers, Row
from auditns_connector.query.life import entry_line
from auditns_connector.query.page import Band, Bar, Page, Table, moment
from auditns_connector.query.spaces import Spaces
from auditns_connector.vocabulary.audit_text import P_EXEC, P_LATE, P_TARGET
from auditns_connector.vocabulary.record_types import CONTAINER_LOST, NUMBERS
from auditns_connector.vocabulary.syscall_names import call_name

#: distinct things of a kind that are counted; those beyond are reported
MOST: Final = 100_000
_MOST_VALUES: Final = 1 << 16
_COLUMNS: Final = ("success", "exe", "key", "auid", "lost")
_SUCCESS, _EXE, _KEY, _AUID, _LOST = range(len(_COLUMNS))
_LOGINS: Final = frozenset(NUMBERS[name] for name in ("LOGIN", "USER_LOGIN", "USER_START"))
_TOP: Final = 1000


class Tally:
    """Counts the events that ``asked`` wants."""

    def __init__(self, answers: LogAnswers, asked: Asked) -> None:
        self._answers, self._asked = answers, asked
        self._containers = Containers(answers, asked)
        (self._failed,) = of_option("success", ["no"])
        self._values = Values(fields_of(_COLUMNS), len(_COLUMNS))
        self._verdict = bytearray(1)
        self.execs: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.logins: dict[tuple[str, str, str], list[int]] = {}
        self.crossing: dict[tuple[str, str, str], list[int]] = {}
        self.losses: list[tuple[int, str]] = []
        self.dropped = 0
        self._spaces = Spaces()

    def take(self, stream: TextStream, points: InsertionPoints) -> bool:
        """Count whole events."""
        self._containers.take(stream, points)
        first, _ = event_numbers(points)
        kept = self._containers.kept
        by_row = self._values_of(points)
        rows = {number: row for row, number in enumerate(self._answers.table.number)}
        numbers = self._answers.numbers_of
        subjects: dict[int, int] = {}
        columns = (points.flags, points.ms, points.event, points.rtype)
        for i, (flags, ms, event, kind) in enumerate(zip(*(c[: points.n].tolist() for c in columns), strict=True)):
            if flags & P_LATE or not kept[event - first]:
                continue
            if flags & P_TARGET:
                self._crossed(points, subjects.get(event), i, ms)
                continue
            subjects[event] = i
            values = by_row.get(rows[event], {})
            who = self.called(self._answers.people[numbers[i]])
            if flags & P_EXEC:
                self._count(self.execs, (who, values.get(_EXE, NOT_KNOWN)))
            if values.get(_SUCCESS):
                self._count(self.failures, (who, values.get(_KEY, "-")))
            if kind in _LOGINS and who != HOST:
                self._seen(self.logins, (who, values.get(_AUID, NOT_KNOWN), values.get(_EXE, NOT_KNOWN)), ms)
        self._stand_alone(points, by_row, kept, first, rows)
        return True

    def _values_of(self, points: InsertionPoints) -> dict[int, dict[int, str]]:
        """Row of an event -> column -> value; that of "success" is there where it failed."""
        values = self._values
        if any(len(strings) > _MOST_VALUES for strings in values.strings):
            for strings in values.strings:
                strings.clear()
            self._verdict = bytearray(1)
        values.read(points)
        strings, judge = values.strings[_SUCCESS], self._failed.judge
        self._verdict += bytes(judge(strings[number]) for number in range(len(self._verdict), len(strings) + 1))
        texts: dict[tuple[int, int], str] = {}
        found: dict[int, dict[int, str]] = {}
        for event, column, number in values.rows():
            if column == _SUCCESS:
                if self._verdict[number]:
                    found.setdefault(event, {})[column] = "no"
                continue
            text = texts.get((column, number))
            if text is None:
                text = texts[column, number] = _shown(column, values.strings[column][number])
            found.setdefault(event, {}).setdefault(column, text)
        return found

    def _stand_alone(
        self,
        points: InsertionPoints,
        by_row: dict[int, dict[int, str]],
        kept: bytearray,
        first: int,
        rows: dict[int, int],
    ) -> None:
        answers = self._answers
        said = zip(answers.alone(points), answers.alone_holders, answers.alone_words, strict=True)
        for alone, who, words in said:
            row, wanted = rows[alone.event], kept[alone.event - first]
            if wanted and alone.kind == CONTAINER_LOST and len(self.losses) < MOST:
                self.losses.append((answers.table.ms[row], by_row.get(row, {}).get(_LOST, NOT_KNOWN)))
            went = self._spaces.take(alone.kind, who, words)
            if wanted and went is not None:
                kind, theirs = went
                whom = ",".join(sorted(map(self.called, theirs)))
                self._seen(self.crossing, (f"setns {kind}", self.called(who), whom), answers.table.ms[row])

    def _crossed(self, points: InsertionPoints, subject: int | None, target: int, ms: int) -> None:
        """A signal or a trace; reported where it goes to another container."""
        if subject is None:
            return
        numbers, people = self._answers.numbers_of, self._answers.people
        who, whom = people[numbers[subject]], people[numbers[target]]
        if who.contid == whom.contid:
            return
        call = call_name(f"{points.arch[subject]:x}", points.sysno[subject]) or "?"
        self._seen(self.crossing, (call, self.called(who), self.called(whom)), ms)

    def _count(self, table: "Counter[tuple[str, str]]", key: tuple[str, str]) -> None:
        if key in table or len(table) < MOST:
            table[key] += 1
        else:
            self.dropped += 1

    def _seen(self, table: dict[tuple[str, str, str], list[int]], key: tuple[str, str, str], ms: int) -> None:
        found = table.get(key)
        if found is None:
            if len(table) >= MOST:
                self.dropped += 1
                return
            found = table[key] = [0, ms, ms]
        found[0] += 1
        found[1], found[2] = min(found[1], ms), max(found[2], ms)

    @staticmethod
    def called(holder: Holder) -> str:
        """What a container is called in a report: its name, else its contid."""
        if not holder.contid:
            return HOST
        return holder.about.get("name") or holder.contid

    def add_archive(self, archive: Archive) -> bool:
        """As :meth:`Containers.add_archive`, with what was counted at sealing."""
        called = {row.number: self._called_row(row) for row in archive.containers()}
        tallies = archive.aggregates(("exec", "failed", "login", "target", "loss"))
        if not self._containers.add_archive(archive):
            return False
        wanted = {number for number, (holder, _) in called.items() if holder is not None and self._asked.wants(holder)}
        for row in tallies:
            value = row.value.decode("utf-8", "backslashreplace").replace("\0", "")
            if row.kind == "loss":
                self.losses.append((row.first_ms, f"{value}: told {row.times} times up to {moment(row.last_ms)}"))
                continue
            if row.container not in wanted:
                continue
            who = called[row.container][1]
            if row.kind in ("exec", "failed"):
                (self.execs if row.kind == "exec" else self.failures)[who, value or "-"] += row.times
                continue
            if row.kind == "login" and who == HOST:
                continue
            key = (who, value, NOT_KNOWN) if row.kind == "login" else (NOT_KNOWN, who, self._called_contid(value))
            table = self.logins if row.kind == "login" else self.crossing
            found = table.setdefault(key, [0, row.first_ms, row.last_ms])
            found[0] += row.times
        return True

    def _called_row(self, row: ContainerRow) -> tuple[Holder | None, str]:
        """Whose a row of the catalogue is, and what that is called."""
        contid = {"container": row.contid, "host": "", "unknown": UNKNOWN}.get(row.kind)
        holder = None if contid is None else Holder(contid, "", about_of(row))
        return holder, NOT_KNOWN if holder is None else self.called(holder)

    def _called_contid(self, contid: str) -> str:
        lives = self._answers.names.lives(contid)
        return lives[-1].about.get("name", contid) if lives else contid or HOST

    # -- showing

    def page(self) -> Page:
        """The report."""
        rows = list(self._containers.rows())
        seen = [row for row in rows if row.last >= row.first]
        facts = [
            ("first", moment(min((row.first for row in seen), default=-1))),
            ("last", moment(max((row.last for row in seen), default=-1))),
            ("events", str(sum(row.events for row in rows))),
            ("containers", str(sum(row.contid not in ("", UNKNOWN) for row in rows))),
            ("events of unknown containers", str(sum(row.events for row in rows if row.contid == UNKNOWN))),
            ("losses told", str(len(self.losses))),
        ]
        entries = self._answers.names.entries(lambda entry: True)
        described = [self._answers.names.entry(entry) for entry in entries]
        came = [(one.get("time", "?"), entry_line(one), one.get("login", "?"), one["id"]) for one in described[:_TOP]]
        notes = [f"{self.dropped} more were counted in no table."] if self.dropped else []
        if self._spaces.dropped:
            notes.append(f"{self._spaces.dropped} namespaces were not remembered: setns into them is not told.")
        listed = sorted(rows, key=lambda row: -row.events)
        return Page(
            "report of the log",
            tuple(facts),
            (
                _containers(listed),
                _counts("execs", "Programs started most", ("container", "program"), self.execs),
                _counts("failures", "Failures by key", ("container", "key"), self.failures),
                _seen_table("logins", "Logins inside", ("container", "user", "program"), self.logins),
                _seen_table("crossing", "Across containers", ("call", "who", "whom"), self.crossing),
                Table("entries", "Entries from outside", ("time", "who", "login", "id"),
                      came, max(len(described) - _TOP, 0)),
                Table("losses", "Lost", ("time", "source"), [(moment(ms), source) for ms, source in self.losses[:_TOP]],
                      max(len(self.losses) - _TOP, 0)),
            ),
            [
                Bar(_name(row), row.first, row.last, 0, number, ())
                for number, row in enumerate(listed) if row.last >= row.first
            ],
            [Band(ms, ms, "loss", f"lost: {source}") for ms, source in self.losses[:200]],
            "containers",
            tuple(notes),
        )  # fmt: skip


def _name(row: Row) -> str:
    if not row.contid:
        return HOST
    return row.about.get("name") or row.contid


def _shown(column: int, raw: bytes) -> str:
    value = text_of(raw) if column in (_EXE, _KEY) else raw.decode("latin-1")
    if value is None:
        return "-"
    return "unset" if column == _AUID and value == "4294967295" else value.replace("\1", " ")


def _containers(rows: list[Row]) -> Table:
    return Table(
        "containers", "Containers",
        ("container", "contid", "image", "first", "last", "events", "execs", "failed", "entries"),
        [
            (_name(row), row.contid or "-", row.about.get("image", "?" if row.contid else "-"), moment(row.first),
             moment(row.last), str(row.events), str(row.execs), str(row.failures), str(row.came))
            for row in rows
        ],
        0, frozenset(("events", "execs", "failed", "entries")),
    )  # fmt: skip


def _counts(key: str, title: str, heads: tuple[str, str], counts: "Counter[tuple[str, str]]") -> Table:
    top = counts.most_common(_TOP)
    left = max(len(counts) - len(top), 0)
    return Table(key, title, (*heads, "times"), [(*what, str(n)) for what, n in top], left, frozenset(("times",)))


def _seen_table(key: str, title: str, heads: tuple[str, ...], table: dict[tuple[str, str, str], list[int]]) -> Table:
    found = sorted(table.items(), key=lambda item: -item[1][0])[:_TOP]
    rows = [(*what, str(count), moment(first), moment(last)) for what, (count, first, last) in found]
    left = max(len(table) - len(rows), 0)
    return Table(key, title, (*heads, "times", "first", "last"), rows, left, frozenset(("times",)))
