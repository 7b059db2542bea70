"""What the kernel says of processes, taken into the table: fork, exec, exit, namespaces, cgroups (the frames of perf).

Each method takes the fields of one kind of frame, see frames.py. What it rests on is kernel/fork.c, fs/exec.c,
kernel/exit.c and kernel/nsproxy.c: in which order these events come, and who is who in them.
"""

from typing import TYPE_CHECKING, Final

from auditns_connector.model import thread_namespaces as threadsets
from auditns_connector.model.entries import CGROUP, SETNS
from auditns_connector.model.membership import Doubt, looked_at
from auditns_connector.model.places import UNKNOWN, Container, Instance, NsSet
from auditns_connector.model.process import INHERITED, NOT_KNOWN, OBSERVED, Exec, Process, State
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWTIME, FLAGS, MNT, PID
from auditns_connector.vocabulary.timing import SAME_START

if TYPE_CHECKING:
    from auditns_connector.model.apply.namespace_life import NsLife
    from auditns_connector.model.apply.time_namespaces import TimeNs
    from auditns_connector.model.inner_ids import Inside
    from auditns_connector.model.tables import Tables

CLONE_INTO_CGROUP: Final = 0x2_0000_0000
CLONE_PARENT: Final = 0x8000
_ALL: Final = sum(FLAGS.values())
_CLONED: Final = _ALL & ~(FLAGS["pid"] | FLAGS["time"])
_MAX_CGROUPS: Final = 200_000


