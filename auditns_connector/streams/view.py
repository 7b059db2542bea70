"""From answered points to the entries of streams: which events are a container's own, and what numbers read inside.

An event belongs to a container's own view when its process is in the container and runs a program of it: from the first
exec inside the container's pid namespace on (``Process.own_since``). What a runtime's processes do before, already in
the container's cgroup but with the host's files and numbers around them, is the host's business and withheld.

Numbers are looked up when the event is answered, while the model still knows the processes; the text is made when a
reader takes it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from auditns_connector.attribution.lookup import holders
from auditns_connector.audittext import own_records as text
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.config.streams import HOST
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.inner_ids_state import set_up_by_runtime
from auditns_connector.model.inner_ids import IdMap, translated
from auditns_connector.model.places import UNKNOWN, Container, Instance
from auditns_connector.model.process import Login, Process, State
from auditns_connector.streams.backlog import Entry
from auditns_connector.streams.placing import Ours, Shown, put_together
from auditns_connector.streams.tailor import PID_RESULTS, WITHHELD, Names, Tailor, Tally, outsider
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.namespaces import PID, USER
from auditns_connector.vocabulary.timing import EPSILON
from auditns_connector.vocabulary.values import CData

_PID_WORDS: Final = re.compile(rb" (?:p|pp|op|tp|tty_p|peer_p|sig_p|s)id=(\d{1,10})(?= |$|\n|\x1d)")
#: asks /proc about (pid, user namespace or None) and feeds the answer to the model; True when there was one
Ask = Callable[[int, Instance | None], bool]


class Wanted(NamedTuple):
    """One event: the numbers of its lines, of its subject's point and of its targets'."""

    lines: list[int]
    subject: int
    targets: list[int]


def incarnation(model: Model, pid: int, low: int, high: int) -> Process | None:
    """The one holder of ``pid`` in the time from ``low`` to ``high`` (CLOCK_MONOTONIC ns); None where unclear."""
    found = holders(model, pid, low - EPSILON, high)
    return found[0] if len(found) == 1 else None


class Viewer:
    """Makes entries out of points. ``ask`` is called for living processes whose numbers no event showed."""

    def __init__(self, model: Model, ask: Ask) -> None:
        self._model = model
        self._ask = ask
        self.tally = Tally()
        self.withheld = 0
        self._homes: dict[Container, tuple[Instance | None, Instance | None]] = {}
        #: pid -> (start, serial) of the exec that made it the container's own, while that is recent
        self._first_execs: dict[int, tuple[int, int]] = {}

    # -- homes

    def home_namespaces(self, home: Container) -> tuple[Instance | None, Instance | None]:
        """The pid and user namespace that the container ``home`` sees as its own; None where it has none of its own
        (or none is known yet)."""
        former = self._homes.get(home)
        if former is not None and former[0] is not None and former[1] is not None:
            return former
        model = self._model
        owned = [inst for inst in model.namespaces.current[PID].values() if inst.owner is home and not inst.initial]
        pid_ns = min(owned, key=lambda inst: inst.number, default=former[0] if former else None)
        user_ns = None
        if pid_ns is not None and pid_ns.first is not None:
            process = model.incarnation(*pid_ns.first)
            if process is not None and process.state.nsset is not None:
                user_ns = process.state.nsset.inst[USER]
        if len(self._homes) > 4096:
            self._homes.clear()
        self._homes[home] = (pid_ns, user_ns)
        return pid_ns, user_ns

    def id_map(self, user_ns: Instance | None, pid: int) -> IdMap | None:
        """The maps of ``user_ns``, asked through ``pid`` or its first process where they are not known."""
        if user_ns is None:
            return None
        maps = self._model.inside.maps
        if user_ns.number not in maps:
            for candidate in dict.fromkeys((pid, user_ns.first[0] if user_ns.first else 0)):
                if candidate and self._model.alive(candidate) is not None and self._ask(candidate, user_ns):
                    break
        return maps.get(user_ns.number)

    # -- numbers

    def number(self, pid: int, ns: Instance, low: int, high: int) -> int | None:
        """What process ``pid`` of the host was called in ``ns`` then; 0: it was not in it; None: not known."""
        process = incarnation(self._model, pid, low, high)
        if process is None:
            return None
        found = self._model.inside.number(process, ns)
        if found is None and process.end is None and self._ask(pid, None):
            found = self._model.inside.number(process, ns)
        return found

    def _names(
        self, points: InsertionPoints, i: int, state: State, home: Container, raw: bytes, low: int, high: int
    ) -> Names:
        pid_ns, user_ns = self.home_namespaces(home)
        nsset = state.nsset
        own = nsset.inst[PID] if nsset is not None else None
        user_ns = user_ns or (nsset.inst[USER] if nsset is not None else None)
        pid_ns = pid_ns or own
        pids: dict[int, int] = {}
        if pid_ns is not None:
            for word in set(_PID_WORDS.findall(raw)):
                pid = int(word)
                found = 0 if pid == 0 else self.number(pid, pid_ns, low, high)
                if found is not None:
                    pids[pid] = found
        result = None
        calls = PID_RESULTS.get(points.arch[i])
        if calls is not None and points.flags[i] & pt.P_SYSCALL and points.sysno[i] in calls and own is not pid_ns:
            result = 0
            if own is not None and own.initial and pid_ns is not None and 0 < points.exit[i] < 1 << 31:
                result = self.number(points.exit[i], pid_ns, low, high) or 0
        hide = own is not pid_ns and (own is None or pid_ns is None or not self._model.inside.within(own, pid_ns))
        if user_ns is not None and user_ns.initial:
            same: Callable[[int], int | None] = int
            return Names(pids, same, same, state.login, result, hide)
        maps = self.id_map(user_ns, points.pid[i]) or IdMap((), ())
        return Names(
            pids,
            lambda uid: translated(maps.uid, uid),
            lambda gid: translated(maps.gid, gid),
            state.login,
            result,
            hide,
        )

    # -- events

    def is_own(self, points: InsertionPoints, i: int, home: Container, low: int, high: int) -> bool:
        """Whether the event of point ``i`` was done by a program of the container and not by its runtime."""
        if not set_up_by_runtime(home):
            return True
        process = incarnation(self._model, points.pid[i], low, high)
        since = process.own_since if process is not None else None
        if process is None or since is None:
            return False
        if points.flags[i] & pt.P_EXEC:
            own = high >= since
            if own and low <= since:
                if len(self._first_execs) > 4096:
                    self._first_execs.clear()
                self._first_execs[process.pid] = (process.start, points.serial[i])
            return own
        if low - EPSILON > since or process.start >= since:
            return True
        started, serial = self._first_execs.get(process.pid, (-1, 0))
        return started == process.start and serial < points.serial[i]

    def entry(
        self,
        points: InsertionPoints,
        wanted: Wanted,
        states: Sequence[State],
        home: Container,
        view: str,
        numeric: bool,
        now: int,
    ) -> Entry | None:
        """One event for the container ``home``; None when it is not shown there."""
        i = wanted.subject
        offset = self._model.clock.offset or 0
        low = points.ms[i] * 1_000_000 - offset
        high = min(low + self._model.lag, now)
        state = states[i]
        if view == HOST:
            return self._host(points, wanted, states, home, numeric)
        if not lies_in(state.container, home) or not self.is_own(points, i, home, low, high):
            return self._from_outside(points, wanted, states, home, numeric, low, high)
        chain = self._chain(state.container, home)
        keep, subject_at, targets, logins = self._shown(points, wanted, states, home)
        if subject_at < 0:
            self.withheld += 1
            return None
        names = self._names(points, i, state, home, b"".join(line.text for line in keep), low, high)
        header = points.header(i)
        info = b""
        if state.login is not None:
            info = text.container_info(chain, state.origin, numeric, cauid=state.login.uid, cses=state.login.session)
        mine = text.container_id(chain, subject_at + 1 if targets else None, numeric) + info
        ours = [Ours(points.at[i], _stamp(mine, header))]
        ours += [Ours(at, _stamp(text.container_id(whose, n + 1, numeric), header)) for n, at, whose in targets]

        def make() -> bytes:
            tailor = Tailor(names, self.tally)
            shown = []
            for n, line in enumerate(keep):
                login = logins.get(n)
                whose = Tailor(names._replace(target=login), self.tally) if login else tailor
                shown.append(line._replace(text=whose.line(line.text)))
            return put_together(shown, ours, numeric=numeric, end=end)

        end = _end(points, i, [points.l_type[n] for n in wanted.lines], header)
        records = len(keep) + len(ours) + (1 if info else 0) + bool(end)
        return Entry(points.serial[i], points.ms[i], records, home, make)

    def _shown(
        self, points: InsertionPoints, wanted: Wanted, states: Sequence[State], home: Container
    ) -> tuple[list[Shown], int, list[tuple[int, int, str]], dict[int, Login | None]]:
        """The lines that ``home`` may see; which of them is the subject's (-1: none), which are of targets inside, with
        where ours stands behind them and their contid, and who these have logged in as."""
        struck = {points.line_off[t]: t for t in wanted.targets if lies_in(states[t].container, home)}
        keep: list[Shown] = []
        subject_at, targets = -1, []
        logins: dict[int, Login | None] = {}
        for n in wanted.lines:
            kind = points.l_type[n]
            if kind in WITHHELD:
                continue
            if kind == rectypes.OBJ_PID:
                target = struck.get(points.l_off[n])
                if target is None:
                    continue
                targets.append((len(keep), points.at[target], self._chain(states[target].container, home)))
                logins[len(keep)] = states[target].login
            if points.l_off[n] == points.line_off[wanted.subject]:
                subject_at = len(keep)
            keep.append(Shown(points.l_off[n], kind, points.line(n)))
        return keep, subject_at, targets, logins

    def _from_outside(
        self,
        points: InsertionPoints,
        wanted: Wanted,
        states: Sequence[State],
        home: Container,
        numeric: bool,
        low: int,
        high: int,
    ) -> Entry | None:
        """What somebody outside ``home`` (or its runtime) did to processes of it: which, and nothing of who did it."""
        i = wanted.subject
        struck = {
            points.line_off[t]: t for t in wanted.targets if self._is_own_target(points, t, states, home, low, high)
        }
        if not struck or not points.flags[i] & pt.P_SYSCALL:
            self.withheld += 1
            return None
        header, actor = points.header(i), Shown(0, 0, b"")
        rest: list[tuple[Shown, Names]] = []
        ours: list[Ours] = []
        for n in wanted.lines:
            line, target = Shown(points.l_off[n], points.l_type[n], points.line(n)), struck.get(points.l_off[n])
            if line.off == points.line_off[i]:
                actor = line
            elif target is not None:
                state = states[target]
                names = self._names(points, target, state, home, line.text, low, high)._replace(target=state.login)
                rest.append((line, names))
                mine = text.container_id(self._chain(state.container, home), len(rest) + 1, numeric)
                ours.append(Ours(points.at[target], _stamp(mine, header)))
        if not actor.text:
            self.withheld += 1
            return None

        def make() -> bytes:
            shown = [actor._replace(text=outsider(actor.text, points_arch, points_sysno))]
            shown += [line._replace(text=Tailor(names, self.tally).target(line.text)) for line, names in rest]
            return put_together(shown, ours, numeric=numeric, end=end)

        points_arch, points_sysno = points.arch[i], points.sysno[i]
        end = _end(points, i, (), header)
        return Entry(points.serial[i], points.ms[i], 1 + 2 * len(rest) + bool(end), home, make)

    def _is_own_target(
        self, points: InsertionPoints, t: int, states: Sequence[State], home: Container, low: int, high: int
    ) -> bool:
        """Whether the target of point ``t`` ran a program of ``home`` when it was struck."""
        if not lies_in(states[t].container, home):
            return False
        if not set_up_by_runtime(home):
            return True
        process = incarnation(self._model, points.pid[t], low, high)
        since = process.own_since if process is not None else None
        return process is not None and since is not None and (low - EPSILON > since or process.start >= since)

    def _host(
        self, points: InsertionPoints, wanted: Wanted, states: Sequence[State], home: Container, numeric: bool
    ) -> Entry:
        """The event as the host's own output has it."""
        i = wanted.subject
        lines = [Shown(points.l_off[n], points.l_type[n], points.line(n)) for n in wanted.lines]
        header, node = points.header(i), points.lead(i)
        ours: list[Ours] = []
        for t in (i, *wanted.targets):
            container = states[t].container
            if container is not None:
                record = points.recno[t] if wanted.targets else None
                mine = text.container_id(self._model.containers.text(container), record, numeric)
                ours.append(Ours(points.at[t], _stamp(mine, header, node)))

        def make() -> bytes:
            return put_together(lines, ours, numeric=numeric, end=end)

        end = _end(points, i, [line.kind for line in lines], header, node)
        return Entry(points.serial[i], points.ms[i], len(lines) + len(ours) + bool(end), home, make)

    def _chain(self, container: Container | None, home: Container) -> str:
        """The contid text of ``container`` up to ``home`` and no further out."""
        parts = []
        if container is not None and container is not UNKNOWN:
            for link in container.chain():
                parts.append(str(self._model.containers.contid(link)))
                if link is home:
                    break
        return ",^".join(parts) or "?"


