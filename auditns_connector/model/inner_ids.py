"""What processes are called inside their containers: pid numbers, user ids, and who logged in there.

Fed by INSIDE, IDMAP and LOGIN frames and by the ``nspid`` of PROC frames. Read by streams (see streams/view.py).
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.model.places import UNKNOWN, Container, Instance, NsSet
from auditns_connector.model.process import Login, Process
from auditns_connector.vocabulary.namespaces import MNT, PID, USER
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.tables import Tables

#: an INSIDE frame speaks of the child whose FORK has just this time
_MAX_MAPS: Final = 65_536
NO_ID: Final = 0xFFFFFFFF
_MAX_BIRTHS: Final = 64
#: how long a fork takes at most from the giving of the number to its event (ns)
_CLOSE: Final = 100_000
#: pid namespaces around one process, the initial one included (MAX_PID_NS_LEVEL of the kernel is 32)
_MAX_DEPTH: Final = 33


class IdMap(NamedTuple):
    """The maps of one user namespace: ``(inside, outside, count)`` each, outside as the host counts."""

    uid: tuple[tuple[int, int, int], ...]
    gid: tuple[tuple[int, int, int], ...]


def translated(ranges: tuple[tuple[int, int, int], ...], outside: int) -> int | None:
    """The id that ``outside`` has inside; None where it has none."""
    for first, base, count in ranges:
        if base <= outside < base + count:
            return first + outside - base
    return None


_Birth = tuple[int, Process | None, int]


def _unordered(one: _Birth, other: _Birth) -> bool:
    """Whether the numbers of two births, ``other`` the later one, may have been given in the other order."""
    process = one[1]
    return other[0] - one[0] < _CLOSE and one[2] != other[2] and (process is None or process.pid != other[2])


class Inside:
    """Numbers inside namespaces, for ``model``."""

    def __init__(self, model: "Tables") -> None:
        self._model = model
        #: number of a pid namespace -> how many are around it
        self.levels: dict[int, int] = {}
        #: number of a user namespace -> its maps
        self.maps: dict[int, IdMap] = {}
        self._mounts: dict[int, Container] = {}
        #: number of a pid namespace whose beginning was seen and that no ring is open in yet -> (time, process or
        #: thread's None, thread of the creator) of everyone who was given a number there, its first process first
        self._births: dict[int, list[_Birth]] = {}
        #: there is something to be kept over a restart, see insidestate.py; somebody has logged in
        self.kept = self.logged = False
        #: who has logged in since somebody last took this list away
        self.fresh: list[Process] = []

    # -- frames

    def forked(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """INSIDE: a child's number in the pid namespace with inode ``arg`` (0: with number ``cgroup``)."""
        if pid != tid:
            return  # a thread
        process = self._model.incarnation(pid, time)
        number = cgroup if not arg or process is None else self._around(process, arg)
        if process is not None and number:
            self._model.table.called_inside(process, number, ppid, certain=True)
            self._fill(number, process, ppid)

    def _around(self, process: Process, ino: int) -> int:
        """The number of the pid namespace with inode ``ino`` that ``process`` is in; 0: it is not known there. A replay
        that begins in the middle numbers namespaces otherwise than the run."""
        own, seen = self._own(process), 0
        while own is not None and seen < _MAX_DEPTH:
            if own.ino == ino:
                return own.number
            own, seen = own.origin, seen + 1
        found = self._model.namespaces.current[PID].get(ino)
        return 0 if found is None else found.number

    def counted(self, process: Process | None, nsset: NsSet | None, time: int, ptid: int) -> None:
        """A process (or a thread, None) was born in ``nsset``: it was given a number in its pid namespace and in those
        around it."""
        ns = nsset.inst[PID] if nsset is not None else None
        while ns is not None and not ns.initial:
            births = self._births.get(ns.number)
            if births is not None:
                births.append((time, process, ptid))
                if len(births) > _MAX_BIRTHS:
                    del self._births[ns.number]
            elif process is not None and ns.first == (process.pid, process.start) and ns.creator is not None:
                self._births[ns.number] = [(time, process, ptid)]
            ns = ns.origin

    def forget(self, inst: Instance) -> None:
        """``inst`` is gone, and nobody asks about it any more."""
        self._births.pop(inst.number, None)
        self.levels.pop(inst.number, None)
        self.maps.pop(inst.number, None)

    def counting(self, nsset: NsSet | None) -> bool:
        """Whether :meth:`counted` wants to see who is born in ``nsset``."""
        ns = nsset.inst[PID] if nsset is not None and self._births else None
        while ns is not None and not ns.initial:
            if ns.number in self._births:
                return True
            ns = ns.origin
        return False

    def _fill(self, ns: int, member: Process, number: int) -> None:
        """``member`` is the first whose number in ``ns`` a ring reported. Numbers are given one after the other; where
        as many were born since the first process as have been given, everyone's is known.

        Two births by different threads within :data:`_CLOSE` may have got theirs in the other order, unless the one was
        made by the other: they are left out.
        """
        births = self._births.pop(ns, None)
        if births is None:
            return
        at = next((i for i, birth in enumerate(births) if birth[1] is member), None)
        if at is None or number != at + 1:
            return
        for i in range(1, at):
            process = births[i][1]
            if process is None:
                continue
            if _unordered(births[i - 1], births[i]) or (i + 1 < at and _unordered(births[i], births[i + 1])):
                continue
            self._model.table.called_inside(process, ns, i + 1, certain=False)

    def mapped(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        """IDMAP: the maps of the user namespace with inode ``arg`` (0: with number ``cgroup``)."""
        inst = self._model.namespaces.current[USER].get(arg)
        if arg and inst is None:
            return
        said: JsonObject = json.loads(payload.rstrip(b"\0"))
        if len(self.maps) >= _MAX_MAPS:
            del self.maps[next(iter(self.maps))]
        uid, gid = (tuple((int(a), int(b), int(c)) for a, b, c in said.get(kind) or ()) for kind in ("uid", "gid"))
        self.maps[cgroup if inst is None else inst.number] = IdMap(uid, gid)

    def login(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """LOGIN: from now on ``pid`` and its children are a user's; once only."""
        process = self._model.alive(pid)
        if process is not None and process.state.login is None:
            login = Login(arg & NO_ID, arg >> 32)
            self._model.table.change(process, process.state._replace(since=time, login=login))
            self.kept = self.logged = True
            self.fresh.append(process)
            del self.fresh[:-_MAX_MAPS]  # in a replay nobody takes it away

    def set_numbers(self, process: Process, nspid: Sequence[int]) -> None:
        """/proc showed the numbers of ``process``, ours first, its own pid namespace's last."""
        if not nspid:
            return
        self._model.table.nspid(process, tuple(nspid))
        own = self._own(process)
        if own is not None:
            self.levels[own.number] = len(nspid) - 1

    def ran(self, process: Process, time: int) -> None:
        """``process`` ran a program: from now on it is the container's own where it did so inside, and no longer the
        runtime's that sets the container up."""
        container, nsset = process.state.container, process.state.nsset
        if container is None or container is UNKNOWN or nsset is None:
            return
        pid_ns, mnt_ns = nsset.inst[PID], nsset.inst[MNT]
        if pid_ns is None or mnt_ns is None:
            return
        if pid_ns.owner in container.chain() if not pid_ns.initial else self._mounts_of(container, mnt_ns):
            self._model.table.own(process, time)

    def _mounts_of(self, container: Container, mnt_ns: Instance) -> bool:
        """Whether a container without a pid namespace of its own has ``mnt_ns``: who made it was in the container, or
        was made together with it and is in the container now."""
        if mnt_ns.initial or mnt_ns.first is None:
            return False
        owner = self._mounts.get(mnt_ns.number)
        if owner is None:
            process = self._model.incarnation(*mnt_ns.first)
            if process is not None:
                states = process.states(mnt_ns.born, mnt_ns.born)
                made = mnt_ns.born == process.start or not states
                owner = process.state.container if made else states[0].container
            if owner is not None:
                if len(self._mounts) >= _MAX_MAPS:
                    del self._mounts[next(iter(self._mounts))]
                self._mounts[mnt_ns.number] = owner
        return owner is not None and owner in container.chain()

    def current_maps(self) -> list[tuple[Instance, IdMap]]:
        """The user namespaces of now whose maps are known."""
        current = self._model.namespaces.current[USER].values()
        return [(inst, self.maps[inst.number]) for inst in current if inst.number in self.maps]

    # -- answers

    @staticmethod
    def _own(process: Process) -> Instance | None:
        nsset = process.state.nsset
        return None if nsset is None else nsset.inst[PID]

    def number(self, process: Process, ns: Instance) -> int | None:
        """The number of ``process`` in pid namespace ``ns``: 0 where it is outside, None where it is not known."""
        if ns.initial:
            return process.pid
        if process.inside is not None and (found := process.inside.get(ns.number)) is not None:
            return found
        own = self._own(process)
        within = self.within(own, ns)
        if within is False:
            return 0
        if own is not None and own is ns and ns.first == (process.pid, process.start) and ns.creator is not None:
            return 1  # its first process, whose birth was seen
        nspid = process.nspid
        if nspid is None:
            return None
        if own is ns:
            return nspid[-1] if len(nspid) > 1 else None
        level = self.levels.get(ns.number)
        if within and level is not None and 0 < level < len(nspid):
            return nspid[level]
        return None

    def within(self, own: Instance | None, ns: Instance) -> bool | None:
        """Whether pid namespace ``own`` is ``ns`` or lies in it; None where that is not known."""
        seen = 0
        while own is not None and seen < _MAX_DEPTH:
            if own is ns:
                return True
            if own.initial:
                return False
            level = self.levels.get(own.number)
            if level is not None and level <= self.levels.get(ns.number, 0):
                return False
            own, seen = own.origin, seen + 1
        return None
