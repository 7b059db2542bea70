"""Lives of namespaces that the table in C knows alone (cdefs/table/lives.c), and the objects that go with them.

A process that is born with namespaces of its own, does nothing but end, and is asked about by nobody, leaves no object
behind: storms make a great many of these. As soon as anybody looks at one, :meth:`Lives.build` makes its process, its
namespaces and its sandbox as apply/perf.py would have made them at its birth, and Python has them from then on.

Outputs of such lives are events of the table, in their order among the outputs (:class:`Unread`).
"""

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.model.ancestry import Ancestry
from auditns_connector.model.containers import SEEN
from auditns_connector.model.outputs import ContainerInfo, NsChange, NsDel, NsInit, NsLeft, Output
from auditns_connector.model.places import Container, Instance, NsSet
from auditns_connector.model.process import OBSERVED, Process, Ran, State
from auditns_connector.model.profiles import Profile
from auditns_connector.vocabulary.namespaces import MNT, PERF_ORDER, PID, USER
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from auditns_connector.model.apply.namespace_life import NsLife
    from auditns_connector.model.inner_ids import Inside
    from auditns_connector.model.tables import Tables

_WORD: Final = struct.Struct("<Q")
_SEEN: Final = int(lib.LIFE_SEEN)
_INIT: Final = int(lib.LIFE_INIT)
_CHANGE: Final = int(lib.LIFE_CHANGE)
_LEFT: Final = int(lib.LIFE_LEFT)


class Built(NamedTuple):
    """A life that objects were made of: what events about it tell."""

    process: Process
    #: at its birth
    state: State
    instances: list[Instance]
    profile: Profile
    #: who made it: pid, start, and since when that was in its state
    maker: tuple[int, int, int]
    comm: bytes
    left_comm: bytes
    #: that it left its namespaces has been reported
    left_reported: bool
    ran: Ran