def lies_in(container: Container | None, home: Container) -> bool:
    """Whether ``container`` is ``home`` or one inside it."""
    return container is not None and container is not UNKNOWN and home in container.chain()


def _end(points: InsertionPoints, i: int, kinds: Sequence[int], header: bytes, node: bytes = b"") -> bytes:
    """The EOE record, where the event was decided before its own came; readers such as LAUREL wait for it."""
    return b"" if points.flags[i] & pt.P_SINGLE or rectypes.EOE in kinds else node + b"type=EOE " + header + b" \n"


def _stamp(ours: bytes, header: bytes, node: bytes = b"") -> bytes:
    return ours.replace(text.HEADER_PLACE, header).replace(text.NODE_PLACE, node)


def group(points: InsertionPoints, subjects: Iterable[int]) -> dict[int, Wanted]:
    """Number of a subject's point -> its event's lines and targets."""
    wanted: dict[int, Wanted] = {}
    by_event: dict[int, Wanted] = {}
    aimed = False
    for i in subjects:
        number = points.event[i]
        if number not in by_event:
            by_event[number] = wanted[i] = Wanted([], i, [])
            aimed = aimed or bool(points.flags[i] & pt.P_HAS_TARGET)
    if by_event:
        numbers: CData = points.l_event[: points.line_n]
        for n, number in enumerate(numbers):
            event = by_event.get(number)
            if event is not None:
                event.lines.append(n)
    if aimed:
        for t, flags in enumerate(points.flags[: points.n]):
            if flags & pt.P_TARGET and not flags & pt.P_LATE and points.event[t] in by_event:
                by_event[points.event[t]].targets.append(t)
    return wanted
