"""The life of one container: its processes as a tree with the entries from outside, what they ran, opened and reached,
its namespaces, failures, and what was lost in that time. Objects of JSON in, a page out; what is remembered is bounded.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

from auditns_connector.daemon.terminal import HOST, NOT_KNOWN
from auditns_connector.emit.words import namespace
from auditns_connector.query.facts import LOGINS, Event, Facts, facts_of
from auditns_connector.query.names import Names
from auditns_connector.query.page import Band, Bar, Mark, Page, Table, moment

#: of each kind (processes, files, addresses …) so many are remembered
MOST: Final = 50_000
#: marks of the timeline
MOST_MARKS: Final = 5_000
#: and of one process, so that there are some of all
MOST_OF_ONE: Final = 100
_NEVER: Final = 1 << 62
Key = TypeVar("Key")
Row = TypeVar("Row")
_CROSSING: Final = frozenset(("kill", "tkill", "tgkill", "ptrace", "pidfd_send_signal", "rt_sigqueueinfo", "setns"))


class Process:
    """A process, as far as events tell; ``since`` and ``until`` are its first and last (ms)."""

    __slots__ = ("auid", "children", "comm", "entry", "events", "exe", "failures", "line", "marks", "pid", "ppid",
                 "since", "uid", "until")  # fmt: skip

    def __init__(self, one: Facts) -> None:
        self.pid, self.ppid, self.comm, self.exe = one.pid, one.ppid, one.comm, one.exe
        self.auid, self.uid, self.line, self.entry = one.auid, one.uid, "", ""
        self.since = self.until = one.ms
        self.events = self.failures = 0
        self.children: list[Process] = []
        self.marks: list[Mark] = []


class Uses:
    """How often, when and by whom something was used."""

    __slots__ = ("by", "changed", "count", "failures", "first", "last")

    def __init__(self) -> None:
        self.count = self.changed = self.failures = 0
        self.first, self.last = _NEVER, -1
        self.by: Counter[str] = Counter()

    def use(self, one: Facts, *, changed: bool = False) -> None:
        """Once more."""
        self.count += 1
        self.changed += changed
        self.failures += bool(one.failed)
        self.first, self.last = min(self.first, one.ms), max(self.last, one.ms)
        if len(self.by) < 16:
            self.by[one.comm] += 1


class Bounded(Generic[Key]):
    """What was used how; at most :data:`MOST` things, ``dropped`` counts what there was no room for."""

    def __init__(self) -> None:
        self.uses: dict[Key, Uses] = {}
        self.dropped = 0

    def use(self, key: Key, one: Facts, *, changed: bool = False) -> None:
        """``key`` was used once more."""
        found = self.uses.get(key)
        if found is None:
            if len(self.uses) >= MOST:
                self.dropped += 1
                return
            found = self.uses[key] = Uses()
        found.use(one, changed=changed)


class Life:
    """Collects what happened in container ``contid`` (as text, with those around it) and in those inside it."""

    def __init__(self, contid: str, names: Names) -> None:
        self.contid, self._names = contid, names
        self._inside = f",^{contid}"
        self.first, self.last, self.events = _NEVER, -1, 0
        self.processes: dict[int, Process] = {}
        self.ended: list[Process] = []
        self.dropped = 0
        self.execs: list[tuple[Facts, str]] = []
        self.files: Bounded[str] = Bounded()
        self.addresses: Bounded[tuple[str, ...]] = Bounded()
        self.failures: Bounded[tuple[str, ...]] = Bounded()
        self.spaces: list[tuple[int, int, str, str]] = []
        self.crossing: list[tuple[Facts, str, str]] = []
        self.logins: list[Facts] = []
        self.losses: list[tuple[int, str, str, str, str]] = []
        self.entries: dict[str, list[int]] = {}
        self._marks = self.marks_dropped = self.rows_dropped = 0

    def is_inside(self, contid: str | None) -> bool:
        """Whether it is this container, or one inside it."""
        return contid is not None and (contid == self.contid or contid.endswith(self._inside))

    # -- taking in

    def take(self, event: Event) -> None:
        """One event of the container, or that something was lost."""
        if not event.get("records"):
            return
        kind = event["records"][0]["type"]
        if kind == "CONTAINER_LOST":
            self._lost(event)
            return
        one = facts_of(event)
        here = self.is_inside(event.get("contid"))
        self.first, self.last = min(self.first, one.ms), max(self.last, one.ms)
        if kind.startswith("NS_") or kind in ("CONTAINER_INFO", "CONTAINER_OP"):
            self._alone(one, event)
            return
        self.events += 1
        self._targets(one, event, here)
        if not here:
            return
        self._did(self._process(one), one, event)

    def _lost(self, event: Event) -> None:
        fields = event["records"][0]
        source, count, since, until = (str(fields.get(name) or "?") for name in ("source", "count", "from", "to"))
        self._keep(self.losses, (int(event["time"].replace(".", "")), source, count, since, until))

    def _alone(self, one: Facts, event: Event) -> None:
        fields = event["records"][0]
        said = namespace(fields["type"], fields)
        if said is not None:
            self._keep(self.spaces, (one.ms, one.pid, one.comm, said))
            process = self.processes.get(one.pid)
            if process is not None:
                self._mark(process, Mark(one.ms, "ns", said))

    def _keep(self, rows: list[Row], row: Row) -> None:
        if len(rows) < MOST:
            rows.append(row)
        else:
            self.rows_dropped += 1

    def _mark(self, process: Process, mark: Mark) -> None:
        if self._marks < MOST_MARKS and len(process.marks) < MOST_OF_ONE:
            process.marks.append(mark)
            self._marks += 1
        else:
            self.marks_dropped += 1

    def _process(self, one: Facts) -> Process:
        """Who did it. A pid comes back: under another parent that began later, it is another process."""
        if one.pid < 0:
            return Process(one)
        prior = self.processes.get(one.pid)
        if prior is not None and one.ppid > 1 and prior.ppid > 1 and one.ppid != prior.ppid and "SYSCALL" in one.kinds:
            parent = self.processes.get(one.ppid)
            if parent is not None and parent.since >= prior.until:
                self.ended.append(self.processes.pop(one.pid))
                prior = None
        if prior is None:
            if len(self.processes) + len(self.ended) >= MOST:
                self.dropped += 1
                return Process(one)  # it is not listed, but what it did is
            prior = self.processes[one.pid] = Process(one)
        prior.since, prior.until = min(prior.since, one.ms), max(prior.until, one.ms)
        prior.comm, prior.exe = one.comm or prior.comm, one.exe or prior.exe
        prior.ppid = prior.ppid if one.ppid < 0 else one.ppid
        return prior

    def _did(self, process: Process, one: Facts, event: Event) -> None:
        process.events += 1
        what = one.call or one.kinds[0]
        if one.failed:
            process.failures += 1
            self.failures.use((what, one.failed, one.key), one)
            self._mark(process, Mark(one.ms, "fail", f"{what} {' '.join(path for path, _ in one.files)}: {one.failed}"))
        if one.call in ("execve", "execveat"):
            line = " ".join(one.argv) or one.exe
            self._keep(self.execs, (one, line))
            if not one.failed:
                process.line = line
                self._mark(process, Mark(one.ms, "exec", line))
        for path, changed in one.files:
            self.files.use(path, one, changed=changed)
            if not one.failed:
                self._mark(process, Mark(one.ms, "write" if changed else "read", path))
        for address in one.addresses:
            self.addresses.use((address, one.call), one)
            self._mark(process, Mark(one.ms, "net", f"{one.call} {address}"))
        if not LOGINS.isdisjoint(one.kinds):
            self._keep(self.logins, one)
        self._entry(process, one, event)

    def _entry(self, process: Process, one: Facts, event: Event) -> None:
        entry = next(
            (str(r["entry"]) for r in event["records"] if r["type"] == "CONTAINER_INFO" and r.get("entry")), ""
        )
        if not entry:
            return
        if not process.entry:
            process.entry = entry
            if entry not in self.entries:
                self._mark(process, Mark(one.ms, "entry", f"came in as {entry_line(self._names.entry(entry))}"))
        if len(self.entries) < MOST or entry in self.entries:
            self.entries.setdefault(entry, [one.ms, one.ms])[1] = one.ms

    def _targets(self, one: Facts, event: Event, here: bool) -> None:
        """A signal or a trace between containers."""
        for target in event.get("targets", ()):
            if self.is_inside(target.get("contid")) is here and here:
                continue
            who, whom = self._called(event.get("contid")), self._called(target.get("contid"))
            self._keep(self.crossing, (one, f"{who} pid={one.pid}", f"{whom} pid={target.get('pid')}"))
            process = self.processes.get(one.pid if here else int(target.get("pid") or -1))
            if process is not None:
                self._mark(process, Mark(one.ms, "cross", f"{one.call}: {who} -> {whom}"))

    def _called(self, contid: str | None) -> str:
        if contid is None:
            return HOST
        lives = self._names.lives(contid)
        return lives[-1].about.get("name", contid) if lives else contid

    # -- showing

    def tree(self) -> Iterator[tuple[int, Process]]:
        """Depth and process, parents before their children, each level by time."""
        everyone = [*self.ended, *self.processes.values()]
        by_pid: dict[int, list[Process]] = {}
        for process in everyone:
            process.children = []
            by_pid.setdefault(process.pid, []).append(process)
        roots: list[Process] = []
        for process in sorted(everyone, key=lambda one: (one.since, one.pid)):
            parents = [one for one in by_pid.get(process.ppid, ()) if one.since <= process.since and one is not process]
            (parents[-1].children if parents else roots).append(process)
        stack = [(0, process) for process in reversed(roots)]
        while stack:
            depth, process = stack.pop()
            yield depth, process
            stack += [(depth + 1, child) for child in reversed(process.children)]

    def page(self) -> Page:
        """All of it."""
        listed = list(self.tree())
        about = self._names.at(self.contid, self.last)
        title = f"container {about.get('name', NOT_KNOWN)} ({self.contid})"
        return Page(
            title,
            tuple(self._facts(about)),
            tuple(self._tables(listed)),
            [
                Bar(f"{process.comm or '?'} {process.pid}", process.since, process.until, depth, row, process.marks)
                for row, (depth, process) in enumerate(listed)
            ],
            tuple(self._bands()),
            "processes",
            tuple(self._notes()),
        )

    def _facts(self, about: dict[str, str]) -> Iterator[tuple[str, str]]:
        yield "contid", self.contid
        for name in ("name", "runtime", "image", "pod", "namespace", "id", "unit", "labels"):
            yield name, about.get(name, NOT_KNOWN)
        if self.events:
            yield "first seen", moment(self.first)
            yield "last seen", moment(self.last)
        yield "events", str(self.events)

    def _notes(self) -> Iterator[str]:
        if self.marks_dropped:
            yield f"{self.marks_dropped} more events are not in the timeline; tables count them."
        if self.rows_dropped:
            yield f"{self.rows_dropped} more rows of lists were not remembered."
        if self.losses:
            yield "Records were lost in this time: what is not here may have happened all the same."

    def _bands(self) -> Iterator[Band]:
        for ms, source, count, since, until in self.losses[:200]:
            yield Band(_ms(since, ms), max(_ms(until, ms), ms), "loss", f"{source}: {count} lost")
        for entry, (first, last) in list(self.entries.items())[:200]:
            yield Band(first, last, "entry", entry_line(self._names.entry(entry)))

    def _tables(self, listed: list[tuple[int, Process]]) -> Iterator[Table]:
        yield Table(
            "processes", "Processes",
            ("process", "pid", "parent", "user", "since", "until", "events", "failed", "entry"),
            [
                (
                    "  " * min(depth, 30) + (process.line or process.exe or process.comm or "?"), str(process.pid),
                    str(process.ppid), process.auid, moment(process.since), moment(process.until), str(process.events),
                    str(process.failures), entry_line(self._names.entry(process.entry)) if process.entry else "",
                )
                for depth, process in listed
            ],
            self.dropped, frozenset(("pid", "parent", "events", "failed")),
        )  # fmt: skip
        yield Table(
            "entries", "Entries from outside", ("who", "first", "last", "login", "id"),
            [
                (entry_line(of := self._names.entry(entry)), moment(first), moment(last), of.get("login", "?"), entry)
                for entry, (first, last) in self.entries.items()
            ],
        )  # fmt: skip
        yield Table(
            "execs", "Programs started", ("time", "pid", "user", "program", "failed"),
            [(moment(one.ms), str(one.pid), one.auid, line, one.failed) for one, line in self.execs],
            0, frozenset(("pid",)),
        )  # fmt: skip
        yield from (
            self._file_table(*one) for one in (("written", "Files changed", True), ("read", "Files read", False))
        )
        yield self._uses_table("network", "Network", ("address", "call"), self.addresses)
        yield Table(
            "namespaces", "Namespaces", ("time", "pid", "program", "what"),
            [(moment(ms), str(pid), comm, said) for ms, pid, comm, said in self.spaces], 0, frozenset(("pid",)),
        )  # fmt: skip
        yield self._uses_table("failures", "Failures", ("what", "error", "key"), self.failures)
        yield Table(
            "crossing", "Across containers", ("time", "call", "who", "whom"),
            [(moment(one.ms), one.call or one.kinds[0], who, whom) for one, who, whom in self.crossing],
        )  # fmt: skip
        yield Table(
            "logins", "Logins inside", ("time", "pid", "user", "record", "program"),
            [(moment(one.ms), str(one.pid), one.auid, one.kinds[0], one.exe or one.comm) for one in self.logins],
            0, frozenset(("pid",)),
        )  # fmt: skip
        yield Table(
            "losses", "Lost in this time", ("time", "source", "count", "from", "to"),
            [(moment(ms), *rest) for ms, *rest in self.losses],
        )  # fmt: skip

    def _file_table(self, key: str, title: str, changed: bool) -> Table:
        rows = [(path, uses) for path, uses in self.files.uses.items() if bool(uses.changed) is changed]
        return _table(key, title, ("file",), [((path,), uses) for path, uses in rows], self.files.dropped)

    @staticmethod
    def _uses_table(key: str, title: str, heads: tuple[str, ...], table: Bounded[tuple[str, ...]]) -> Table:
        return _table(key, title, heads, table.uses.items(), table.dropped)


def _table(
    key: str, title: str, heads: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], Uses]], dropped: int
) -> Table:
    found = sorted(rows, key=lambda row: (-row[1].count, row[0]))
    return Table(
        key, title, (*heads, "times", "failed", "first", "last", "by"),
        [
            (*name, str(uses.count), str(uses.failures), moment(uses.first), moment(uses.last),
             " ".join(sorted(by for by in uses.by if by)))
            for name, uses in found
        ],
        dropped, frozenset(("times", "failed")),
    )  # fmt: skip


def entry_line(entry: dict[str, str]) -> str:
    """Who came in, in words."""
    if not entry:
        return NOT_KNOWN
    auid = entry.get("auid", NOT_KNOWN)
    who = "unset" if auid == "4294967295" else auid
    how = f"{entry.get('how', NOT_KNOWN)}, {entry.get('from', NOT_KNOWN)}"
    return f"{entry.get('exe') or entry.get('comm', NOT_KNOWN)} of user {who} ({how})"


def _ms(stamp: str, other: int) -> int:
    """The ms of ``SEC.mmm`` or ``SEC.mmm:SERIAL``; ``other`` where it is none."""
    try:
        return int(float(stamp.partition(":")[0]) * 1000) if "." in stamp else other
    except (ValueError, OverflowError):
        return other
