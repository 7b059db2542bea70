"""The tables: who every process is, and where. State only: what a kind of frame does to it stands in model/apply.

A *process* is a thread group. ``processes[pid]`` is the newest incarnation of a pid, alive or dead, with former ones
behind it; dead ones stay until they are expired. What the model needs and no event showed goes to
``queries``, what is to be written to ``outputs``.
"""

from collections.abc import Callable, Sequence

from auditns_connector.model.ancestry import Ancestry
from auditns_connector.model.call_order import Calls
from auditns_connector.model.cgroups import Cgroups, CgroupSet
from auditns_connector.model.clock import Clock
from auditns_connector.model.containers import Containers
from auditns_connector.model.entries import NOT_SEEN, Entries
from auditns_connector.model.entry import Entry
from auditns_connector.model.exits import Exits
from auditns_connector.model.membership import SEEN, Doubt, Evidence, belongs, lost_sight
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.outputs import ContainerInfo, Query
from auditns_connector.model.own_processes import OwnProcesses
from auditns_connector.model.places import UNKNOWN, Container, Instance, NsSet
from auditns_connector.model.process import NOT_KNOWN, OBSERVED, PROCFS, REGISTERED, Exec, Process, State
from auditns_connector.model.processes import Processes
from auditns_connector.model.telling import Telling
from auditns_connector.model.unresolved import resolve
from auditns_connector.vocabulary.timing import SAME_START


def _nothing(*_: object) -> None:
    """Nobody is to know."""


def _none(_: int) -> Sequence[Process]:
    return ()


