"""Whose processes are: login uid (auid) and session (ses), by LOGIN records of audit, inheritance, and /proc.

The kernel changes them by a write to /proc/PID/loginuid alone (kernel/auditsc.c audit_set_loginuid), and makes a LOGIN
record of that. A record's stamp may be up to a tick earlier than the write: which of the two a child has that was born
within that time is asked of /proc.
"""

import struct
from typing import Final, Protocol

from auditns_connector.model.ancestry import Ancestry
from auditns_connector.model.containers import Containers
from auditns_connector.model.entries import Entries
from auditns_connector.model.entry import Session
from auditns_connector.model.process import Process, State
from auditns_connector.model.processes import Processes
from auditns_connector.vocabulary import frames as f

#: one process of a LOGINS frame: pid, auid, ses
ONE: Final = struct.Struct("<iII")
#: the source of what /proc shows
PROCFS: Final = "procfs"
_MOST: Final = 65_536
#: processes whose session is open that are remembered
_MOST_UNSURE: Final = 1024


class Tables(Protocol):
    """What is looked at, and whom /proc is asked about."""

    containers: Containers
    table: Processes
    ancestry: Ancestry
    entries: Entries
    now: int
    lag: int

    def alive(self, pid: int) -> Process | None:
        """The living process ``pid``."""

    def ask(self, pid: int, cgroup: int = 0) -> None:
        """Have /proc asked about process ``pid``."""


class Logins:
    """LOGINS frames on their way into ``model``."""

    def __init__(self, model: Tables) -> None:
        self._model = model
        self._sessions: dict[Session, Session] = {}
        #: pid -> start of who was born within the tick of a LOGIN record, so that his session is open, and lives or has
        #: to do with an entry
        self.unsure: dict[int, int] = {}
        #: somebody has logged in: something to be kept over a restart
        self.kept = False

    def take(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """LOGINS frame: who has which auid and ses at ``time``; ``arg`` (milliseconds since 1970) and ``cgroup`` are
        time and serial of the LOGIN record that says so, 0 where /proc does."""
        source = f"{arg // 1000}.{arg % 1000:03d}:{cgroup}" if arg else PROCFS
        for at in range(0, len(payload) - ONE.size + 1, ONE.size):
            who, auid, ses = ONE.unpack_from(payload, at)
            process = self._holder(who) if who > 0 else None
            if process is None:
                continue
            if arg:
                self.kept = True
                self._logged_in(process, self._one(Session(auid, ses, source)), time)
            elif process.state.session is None or process.state.session[:2] != (auid, ses):
                self._found(process, self._recorded(auid, ses))

    def expire(self, before: int) -> None:
        """Forget whose session is open since earlier than ``before`` (CLOCK_MONOTONIC ns): no record of then comes."""
        for pid in [pid for pid, start in self.unsure.items() if start < before]:
            del self.unsure[pid]

    def _holder(self, pid: int) -> Process | None:
        """Who has ``pid``; also one that has ended, where his session is open."""
        process = self._model.alive(pid)
        if process is None and pid in self.unsure:
            process = self._model.table.incarnation(pid, self.unsure[pid])
        return process

    def read(self, process: Process, auid: int | None, ses: int | None) -> None:
        """/proc shows auid and ses of ``process``, of which nobody knew."""
        if process.state.session is None and auid is not None and ses is not None:
            self._found(process, self._recorded(auid, ses))

    def _recorded(self, auid: int, ses: int) -> Session:
        """The session with the source of a LOGIN record, or else of /proc."""
        recorded = (one for one in reversed(self._sessions) if one[:2] == (auid, ses) and one.source != PROCFS)
        return next(recorded, None) or self._one(Session(auid, ses, PROCFS))

    def _one(self, session: Session) -> Session:
        """The one object for it."""
        if len(self._sessions) >= _MOST:
            self._sessions.clear()
        return self._sessions.setdefault(session, session)

    def _found(self, process: Process, session: Session) -> None:
        model, unsure = self._model, self.unsure.get(process.pid) == process.start
        if unsure:
            del self.unsure[process.pid]
        self._fill(process, session)
        if process.state.session is not session and process.end is None:
            # it had another, and the record of the change is missing
            model.table.change(process, process.state._replace(since=model.now, session=session))
        if not unsure:
            return
        heirs = {(process.pid, process.start)}
        for child in model.ancestry.born_since(process, process.start):
            first = child.past[0] if child.past else child.state
            if child.creator in heirs and first.session is None and child.pid not in self.unsure:
                heirs.add((child.pid, child.start))
                self._fill(child, session)  # it was born before this one's session was known, and has inherited none
            model.entries.in_line(child)

    def _fill(self, process: Process, session: Session) -> None:
        """``process`` had ``session`` wherever none is known."""
        self._model.table.amend(process, lambda state, _: state if state.session else state._replace(session=session))
        entry = process.state.entry
        if entry is not None and entry.session is None:
            self._model.entries.in_session(entry, process, session)

    def _logged_in(self, process: Process, session: Session, since: int) -> None:
        model = self._model
        self._from(process, session, max(since, process.start))
        unsure = since + model.lag
        born = model.ancestry.born_since(process, since)
        entered = any(child.state.entry is not None for child in born)
        for child in born:
            if child.state.session is session:
                continue
            self._from(child, None if child.start < unsure else session, child.start)
            if child.start < unsure and (entered or child.end is None):
                self.unsure[child.pid] = child.start
                if len(self.unsure) > _MOST_UNSURE:
                    del self.unsure[next(iter(self.unsure))]
                if child.end is None:
                    model.ask(child.pid)

    def _from(self, process: Process, session: Session | None, since: int) -> None:
        """``process`` has it from ``since`` on."""
        table = self._model.table

        def right(state: State, at: int) -> State:
            return state._replace(session=session) if at >= since else state

        entry = process.state.entry
        if entry is not None and entry.time is not None and entry.time >= since:
            self._model.entries.in_session(entry, process, session)
        table.amend_execs(process, right)
        if since > process.state.since:
            table.change(process, process.state._replace(since=since, session=session))
        else:
            table.amend(process, right, execs=False)


def scanned(entries: list[tuple[int, int, int]], now: int, source: int = f.S_PROCFS) -> bytes:
    """The LOGINS frame of what /proc or another record shows at ``now``: (pid, auid, ses) of each process."""
    payload = b"".join(ONE.pack(*entry) for entry in entries)
    return f.pack(f.K_LOGINS, source, now, payload=payload) if payload else b""


def recorded(pid: int, auid: int, ses: int, since: int, stamp: tuple[int, int]) -> bytes:
    """The LOGINS frame of a LOGIN record with that ``stamp`` (milliseconds since 1970, serial); ``since`` is its time
    by CLOCK_MONOTONIC (ns)."""
    payload = ONE.pack(pid, auid, ses)
    return f.pack(f.K_LOGINS, f.S_AUDIT, since, pid=pid, cgroup=stamp[1], arg=stamp[0], payload=payload)
