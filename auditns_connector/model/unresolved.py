"""A process whose cgroup was not known for a while, and is now: whose it was, and whom it made meanwhile.

That one is *unresolved*: from its first instant on where CLONE_INTO_CGROUP put it into a cgroup, or since a sample in a
cgroup of which no path is known. Moves are reported, and resolve it themselves; so it was in the same one until the
sample or the answer of /proc that says which. Its children were born there, and have inherited nothing: neither the
container nor the entry.
"""

from typing import Protocol

from auditns_connector.model.ancestry import Ancestry
from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.containers import Containers
from auditns_connector.model.entries import CLONE, Entries, kept
from auditns_connector.model.entry import Entry
from auditns_connector.model.exits import Exits
from auditns_connector.model.membership import SEEN, Doubt
from auditns_connector.model.places import UNKNOWN, Container, NsSet
from auditns_connector.model.process import INHERITED, NOT_KNOWN, OBSERVED, PROCFS, Process, State
from auditns_connector.model.processes import Processes


class Tables(Protocol):
    """What is looked at and changed."""

    containers: Containers
    table: Processes
    entries: Entries
    ancestry: Ancestry
    exits: Exits

    def incarnation(self, pid: int, start: int) -> Process | None:
        """The process that held ``pid`` from ``start`` on."""

    def decide(
        self, process: Process, nsset: NsSet | None, former: Container | None, time: int, doubt: Doubt = SEEN
    ) -> Container | None:
        """Where ``process`` belongs."""


def resolve(
    model: Tables, process: Process, since: int, former: CgroupSet | None, time: int, origin: str, how: str
) -> None:
    """The cgroups of ``process``, not known since ``since`` and ``former`` until then, are known at ``time``."""
    born, read = since <= process.start, origin == PROCFS
    before = _maker(model, process) if born else _before(process, since)
    there = Doubt(read=read) if born else Doubt(there=True, read=read, missed=read)
    container = model.decide(process, process.state.nsset, before, time, there)
    move = model.entries.move(process, container, CLONE if born else how, max(since, process.start))
    move = move._replace(before=before)
    inherited = process.state.entry
    entry = model.entries.of(process, process.state, move)
    _rewrite(model, process, since, time, container, origin, entry)
    if entry is not None and entry is not inherited and entry.who[:2] == (process.pid, process.start):
        model.entries.bequeath(process, inherited, entry)
    if container is not UNKNOWN:
        _heirs(model, process, since, former, time)


def _maker(model: Tables, process: Process) -> Container | None:
    """The container of whoever made ``process`` when it did."""
    maker = model.incarnation(*process.creator) if process.creator is not None else None
    if maker is None:
        return UNKNOWN
    return next(iter(maker.states(process.start, process.start)), maker.state).container


def _before(process: Process, since: int) -> Container | None:
    """The container that ``process`` was in up to ``since``."""
    states = [state for state in process.past or () if state.since < since]
    return states[-1].container if states else UNKNOWN


def _rewrite(
    model: Tables,
    process: Process,
    since: int,
    time: int,
    container: Container | None,
    origin: str,
    entry: Entry | None,
) -> None:
    """``process`` was in ``container`` from ``since`` on, and at its execs since."""
    origin = NOT_KNOWN if container is UNKNOWN else origin

    def right(state: State, at: int) -> State:
        return state._replace(container=container, origin=origin, entry=entry) if at >= since else state

    if process.end is None:
        model.containers.enter(container)
        model.containers.leave(process.state.container, time)
    model.table.amend(process, right)


def _heirs(model: Tables, process: Process, since: int, former: CgroupSet | None, time: int) -> None:
    """Who descends from ``process`` and was born since ``since`` has what it would have inherited."""
    line = {(process.pid, process.start): process}
    for child in model.ancestry.born_since(process, since):
        above = line.get(child.creator) if child.creator is not None else None
        if above is None or child.unresolved != since or child.cgroups is not former:
            continue
        if child.pid in model.exits.suspended:
            continue
        line[(child.pid, child.start)] = child
        model.table.unresolved(child, 0)
        model.table.set_cgroups(child, process.cgroups)
        there = Doubt(read=above.state.origin == PROCFS)
        container = model.decide(child, child.state.nsset, above.state.container, time, there)
        entry = None if container is None or container is UNKNOWN else kept(above.state.entry, container)
        origin = INHERITED if above.state.origin == OBSERVED else above.state.origin
        _rewrite(model, child, since, time, container, origin, entry)
