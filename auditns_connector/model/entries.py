"""Who came in: a process that goes into a container from outside begins an *entry*; its descendants are of it.

Into a container that has a living process already: by setns(2) (nsenter, a runtime's exec), by a write to its
cgroup.procs, or by being born there (CLONE_INTO_CGROUP, or a pid namespace that its creator has joined). The first
process of a container makes the container, and is no entry; whoever is registered goes nowhere. A process that leaves
the container leaves the entry.

An entry keeps who began it as it was at that moment: nobody is joined to it by time. Behind a daemon (Docker, a
CRI) the chain of parents ends at the daemon, for the client is none of them.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from auditns_connector.model.ancestry import Ancestry, Kin, key_of
from auditns_connector.model.containers import ENTRY, Containers
from auditns_connector.model.entry import MOST_OUTER, UNSET, Ancestor, Entry, Session
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.process import Process, State
from auditns_connector.model.processes import Processes
from auditns_connector.vocabulary.namespaces import PID

#: how it was entered
SETNS: Final = "setns"
CLONE: Final = "clone"
CGROUP: Final = "cgroup"
#: by none of these, as far as anybody saw
NOT_SEEN: Final = "?"
#: how many parents of whoever entered are reported
_MOST_PARENTS: Final = 16


class Tables(Protocol):
    """What is looked at, and where outputs go."""

    containers: Containers
    table: Processes
    ancestry: Ancestry
    now: int

    def container_news(self, news: str, container: Container, now: int, entry: Entry | None = None) -> None:
        """Tell of ``container``."""


class Move(NamedTuple):
    """Where a process goes: from ``before`` to ``after``, in which others ``live`` already; ``how`` it does."""

    before: Container | None
    after: Container | None
    live: bool
    how: str
    time: int | None


class Entries:
    """The entries into the containers of ``model``."""

    def __init__(self, model: Tables) -> None:
        self._model = model
        #: there was one: something to be kept over a restart
        self.kept = False

    def move(self, process: Process, after: Container | None, how: str, time: int) -> Move:
        """``process`` goes to ``after`` at ``time`` (CLOCK_MONOTONIC ns), which is not done yet."""
        return Move(self._before(process), after, after is not None and after.live > 0, how, time)

    @staticmethod
    def _before(process: Process) -> Container | None:
        """The last container it was known to be in."""
        if process.state.container is not UNKNOWN or not process.past:
            return process.state.container
        earlier = (state.container for state in reversed(process.past) if state.container is not UNKNOWN)
        return next(earlier, UNKNOWN)

    def of(self, process: Process, state: State, move: Move) -> Entry | None:
        """The entry that ``process``, which was in ``state``, has after ``move``."""
        before, after, live, how, time = move
        if after is None:
            return None
        if after is UNKNOWN:
            return state.entry
        stays = kept(state.entry, after)
        if before is UNKNOWN or not live or self._same(before, after):
            return stays
        return self._begin(process, after, how, time, state, stays if stays is not None else state.entry)

    def _same(self, before: Container | None, after: Container) -> bool:
        """Whether who was in ``before`` is in ``after`` without having gone into it: it is around that one, or it is
        the same one under another name."""
        if before is None:
            return False
        names = {after.key, *after.replaces}
        owned = before.sandbox is not None and before.sandbox.owner is after
        around = after in before.chain()
        return around or owned or before.key in names or self._model.containers.taken.get(before.key) is after

    def _begin(
        self, process: Process, container: Container, how: str, time: int | None, state: State, outer: Entry | None
    ) -> Entry:
        model = self._model
        session = state.session
        if outer is not None and outer.depth >= MOST_OUTER:  # who goes to and fro must not be remembered without end
            *_, outer = outer.around()
        parents, unit = self._line(process, session)
        id_ = key_of(model.containers.boot_id, (process.pid, process.start))
        who = model.ancestry.describe(model.ancestry.of(process))
        entry = Entry(id_, container, how, time, who, session, parents, unit, outer)
        self.kept = True
        model.container_news(ENTRY, container, model.now if time is None else time, entry)
        return entry

    def bequeath(self, process: Process, former: Entry | None, entry: Entry) -> None:
        """That ``process`` is of ``entry`` since it was born is known only now, and whoever it has made meanwhile has
        inherited ``former``: of these are of it who are in its container, or not known to be elsewhere."""

        def right(state: State, _: int) -> State:
            container = state.container
            inside = container is UNKNOWN or (container is not None and entry.container in container.chain())
            return state._replace(entry=entry) if inside and state.entry is former else state

        heirs = {(process.pid, process.start)}
        for child in self._model.ancestry.born_since(process, process.start):
            if child.creator in heirs and child.state.entry is former:
                self._model.table.amend(child, right)
                if child.state.entry is entry:
                    heirs.add((child.pid, child.start))

    def in_session(self, entry: Entry, process: Process, session: Session | None) -> None:
        """``process`` had that session when it began ``entry``, as is known only now: that is reported again."""
        if entry.session != session:
            self._change(entry, process, session)

    def in_line(self, process: Process) -> None:
        """The session of a parent of ``process`` is known only now: who stands above its entry may be others."""
        entry = process.state.entry
        if entry is not None and (entry.parents, entry.unit) != self._line(process, entry.session):
            self._change(entry, process, entry.session)

    def _change(self, entry: Entry, process: Process, session: Session | None) -> None:
        if entry.who[:2] != (process.pid, process.start):
            return
        entry.session = session
        entry.parents, entry.unit = self._line(process, session)
        containers, container = self._model.containers, process.state.container
        containers.renames += 1
        if session is not None and container is not None and container is not UNKNOWN:
            self._model.container_news(ENTRY, container, self._model.now, entry)

    def _line(self, process: Process, session: Session | None) -> tuple[tuple[Ancestor | None, ...], str]:
        """The parents of ``process`` up to the session's first process, or the daemon's, and the unit they end in."""
        model = self._model
        found: list[Ancestor | None] = []
        unit = process.cgroups.unit if process.cgroups is not None else ""
        for parent in model.ancestry.line(process):
            if parent is None:
                found.append(None)
                break
            if parent.pid == 1 or len(found) >= _MOST_PARENTS or not _of_session(parent, session):
                break
            if unit and parent.unit != unit and found:
                break
            unit = parent.unit or unit
            found.append(model.ancestry.describe(parent))
        return tuple(found), unit

    def found(self, process: Process, parent: Process | None, numbers: Sequence[int]) -> None:
        """``process`` is known from /proc alone, with ``parent`` and its ``numbers`` in its pid namespaces, ours first:
        of a parent outside its pid namespace only the first process there is the child without having entered."""
        state = process.state
        container = state.container
        if container is None or container is UNKNOWN:
            return
        above = parent.state if parent is not None else None
        if above is not None and above.container is not None and above.container in container.chain():
            entry = kept(above.entry, container)
        else:
            pid_ns = state.nsset.inst[PID] if state.nsset is not None else None
            theirs = above.nsset.inst[PID] if above is not None and above.nsset is not None else None
            inside = pid_ns is not None and not pid_ns.initial and pid_ns.owner in container.chain()
            if parent is None or theirs is None or not inside or theirs is pid_ns or not numbers or numbers[-1] == 1:
                return
            entry = self._begin(process, container, NOT_SEEN, None, state, above.entry if above is not None else None)
        if entry is not state.entry:
            self._model.table.restate(process, state._replace(entry=entry))


def kept(entry: Entry | None, container: Container) -> Entry | None:
    """What stays of ``entry`` in ``container``: the entries into it and into those around it."""
    chain = container.chain()
    while entry is not None and entry.container not in chain:
        entry = entry.outer
    return entry


def _of_session(parent: Kin, session: Session | None) -> bool:
    """Whether ``parent`` is of the same session, or nobody is of any."""
    if session is None or session.auid == UNSET:
        return True
    theirs = parent.session
    return theirs is not None and theirs[:2] == session[:2]
