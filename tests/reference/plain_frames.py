"""The readable rules of plain frames, against which the table in C (cdefs/table/apply.c) is held.

A model made by :func:`reference` applies every frame in Python, one by one, by the rules that stand here: a copy of its
own, so that a change of the product's is noticed until it is made here too. :func:`dump` is all that a model knows, in
words that do not depend on where it is kept.
"""

from typing import Any

from auditns_connector.model import thread_namespaces as threadsets
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.perf import CLONE_INTO_CGROUP, CLONE_PARENT, KernelEvents
from auditns_connector.model.places import UNKNOWN, Container, Instance, NsSet
from auditns_connector.model.process import INHERITED, NOT_KNOWN, OBSERVED, Exec, Process, State
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWTIME, PID
from auditns_connector.vocabulary.timing import SAME_START


class PlainFrames(KernelEvents):
    """FORK, EXEC, EXIT and its sample, COMM and NEWTASK; what is not plain about them is the product's."""

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
        creator = m.processes.get(ppid)
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
        process = Process(pid, time, state._replace(since=time, nsset=nsset, origin=origin), creator.cgroups)
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
            m.ask(pid)
        nsset = process.state.nsset
        if nsset is not None and (ns := nsset.inst[PID]) is not None and not ns.initial:
            self._inside.counted(process, nsset, time, ptid)

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
        m.table.execed(process, Exec(time, m.table.numbered(payload.partition(b"\0")[0]), process.comm, process.state))
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


def reference() -> Model:
    """A model that packs nothing and goes by the rules above."""
    model = Model()
    model.packs = False
    rules = model.kernel = PlainFrames(model, model.life, model.timens, model.inside)
    model._handlers.update(
        {
            f.K_FORK: rules.fork, f.K_EXEC: rules.exec, f.K_EXIT: rules.exit, f.K_EXIT_SAMPLE: rules.exit_sample,
            f.K_COMM: rules.comm, f.K_NEWTASK: rules.newtask,
        }
    )  # fmt: skip
    return model


# -- what a model knows


def _container(container: Container | None) -> object:
    return None if container is None else "?" if container is UNKNOWN else container.key


def _instance(inst: Instance | None) -> object:
    return None if inst is None else (inst.number, inst.ino, inst.born)


def _set(nsset: NsSet | None) -> object:
    return None if nsset is None else tuple(map(_instance, nsset.inst))


def _state(state: State) -> object:
    return state.since, _container(state.container), _set(state.nsset), state.origin, state.login


def _exec(exec_: Exec) -> object:
    # since when the state held is the row's to say, whose state may have been taken up again after the exec
    return exec_.time, exec_.file, exec_.comm, _state(exec_.state._replace(since=0))


def process(model: Model, one: Process) -> dict[str, Any]:
    """All about one process but its threads."""
    return {
        "pid": one.pid, "start": one.start, "end": one.end, "state": _state(one.state),
        "past": [_state(state) for state in one.past or ()], "execs": [_exec(exec_) for exec_ in one.execs or ()],
        "execs_lost": one.execs_lost, "file": model.table.name(one.file), "session": one.state.session,
        "ran": (one.ran_at, model.table.name(one.exe), model.ancestry.describe(model.ancestry.of(one))),
        "parents": [kin and (*kin[:4], model.ancestry.describe(kin)) for kin in model.ancestry.line(one)],
        "entry": one.state.entry and (one.state.entry.id, one.state.entry.how, one.state.entry.parents),
        "cgroups": None if one.cgroups is None else one.cgroups.paths, "sampled": one.sampled, "comm": one.comm,
        "creator": one.creator, "made": model.table.made(one), "floor": one.not_before, "epoch": one.epoch,
        "registered": _container(one.registered), "via": _container(one.entered_container), "own_since": one.own_since,
        "flags": (one.clone_parent, one.leader_gone, one.newborn, one.placeholder, one.scanned, one.unresolved),
        "inside": one.inside, "nspid": one.nspid,
        "apart": [(apart.tid, _set(apart.nsset), apart.since, apart.until) for apart in one.thread_namespaces or ()],
    }  # fmt: skip


def processes(model: Model) -> list[dict[str, Any]]:
    """All about all of them, in order, the former holders of a pid behind the newest."""
    out = []
    for newest in model.processes.values():
        one: Process | None = newest
        while one is not None:
            out.append(process(model, one))
            one = one.prev
    return out


def namespaces(model: Model) -> list[object]:
    """Every namespace that is remembered, and who lives there."""
    all_ = {inst.number: inst for by_inode in model.namespaces.current for inst in by_inode.values()}
    all_ |= {inst.number: inst for inst, _ in model.namespaces.died} | model.namespaces.unproven_ends
    return [
        (
            number, inst.ino, inst.born, inst.ended, inst.serial, inst.first, inst.creator, _instance(inst.origin),
            _container(inst.owner), sorted({tid for nsset in inst.sets for tid in model.namespaces.tasks(nsset)}),
        )
        for number, inst in sorted(all_.items())
    ]  # fmt: skip


def containers(model: Model) -> list[object]:
    """Every container alive."""
    return sorted(
        (container.key, container.contid or 0, container.live > 0, container.ended or 0)
        for container in model.containers.by_key.values()
    )


def outputs(model: Model) -> list[object]:
    """What the model has told, in order."""
    out: list[object] = []
    for output in model.outputs:
        fields: list[object] = [type(output).__name__]
        for value in output:
            if isinstance(value, Process):
                value = (value.pid, value.start)
            elif isinstance(value, Instance):
                value = _instance(value)
            elif isinstance(value, State):
                value = _state(value)
            elif isinstance(value, NsSet):
                value = _set(value)
            elif isinstance(value, Container):
                value = _container(value)
            fields.append(value)
        out.append(tuple(fields))
    return out


def dump(model: Model) -> dict[str, Any]:
    """All that ``model`` knows, has told and wants to ask."""
    return {
        "processes": processes(model), "namespaces": namespaces(model), "containers": containers(model),
        "outputs": outputs(model), "queries": list(model.queries), "dead": [p.pid for p in reversed(model.dead)],
        "now": model.now, "sampled": [tid for tid in range(1, 400) if tid in model.exits.sampled],
        "confirmed": model.confirmed, "epoch": model.epoch, "unknown": model.unknown_frames,
    }  # fmt: skip


def held(model: Model) -> dict[str, Any]:
    """The same where nothing is packed any more, with what only then can be seen: threads and counts."""
    model.table.hold_all()
    return dump(model) | {
        "threads": {tid: process.pid for tid, process in sorted(model.threads.held.items())},
        "tasks": {p.pid: {t: _set(s) for t, s in (p.threads or {}).items()} for p in model.processes.values()},
        "members": sorted((str(_set(s)), sorted(s.members)) for s in model.namespaces._sets.values() if s.members),
        "live": sorted((c.key, c.live) for c in model.containers.by_key.values()),
    }
