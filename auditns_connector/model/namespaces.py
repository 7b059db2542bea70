"""Namespace instances: an inode, and the time for which it meant this namespace.

Inode numbers are recycled at once, so an inode alone names nothing. An :class:`Instance` is one namespace from its
birth to its end. Which instance an inode means now is decided by evidence, in this order: the creator is in it; a
living task is in it; else it is new.

Tasks share their set of namespaces far more often than not, so a task points to an interned :class:`NsSet`, and only
the set counts its living members (as a *set of thread ids*: a counter leaks where threads exec).
"""

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ..frames import NAMESPACES_PAYLOAD
from ..nstypes import ALL_ORDER, FLAGS, INITIAL_INODES, PERF_ORDER, TIME

if TYPE_CHECKING:
    from .containers import Container

MINTED: Final = 1 << 63
_KNOWN: Final = len(PERF_ORDER)


class Instance:
    """One namespace. ``serial`` is fixed once given; ``live`` counts the :class:`NsSet` with members that hold it."""

    __slots__ = (
        "born",
        "creator",
        "dev",
        "ended",
        "first",
        "index",
        "initial",
        "ino",
        "live",
        "number",
        "origin",
        "owner",
        "serial",
        "told",
    )

    def __init__(self, number: int, index: int, dev: int, ino: int, born: int, initial: bool) -> None:
        #: counted up in the order of appearance: the same in every replay
        self.number = number
        self.index = index
        self.dev = dev
        self.ino = ino
        self.born = born
        self.initial = initial
        self.serial: int | None = None
        self.live = 0
        self.ended: int | None = None
        #: (pid, start) of the first process known in it
        self.first: tuple[int, int] | None = None
        self.creator: tuple[int, int] | None = None
        #: the instance of the same type that its creator was in
        self.origin: Instance | None = None
        #: the container that processes of this pid or user namespace belong to; see containers.py
        self.owner: Container | None = None
        self.told = False

    @property
    def type(self) -> str:
        """Name of the type, as in /proc/PID/ns."""
        return ALL_ORDER[self.index]

    @property
    def flag(self) -> int:
        """The CLONE_NEW* flag of the type."""
        return FLAGS[ALL_ORDER[self.index]]


class NsSet:
    """One combination of eight namespaces, interned; ``inst[i]`` is ``None`` where that namespace is not known."""

    __slots__ = ("inst", "members", "raw")

    def __init__(self, inst: tuple[Instance | None, ...], raw: bytes | None) -> None:
        self.inst = inst
        #: the NAMESPACES payload that this set answers to; None where it holds unknowns
        self.raw = raw
        self.members: set[int] = set()