class Tables(Telling):
    """Processes, namespaces and containers at every moment that the inputs cover."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.namespaces = Namespaces()
        self.cgroups = Cgroups()
        self.containers = Containers(self.namespaces)
        self.table = Processes(self.namespaces, self.containers)
        super().__init__(self.table)
        self.processes = self.table.newest
        self.threads = self.table.threads
        self.dead = self.table.dead
        self.queries: list[Query] = []
        #: time of the newest frame (CLOCK_MONOTONIC ns)
        self.now = 0
        #: when we began to look (CLOCK_MONOTONIC ns)
        self.began = 0
        #: perf tells forks, execs, exits and namespaces: the connector's word on those is not needed
        self.perf = True
        #: a child made with CLONE_PARENT is reported by a NEWTASK frame
        self.tells_clone_parent = False
        #: hierarchy id that PERF_SAMPLE_CGROUP speaks of; 0 is cgroup v2
        self.sample_root = 0
        #: the host has cgroup v2 alone, so one path says all
        self.v2_only = False
        #: how far a syscall's true entry may lie after its audit stamp (ns): truncation, tick, margin
        self.lag = 12_000_000
        #: counts losses, see losses.py
        self.epoch = 0
        #: CLOCK_MONOTONIC time from which epoch n is in doubt
        self.doubted: list[int] = []
        #: some process is known to be in the present epoch
        self.confirmed = True
        #: when the newest gap in the events ended; 0: nothing was ever missing
        self.gap_until = 0
        #: what ended before this is forgotten (CLOCK_MONOTONIC ns)
        self.horizon = 0
        self.calls = Calls()
        #: frames of kinds that are not in vocabulary/frames.py
        self.unknown_frames = 0
        self.initial: NsSet | None = None
        #: moves between cgroups are reported, or each exec tells where the process is
        self.moves_reported = True
        #: time of the newest answer of /proc (CLOCK_MONOTONIC ns)
        self.heard = 0
        self.exits = Exits(self, self.table.sampled_tasks)
        #: the process whose end is being applied
        self.ending: Process | None = None
        #: without perf: the living children of a process, as parents are read
        self.children_of: Callable[[int], Sequence[Process]] = _none
        # what else must know of an end, set by whoever applies frames (apply/dispatch.py): a process is gone, a task,
        # and the last task has left namespaces
        self.process_ended: Callable[[Process], None] = _nothing
        self.task_ended: Callable[[Process, int], None] = _nothing
        self.namespaces_left: Callable[[Process, Sequence[Instance], int, int], None] = _nothing
        self.table.emptied = self._emptied
        self.containers.on_news = self.container_news
        self.ancestry = Ancestry(self.table)
        self.containers.now = lambda: self.now
        self.entries = Entries(self)
        self.own = OwnProcesses(self)

    def doubt(self, since: int) -> None:
        """A new epoch of losses begins, in doubt from ``since`` (CLOCK_MONOTONIC ns) on."""
        self.doubted.append(since)
        self.epoch += 1
        self.table.c.epoch = self.epoch

    # -- processes

    def alive(self, pid: int) -> Process | None:
        """The living process ``pid``."""
        process = self.table.find(pid)
        return process if process is not None and process.end is None else None

    def alive_since(self, pid: int, start: int) -> Process | None:
        """The living process ``pid`` that began at ``start`` (CLOCK_MONOTONIC ns), as nearly as /proc shows that."""
        process = self.alive(pid)
        return process if process is not None and abs(process.start - start) <= SAME_START else None

    def ensure(self, pid: int, time: int) -> Process:
        """The living process ``pid``; a placeholder of unknown past where its birth was not seen."""
        process = self.alive(pid)
        if process is None:
            process = self.add(Process(pid, time, State(time, UNKNOWN, None, NOT_KNOWN), None))
            self.table.stand_in(process)
            self.confirmed = True
            self.queries.append(Query("proc", pid))
        return process

    def add(self, process: Process) -> Process:
        pid, time = process.pid, process.start
        if pid in self.exits.suspended:
            self.exits.finish(pid)
        old = former = self.processes.get(pid)
        if old is not None and old.end is None:
            self.end(old, time)
            if abs(old.start - time) < SAME_START and (old.scanned or old.placeholder):
                former = old.prev  # /proc showed it before its own fork event was read: one and the same
        self.table.put(process, former, self.epoch)
        nsset = process.state.nsset
        if nsset is not None:
            if nsset.members:
                nsset.members.add(pid)  # what enter() comes to where others live already
            else:
                self.enter(nsset, process)
        self.containers.enter(process.state.container)
        return process

    def enter(self, nsset: NsSet, process: Process, tid: int | None = None) -> None:
        if not nsset.members:
            who = (process.pid, process.start)
            for inst in nsset.inst:
                if inst is not None and inst.first is None:
                    inst.first = who
        self.namespaces.enter(nsset, process.pid if tid is None else tid)

    def leave(self, nsset: NsSet, process: Process, tid: int, time: int) -> None:
        """Thread ``tid`` of ``process`` has exited."""
        vacated = self.namespaces.leave(nsset, tid, time)
        if vacated:
            self.namespaces_left(process, vacated, time, tid)

    def end(self, process: Process, time: int) -> None:
        self.doubt_owner(process, process.state.nsset)
        self.table.end(process, time)
        self.task_ended(process, process.pid)
        if not self.perf:
            self.process_ended(process)
        if process.threads:
            for tid, nsset in self.table.alone(process).items():
                self.task_ended(process, tid)
                if nsset is not None:
                    self.leave(nsset, process, tid, time)
        if process.state.nsset is not None:
            self.leave(process.state.nsset, process, process.pid, time)
        self.ending = process
        self.containers.leave(process.state.container, time)
        self.ending = None
        self.table.bury(process)

    def _emptied(self, process: Process, container: Container | None, time: int) -> None:
        """``process`` was the last of its kind in the table."""
        self.ending = process
        self.containers.leave(container, time)
        self.ending = None

    # -- ends that are not sure, see exits.py

    def suspend(self, process: Process, time: int) -> Sequence[Instance]:
        """``process`` may have ended at ``time``; returns the namespaces that nobody else lives in."""
        self.table.end(process, time)
        nsset = process.state.nsset
        return () if nsset is None else self.namespaces.leave(nsset, process.pid, time)

    def resume(self, process: Process) -> None:
        """``process`` was suspended and has not ended."""
        self.table.revive(process)
        if process.state.nsset is not None:
            self.enter(process.state.nsset, process)
        if process.state.container is UNKNOWN:
            self.ask(process.pid)  # what /proc said meanwhile may have been from before

    def vacated(self, process: Process, spaces: Sequence[Instance], time: int) -> None:
        """``process`` was the last in these namespaces when it was suspended at ``time``, and has ended."""
        self.namespaces_left(process, spaces, time, 0)

    def ask_alive(self, pid: int) -> None:
        """Have /proc asked whether process ``pid`` still lives."""
        self.queries.append(Query("alive", pid))

    # -- where it belongs

    def settle(self, process: Process, time: int, origin: str, *, how: str = NOT_SEEN) -> None:
        """Decide again where ``process`` belongs, now that its cgroup or namespaces are known otherwise; ``how`` it may
        have entered a container."""
        read, doubtful = origin == PROCFS, self.doubts(process)
        if doubtful and origin == OBSERVED:
            # /proc will show where it came to, and nothing of where it was before
            self.lost_sight(process, self.doubted[process.epoch])
            self.doubt_owner(process, process.state.nsset)
        state = process.state
        doubt = Doubt(unproven=doubtful, there=True, read=read, missed=read or doubtful)
        container = self.decide(process, state.nsset, state.container, time, doubt)
        if container is state.container:
            if origin != state.origin and container is not UNKNOWN:
                self.table.restate(process, state._replace(origin=origin))
            return
        entry = state.entry
        if origin != REGISTERED:
            entry = self.entries.of(process, state, self.entries.move(process, container, how, time))
        self.containers.enter(container)
        self.containers.leave(state.container, time)
        if container is UNKNOWN:
            origin = NOT_KNOWN
        elif process.registered is container:
            origin = REGISTERED
        self.table.change(process, state._replace(since=time, container=container, origin=origin, entry=entry))

    def doubts(self, process: Process) -> bool:
        """Whether events of ``process`` may be missing, so that it may be elsewhere by now."""
        return process.epoch < self.epoch

    def lost_sight(self, process: Process, began: int) -> None:
        """Events of ``process`` were lost from ``began`` (CLOCK_MONOTONIC ns) on: where it was since is not known."""
        state = process.state
        self.table.unknown_since(process, began)
        self.containers.leave(state.container, max(began, state.since))

    def doubt_owner(self, process: Process, nsset: NsSet | None) -> None:
        """Where events of ``process`` are missing nobody saw where it was meanwhile: whose the namespaces of ``nsset``
        are that it was the first in is not known."""
        if nsset is not None and self.doubts(process):
            doubt = Doubt(unproven=True, there=True, missed=True)
            lost_sight(self._evidence(process, nsset, process.state.container, process.start, doubt))

    def decide(
        self, process: Process, nsset: NsSet | None, former: Container | None, time: int, doubt: Doubt = SEEN
    ) -> Container | None:
        return UNKNOWN if process.unresolved else belongs(self._evidence(process, nsset, former, time, doubt))

    def _evidence(
        self, process: Process, nsset: NsSet | None, creator: Container | None, time: int, doubt: Doubt
    ) -> Evidence:
        cgroups, containers = process.cgroups, self.containers
        return Evidence(
            containers=containers,
            who=(process.pid, process.start),
            now=time,
            cgroups=cgroups,
            named=None if cgroups is None else containers.named(cgroups),
            namespaces=nsset,
            registered=process.registered,
            creator=creator,
            mounts=process.entered_container,
            set_up=process.own_since is not None or process.scanned,
            doubt=doubt,
            doubtful=self._doubts_first,
        )

    def _doubts_first(self, inst: Instance) -> bool:
        """Whether events of the first process in ``inst`` may be missing."""
        first = self.incarnation(*inst.first) if self.epoch and inst.first is not None else None
        return first is not None and first.end is None and self.doubts(first)

    def execed(self, process: Process, exec_: Exec) -> None:
        """``process`` has execed."""
        container = exec_.state.container
        if container is not None and container.ran is None:
            container.ran = exec_.time
        self.table.execed(process, exec_)

    def adopt(self, process: Process, creator: Container | None, doubt: Doubt) -> None:
        """Add a process that /proc showed to be there before we looked; ``creator`` is its parent's container."""
        state = process.state
        container = self.decide(process, state.nsset, creator, process.start, doubt)
        if container is not UNKNOWN:
            self.table.restate(process, state._replace(container=container, origin=PROCFS))
        self.table.scanned(process)
        self.confirmed = True
        self.add(process)

    def leader_left(self, process: Process, time: int) -> None:
        """The leader of ``process`` has exited while other threads live on."""
        self.table.leader_gone(process, True)
        if process.state.nsset is not None:
            self.leave(process.state.nsset, process, process.pid, time)

    def put_namespaces(self, process: Process, nsset: NsSet, time: int, origin: str) -> None:
        """``process`` (its leader) is in ``nsset`` from ``time`` on."""
        if process.state.nsset is not nsset:
            self.move(process, nsset, time)
            self.settle(process, time, origin)

    def move(self, process: Process, nsset: NsSet, time: int) -> None:
        """The leader of ``process`` is in ``nsset`` from ``time`` on, which changes nothing about its container."""
        former = process.state
        self.enter(nsset, process)
        if former.nsset is not None:
            self.namespaces.leave(former.nsset, process.pid, time)
        self.table.change(process, former._replace(since=time, nsset=nsset))
        self.table.leader_moved(process, time)

    def swap_set(self, process: Process, nsset: NsSet | None, time: int) -> None:
        """The present state of ``process`` had been in ``nsset`` from its beginning."""
        former = process.state.nsset
        if nsset is former:
            return
        if process.end is None:
            if nsset is not None:
                self.enter(nsset, process)
            if former is not None:
                self.namespaces.leave(former, process.pid, time)
        self.table.restate(process, process.state._replace(nsset=nsset))

    def resolved(
        self, process: Process, since: int, former: CgroupSet | None, time: int, origin: str, *, how: str = NOT_SEEN
    ) -> None:
        """The cgroups of ``process``, not known since ``since`` (0: they were; CLOCK_MONOTONIC ns) and ``former`` until
        then, are known now."""
        if since and not self.doubts(process):
            resolve(self, process, since, former, time, origin, how)
        else:
            self.settle(process, time, origin, how=how)

    def rewrite(self, process: Process, container: Container | None, origin: str, entry: Entry | None) -> None:
        """The container of ``process`` had been in doubt since it began, and is ``container`` for all that time."""

        def right(state: State, _: int) -> State:
            return state._replace(container=container, origin=origin, entry=entry)

        self.table.amend(process, right, execs=False)

    def container_news(self, news: str, container: Container, now: int, entry: Entry | None = None) -> None:
        """Tell of ``container``, in an ``entry``: see :class:`ContainerInfo`."""
        state = State(now, container, None, "", entry=entry)
        self.tell(ContainerInfo(now, news, container, state))

    # -- everything else

    def ask(self, pid: int, cgroup: int = 0) -> None:
        """Have /proc asked about process ``pid``, and which path ``cgroup`` (an id, 0: none) is."""
        if cgroup:
            self.queries.append(Query("cgroup", pid, cgroup))
        query = Query("proc", pid)
        if not self.queries or self.queries[-1] != query:
            self.queries.append(query)

    def forget_questions(self) -> None:
        """Nobody is there to be asked."""
        self.queries.clear()
        self.namespaces.born.clear()
        self.table.c.borns = 0

    def incarnation(self, pid: int, start: int) -> Process | None:
        """The process that held ``pid`` from ``start`` on, as long as it is remembered."""
        return self.table.incarnation(pid, start)
