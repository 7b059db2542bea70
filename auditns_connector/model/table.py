"""The table: who every process is, fed by frames alone.

``Model.apply(block)`` takes frames in the order of their times and changes the state; nothing here looks at a clock, a
socket or /proc. What the model would like to know but no event told it goes to ``queries``; the pipeline asks /proc and
the answers come back as frames, so that a replay of the same frames gives the same state, byte for byte.

Threads and processes: a *process* is a thread group. ``processes[pid]`` is the newest incarnation of a pid, alive or
dead, with the former ones behind it; dead ones stay until :meth:`Model.expire`.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.call_order import Calls
from auditns_connector.errors import DecodeError
from auditns_connector.model import thread_namespaces as threadsets
from auditns_connector.model.addresses import Packets
from auditns_connector.model.apply.connector import ByConnector
from auditns_connector.model.apply.losses import Losses
from auditns_connector.model.apply.namespace_life import NsLife
from auditns_connector.model.apply.perf import KernelEvents
from auditns_connector.model.apply.procfs import SAME_START, Resync
from auditns_connector.model.apply.registration import Registry
from auditns_connector.model.apply.time_namespaces import TimeNs
from auditns_connector.model.clock import Clock
from auditns_connector.model.containers import UNKNOWN, Cgroups, Container, Containers
from auditns_connector.model.entries import CLONE, NOT_SEEN, Entries
from auditns_connector.model.entry import Entry
from auditns_connector.model.exits import SAMPLES, Exits, proof_of
from auditns_connector.model.inner_ids import Inside
from auditns_connector.model.logins import Logins
from auditns_connector.model.membership import Evidence, belongs
from auditns_connector.model.namespaces import Instance, Namespaces, NsSet
from auditns_connector.model.outputs import ContainerInfo, Output
from auditns_connector.model.packing import pack
from auditns_connector.model.process import NOT_KNOWN, REGISTERED, Process, State
from auditns_connector.model.processes import Processes
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER
from auditns_connector.vocabulary.values import JsonObject

#: where perf is not had, what these say is taken in another way
_NOT_PERF: Final = (f.S_CN, f.S_AUDIT)
#: frames that may change a process, which Python writes then
_OF_A_PROCESS: Final = frozenset(
    (f.K_FORK, f.K_EXEC, f.K_EXIT, f.K_EXIT_SAMPLE, f.K_COMM, f.K_NAMESPACES, f.K_ATTACH, f.K_NEWTASK, f.K_UNSHARE,
     f.K_SETNS)
)  # fmt: skip
_DONE: Final = int(lib.TABLE_DONE)
_WANT: Final = int(lib.TABLE_WANT)
_EFFECTS: Final = int(lib.TABLE_EFFECTS)
_NO_MEMORY: Final = int(lib.TABLE_NO_MEMORY)


class Query(NamedTuple):
    """Something to ask /proc: ``what`` is "proc", "alive" (the same, and the answer may be that it is gone) or
    "cgroup"."""

    what: str
    pid: int
    cgroup: int = 0


class Model:
    """Processes, namespaces and containers at every moment the inputs have told about."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.namespaces = Namespaces()
        self.cgroups = Cgroups()
        self.containers = Containers(self.namespaces)
        self.table = Processes(self.namespaces, self.containers)
        self.processes = self.table.newest
        self.threads = self.table.threads
        self.dead = self.table.dead
        self.queries: list[Query] = []
        self.outputs: list[Output] = []
        #: time of the newest frame (CLOCK_MONOTONIC ns)
        self.now = 0
        #: when we began to look (CLOCK_MONOTONIC ns)
        self.began = 0
        #: perf tells forks, execs, exits and namespaces: the connector's word on those is not needed
        self.perf = True
        self.lifecycle = False
        #: a child made with CLONE_PARENT is told by a NEWTASK frame
        self.tells_clone_parent = False
        #: hierarchy id that PERF_SAMPLE_CGROUP speaks of; 0 is cgroup v2
        self.sample_root = 0
        #: the host has cgroup v2 alone, so one path says all
        self.v2_only = False
        #: how far a syscall's true entry may lie after its audit stamp (ns): truncation, tick, margin
        self.lag = 12_000_000
        #: counts losses, see losses.py
        self.epoch = 0
        #: some process is known to be in the present epoch
        self.confirmed = True
        #: when the newest gap in the events ended; 0: nothing was ever missing
        self.gap_until = 0
        #: what ended before this is forgotten (CLOCK_MONOTONIC ns)
        self.horizon = 0
        #: False: nothing is packed, every frame is taken in by Python (tests compare the two)
        self.packs = True
        #: counts what was taken in
        self.applied = 0
        self.calls = Calls()
        self.unknown_frames = 0
        self.initial: NsSet | None = None
        #: time of the newest answer of /proc (CLOCK_MONOTONIC ns)
        self.heard = 0
        self.exits = Exits(self, self.table.sampled_tasks)
        self.kernel = KernelEvents(self)
        self.life = NsLife(self)
        self.losses = Losses(self)
        self.answers = Resync(self)
        self.timens = TimeNs(self)
        self.by_connector = ByConnector(self)
        #: the process whose end is being taken in
        self.ending: Process | None = None
        self.table.vacated, self.table.emptied = self.life.left, self._emptied
        self.registry = Registry(self)
        self.packets = Packets(self)
        self.containers.on_end = self.registry.on_end
        self.containers.on_news = self.container_news
        self.inside = Inside(self)
        self.entries = Entries(self)
        self.logins = Logins(self)
        self._handlers: dict[int, Callable[..., None]] = {
            f.K_FORK: self.kernel.fork,
            f.K_EXEC: self.kernel.exec,
            f.K_EXIT: self.kernel.exit,
            f.K_EXIT_SAMPLE: self.kernel.exit_sample,
            f.K_COMM: self.kernel.comm,
            f.K_NAMESPACES: self.kernel.unshared,
            f.K_CGROUP: self.kernel.cgroup,
            f.K_ATTACH: self.kernel.attach,
            f.K_NEWTASK: self.kernel.newtask,
            f.K_UNSHARE: partial(self.kernel.call, f.K_UNSHARE),
            f.K_SETNS: partial(self.kernel.call, f.K_SETNS),
            f.K_NM: self.kernel.ignored,
            f.K_UID: self.kernel.ignored,
            f.K_GID: self.kernel.ignored,
            f.K_SID: self.kernel.ignored,
            f.K_PTRACE: self.kernel.ignored,
            f.K_COREDUMP: self.kernel.ignored,
            f.K_ACK: self.kernel.ignored,
            f.K_HELLO: self._hello,
            f.K_CLOCK: self._clock,
            f.K_PROC: self.answers.proc,
            f.K_PROCESS: self.answers.process,
            f.K_NSID: self.life.nsid,
            f.K_NSGONE: self.life.gone,
            f.K_CHECK: self.kernel.ignored,
            f.K_MARK: self._mark,
            f.K_RULES: self.losses.rules,
            f.K_RESYNC: self.answers.mark,
            f.K_INSIDE: self.inside.forked,
            f.K_IDMAP: self.inside.mapped,
            f.K_LOGIN: self.inside.login,
            f.K_LOGINS: self.logins.take,
            f.K_REGISTER: self.registry.take,
            f.K_ADDRS: self.packets.take,
        }

    # -- input

    @property
    def plain(self) -> bool:
        """Whether the table may apply plain frames by itself; that changes with frames that Python takes in alone."""
        return self.packs and self.exits.proof == SAMPLES and not self.exits.suspended

    def needs_python_loop(self) -> bool:
        """Whether there is something to be said, the addresses of packets are asked for, or frames are not for the
        table."""
        return bool(self.outputs or self.packets.wanted or not self.plain)

    def apply(self, block: bytes) -> None:
        """Take in whole frames. Raises :class:`DecodeError` on bytes that are none."""
        self.applied += 1
        off, end, table = 0, len(block), self.table
        frames, c = ffi.from_buffer(block), table.c
        self.note_applied()
        while off < end:
            if self.plain:
                how = lib.table_apply(c, frames, end, off)
                if (at := c.at) != off:
                    off, self.now = at, max(self.now, c.now)
                if how == _EFFECTS:
                    table.drain()
                    continue
                if how == _DONE:
                    break
                if how == _WANT and self._packed(c.want):
                    continue
                if how == _NO_MEMORY:
                    raise MemoryError("no memory for the process table")
            off = self._frame(block, off, end)

    def note_applied(self) -> None:
        """Count, and tell, what the table has applied when somebody in C had it do so."""
        self.table.drain()
        self.now = max(self.now, self.table.c.now)

    def _packed(self, pid: int) -> bool:
        """Pack process ``pid``, which makes children; False where they cannot be plain."""
        process = self.table.held[pid]
        return not self.inside.counting(process.state.nsset) and pack(self, process)

    def _frame(self, block: bytes, off: int, end: int) -> int:
        """Take in the one frame at ``off``; returns where the next begins."""
        if end - off < f.HEADER_SIZE:
            raise DecodeError(f"{end - off} stray bytes after the last frame")
        size, kind, source, cpu, time, pid, tid, ppid, ptid, cgroup, arg = f.HEADER.unpack_from(block, off)
        body, off = off + f.HEADER_SIZE, off + size
        if body > off or off > end:
            raise DecodeError(f"frame of {size} bytes where {end - off + size} are left")
        handler = self._handlers.get(kind)
        if handler is None:
            self._of_no_kind(kind, time, source, cpu, cgroup, arg)
            return off
        if source in _NOT_PERF:
            handler = self._not_of_perf(handler, kind, source, pid, tid)
            if handler is None:
                return off
        if self.exits.suspended:
            self.exits.look_at(kind, pid, tid, ppid)
        if time > self.now:
            self.now = time
        if kind in _OF_A_PROCESS:
            if (pid | tid | ppid | ptid) >> f.PID_BITS:
                self.unknown_frames += 1  # no kernel gives such a number
                return off
            if lib.table_has(self.table.c, pid, tid):
                self.table.hold_task(pid)
                self.table.hold_task(tid)
        handler(time, pid, tid, ppid, ptid, cgroup, arg, block[body:off])
        return off

    def _of_no_kind(self, kind: int, time: int, source: int, cpu: int, cgroup: int, arg: int) -> None:
        if kind == f.K_LOST:
            self.losses.lost(time, source, cpu, arg, cgroup)
        else:
            self.unknown_frames += 1

    def _not_of_perf(
        self, handler: Callable[..., None], kind: int, source: int, pid: int, tid: int
    ) -> Callable[..., None] | None:
        """Who takes a frame of the connector, or of audit, in place of ``handler``; None: nobody does."""
        if not self.perf:
            own: Callable[..., None] = self.by_connector.handlers.get(kind, handler)
            return own
        if source != f.S_CN:
            return handler
        if self.exits.suspended:
            self.exits.connector(kind, pid, tid)
        return None

    def doubt(self) -> None:
        """A new epoch of losses begins."""
        self.epoch += 1
        self.table.c.epoch = self.epoch

    # -- processes

    def alive(self, pid: int) -> Process | None:
        """The living process ``pid``."""
        process = self.table.find(pid)
        return process if process is not None and process.end is None else None

    def alive_since(self, pid: int, start: int) -> Process | None:
        """The living process ``pid`` that began at ``start`` (CLOCK_MONOTONIC ns), as nearly as /proc tells that."""
        process = self.alive(pid)
        return process if process is not None and abs(process.start - start) <= SAME_START else None

    def known(self, pid: int, time: int) -> Process:
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
            self.life.left(process, vacated, time, tid)

    def end(self, process: Process, time: int) -> None:
        self.table.end(process, time)
        self.timens.left(process, process.pid)
        if not self.perf:
            self.by_connector.ended(process)
        if process.threads:
            for tid, nsset in self.table.alone(process).items():
                self.timens.left(process, tid)
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

    def vacated(self, process: Process, spaces: Sequence[Instance], time: int) -> None:
        """``process`` was the last in these namespaces when it was suspended at ``time``, and has ended."""
        self.life.left(process, spaces, time)

    def ask_alive(self, pid: int) -> None:
        """Have /proc asked whether process ``pid`` still lives."""
        self.queries.append(Query("alive", pid))

    # -- where it belongs

    def settle(
        self, process: Process, time: int, origin: str, creator: Container | None = None, *, how: str = NOT_SEEN
    ) -> None:
        """Decide again where ``process`` belongs, now that its cgroup or namespaces are known otherwise; ``how`` it may
        have entered a container."""
        state = process.state
        container = self.decide(process, state.nsset, state.container if creator is None else creator, time)
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

    def decide(self, process: Process, nsset: NsSet | None, former: Container | None, time: int) -> Container | None:
        if process.unresolved:
            return UNKNOWN
        cgroups, containers = process.cgroups, self.containers
        evidence = Evidence(
            containers=containers,
            who=(process.pid, process.start),
            now=time,
            cgroups=cgroups,
            named=None if cgroups is None else containers.named(cgroups),
            namespaces=nsset,
            registered=process.registered,
            creator=former,
            mounts=process.entered_container,
            set_up=process.own_since is not None or process.scanned,
        )
        return belongs(evidence)

    def adopt(self, process: Process, creator: Container | None, origin: str) -> None:
        """Add a process that was there before we looked; ``creator`` is its parent's container."""
        state = process.state
        container = self.decide(process, state.nsset, creator, process.start)
        if container is not UNKNOWN:
            self.table.restate(process, state._replace(container=container, origin=origin))
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
        threadsets.leader_moved(self, process, time)

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

    def resolved(self, process: Process, unresolved: bool, time: int, origin: str, *, how: str = NOT_SEEN) -> None:
        if not unresolved:
            self.settle(process, time, origin, how=how)
            return
        # made with CLONE_INTO_CGROUP: it was there from its first instant
        former = process.state.container
        parent = self.processes.get(process.creator[0]) if process.creator else None
        base = parent.state.container if parent is not None else UNKNOWN
        container = self.decide(process, process.state.nsset, base, time)
        move = self.entries.move(process, container, CLONE, process.start)._replace(before=base)
        entry = self.entries.of(process, process.state, move)
        self.containers.enter(container)
        self.containers.leave(former, time)
        self.rewrite(process, container, origin if container is not UNKNOWN else NOT_KNOWN, entry)

    def rewrite(self, process: Process, container: Container | None, origin: str, entry: Entry | None) -> None:
        """The container of ``process`` had been in doubt since it began, and is ``container`` for all that time."""

        def right(state: State, _: int) -> State:
            return state._replace(container=container, origin=origin, entry=entry)

        self.table.amend(process, right, execs=False)

    def container_news(self, news: str, container: Container, now: int, entry: Entry | None = None) -> None:
        """Tell of ``container``, in an ``entry``: see :class:`ContainerInfo`."""
        state = State(now, container, None, "", entry=entry)
        self.outputs.append(ContainerInfo(now, news, container, state))

    # -- everything else

    def ask(self, pid: int, cgroup: int = 0) -> None:
        """Have /proc asked about process ``pid``, and which path ``cgroup`` (an id, 0: none) is."""
        if cgroup:
            self.queries.append(Query("cgroup", pid, cgroup))
        self.queries.append(Query("proc", pid))

    def _hello(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        hello: JsonObject = json.loads(payload.rstrip(b"\0") or b"{}")
        self.containers.boot_id = str(hello.get("boot_id", ""))
        self.began = self.began or time
        self.perf = bool(hello.get("perf", True))
        self.lifecycle = bool(hello.get("lifecycle", False))
        self.by_connector.nm = hello.get("ns_source") == "nm"
        self.timens.begin(bool(hello.get("timens", False)), str(hello.get("kernel", "")))
        self.tells_clone_parent = "newtask" in hello.get("features", ())
        self.kernel.exec_samples = "exec_sample" in hello.get("features", ())
        self.exits.proof = proof_of(hello)
        if self.exits.proof != SAMPLES:
            self.table.hold_all()
        self.v2_only = bool(hello.get("v2_only", False))
        self.sample_root = int(hello.get("sample_root", 0))
        self.lag = int(hello.get("lag_ns", self.lag))
        # a journal that does not say so is older than the option
        self.containers.sandbox_types = frozenset(hello.get("sandbox_types", ("pid", "user")))
        self.namespaces.mint_next = max(self.namespaces.mint_next, int(hello.get("mint_next", 0)))
        self.namespaces.dev = int(hello.get("ns_dev", 0))
        self.namespaces.initial_inodes = {str(k): int(v) for k, v in hello.get("initial", {}).items()}
        found = self.namespaces.initial_inodes
        self.initial = self.namespaces.intern(
            tuple(
                self.namespaces.find(i, self.namespaces.dev, found[name], time) if name in found else None
                for i, name in enumerate(ALL_ORDER)
            )
        )

    def _clock(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        self.clock.sample(time, arg - (1 << 64) if arg >> 63 else arg, cgroup)
        if ppid:
            self.clock.missed(time)

    def _mark(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        if arg:
            self.expire(arg)

    def incarnation(self, pid: int, start: int) -> Process | None:
        """The process that held ``pid`` from ``start`` on, as long as it is remembered."""
        return self.table.incarnation(pid, start)

    def expire(self, before: int) -> None:
        """Forget processes that ended before ``before`` (CLOCK_MONOTONIC ns): nobody asks for them any more."""
        self.horizon = max(self.horizon, before)
        self.calls.expire(before)
        namespaces = self.namespaces
        while namespaces.died and namespaces.died[0][1] < before:
            inst = namespaces.died.popleft()[0]
            if namespaces.forget(inst):
                self.inside.forget(inst)
        self.table.expire(before)
