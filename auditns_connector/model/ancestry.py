"""Where a process comes from: its parents by who made whom, as the table knows them.

A process that has ended is forgotten by the table after a while. Its children may live on, and theirs: then what is to
be reported about it stays here, as long as somebody descends from it within :data:`MOST` generations. So a chain is as
long as what lives now, whatever is forked and ends in between.

What a process runs is named by its last exec, or by that of whoever it was forked by since: the name that was given to
execve by the kernel's event, the program itself (``exe``) by the audit record of that very exec, where there was one.
``ran``, the time of the exec, which children inherit, tells one exec from another. /proc shows of those that nobody has
seen exec. Where events are missing another exec may be among them: then only what /proc has shown since is known.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from auditns_connector._native import ffi, lib
from auditns_connector.model.entry import Ancestor, Session
from auditns_connector.model.places import Container
from auditns_connector.model.process import Process
from auditns_connector.model.processes import KEPT_MADE, Processes
from auditns_connector.vocabulary import frames as f

#: a line of parents is followed no further than this
MOST: Final = 64
#: so many are kept before it is looked who of them is still wanted
_FIRST: Final = 1024
#: later than all events (ns)
_FAR: Final = (1 << 64) - 1

Who = tuple[int, int]
#: one of a PROGRAMS frame: pid, and how many bytes follow
ONE: Final = struct.Struct("<iI")


class Kin(NamedTuple):
    """What a process is to those that descend from it, alive or not; ``file``, ``ran`` and ``exe`` as
    :class:`Process` has them, ``end`` ``None`` while it lives."""

    pid: int
    start: int
    creator: Who | None
    comm: bytes
    file: int
    container: Container | None
    session: Session | None
    unit: str
    ran: int
    exe: int
    end: int | None


class Shown(NamedTuple):
    """The program of a process as /proc showed it at ``time``, when ``ran`` was its last exec."""

    time: int
    ran: int
    program: bytes


class Descendant(Protocol):
    """Whose parents are asked for: a process, or what a row says of one."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def start(self) -> int:
        """When it was made (CLOCK_MONOTONIC ns)."""

    @property
    def creator(self) -> Who | None:
        """Who made it."""