class Lives:
    """Those of ``model``."""

    def __init__(self, model: "Tables", life: "NsLife", inside: "Inside") -> None:
        self._model, self._life, self._inside = model, life, inside
        table = model.table
        self._c: CData = table.c
        self._row: CData = ffi.new("struct table_life_row *")
        #: by number of a life, as long as there are events
        self._built: dict[int, Built] = {}
        namespaces, containers = model.namespaces, model.containers
        self._numbers = namespaces.numbers
        self._c.numbers = self._numbers
        table.build = self.build
        life.fetch_number, life.was_begun = self.fetch_number, self._was_begun
        namespaces.taken, namespaces.named, namespaces.fetch_open = self._taken, self._named, self._fetch_open
        for inodes in namespaces.current:
            inodes.fetch, inodes.fetch_all = self._fetch, table.fetch_lives
        containers.by_key.fetch_all = table.fetch_lives
        self.sandboxes()

    def sandboxes(self) -> None:
        """Which types of namespaces make sandboxes is known otherwise now."""
        types = self._model.containers.sandbox_types
        rest = (index for index in range(len(PERF_ORDER)) if index not in (PID, USER))
        order = [index for index in (PID, USER, *rest) if PERF_ORDER[index] in types]
        self._c.sandboxes = len(order)
        for place, index in enumerate(order):
            self._c.sandbox[place] = index

    def allowed(self, state: State, process: Process) -> int:
        """The types (bits, as in PERF_ORDER) of which a child of one like ``process``, in ``state``, may have a
        namespace of its own that the table begins: those in which ``process`` is in the initial one. None but for a
        process of the host of which nothing else is inherited than what every host process has."""
        nsset, cgroups = state.nsset, process.cgroups
        special = process.registered is not None or process.entered_container is not None or state.entry is not None
        if state.container is not None or special or cgroups is None or cgroups.runtimes or nsset is None:
            return 0
        instances = nsset.inst
        if any(inst is None for inst in instances[: len(PERF_ORDER)]):
            return 0
        types = self._model.containers.sandbox_types
        initial = [inst is not None and inst.initial for inst in instances]
        # rules of membership that look at other namespaces than the child's own have nothing to say then
        if not (initial[PID] and initial[MNT] and all(initial[i] for i in range(len(initial)) if _type(i) in types)):
            return 0
        return sum(1 << index for index in range(len(PERF_ORDER)) if initial[index])

    # -- looked for

    def _named(self, number: int, kernel: bool) -> None:
        lib.table_former_named(self._c, number, kernel)

    def _taken(self, index: int, ino: int, taken: bool, before: int) -> None:
        if index < len(PERF_ORDER) and not lib.table_inode_taken(self._c, index, ino, taken, before):
            raise MemoryError("no memory for the process table")

    def _fetch(self, index: int, ino: int) -> None:
        if self._c.alive and 0 <= ino <= _MOST_INO and (pid := lib.table_inode_holder(self._c, index, ino, False)):
            self._model.table.hold(pid)

    def _fetch_open(self, index: int, ino: int) -> None:
        if index < len(PERF_ORDER) and (pid := lib.table_inode_holder(self._c, index, ino, True)):
            self._model.table.hold(pid)

    def _was_begun(self, index: int, ino: int) -> bool:
        return index < len(PERF_ORDER) and bool(lib.table_inode_begun(self._c, index, ino))

    def fetch_number(self, number: int) -> None:
        """Somebody asks for the namespace of that number."""
        if pid := lib.table_number_holder(self._c, number):
            self._model.table.hold(pid)

    # -- made

    def build(self, row: int, profile: Profile, who: tuple[int, int], end: int | None, ran: Ran) -> Process:
        """The process of ``row``, with all that it was born with; its caller holds it."""
        model, life = self._model, self._row
        number = int(lib.table_life_of(self._c, row))
        lib.table_life_read(self._c, number, life)
        pid, start = who
        base = profile.state.nsset
        assert base is not None
        assert base.raw is not None
        insts, raw = list(base.inst), bytearray(base.raw)
        maker = (life.maker, life.maker_start, life.maker_since)
        made: list[Instance] = []
        for one in life.instance[0 : life.instances]:
            inst = Instance(one.number, one.index, life.dev, one.ino, start, False)
            inst.first, inst.creator = who, maker[:2]
            inst.origin = base.inst[PID] if one.index == PID else None
            inst.reported = bool(life.reported)
            inst.serial, inst.ended = one.serial or None, one.ended if one.dead else None
            insts[one.index] = inst
            _WORD.pack_into(raw, _WORD.size * (one.index + 1), one.ino)
            made.append(inst)
        nsset = NsSet(tuple(insts), bytes(raw))
        container = self._sandbox(made[life.sandbox], profile, who, end) if life.sandbox >= 0 else None
        former = profile.state
        state = State(start, container, nsset, OBSERVED, former.login, former.entry, former.session)
        process = Process(pid, start, state, profile.cgroups)
        self._adopt(process, made)
        if not insts[PID].initial and (made[0].ended is None or made[0].ended >= model.horizon):  # type: ignore[union-attr]
            self._inside.counted(process, nsset, start, life.ptid)
        if self._c.events:
            comm, left_comm = (bytes(ffi.buffer(text)).rstrip(b"\0") for text in (life.comm, life.left_comm))
            self._built[number] = Built(
                process, state, made, profile, maker, comm, left_comm, bool(life.left_reported), ran
            )
        return process

    def _sandbox(self, inst: Instance, profile: Profile, who: tuple[int, int], end: int | None) -> Container:
        """The sandbox that ``inst`` is, see :mod:`membership`."""
        containers = self._model.containers
        found = Container(((f"{inst.type}ns", f"{inst.ino}@{inst.born}"),), "sandbox", inst.born, None)
        found.sandbox, found.ended, inst.owner = inst, end, found
        if end is None:
            containers.by_key[found.key] = found
        containers.at_home(found, profile.cgroups)
        if inst.index == PID:
            found.init = who
        return found

    def _adopt(self, process: Process, made: list[Instance]) -> None:
        model, life = self._model, self._row
        namespaces = model.namespaces
        for inst, one in zip(made, life.instance[0 : life.instances], strict=True):
            former = namespaces.unnumbered.get(one.before) or namespaces.unproven_ends.get(one.before)
            namespaces.adopt(inst, former, followed=bool(one.followed), horizon=model.horizon)
            if one.dead and life.left_reported and one.ended >= model.horizon:
                self._life.left_last(inst, process)

    # -- outputs

    def outputs(self, first: int, last: int) -> list[Output]:
        """What events ``first`` to ``last`` (without it) of the table tell."""
        return [self._output(event) for event in self._c.event[first:last]] if last > first else []

    def maker(self, at: int) -> tuple[int, int]:
        """Who (pid, start) made what event ``at`` is about, and when it was."""
        built = self._built.get(self._c.event[at].life)
        if built is not None:
            return built.maker[:2]
        lib.table_life_read(self._c, self._c.event[at].life, self._row)
        return self._row.maker, self._row.maker_start

    def _output(self, event: CData) -> Output:
        built = self._built.get(event.life)
        if built is None:
            lib.table_life_read(self._c, event.life, self._row)
            self._model.table.hold(self._row.pid)
            built = self._built[event.life]
        time, what, inst, process = event.time, event.what, built.instances[event.at], built.process
        if what == _SEEN:
            assert built.state.container is not None
            return ContainerInfo(time, SEEN, built.state.container, State(time, built.state.container, None, ""))
        base = built.profile.state.nsset
        old = None if base is None else base.inst[inst.index]
        if what == _INIT:
            maker = self._model.incarnation(*built.maker[:2])
            assert maker is not None, "a maker is remembered as long as there is to be told of what it made"
            held = maker.states(time, time)
            # a row's since is when it answers from; the state that it was packed from may be known otherwise now
            former = built.profile.state._replace(since=min([built.maker[2], *(one.since for one in held)]))
            state = next((one for one in held if one[1:] == former[1:]), former)
            return NsInit(time, inst, old, maker, state, built.comm)
        if what == _CHANGE:
            file, ran, exe = built.ran
            kin = Ancestry.of(process)._replace(file=file, ran=ran, exe=exe)
            program = self._model.ancestry.program_of(kin)
            return NsChange(
                time, inst, old, process, built.state, "clone", 0, "perf", False, built.comm, program
            )  # fmt: skip
        if what == _LEFT:
            return NsLeft(time, inst, process, built.state, 0, built.left_comm)
        return NsDel(time, inst, None, process if built.left_reported else None)

    def consumed(self) -> None:
        """All events have been consumed."""
        lib.table_events_consumed(self._c)
        self._built.clear()


_MOST_INO: Final = (1 << 64) - 1


def _type(index: int) -> str:
    return (*PERF_ORDER, "time")[index]
