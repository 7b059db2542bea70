"""Without perf: processes by the proc connector, PROC_EVENT_NM and /proc.

Three things are not reported there, and decide the rules below: whom a new process comes from, moves between cgroups,
and (even by PROC_EVENT_NM) user and time namespaces.

* FORK names the *parent*. Under CLONE_PARENT, which runc uses, the true creator is one of the parent's children. So the
  parent and all its living children are possible creators, and what they do not agree about is unknown. A process whose
  own parent has ended may have become anybody's child until /proc shows whose.
* After FORK and EXEC, and after a change of namespaces, /proc is asked. Until it answers the process is unknown, save
  one that was born in a container, and one of the host that changes namespaces which make no container. An answer holds
  from the event it was asked for; it is not used where something happened to the process in between.
* PROC_EVENT_NM tells changes as they happen. Its type pid is the namespace of children: they are born there.
* Where changes of namespaces are not reported at all (sources audit and procfs) only an answer tells them.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.model import thread_namespaces as threadsets
from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.entries import NOT_SEEN, SETNS
from auditns_connector.model.places import UNKNOWN, Container, Instance, NsSet
from auditns_connector.model.process import INHERITED, NOT_KNOWN, PROCFS, Exec, Process, State
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import (
    ALL_ORDER,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    FLAGS,
    INDEX,
    MNT,
    NAMES,
    PERF_ORDER,
    PID,
    USER,
)  # fmt: skip

if TYPE_CHECKING:
    from auditns_connector.model.apply.namespace_life import NsLife
    from auditns_connector.model.apply.perf import KernelEvents
    from auditns_connector.model.tables import Tables

_CLONE: Final = 1
_MAX_ASKED: Final = 65536
_FLAGS: Final = tuple(FLAGS[name] for name in ALL_ORDER)
_ALL: Final = sum(_FLAGS)
_NOTHING: Final[tuple[Instance | None, ...]] = (None,) * len(ALL_ORDER)


class _Asked(NamedTuple):
    """From ``since`` on ``process`` is not known for sure: before it was in ``base`` and in ``container``, or one of
    ``makers`` was when it made it; ``reason`` is what a change of namespaces would be called, where that is known.

    ``process`` counts as living in ``base`` until the answer comes, so that nothing ends meanwhile that goes on."""

    process: Process
    since: int
    base: NsSet | None
    container: Container | None
    makers: tuple[Process, ...]
    reason: str

    def creator(self) -> Container | None:
        """The container that decides to whom a new namespace of the process belongs."""
        if not self.makers:
            return self.container
        born = self.process.start
        found = {next(iter(maker.states(born, born)), maker.state).container for maker in self.makers}
        return found.pop() if len(found) == 1 else UNKNOWN


def _without_unreported(insts: Sequence[Instance | None]) -> tuple[Instance | None, ...]:
    """``insts`` without those of types whose changes NM does not tell: user, and what perf does not know either."""
    return tuple(None if index == USER or index >= len(PERF_ORDER) else inst for index, inst in enumerate(insts))


class ByConnector:
    """Handlers for frames of the connector, and of audit's word on system calls, in a model without perf."""

    def __init__(self, model: "Tables", life: "NsLife", kernel: "KernelEvents") -> None:
        self._model = model
        self._life, self._kernel = life, kernel
        #: PROC_EVENT_NM is had
        self.nm = False
        self._parent: dict[int, int] = {}
        self._children: dict[int, set[int]] = {}
        self._orphans: set[int] = set()
        self._asked: dict[int, _Asked] = {}
        #: by thread: the inode of the pid namespace its children are born into, where that is not its own
        self._pid_children: dict[int, tuple[Process, int]] = {}
        self.handlers: dict[int, Callable[..., None]] = {
            f.K_FORK: self._fork,
            f.K_EXEC: self._exec,
            f.K_NM: self._nm,
            f.K_UNSHARE: self._unshare,
            f.K_SETNS: self._setns,
        }

    # -- parents

    def has_parent(self, pid: int, ppid: int) -> None:
        """``ppid`` is the parent of ``pid`` now."""
        former = self._parent.get(pid)
        if former is not None and former != ppid:
            self._children.get(former, set()).discard(pid)
        self._parent[pid] = ppid
        self._children.setdefault(ppid, set()).add(pid)
        self._orphans.discard(pid)

    def ended(self, process: Process) -> None:
        """``process`` is gone: its children get another parent, /proc knows which."""
        pid = process.pid
        self._children.get(self._parent.pop(pid, 0), set()).discard(pid)
        self._orphans.discard(pid)
        self._pid_children.pop(pid, None)
        asked = self._asked.get(pid)
        if asked is not None and asked.process is process and asked.base is not None:
            self._model.namespaces.leave(asked.base, pid, process.end or 0)
        for child in sorted(self._children.pop(pid, ())):
            self._parent.pop(child, None)
            self._orphans.add(child)
            self._model.ask(child)

    def children(self, pid: int) -> list[Process]:
        """The living processes whose parent ``pid`` is."""
        return [child for one in sorted(self._children.get(pid, ())) if (child := self._model.alive(one)) is not None]

    def _makers(self, ppid: int) -> list[Process]:
        """Who may have made a process whose parent is ``ppid``; empty where that cannot be said."""
        alive = self._model.alive
        parent = alive(ppid)
        if parent is None or parent.placeholder:
            return []
        others = self._children.get(ppid, set()) | self._orphans
        return [parent, *(maker for pid in sorted(others) if pid != ppid and (maker := alive(pid)) is not None)]

    def _born_into(self, makers: list[Process], time: int) -> NsSet | None:
        """The namespaces of a child of one of ``makers``, ``None`` in the places where they differ."""
        if not self.nm or not makers:
            return None
        namespaces = self._model.namespaces
        common: list[Instance | None] | None = None
        for maker in makers:
            for tid in (maker.pid, *(maker.threads or ())):
                nsset = maker.nsset_of(tid)
                insts = list(nsset.inst if nsset is not None else _NOTHING)
                entry = self._pid_children.get(tid)
                if entry is not None and entry[0] is maker:
                    insts[PID] = namespaces.find(PID, namespaces.dev, entry[1], time) if entry[1] else None
                if common is None:
                    common = insts
                else:
                    common = [one if one is other else None for one, other in zip(common, insts, strict=True)]
        common = common or list(_NOTHING)
        return namespaces.intern(_without_unreported(common))  # clone may have made new ones

    def _last_seen(self, process: Process) -> NsSet | None:
        """The namespaces of ``process``, those before its doubt where that is not over."""
        nsset, asked = process.state.nsset, self._asked.get(process.pid)
        before_doubt = asked.base if asked is not None and asked.process is process else None
        if nsset is None or before_doubt is None:
            return nsset or before_doubt
        pairs = zip(nsset.inst, before_doubt.inst, strict=True)
        return self._model.namespaces.intern(tuple(now if now is not None else before for now, before in pairs))

    # -- events

    def _fork(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        model = self._model
        if tid != pid:
            process = model.ensure(pid, time)
            threadsets.add(model, process, tid, process.state.nsset if process.same_namespaces() else None)
            if any(other in self._pid_children for other in (pid, *(process.threads or ()))):
                self._pid_children[tid] = (process, 0)
            return
        makers = self._makers(ppid)
        containers = {maker.state.container for maker in makers}
        container = containers.pop() if len(containers) == 1 else UNKNOWN
        inherited = container if container is not None else UNKNOWN
        nsset = self._born_into(makers, time)
        origin = NOT_KNOWN if inherited is UNKNOWN else INHERITED
        common = {(maker.state.entry, maker.state.session) for maker in makers}
        entry, session = common.pop() if len(common) == 1 and inherited is not UNKNOWN else (None, None)
        process = Process(pid, time, State(time, inherited, nsset, origin, entry=entry, session=session), None)
        if makers:
            first = makers[0]
            table = model.table
            table.confirm(process, first.epoch)
            table.comm(process, first.comm)
            table.register(process, first.registered)
            table.entered(
                process,
                None
                if any(maker.entered_container is not first.entered_container for maker in makers)
                else first.entered_container,
            )
            if inherited is not UNKNOWN:
                table.set_cgroups(process, first.cgroups)
            # a registration cannot be read from /proc: where the makers differ in it nobody will ever know
            unresolved = any(maker.registered is not first.registered or maker.unresolved for maker in makers)
            table.unresolved(process, time if unresolved else 0)
        model.add(process)
        self.has_parent(pid, ppid)
        base = self._last_seen(makers[0]) if makers else None
        if base is not None:
            model.namespaces.enter(base, pid)
        self._ask(_Asked(process, time, base, UNKNOWN, tuple(makers), ""))

    def _exec(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        model = self._model
        process = model.ensure(pid, time)
        if process.threads is not None:
            if not process.same_namespaces():  # nobody says which thread is left
                for held in list(process.threads.values()):
                    if held is not process.state.nsset:
                        self._place(process, None, UNKNOWN, NOT_KNOWN, time)
            self._kernel.leader_by_exec(process, 0, time)
            self._pid_children.pop(pid, None)
        self._doubt(process, time, "")
        model.table.comm(process, b"")  # the connector does not tell the new one
        model.execed(process, Exec(time, model.table.numbered(b""), b"", process.state))

    def _unshare(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """An audit record of unshare, whose flags are in ``arg`` (0: not known). Its pid and time namespaces are those
        of its children."""
        self._called(pid, time, (arg or _ALL) & ~(CLONE_NEWPID | CLONE_NEWTIME), joins=False)

    def _setns(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """The same of setns; 0: any type."""
        self._called(pid, time, (arg or _ALL) & ~CLONE_NEWPID, joins=True)

    def _called(self, pid: int, time: int, types: int, *, joins: bool) -> None:
        """Process ``pid`` may be in other namespaces of ``types`` (CLONE_NEW* flags) since ``time``; where it ``joins``
        somebody's mount namespace it may be that one's."""
        process = self._model.alive(pid)
        if process is None:
            return
        present = process.state.nsset
        nsset = None
        if present is not None and types & _ALL != _ALL and not (joins and types & CLONE_NEWNS):
            insts = (None if flag & types else inst for inst, flag in zip(present.inst, _FLAGS, strict=True))
            nsset = self._model.namespaces.intern(tuple(insts))
        self._doubt(process, max(time, process.state.since), "unshare", nsset)

    def _nm(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        model = self._model
        if not self.nm:
            return  # another source was chosen, and tells the same
        reason, _, _, ino = f.NM_PAYLOAD.unpack_from(payload)
        if arg not in NAMES:
            model.unknown_frames += 1
            return
        index = INDEX[NAMES[arg]]
        process = model.ensure(pid, time)
        if index == PID:
            self._pid_children[tid] = (process, ino)
            if reason != _CLONE:
                self._doubt(process, time, "unshare")  # a user namespace may have come with it
                return
        base = process.nsset_of(tid)
        insts = list(base.inst if base is not None else _NOTHING)
        inst = insts[index] = model.namespaces.find(index, model.namespaces.dev, ino, time)
        if index == MNT:
            joined = inst.live and not inst.initial
            via = self._kernel.sole_container(inst) if joined and reason != _CLONE else None
            model.table.entered(process, via)
        insts[USER] = None
        nsset = model.namespaces.intern(tuple(insts))
        since = process.start if reason == _CLONE else time
        former = process.state
        fresh = self._life.begin(nsset, base, (pid, process.start), (pid, process.start))
        if tid != pid and process.threads is not None:
            threadsets.put(model, process, tid, nsset, time)
        else:
            self._doubt(process, since, "clone" if reason == _CLONE else "unshare", nsset)
        call = "clone" if reason == _CLONE else "unshare" if inst in fresh else "setns"
        self._life.changed(process, base, nsset, fresh, time, call, tid=tid, state=former, source="nm")

    # -- doubts and answers

    def _ask(self, asked: _Asked) -> None:
        if len(self._asked) >= _MAX_ASKED:
            self._release(self._asked.pop(next(iter(self._asked))))
        self._asked[asked.process.pid] = asked
        self._model.ask(asked.process.pid)

    def _doubt(self, process: Process, since: int, reason: str, nsset: NsSet | None = None) -> None:
        """From ``since`` on it is not known where ``process`` is, save for ``nsset`` and for being in a container."""
        state = process.state
        former = self._asked.get(process.pid)
        if former is not None and former.process is process:
            asked = former._replace(since=since, reason=reason or former.reason)
        else:
            asked = _Asked(process, since, state.nsset, state.container, (), reason)
        if nsset is None and self.nm and state.nsset is not None:
            nsset = self._model.namespaces.intern(_without_unreported(state.nsset.inst))
        inside: Container | None = state.container if state.container is not None else UNKNOWN
        if nsset is not None and state.container is not UNKNOWN and reason:
            # what it was moved to no event tells, with or without this one; an exec is what comes behind such a move
            decided = self._model.decide(process, nsset, state.container, since)
            inside = inside if decided is UNKNOWN else decided
        origin = state.origin if inside is not UNKNOWN else NOT_KNOWN
        self._place(process, nsset, inside, origin, since, held=asked.base)
        self._ask(asked)

    def answered(self, process: Process, time: int, nsset: NsSet | None, cgroups: CgroupSet | None) -> None:
        """/proc has shown ``process`` at ``time``."""
        model = self._model
        asked = self._in_question(process, time)
        if asked is None:
            return
        if cgroups is not None:
            model.table.set_cgroups(process, cgroups)
        base = asked.base if nsset is None else self._unreported(process, asked.base)
        nsset = nsset or process.state.nsset
        container = model.decide(process, nsset, asked.creator(), asked.since)
        state = process.state
        if nsset is state.nsset and container is state.container:
            self._release(asked)
            return
        origin = NOT_KNOWN if container is UNKNOWN else state.origin if container is state.container else PROCFS
        fresh = self._life.begin(nsset, base, (process.pid, process.start), None) if nsset is not None else []
        how = SETNS if asked.reason == SETNS else NOT_SEEN
        self._place(process, nsset, container, origin, asked.since, held=asked.base, how=how)
        self._release(asked)

        def answered(state: State, at: int) -> State:
            if at < asked.since:
                return state
            return state._replace(container=container, nsset=nsset, origin=origin)

        model.table.amend_execs(process, answered)
        if nsset is not None and base is not None:
            self._tell_change(asked, base, nsset, fresh)

    def _in_question(self, process: Process, time: int) -> _Asked | None:
        """What an answer of ``time`` about ``process`` answers; ``None`` where something has happened behind it."""
        asked = self._asked.get(process.pid)
        if asked is None or asked.process is not process:
            return _Asked(process, time, process.state.nsset, process.state.container, (), "")
        if asked.since > time:
            if process.end is None:
                self._model.ask(process.pid)
            return None
        del self._asked[process.pid]
        return asked

    def _unreported(self, process: Process, base: NsSet | None) -> NsSet | None:
        """``base`` without what NM has reported for ``process`` already; left are the types it does not report."""
        if base is None or not self.nm or process.state.nsset is None:
            return base
        pairs = zip(process.state.nsset.inst, base.inst, strict=True)
        return self._model.namespaces.intern(tuple(own if own is not None else old for own, old in pairs))

    def _tell_change(self, asked: _Asked, base: NsSet, nsset: NsSet, fresh: Sequence[Instance]) -> None:
        """The process of ``asked`` went from ``base`` to ``nsset``, in which the ``fresh`` ones are new."""
        pairs = zip(nsset.inst, base.inst, strict=True)
        before = tuple(new if old is None and new not in fresh else old for new, old in pairs)
        reason = asked.reason or "unknown"
        if not fresh and reason == "unshare":
            reason = "setns"
        former = self._model.namespaces.intern(before)
        self._life.changed(asked.process, former, nsset, fresh, asked.since, reason, source="procfs")

    def _release(self, asked: _Asked) -> None:
        """The process of ``asked`` lives where its state says, and nowhere else."""
        process, base = asked.process, asked.base
        if process.end is None and base is not None and base is not process.state.nsset:
            self._model.namespaces.leave(base, process.pid, self._model.now)

    def _place(
        self,
        process: Process,
        nsset: NsSet | None,
        container: Container | None,
        origin: str,
        since: int,
        held: NsSet | None = None,
        how: str = NOT_SEEN,
    ) -> None:
        """``process`` is in ``nsset`` and belongs to ``container`` since ``since``; it stays a member of ``held``. It
        may have entered that is reported with ``how``."""
        model, state = self._model, process.state
        entry = state.entry
        if container is not state.container:
            entry = model.entries.of(process, state, model.entries.move(process, container, how, since))
        if process.end is None:
            model.containers.enter(container)
            model.containers.leave(state.container, since)
            if nsset is not None and nsset is not state.nsset:
                model.enter(nsset, process)
            if state.nsset is not None and state.nsset is not nsset and state.nsset is not held:
                model.namespaces.leave(state.nsset, process.pid, since)
        new = State(max(since, state.since), container, nsset, origin, state.login, entry, state.session)
        model.table.replace(process, new, after=state.since < since)