class Ancestry:
    """The parents of the processes of ``table``."""

    def __init__(self, table: Processes) -> None:
        self._table = table
        self._gone: dict[Who, Kin] = {}
        #: the programs of processes as /proc showed them when no event did
        self._programs: dict[Who, Shown] = {}
        #: whether events between two times are missing
        self.missing: Callable[[int, int], bool] = _nothing_missing
        self._limit = _FIRST
        table.expired, table.forgetting = self._expired, self._forgetting

    # -- asked

    def kin(self, who: Who) -> Kin | None:
        """The process that held a pid since a start; ``None`` where nobody remembers it."""
        process = self._table.incarnation(*who)
        return self._gone.get(who) if process is None else self.of(process)

    @staticmethod
    def of(process: Process) -> Kin:
        """``process`` as it is now."""
        state, cgroups = process.state, process.cgroups
        unit = cgroups.unit if cgroups is not None else ""
        return Kin(
            process.pid,
            process.start,
            process.creator,
            process.comm,
            process.file,
            state.container,
            state.session,
            unit,
            process.ran_at,
            process.exe,
            process.end,
        )

    def line(self, process: Descendant) -> Iterator[Kin | None]:
        """The parents of ``process``, the nearest first. Where a parent is not known stands ``None`` at the end, unless
        that is where all processes come from."""
        pid, creator = process.pid, process.creator
        for _ in range(MOST):
            if creator is None:
                if pid > 1:
                    yield None
                return
            parent = self.kin(creator)
            yield parent
            if parent is None:
                return
            pid, creator = parent.pid, parent.creator
        yield None

    def born_since(self, process: Process, since: int) -> list[Process]:
        """Who descends from ``process`` and was born at ``since`` (CLOCK_MONOTONIC ns) or later, parents before
        their children."""
        table, found, makers = self._table, [process], [process]
        while makers:
            maker = makers.pop()
            made = table.made(maker)
            if len(made) >= KEPT_MADE and made[0][0] >= since:  # more than are remembered
                family = table.family(process.pid, process.start)
                return [child for child in family if child.start >= since]
            born = {(pid, time) for time, pid, _ in made if time >= since and pid != maker.pid}
            children = [child for pid, time in sorted(born) if (child := table.incarnation(pid, time)) is not None]
            found += children
            makers += children
        return found[1:]

    def describe(self, kin: Kin) -> Ancestor:
        """The fields of ``kin``."""
        if self._is_sure(kin):
            name, exe = self._table.name, self._exe(kin)
            return Ancestor(kin.pid, kin.start, kin.comm, name(kin.file), name(exe))
        shown = self._program(kin)
        return Ancestor(kin.pid, kin.start, kin.comm, b"", shown, bool(shown))

    def program(self, process: Process) -> bytes:
        """The program that ``process`` runs; b"" is not known."""
        if (
            process.file
            and process.exe
            and not self.missing(process.ran_at, _FAR if process.end is None else process.end)
        ):
            return self._table.name(process.exe)
        return self.program_of(self.of(process))

    def program_of(self, kin: Kin) -> bytes:
        """The same of ``kin``: by the record of its own exec, or by that of whoever it has it from; never the name that
        was given to execve, which may be relative, or a script's."""
        if self._is_sure(kin):
            return self._table.name(self._exe(kin))
        return self._program(kin)

    def _is_sure(self, kin: Kin) -> bool:
        """Whether the last exec that was seen of ``kin`` is its last one."""
        return bool(kin.file) and not self.missing(kin.ran, _end(kin))

    def _exe(self, kin: Kin) -> int:
        """The program that ``kin`` runs by the record of the exec, which may be that of whoever it has it from: the
        record may have come when it was born already."""
        step: Kin | None = kin
        for _ in range(MOST):
            if step is None or step.ran != kin.ran or step.exe or step.start <= step.ran:
                break
            step = None if step.creator is None else self.kin(step.creator)
        return step.exe if step is not None and step.ran == kin.ran else 0

    def _program(self, kin: Kin) -> bytes:
        """The program of one of which no event tells that: /proc showed its own, or that of whoever it has it from. No
        exec may have come between, seen or not."""
        step: Kin | None = kin
        since = _FAR
        for _ in range(MOST):
            if step is None or step.ran != kin.ran:
                break
            found = self._programs.get((step.pid, step.start))
            if found is not None:
                same = found.ran == kin.ran and not self.missing(min(found.time, since), _end(kin))
                return found.program if same else b""
            since = step.start
            step = None if step.creator is None else self.kin(step.creator)
        return b""

    # -- fields

    def programs(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """PROGRAMS frame: /proc shows which programs processes run."""
        at = 0
        while at + ONE.size <= len(payload):
            who, size = ONE.unpack_from(payload, at)
            at += ONE.size + size
            process = self._table.find(who) if who > 0 else None
            if process is None or process.end is not None:
                continue
            if not process.file or self.missing(process.ran_at, _FAR):
                shown = Shown(time, process.ran_at, payload[at - size : at])
                self._programs[(process.pid, process.start)] = shown

    def ran(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """EXE frame: the record of the exec of ``pid`` at ``arg`` names the program. Where that process has run another
        since, or is forgotten, that is of no use."""
        process, exe = self._table.find(pid), f.text(payload)
        while process is not None and (process.ran_at != arg or process.start > arg):
            process = process.prev
        if process is not None and exe:
            self._table.exe(process, self._table.numbered(exe))

    def _expired(self) -> None:
        """Rows were forgotten: those from whom somebody may descend stay."""
        c = self._table.c
        for row in c.forebear[0 : c.forebears] if c.forebears else ():
            profile = self._table.profiles[row.profile]
            if profile is None:
                continue
            state, cgroups = profile.state, profile.cgroups
            unit = cgroups.unit if cgroups is not None else ""
            creator = (row.creator, row.creator_start) if row.creator else None
            comm = bytes(ffi.buffer(row.comm)).rstrip(b"\0")
            self._keep(
                Kin(
                    row.pid, row.start, creator, comm, row.file, state.container, state.session, unit, row.ran, row.exe,
                    row.end,
                )
            )  # fmt: skip
        c.forebears = 0
        if len(self._gone) + len(self._programs) > self._limit:
            self._sweep()

    def _forgetting(self, process: Process) -> None:
        c = self._table.c
        children = process.recent_children or ()
        seen = any(pid != process.pid and lib.table_knows(c, pid, time) for time, pid, _ in children)
        if seen or process.heirs or process.scanned or len(children) >= KEPT_MADE:
            self._keep(self.of(process))

    def _keep(self, kin: Kin) -> None:
        self._gone[(kin.pid, kin.start)] = kin
        if kin.creator is not None:
            self._table.has_heirs(*kin.creator)

    def _sweep(self) -> None:
        """Drop those from whom nobody descends any more."""
        creators = dict(self._table.links())
        wanted: dict[Who, Kin] = {}
        for maker in set(creators.values()):
            step: Who | None = maker
            for _ in range(MOST):
                if step is None or step in wanted:
                    break
                gone = self._gone.get(step)
                if gone is not None:
                    wanted[step] = gone
                    step = gone.creator
                else:
                    step = creators.get(step)
        self._gone = wanted
        self._programs = {who: name for who, name in self._programs.items() if who in creators or who in wanted}
        self._limit = max(_FIRST, 2 * (len(wanted) + len(self._programs)))


def _end(kin: Kin) -> int:
    """Up to when it may have run another program."""
    return _FAR if kin.end is None else kin.end


def _nothing_missing(_low: int, _high: int) -> bool:
    return False


def key_of(boot_id: str, who: Who) -> str:
    """What a process is called over everything: boot, pid, start."""
    return f"{boot_of(boot_id)}{who[0]}:{who[1]}"


def boot_of(boot_id: str) -> str:
    """What the keys of all processes of a boot begin with."""
    return f"{boot_id.replace('-', '')}:"
