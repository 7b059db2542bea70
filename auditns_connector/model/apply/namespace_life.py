"""How namespaces come and go: beginnings, changes and ends as outputs, and what the kernel says of their identity.

The first task that an event shows in an instance begins it; the departure of the last one is reported as such. Whether
the namespace is then gone is the kernel's word (NSGONE), or cannot be known: it may be held by a bind mount or a
descriptor. Where a task enters an inode whose former instance may live on, the kernel's id says whether it is the same
(NSID).

Where the kernel lists namespaces (NSLIST), those that no task is in are known too, and what no event tells of: a mount
namespace of open_tree(2) or fsmount(2) begins with nobody in it. Who made such a one is not known.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from auditns_connector.model.outputs import NsChange, NsDel, NsInit, NsLeft
from auditns_connector.model.places import MINTED, UNKNOWN, Instance, NsSet
from auditns_connector.model.process import NOT_KNOWN, Process, State
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER, PID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from auditns_connector.model.places import Container
    from auditns_connector.model.tables import Tables

#: answers of a NSGONE frame
GONE, HELD, UNKNOWN_END = 0, 1, 2
_ROW = f.NSLIST_ROW.size


def nsid(inst: Instance, serial: int, now: int, pid: int = 0) -> bytes:
    """The NSID frame that gives ``inst`` its serial, as asked through thread ``pid`` before ``now``."""
    ino = inst.ino.to_bytes(8, "little")
    return f.pack(f.K_NSID, f.S_PROCFS, now, pid=pid, ppid=inst.index, cgroup=inst.number, arg=serial, payload=ino)


def _ino(payload: bytes) -> int:
    return int.from_bytes(payload[:8], "little")


def _meant(inst: Instance, index: int, payload: bytes) -> bool:
    """Whether a frame that names type and inode (where it has a payload) is about ``inst``."""
    return inst.index == index and _ino(payload) in (0, inst.ino)


def _nothing(_: int) -> None:
    """All are here."""


def _none(index: int, ino: int) -> bool:
    """All are here."""
    return False


class NsLife:
    """The life of namespaces in ``model``. Outputs are made where ``model.lifecycle`` is set."""

    def __init__(self, model: "Tables") -> None:
        self._model = model
        #: who left it last, by number of a namespace
        self._last: dict[int, Process] = {}
        #: by index of a type: the kernel has listed those namespaces that no event has shown
        self._listed = [False] * len(ALL_ORDER)
        #: has the instance of a number here, see lives.py
        self.fetch_number: Callable[[int], None] = _nothing
        #: whether one with an inode of a type is there alone whose beginning was reported and that has a minted serial
        self.was_begun: Callable[[int, int], bool] = _none

    def forget(self, inst: Instance) -> None:
        """Nobody asks for ``inst`` any more."""
        self._last.pop(inst.number, None)

    def left_last(self, inst: Instance, process: Process) -> None:
        """``process`` left ``inst`` last."""
        self._last[inst.number] = process

    # -- events

    def begin(
        self, nsset: NsSet, base: NsSet | None, first: tuple[int, int], creator: tuple[int, int] | None
    ) -> list[Instance]:
        """The instances of ``nsset`` in which nobody was known before ``first`` (pid, start); ``creator`` made them."""
        fresh = []
        for index, inst in enumerate(nsset.inst):
            if inst is not None and inst.first is None:
                fresh.append(inst)
                inst.first = first
                inst.creator = creator
                inst.origin = base.inst[index] if base is not None and index == PID else None
        return fresh

    def changed(
        self, process: Process, base: NsSet | None, nsset: NsSet | None, fresh: "Sequence[Instance]", time: int,
        reason: str, *, tid: int = 0, creator: Process | None = None, state: State | None = None, source: str = "perf",
    ) -> None:  # fmt: skip
        """``process`` (or its thread ``tid``) went from ``base`` to ``nsset``; called when it has left ``base``.

        ``creator`` made the ``fresh`` ones (None: the process itself) while in ``state``.
        """
        if not self._model.lifecycle or nsset is None:
            return
        maker, thread = creator or process, tid if tid != process.pid else 0
        for index, inst in enumerate(nsset.inst):
            old = base.inst[index] if base is not None else None
            if inst is not None and inst is not old:
                begun = inst in fresh and reason != "setns"
                self._tell(process, old, inst, time, reason, thread, source, (maker, state or maker.state), begun)

    def went(self, process: Process, old: Instance | None, inst: Instance, time: int, reason: str, source: str) -> None:
        """``process`` has gone from ``old`` to ``inst``, as concluded from ``source``."""
        who = (process.pid, process.start)
        maker = process
        if reason == "clone" and process.creator is not None:
            maker = self._model.incarnation(*process.creator) or process
        begun = inst.creator is None and inst.first in (None, who) and reason != "setns" and not inst.initial
        if begun:
            inst.first, inst.creator = who, (maker.pid, maker.start)
        if self._model.lifecycle:
            self._tell(process, old, inst, time, reason, 0, source, (maker, maker.state), begun)

    def _tell(
        self, process: Process, old: Instance | None, inst: Instance, time: int, reason: str, tid: int, source: str,
        made: tuple[Process, State], begun: bool,
    ) -> None:  # fmt: skip
        tell = self._model.tell
        if begun and not inst.reported:
            inst.reported = True
            tell(NsInit(time, inst, old, *made, made[0].comm))
            self._model.ask(made[0].pid)
        last = old is not None and not old.sets and not old.initial and old.ended == time
        exe = self._model.ancestry.program(process)
        tell(NsChange(time, inst, old, process, process.state, reason, tid, source, last, process.comm, exe))
        if last and old is not None:
            self._vacated(old, process, time)

    def left(self, process: Process, vacated: "Sequence[Instance]", time: int, tid: int = 0) -> None:
        """The last task of each of ``vacated`` has exited: thread ``tid`` (0: the leader) of ``process``."""
        if not self._model.lifecycle:
            return
        thread = tid if tid != process.pid else 0
        for inst in vacated:
            self._model.tell(NsLeft(time, inst, process, process.state, thread, process.comm))
            self._vacated(inst, process, time)

    def _vacated(self, inst: Instance, process: Process, time: int) -> None:
        self._last[inst.number] = process
        if inst.serial is not None and not inst.has_kernel_id:
            self._model.tell(NsDel(time, inst, None, process))

    # -- answers

    def nsid(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """NSID: the serial ``arg`` (0: mint one) for the instance whose number is ``cgroup``, asked before ``time``."""
        namespaces = self._model.namespaces
        self.fetch_number(cgroup)
        inst = namespaces.unnumbered.get(cgroup)
        if inst is None or not _meant(inst, ppid, payload):
            if cgroup <= namespaces.forgotten:
                return  # who has that inode now is another
            # a replay may begin in the middle, and number the instances otherwise
            inst = namespaces.current[ppid].get(_ino(payload)) if 0 <= ppid < len(namespaces.current) else None
            if inst is None or inst.serial is not None:
                return
        former, inst.possible_predecessor = inst.possible_predecessor, None
        same = former is not None and arg != 0 and arg == former.serial
        if 0 < arg < MINTED and not same and inst.ended is not None and inst.ended <= time:
            arg = 0  # asked too late: the inode may have been another's by then
        other = namespaces.serials.get(arg)
        if other is not None and other is not inst and arg < MINTED:
            namespaces.join(inst, other)
            self._joined(inst, other, time)
        else:
            namespaces.give(inst, arg)
            self._unreported(inst)
            if former is not None and former is not other and inst.has_kernel_id:
                self._proven(former, time)  # its inode is another's now
        if self._model.lifecycle and inst.ended is not None and not inst.has_kernel_id:
            self._model.tell(NsDel(inst.ended, inst, None, self._last.get(inst.number)))

    def _unreported(self, inst: Instance) -> None:
        """``inst`` has got its serial. If somebody came into it by setns, and it was in no list of the kernel's, it
        began since the last one, with nobody in it."""
        model = self._model
        if not (model.lifecycle and inst.has_kernel_id and self._listed[inst.index]) or inst.reported or inst.initial:
            return
        outputs = model.outputs
        for at, output in enumerate(outputs):
            if isinstance(output, NsChange) and output.inst is inst and inst.creator is None:
                if output.reason == "setns":
                    outputs.insert(at, self._began(inst, output.time))
                return

    def _began(self, inst: Instance, time: int) -> NsInit:
        """``inst`` has begun before ``time``, and no event has shown how."""
        inst.reported = True
        return NsInit(time, inst, None, None, State(time, UNKNOWN, None, NOT_KNOWN))

    def listed(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """NSLIST: a list of the kernel's, asked after ``time``; ``pid`` has a bit for each type that it is of."""
        namespaces, news = self._model.namespaces, arg == 1 and self._model.lifecycle
        begun: set[tuple[int, int]] | None = None
        for serial, ino, index, _ in f.NSLIST_ROW.iter_unpack(payload[: len(payload) // _ROW * _ROW]):
            if index >= len(ALL_ORDER) or not 0 < serial < MINTED or not ino or serial in namespaces.serials:
                continue
            inst = namespaces.current[index].get(ino)
            if inst is not None and (inst.sets or inst.initial):
                if inst.born <= time and inst.serial is None:
                    namespaces.give(inst, serial)
                continue
            # one whose beginning was reported, but that was asked for its id too late, may be the same
            if news and begun is None:
                begun = {(one.index, one.ino) for one in namespaces.minted.values() if one.reported}
            inst = namespaces.hold(index, ino, serial, time)
            if begun is not None and (index, ino) not in begun and not self.was_begun(index, ino):
                self._model.tell(self._began(inst, time))
        for index in range(len(ALL_ORDER)):
            self._listed[index] |= bool(pid >> index & 1)

    def gone(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """NSGONE: what the kernel says of the instance without tasks whose number is ``cgroup``."""
        inst = self._model.namespaces.unproven_ends.get(cgroup)
        if inst is None or not _meant(inst, ppid, payload):
            inst = self._model.namespaces.empty_by_inode.get((ppid, _ino(payload)))
            if inst is None or inst.number not in self._model.namespaces.unproven_ends:
                return
        if arg == HELD:
            inst.held = True
        elif arg == GONE:
            self._proven(inst, time)
        elif self._model.namespaces.gone(inst, time, None) and self._model.lifecycle and inst.ended is not None:
            self._model.tell(NsDel(inst.ended, inst, None, self._last.get(inst.number)))

    def _proven(self, inst: Instance, time: int) -> None:
        if self._model.namespaces.gone(inst, time) and self._model.lifecycle:
            self._model.tell(NsDel(time, inst, False, self._last.get(inst.number)))

    def _joined(self, inst: Instance, former: Instance, time: int) -> None:
        """``inst`` is ``former``: nothing began, and whoever owned it owns it still."""
        self.forget(former)
        model = self._model
        kept = []
        for output in model.outputs:
            if isinstance(output, NsInit) and output.inst is inst:
                continue
            if isinstance(output, NsChange) and output.inst is inst and output.reason == "unshare":
                output = output._replace(reason="setns")
            kept.append(output)
        model.outputs = kept
        provisional, inst.owner = inst.owner, former.owner or inst.owner
        if inst.owner is None or inst.owner is provisional:
            return
        for nsset in model.namespaces.sets_of(inst):
            for tid in sorted(model.namespaces.tasks(nsset)):
                process = model.processes.get(tid)
                if process is not None and process.end is None and process.state.container is provisional:
                    self._rehouse(process, inst, provisional, inst.owner, time)

    def _rehouse(
        self, process: Process, inst: Instance, provisional: "Container | None", owner: "Container", time: int
    ) -> None:
        """Since ``process`` entered ``inst`` it belongs to ``owner``, and not to what had been assumed."""

        def right(state: State, _: int) -> State:
            inside = state.nsset is not None and state.nsset.inst[inst.index] is inst
            return state._replace(container=owner) if inside and state.container is provisional else state

        self._model.containers.enter(owner)
        self._model.containers.leave(provisional, time)
        self._model.table.amend(process, right)
