"""The process table: which process holds which pid, and the only place that writes a process's fields.

Everybody reads a :class:`Process` as it is; who has found out something about one hands it on to a method here. A
method writes what it is named for and nothing else: who belongs where, and who lives in which namespaces, is decided
by its caller.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.packed_rows import PackedRows
from auditns_connector.model.past import remembered, unknown, unknown_since
from auditns_connector.model.places import Container, NsSet
from auditns_connector.model.process import Apart, Exec, Process, State
from auditns_connector.model.profiles import Profile
from auditns_connector.model.program_names import ProgramNames

#: times of threads apart, remembered of one process; what is older is not answered
KEPT: Final = 64
#: execs of one process that no record has consumed
KEPT_EXECS: Final = 32
#: processes and threads made by one process, at least
KEPT_MADE: Final = 64


class Processes(PackedRows, ProgramNames):
    """Processes by pid (``newest``), threads by tid, and the ended ones in the order of their ends (``dead``)."""

    # -- some of them, in the order in which their pids came to be remembered

    def living(self, wanted: Callable[[Process | Profile], bool]) -> list[Process]:
        """The living processes that are ``wanted``; packed ones are judged by what they have in common."""
        found = [process for process in self.fetch_lives().values() if process.end is None and wanted(process)]
        for profile in self.profiles:
            if profile is not None and wanted(profile):
                found += [self.newest[pid] for pid in self._pids(profile.number, living=True)]
        return sorted(found, key=lambda process: process.place)

    def living_in(self, containers: Iterable[Container | None]) -> list[Process]:
        """The living processes of these containers."""
        inside = set(containers)
        return self.living(lambda one: one.state.container in inside)

    def oldest_in(self, containers: Iterable[Container]) -> dict[Container, int]:
        """The pid of the oldest living process of each of these containers that has one. No object is made of anybody:
        a container may have any number of processes."""
        inside = set(containers)
        held = [(p.start, p.place, p.pid, p.state.container) for p in self.fetch_lives().values() if p.end is None]
        packed = [(*first, profile.state.container) for profile, first in self.oldest_packed()]
        found: dict[Container, int] = {}
        # the oldest comes last, and stays
        for _, _, pid, container in sorted(held + packed, key=lambda one: one[:2], reverse=True):
            if container is not None and container in inside:
                found[container] = pid
        return found

    def family(self, pid: int, start: int) -> list[Process]:
        """Who descends from the process that holds ``pid`` since ``start``, alive or ended, in order of their starts.
        No object is made of anybody else."""
        links = self._links()
        packed = {link[2] for link in links}
        links += [(p.start, p.place, p.pid, p.creator) for p in self.held.values() if p.pid not in packed]
        line, found = {(pid, start)}, []
        for began, _, child, creator in sorted(links, key=lambda link: link[:2]):
            if creator in line and (child, began) != (pid, start):
                line.add((child, began))
                found.append(self.newest[child])
        return found

    def _links(self) -> list[tuple[int, int, int, tuple[int, int] | None]]:
        """Start, place, pid and creator of the newest rows."""
        out = ffi.new("struct table_link[]", int(self.c.processes) or 1)
        count = int(lib.table_links(self.c, out, int(self.c.processes)))
        return [(link.start, link.place, link.pid, (link.creator, link.creator_start)) for link in list(out[0:count])]

    def links(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Who (pid, start) is remembered, and who made it, of the newest of each pid."""
        for start, _, pid, creator in self._links():
            if creator is not None and creator[0]:
                yield (pid, start), creator
        for process in self.held.values():
            if process.creator is not None:
                yield (process.pid, process.start), process.creator

    def has_heirs(self, pid: int, start: int) -> None:
        """Of the process of ``pid`` that began at ``start`` somebody descends whose parent is forgotten."""
        process = self.held.get(pid)
        while process is not None and process.start != start:
            process = process.prev
        if process is not None:
            process.heirs = True

    # -- pids

    def _own(self, process: Process) -> None:
        """``process`` is written by Python: it is no row of the table."""
        if process.row:
            self.hold(process.pid)

    def put(self, process: Process, former: Process | None, epoch: int) -> None:
        """``process`` holds its pid now, after ``former``; its state is of the loss epoch ``epoch``."""
        self.hold(process.pid)
        before = self.held.get(process.pid)
        process.place = before.place if before is not None else self.next_place()
        if former is not None:
            process.prev = former
        process.epoch = epoch
        self.keep(process)

    def take_back(self, process: Process) -> None:
        """``process`` is not to hold its pid yet: another event shows its beginning."""
        self._own(process)
        self.release(process.pid)
        if process.prev is not None:
            process.prev.place = self.next_place()
            self.keep(process.prev)

    def end(self, process: Process, time: int) -> None:
        """``process`` has ended at ``time`` (CLOCK_MONOTONIC ns)."""
        self._own(process)
        process.end = time
        if self.held.get(process.pid) is process:
            self.keep(process)

    def revive(self, process: Process) -> None:
        """What was taken for the end of ``process`` was none."""
        process.end = None
        self.keep(process)

    def bury(self, process: Process) -> None:
        """All about the end of ``process`` is done: it is kept until :meth:`expire`."""
        if not lib.table_bury(self.c, process.pid, process.start, process.end or 0):
            raise MemoryError("no memory for the process table")

    def expire(self, before: int) -> None:
        """Forget processes that ended before ``before`` (CLOCK_MONOTONIC ns)."""
        lib.table_expire(self.c, before)
        self.expired()
        self.drain()

    # -- who a process is

    def inherit(self, process: Process, creator: Process) -> None:
        """``process`` was made by ``creator``, and has what a child has of that."""
        process.own_since = creator.own_since
        process.creator = (creator.pid, creator.start)
        process.comm, process.file = creator.comm, creator.file
        process.ran_at, process.exe = creator.ran_at, creator.exe
        process.registered = creator.registered
        process.entered_container = creator.entered_container
        process.unresolved, process.sampled = creator.unresolved, creator.sampled

    def made_by(self, process: Process, creator: Process) -> None:
        """``process`` is a child of ``creator``, as /proc shows it."""
        process.creator = (creator.pid, creator.start)
        process.registered = creator.registered

    def began(self, process: Process, start: int) -> None:
        """The placeholder ``process`` began at ``start`` (CLOCK_MONOTONIC ns)."""
        self._own(process)
        process.start, process.placeholder = start, False

    def stand_in(self, process: Process) -> None:
        """The birth of ``process`` was not seen."""
        process.placeholder = True

    def scanned(self, process: Process) -> None:
        """``process`` is first known from /proc."""
        self._own(process)
        process.scanned = True

    def newborn(self, process: Process, newborn: bool) -> None:
        """Whether the record that tells the namespaces of ``process`` is still to come."""
        self._own(process)
        process.newborn = newborn

    def clone_parent(self, process: Process, reported: bool) -> None:
        """Whether ``process`` was made with CLONE_PARENT."""
        self._own(process)
        process.clone_parent = reported

    def comm(self, process: Process, comm: bytes) -> None:
        """``process`` is called ``comm``."""
        self._own(process)
        process.comm = comm

    def confirm(self, process: Process, epoch: int) -> None:
        """The state of ``process`` was certain in the loss epoch ``epoch``."""
        self._own(process)
        process.epoch = epoch

    def ids(self, process: Process, ids: tuple[int, int | None, int | None, int | None]) -> None:
        """At that time /proc showed whose ``process`` is, real uid, login uid, session."""
        process.ids = ids

    def called_inside(self, process: Process, number: int, pid: int, *, certain: bool) -> None:
        """``process`` is ``pid`` in the pid namespace ``number``; ``certain``: whatever was assumed before."""
        if process.inside is None:
            process.inside = {}
        if certain:
            process.inside[number] = pid
        else:
            process.inside.setdefault(number, pid)

    def nspid(self, process: Process, nspid: tuple[int, ...]) -> None:
        """The numbers of ``process`` in all its pid namespaces, ours first."""
        process.nspid = nspid

    # -- where it belongs

    def change(self, process: Process, state: State) -> None:
        """``state`` holds for ``process`` from now on."""
        self._own(process)
        old = process.state
        if state.since <= old.since and process.past is None:
            process.state = state  # known better from the beginning
            return
        process.past = remembered(process.past, old)
        process.state = state

    def restate(self, process: Process, state: State) -> None:
        """The present state of ``process`` is ``state``, and had been so."""
        self._own(process)
        process.state = state

    def replace(self, process: Process, state: State, *, after: bool) -> None:
        """``state`` holds now; ``after`` the present one, which is a former one from now on."""
        self._own(process)
        if after:
            process.past = remembered(process.past, process.state)
        process.state = state

    def amend(self, process: Process, right: Callable[[State, int], State], *, execs: bool = True) -> None:
        """Put every state of ``process`` right, former ones and (``execs``) those at its execs: ``right`` is given the
        state and the time for which it is wanted."""
        self._own(process)
        process.state = right(process.state, process.state.since)
        if process.past:
            process.past = [right(state, state.since) for state in process.past]
        if execs:
            self.amend_execs(process, right)

    def amend_past(self, process: Process, right: Callable[[State, int], State]) -> None:
        """The same of the former states alone."""
        self._own(process)
        if process.past:
            process.past = [right(state, state.since) for state in process.past]

    def amend_execs(self, process: Process, right: Callable[[State, int], State]) -> None:
        """The same of the states at its execs alone."""
        self._own(process)
        if process.execs:
            process.execs = [exec_._replace(state=right(exec_.state, exec_.time)) for exec_ in process.execs]

    def unknown_since(self, process: Process, began: int) -> None:
        """Where ``process`` was from ``began`` (CLOCK_MONOTONIC ns) until now is not known, nor at its execs since."""
        self._own(process)
        process.past, process.state = unknown_since(process.past, process.state, began)
        self.amend_execs(process, lambda state, at: state if at < began else unknown(state))

    def set_cgroups(self, process: Process, cgroups: CgroupSet | None) -> None:
        """The cgroups of ``process``."""
        self._own(process)
        process.cgroups = cgroups

    def sampled(self, process: Process, cgroup: int) -> None:
        """A sample in the cgroup of ``process`` had the id ``cgroup``."""
        self._own(process)
        process.sampled = cgroup

    def unresolved(self, process: Process, since: int) -> None:
        """Since when the cgroup of ``process`` is still to be reported; 0: it is known."""
        self._own(process)
        process.unresolved = since

    def register(self, process: Process, container: Container | None) -> None:
        """``process`` was registered in ``container``, itself or whom it descends from."""
        self._own(process)
        process.registered = container

    def entered(self, process: Process, container: Container | None) -> None:
        """The container whose mount namespace ``process`` has entered."""
        self._own(process)
        process.entered_container = container

    def own(self, process: Process, since: int | None) -> None:
        """When ``process`` first ran a program of its container's own; None: it did not."""
        self._own(process)
        process.own_since = since

    # -- execs and children

    def execed(self, process: Process, exec_: Exec) -> None:
        """``process`` has execed."""
        self._own(process)
        process.file, process.ran_at, process.exe = exec_.file, exec_.time, 0
        if process.execs is None:
            process.execs = [exec_]
        else:
            process.execs.append(exec_)
            if len(process.execs) > KEPT_EXECS:
                process.execs_lost = process.execs.pop(0).time

    def exec_consumed(self, process: Process, time: int) -> None:
        """A record consumes the exec at ``time``: neither it nor one before it is to be consumed again."""
        if process.row:
            lib.table_exec_consumed(self.c, process.row, time)
            if process.behind is not None:
                process.behind = [exec_ for exec_ in process.behind if exec_.time > time] or None
                if process.behind is None:
                    lib.table_none_behind(self.c, process.row)
            self.read(process)
            return
        if process.execs is not None:
            process.execs = [exec_ for exec_ in process.execs if exec_.time > time] or None
        self.not_before(process, time)

    def not_before(self, process: Process, time: int) -> None:
        """Records of ``process`` that are still to come were made at or after ``time``."""
        process.not_before = max(process.not_before, time)
        if process.row:
            lib.table_not_before(self.c, process.row, time)

    def has_made(self, creator: Process, time: int, pid: int, tid: int) -> None:
        """``creator`` has made thread ``tid`` of process ``pid`` (which may be itself) at ``time``."""
        if creator.row:
            lib.table_made(self.c, creator.row, time, pid, tid)
            return
        made = creator.recent_children
        if made is None:
            creator.recent_children = [(time, pid, tid)]
            return
        made.append((time, pid, tid))
        if len(made) == 2 * KEPT_MADE:
            del made[:KEPT_MADE]

    # -- threads

    def thread(self, process: Process, tid: int, nsset: NsSet | None) -> None:
        """Thread ``tid`` of ``process`` lives, in ``nsset``."""
        self._own(process)
        if process.threads is None:
            process.threads = {}
        process.threads[tid] = nsset
        self.keep_thread(process, tid)

    def thread_gone(self, process: Process, tid: int) -> NsSet | None:
        """Thread ``tid`` of ``process`` is gone; returns where it was."""
        self._own(process)
        if self.threads.held.get(tid) is process:
            self.release_thread(tid)
        return process.threads.pop(tid, None) if process.threads is not None else None

    def leader_gone(self, process: Process, gone: bool) -> None:
        """Whether the leader of ``process`` has exited while other threads live on."""
        self._own(process)
        process.leader_gone = gone

    def alone(self, process: Process) -> dict[int, NsSet | None]:
        """``process`` has no other threads than its leader any more; returns those it had."""
        self._own(process)
        threads, process.threads = process.threads or {}, None
        for tid in threads:
            self.release_thread(tid)
        return threads

    def apart(self, process: Process, tid: int, nsset: NsSet | None, time: int) -> None:
        """Thread ``tid`` of ``process`` is in ``nsset`` from ``time`` on, and not where the leader is."""
        self._own(process)
        if process.thread_namespaces is None:
            process.thread_namespaces = []
        process.thread_namespaces.append(Apart(tid, nsset, time))
        if len(process.thread_namespaces) > KEPT:
            # what falls out may have been anywhere: that time has no answer any more
            del process.thread_namespaces[0]
            process.thread_namespaces[0].nsset, process.thread_namespaces[0].since = None, 0

    def moved(self, process: Process, tid: int, nsset: NsSet | None, time: int) -> None:
        """Thread ``tid`` of ``process`` is in ``nsset`` from ``time`` on."""
        self.together(process, tid, time)
        if nsset is not process.state.nsset:
            self.apart(process, tid, nsset, time)

    def leader_moved(self, process: Process, time: int) -> None:
        """The leader of ``process`` has gone elsewhere; its other threads stay where they are."""
        apart = {entry.tid for entry in process.thread_namespaces or () if entry.until is None}
        for tid, nsset in (process.threads or {}).items():
            if tid not in apart:
                self.moved(process, tid, nsset, time)

    def together(self, process: Process, tid: int, time: int) -> None:
        """Thread ``tid`` of ``process`` is where it was no longer."""
        self._own(process)
        for apart in process.thread_namespaces or ():
            if apart.tid == tid and apart.until is None:
                apart.until = time