class Namespaces:
    """Every living instance, found by type and inode."""

    def __init__(self) -> None:
        #: by type index: inode -> the instance it means now
        self.current: tuple[dict[int, Instance], ...] = tuple({} for _ in ALL_ORDER)
        self._sets: dict[tuple[Instance | None, ...], NsSet] = {}
        self.serials: dict[int, Instance] = {}
        #: instances without a serial, by their number
        self.unnumbered: dict[int, Instance] = {}
        self.mint_next = MINTED | 1
        self.dev = 0
        self.initial_inodes: dict[str, int] = dict(INITIAL_INODES)
        #: instances that appeared and whose serial nobody has been asked for yet; taken away by the observer
        self.born: list[Instance] = []
        self.died: deque[tuple[Instance, int]] = deque()
        self.created = 0
        self.ended = 0

    # -- instances

    def _new(self, index: int, dev: int, ino: int, now: int) -> Instance:
        initial = self.initial_inodes.get(ALL_ORDER[index]) == ino
        self.created += 1
        inst = Instance(self.created, index, dev, ino, now, initial)
        self.current[index][ino] = inst
        self.unnumbered[self.created] = inst
        self.born.append(inst)
        return inst

    def find(self, index: int, dev: int, ino: int, now: int) -> Instance:
        """The instance that (type, inode) means at ``now``; a new one where no living task is known in one."""
        inst = self.current[index].get(ino)
        if inst is not None and (inst.live or inst.initial or inst.ended is None):
            return inst
        return self._new(index, dev, ino, now)

    def resolve(self, raw: bytes, base: NsSet | None, now: int) -> NsSet:
        """The set that a NAMESPACES payload names; ``base`` is the creator's (or the task's former) set."""
        dev, *inodes = NAMESPACES_PAYLOAD.unpack_from(raw)
        if not self.dev:
            self.dev = dev
        insts: list[Instance | None] = []
        for index, ino in enumerate(inodes):
            known = base.inst[index] if base is not None else None
            if ino == 0:
                insts.append(None)  # the kernel was built without that type
            elif known is not None and known.ino == ino:
                insts.append(known)
            else:
                insts.append(self.find(index, dev, ino, now))
        insts.append(base.inst[TIME] if base is not None else None)
        return self.intern(tuple(insts), raw)

    def intern(self, insts: tuple[Instance | None, ...], raw: bytes | None = None) -> NsSet:
        """The one :class:`NsSet` of these eight instances."""
        found = self._sets.get(insts)
        if found is None:
            if raw is None and None not in insts[:_KNOWN]:
                inodes = [inst.ino for inst in insts[:_KNOWN] if inst is not None]
                raw = NAMESPACES_PAYLOAD.pack(self.dev, *inodes)
            found = self._sets[insts] = NsSet(insts, raw[:64] if raw is not None else None)
        return found

    def sets_of(self, inst: Instance) -> list[NsSet]:
        """The sets with living members that hold ``inst``."""
        return [nsset for nsset in self._sets.values() if nsset.members and nsset.inst[inst.index] is inst]

    # -- members

    def enter(self, nsset: NsSet, tid: int) -> None:
        """Thread ``tid`` lives in ``nsset`` from now on."""
        members = nsset.members
        if not members:
            for inst in nsset.inst:
                if inst is not None:
                    inst.live += 1
                    inst.ended = None
        members.add(tid)

    def leave(self, nsset: NsSet, tid: int, now: int) -> None:
        """Thread ``tid`` is no longer in ``nsset``; instances without any living task end here."""
        members = nsset.members
        if tid not in members:
            return
        members.discard(tid)
        if members:
            return
        self._sets.pop(nsset.inst, None)
        for inst in nsset.inst:
            if inst is None:
                continue
            inst.live -= 1
            if not inst.live and not inst.initial:
                inst.ended = now
                self.ended += 1
                self.died.append((inst, now))
                if self.current[inst.index].get(inst.ino) is inst:
                    del self.current[inst.index][inst.ino]

    # -- serials

    def give(self, inst: Instance, serial: int) -> None:
        """Give ``inst`` its serial, once: ``serial`` (the kernel's id, or one minted), or a minted one where that is
        0 or another instance's already."""
        if inst.serial is not None:
            return
        if serial <= 0 or serial in self.serials:
            serial = self.mint_next
        if serial >= self.mint_next:
            self.mint_next = serial + 1
        inst.serial = serial
        self.serials[serial] = inst
        self.unnumbered.pop(inst.number, None)

    def serial(self, inst: Instance) -> int:
        """The serial of ``inst``; minted now where nobody asked the kernel for it."""
        if inst.serial is None:
            self.give(inst, 0)
        assert inst.serial is not None
        return inst.serial

    def forget(self, inst: Instance) -> None:
        """Drop the record of a dead instance's serial; a minted one is never given again all the same."""
        self.unnumbered.pop(inst.number, None)
        if inst.serial is not None and self.serials.get(inst.serial) is inst:
            del self.serials[inst.serial]

    def describe(self, nsset: NsSet) -> dict[str, Any]:
        """``{type: {"serial", "dev", "ino"}}`` of a set, ``None`` for what is not known; mints what has no serial."""
        out: dict[str, Any] = {}
        for name, inst in zip(ALL_ORDER, nsset.inst, strict=True):
            out[name] = (
                None if inst is None else {"serial": self.serial(inst), "dev": inst.dev or self.dev, "ino": inst.ino}
            )
        return out