class KernelEvents:
    """Kernel events on their way into ``model``."""

    def __init__(self, model: "Tables", life: "NsLife", timens: "TimeNs", inside: "Inside") -> None:
        self._model = model
        self._life, self._timens, self._inside = life, timens, inside
        #: execs are reported by EXEC frames
        self.exec_samples = False

    def fork(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        m = self._model
        m.exits.sampled.discard(tid)  # the EXIT of whoever had that number before is missing
        if pid == ppid:
            process = m.ensure(pid, time)
            nsset = base = process.nsset_of(ptid)
            fresh = []
            if payload and (base is None or base.raw != payload):
                nsset = m.namespaces.resolve(payload, base, time, self._made(process, time))
                fresh = self._life.begin(nsset, base, (pid, process.start), (pid, process.start))
            if tid != pid:
                threadsets.add(m, process, tid, nsset, time)
                self._inside.counted(None, nsset, time, ptid)
                self._timens.new_thread(process, tid, ptid)
                m.table.has_made(process, time, pid, tid)
                if nsset is not base:
                    self._life.changed(process, base, nsset, fresh, time, "clone", tid=tid)
            return
        creator = m.table.find(ppid)
        if creator is None or creator.end is not None:
            nsset = m.namespaces.resolve(payload, None, time) if payload else None
            m.add(Process(pid, time, State(time, UNKNOWN, nsset, NOT_KNOWN), None))
            m.confirmed = True
            m.ask(pid)
            return
        m.table.has_made(creator, time, pid, tid)
        state = creator.state
        base = state.nsset if ptid == ppid else creator.nsset_of(ptid)
        nsset = base
        if payload and (base is None or base.raw != payload):
            nsset = m.namespaces.resolve(payload, base, time, self._made(creator, time))
        origin = INHERITED if state.origin == OBSERVED else state.origin
        born = State(time, state.container, nsset, origin, state.login, state.entry, state.session)
        process = Process(pid, time, born, creator.cgroups)
        m.table.inherit(process, creator)
        apart = self._timens.forked(process, ptid, creator)
        if apart is not None:
            m.table.restate(process, process.state._replace(nsset=apart))
        if nsset is base and apart is None:
            m.add(process)
        else:
            self._born_apart(process, base, state.container, creator)
        m.table.newborn(process, not payload)
        m.table.confirm(process, creator.epoch)
        if creator.cgroups is None or creator.unresolved:
            m.ask(pid)  # it may live longer than its creator did when that was asked about
        nsset = process.state.nsset
        if nsset is not None and (ns := nsset.inst[PID]) is not None and not ns.initial:
            self._inside.counted(process, nsset, time, ptid)

    def _born_apart(
        self, process: Process, base: NsSet | None, creator: Container | None, maker: Process | None
    ) -> None:
        """A child whose namespaces are not those of ``maker``, which was in ``creator``: who owns them decides."""
        m = self._model
        nsset, time = process.state.nsset, process.start
        fresh: list[Instance] = []
        if nsset is not None:
            fresh = self._life.begin(nsset, base, (process.pid, process.start), process.creator)
            if process.entered_container is not None and (base is None or nsset.inst[MNT] is not base.inst[MNT]):
                m.table.entered(process, None)
        doubtful = maker is not None and m.doubts(maker)
        container = m.decide(process, nsset, creator, time, Doubt(unproven=doubtful, missed=doubtful))
        origin = NOT_KNOWN if container is UNKNOWN else OBSERVED
        state = process.state
        entry = state.entry
        if container is not state.container:
            entry = m.entries.of(process, state, m.entries.move(process, container, SETNS, time))
        state = State(state.since, container, state.nsset, origin, state.login, entry, state.session)
        m.table.restate(process, state)
        m.add(process)
        self._life.changed(process, base, nsset, fresh, time, "clone", creator=maker)

    def _made(self, creator: Process, time: int) -> int:
        """The types of which a child of ``creator`` cannot but have a new one where it differs: all that clone(2) makes
        at once. (A pid namespace may have been prepared by unshare or setns.) None where the creator's own namespaces
        are known from an answer of /proc that may be later than ``time``, or not for sure."""
        m = self._model
        return _CLONED if time > m.heard and creator.epoch == m.epoch else 0

    def _born_late(self, process: Process, payload: bytes) -> None:
        """The namespaces of a child, reported in a record of their own right behind its FORK."""
        m = self._model
        m.table.newborn(process, False)
        base = process.state.nsset
        if base is not None and base.raw == payload:
            return
        m.containers.leave(process.state.container, process.start)
        if base is not None:
            m.leave(base, process, process.pid, process.start)
        m.table.take_back(process)
        epoch, creator = process.epoch, process.state.container
        nsset = m.namespaces.resolve(payload, base, process.start, self._made(process, process.start))
        m.table.restate(process, process.state._replace(since=process.start, nsset=nsset, origin=NOT_KNOWN))
        maker = m.incarnation(*process.creator) if process.creator is not None else None
        self._born_apart(process, base, creator, maker)
        m.table.confirm(process, epoch)

    def exec(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        m = self._model
        process = m.ensure(pid, time)
        if process.threads is not None:
            self.leader_by_exec(process, ppid, time)
        moved = self._timens.executed(process, ppid, time)
        if moved is not None and moved is not process.state.nsset:
            m.move(process, moved, time)
        if cgroup:
            self._sampled(process, cgroup, time)
        m.execed(process, Exec(time, m.table.numbered(payload.partition(b"\0")[0]), process.comm, process.state))
        if process.own_since is None:
            self._inside.ran(process, time)

    def leader_by_exec(self, process: Process, old_tid: int, time: int) -> None:
        """A thread that execs becomes the leader, and is alone."""
        m = self._model
        threads = m.table.alone(process)
        nsset = process.state.nsset
        survivor = threads.get(old_tid, nsset) if old_tid != process.pid else nsset
        if survivor is not None and (survivor is not nsset or process.leader_gone):
            m.enter(survivor, process)
        if survivor is not nsset:
            m.table.change(process, process.state._replace(since=time, nsset=survivor))
        for tid, held in threads.items():
            m.table.together(process, tid, time)
            if held is not None:
                m.leave(held, process, tid, time)
        if survivor is not nsset and nsset is not None:
            m.leave(nsset, process, process.pid, time)
        m.table.leader_gone(process, False)

    def _sampled(self, process: Process, cgroup: int, time: int) -> None:
        """A sample reported the process's cgroup in its own context: nothing is nearer to the truth."""
        m = self._model
        path = m.cgroups.path_of.get(cgroup)
        if path is None:
            # a cgroup that no event has named: where the process is now, /proc must say
            m.ask(process.pid, cgroup)
            if not process.unresolved:
                if process.state.container is UNKNOWN:  # for another reason
                    m.table.replace(process, process.state._replace(since=time), after=True)
                m.table.unresolved(process, time)
            m.settle(process, time, NOT_KNOWN)
            return
        current = process.cgroups
        if current is None:
            if not m.v2_only and not m.cgroups.of(((m.sample_root, path),)).runtimes:
                return  # another hierarchy might tell more; the answer of /proc is on its way
            current = m.cgroups.root
        moved = m.cgroups.moved(current, m.sample_root, path)
        since, former = process.unresolved, process.cgroups
        m.table.unresolved(process, 0)
        if moved is former and not since:
            self._sampled_as(process, cgroup)
            return
        m.table.set_cgroups(process, moved)
        m.table.sampled(process, cgroup)
        m.resolved(process, since, former, time, OBSERVED, how=CGROUP)

    def _sampled_as(self, process: Process, cgroup: int) -> None:
        """Samples in the cgroup of ``process`` have that id, and so have those of its creator if it is there too."""
        if process.sampled == cgroup:
            return
        self._model.table.sampled(process, cgroup)
        creator = self._model.incarnation(*process.creator) if process.creator is not None else None
        if creator is not None and creator.cgroups is process.cgroups:
            self._model.table.sampled(creator, cgroup)

    def exit(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        m = self._model
        sampled = m.exits.left(tid)
        process = m.alive(pid)
        if process is None or process.start > time + SAME_START or not m.exits.real(process, tid, sampled):
            return
        if process.threads is None:
            if tid == pid:
                m.exits.end(process, time, proven=sampled)
            return
        if tid == pid:
            m.leader_left(process, time)
        else:
            threadsets.drop(m, process, tid, time)
        if not process.threads:
            m.table.alone(process)
            if process.leader_gone:
                m.end(process, time)

    def exit_sample(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        m = self._model
        m.exits.sampled.add(tid)
        process = m.alive(pid)
        if process is None:
            return
        if process.unresolved and cgroup:
            self._sampled(process, cgroup, time)
        # the kernel lets go of its namespaces between this moment and the EXIT event: their inodes may be another's by
        # then. What it was in stays known until it ends.
        nsset = process.nsset_of(tid)
        if nsset is not None:
            m.leave(nsset, process, tid, time)

    def comm(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        m = self._model
        process = m.alive(pid)
        if process is None:
            return
        if arg and process.threads and not self.exec_samples:
            self.leader_by_exec(process, next(iter(process.threads)) if process.leader_gone else pid, time)
        if tid == pid or arg:
            m.table.comm(process, payload.partition(b"\0")[0])
        if arg and not m.moves_reported:
            self._may_have_moved(process, time)

    def _may_have_moved(self, process: Process, time: int) -> None:
        """``process`` has run a program, before which it may have been moved: /proc is asked. One of a container stays
        its until then, but not the first one of a sandbox: a runtime moves it into the container's cgroup before."""
        m = self._model
        m.ask(process.pid)
        container = process.state.container
        if container is None or (
            container.sandbox is not None and container.sandbox.first == (process.pid, process.start)
        ):
            m.table.set_cgroups(process, None)
            m.settle(process, time, NOT_KNOWN)

    def unshared(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """unshare(2) or setns(2) by one task."""
        m = self._model
        process = m.ensure(pid, time)
        call = self._timens.called(tid)
        if process.newborn and tid == pid and call is None:
            self._born_late(process, payload)
            return
        base = process.nsset_of(tid)
        same = base is not None and base.raw == payload
        if same and base is not None:
            nsset = base
        else:
            made = _ALL if call is not None and call.kind == f.K_UNSHARE and self._made(process, time) else 0
            nsset = m.namespaces.resolve(payload, base, time, made)
        nsset = self._timens.after_call(process, tid, call, base, nsset, time)
        if nsset is base:
            return
        who = (pid, process.start)
        entered = call is not None and call.kind == f.K_SETNS  # what was not known was there before all the same
        fresh = self._life.begin(nsset, base, who, None if entered else who)
        former = process.state
        joined = nsset.inst[MNT]
        if joined is not None and (joined in fresh or joined.initial or (base and base.inst[MNT] is joined)):
            joined = None
        inside = self.sole_container(joined) if joined is not None else None
        m.enter(nsset, process, tid)
        if tid != pid and process.threads is not None:
            m.table.thread(process, tid, nsset)
            m.table.moved(process, tid, nsset, time)
        else:
            if base is None or nsset.inst[MNT] is not base.inst[MNT]:
                m.table.entered(process, inside)
            m.doubt_owner(process, base)
            m.table.change(process, former._replace(since=time, nsset=nsset))
            m.table.leader_moved(process, time)
            if base is None or former.origin != OBSERVED or m.doubts(process) or looked_at(m.containers, base, nsset):
                m.settle(process, time, OBSERVED, how=SETNS)
        if base is not None:
            m.namespaces.leave(base, tid, time)
        reason = call.reason if call is not None else "unshare" if fresh else "setns"
        self._life.changed(process, base, nsset, fresh, time, reason, tid=tid, state=former)

    def sole_container(self, mnt: Instance) -> Container | None:
        """The container that every living process in a mount namespace belongs to; the host where they differ."""
        m = self._model
        found: set[Container | None] = set()
        for nsset in m.namespaces.sets_of(mnt):
            for tid in nsset.members:
                found.add(self._container_of(tid))
                if len(found) > 1:
                    return UNKNOWN if UNKNOWN in found else None
        return found.pop() if found else None

    def _container_of(self, member: int) -> Container | None:
        """The container that a member of a set of namespaces belongs to."""
        m = self._model
        if member < 0:
            profile = m.table.profiles[-member]
            return profile.state.container if profile is not None else UNKNOWN
        process = m.threads.get(member) or m.processes.get(member)
        return process.state.container if process is not None else UNKNOWN

    def cgroup(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        m = self._model
        paths = m.cgroups.path_of
        if len(paths) >= _MAX_CGROUPS:
            m.table.forget_cgroup(oldest := next(iter(paths)))
            del paths[oldest]
        path = payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        if paths.get(cgroup, path) != path:
            m.table.forget_cgroup(cgroup)
        paths[cgroup] = path

    def attach(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        m = self._model
        process = m.alive(tid)
        if process is None or tid in m.threads:
            return  # a thread moved alone, or a process that an answer of /proc will tell of
        path = payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        if process.cgroups is None and not m.v2_only:
            # an answer that was read before this move must not be taken for what came of it
            m.table.replace(process, process.state._replace(since=time), after=True)
            m.ask(tid)
            return
        m.table.set_cgroups(process, m.cgroups.moved(process.cgroups or m.cgroups.root, arg, path))
        if arg == m.sample_root:
            m.table.unresolved(process, 0)
        m.settle(process, time, OBSERVED, how=CGROUP)

    def newtask(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        m = self._model
        process = m.alive(tid)
        if process is None:
            return
        m.table.clone_parent(process, bool(arg & CLONE_PARENT))
        if arg & CLONE_NEWTIME:
            m.swap_set(process, self._timens.cloned(process) or process.state.nsset, time)
        if not arg & CLONE_INTO_CGROUP:
            return
        m.table.unresolved(process, process.start)
        former = process.state.container
        m.rewrite(process, UNKNOWN, NOT_KNOWN, process.state.entry)
        m.containers.leave(former, time)
        m.ask(tid)

    def ignored(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """What changes nothing about who a process is."""

    def call(
        self, kind: int, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        m = self._model
        self._timens.call(kind, tid, arg)
        m.calls.entered(pid, time)
