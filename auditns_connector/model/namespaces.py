"""Namespace instances: an inode, and the time for which it meant this namespace.

Inode numbers are recycled at once, so an inode alone names nothing. An :class:`Instance` is one namespace from its
birth to its end. Which instance an inode means now is decided by evidence, in this order: the creator is in it; the
task made it just now (clone); a living task is in it; else it is new, unless the kernel's id says that it is one that
outlived its last task (by a bind mount or a descriptor).

So an instance ends in one of three ways: the kernel proves that it is gone; it has no kernel id, and its last task has
left; or its inode has been given to another one. Until then an instance with a kernel id waits in
:attr:`Namespaces.unproven_ends`.

Tasks share their set of namespaces far more often than not, so a task points to an interned :class:`NsSet`, and only
the set counts its living members (as a *set of thread ids*: a counter leaks where threads exec).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from auditns_connector._native import ffi
from auditns_connector.model.places import MINTED, Inodes, Instance, NsSet
from auditns_connector.vocabulary.frames import NAMESPACES_PAYLOAD
from auditns_connector.vocabulary.namespaces import ALL_ORDER, FLAGS, INITIAL_INODES, PERF_ORDER
from auditns_connector.vocabulary.values import CData, JsonObject

_REPORTED: Final = len(PERF_ORDER)
_UNREPORTED: Final = (None,) * (len(ALL_ORDER) - _REPORTED)
#: so many sets in which nobody lives may be remembered
_EMPTY_SETS: Final = 4096
_MOST_SERIAL: Final = (1 << 64) - 1
_FLAGS: Final = tuple(FLAGS[name] for name in ALL_ORDER)


def _nobody(_: int) -> list[int]:
    return []


def _nothing(*_: object) -> None:
    """Nothing is kept elsewhere."""


class Namespaces:
    """Every living instance, found by type and inode."""

    def __init__(self) -> None:
        #: by type index: inode -> the instance it means now
        self.current: tuple[Inodes, ...] = tuple(Inodes(index) for index in range(len(ALL_ORDER)))
        self._sets: dict[tuple[Instance | None, ...], NsSet] = {}
        #: more of them are not remembered without a look at which are empty
        self._most_sets = _EMPTY_SETS
        self.serials: dict[int, Instance] = {}
        #: those of them that were minted
        self.minted: dict[int, Instance] = {}
        #: instances without a serial, by their number
        self.unnumbered: dict[int, Instance] = {}
        #: the greatest number of those that were forgotten without one: answers about them may still come
        self.forgotten = 0
        #: struct table_numbers, which the table in C counts up as well
        self.numbers: CData = ffi.new("struct table_numbers *")
        self.numbers.mint_next = MINTED | 1
        self.dev = 0
        self.initial_inodes: dict[str, int] = dict(INITIAL_INODES)
        #: instances that appeared and whose serial nobody has been asked for yet; taken away by the observer
        self.born: list[Instance] = []
        self.died: deque[tuple[Instance, int]] = deque()
        #: not all of them are in the order of their ends
        self._late = False
        #: (type index, inode) -> the instance without tasks that it may still mean
        self.empty_by_inode: dict[tuple[int, int], Instance] = {}
        #: number -> instance without tasks whose end the kernel has not reported yet
        self.unproven_ends: dict[int, Instance] = {}
        #: the tasks that the member -number of a set stands for, see rows.py
        self.packed: Callable[[int], list[int]] = _nobody
        #: called with whether an inode of a type is that of an instance here which lives, or may go on; and the number
        #: of the one which had it and has no serial yet (0: there is none)
        self.taken: Callable[[int, int, bool, int], None] = _nothing
        #: called with the number of an instance that has a serial now, and whether it is the kernel's
        self.named: Callable[[int, bool], None] = _nothing
        #: has the instance here that had an inode last, where it lives or its identity is open
        self.fetch_open: Callable[[int, int], None] = _nothing

    # -- instances

    @property
    def created(self) -> int:
        """How many there were."""
        return int(self.numbers.created)

    @property
    def ended(self) -> int:
        """How many of them have no task any more."""
        return int(self.numbers.ended)

    @property
    def mint_next(self) -> int:
        """The next minted serial."""
        return int(self.numbers.mint_next)

    @mint_next.setter
    def mint_next(self, serial: int) -> None:
        self.numbers.mint_next = min(serial, _MOST_SERIAL)

    def note(self, index: int, ino: int) -> None:
        """Which instance an inode means may have changed."""
        empty = self.empty_by_inode.get((index, ino))
        before = empty.number if empty is not None and empty.serial is None else 0
        self.taken(index, ino, ino in self.current[index] or (empty is not None and empty.has_kernel_id), before)

    def _new(self, index: int, dev: int, ino: int, now: int) -> Instance:
        initial = self.initial_inodes.get(ALL_ORDER[index]) == ino
        self.fetch_open(index, ino)
        self.numbers.created = number = self.numbers.created + 1
        former = self.current[index].here(ino)
        if former is not None and not former.sets and former.ended is None:
            self.unnumbered.pop(former.number, None)  # /proc showed it, and nobody came to be seen in it
        inst = Instance(number, index, dev, ino, now, initial)
        self.current[index][ino] = inst
        self.unnumbered[number] = inst
        inst.possible_predecessor = self.empty_by_inode.pop((index, ino), None)
        self.taken(index, ino, True, 0)
        return inst

    def adopt(self, inst: Instance, former: Instance | None, *, followed: bool, horizon: int) -> None:
        """``inst``, which was in the table in C alone, is here as if it always had been; ``former`` had its inode, and
        may be the same; ``followed``: another has the inode by now. What ended before ``horizon`` is forgotten."""
        index, ino = inst.index, inst.ino
        if former is not None and self.empty_by_inode.get((index, ino)) is former:
            del self.empty_by_inode[index, ino]
        if inst.ended is not None and inst.ended < horizon:
            inst.owner = None  # as forget() leaves it
            self.note(index, ino)
            return
        if inst.serial is None:
            self.unnumbered[inst.number] = inst
            inst.possible_predecessor = former
        else:
            self.serials[inst.serial] = self.minted[inst.serial] = inst
        if inst.ended is None:
            self.current[index][ino] = inst
        else:
            self._late = (bool(self.died) and self.died[-1][1] > inst.ended) or self._late
            self.died.append((inst, inst.ended))
            if inst.serial is None and not followed and ino not in self.current[index]:
                self.empty_by_inode[index, ino] = inst
        self.note(index, ino)

    def find(self, index: int, dev: int, ino: int, now: int) -> Instance:
        """The instance that (type, inode) means at ``now``; a new one where no living task is known in one."""
        inst: Instance | None = self.current[index].get(ino)
        if inst is not None and (inst.live or inst.initial or inst.ended is None):
            return inst
        return self._new(index, dev, ino, now)

    def resolve(self, raw: bytes, base: NsSet | None, now: int, fresh: int = 0) -> NsSet:
        """The set that a NAMESPACES payload names; ``base`` is the creator's (or the task's former) set.

        ``fresh`` are the CLONE_NEW* flags of types that, where they differ from ``base``, were made just now for sure:
        a living instance with that inode is then one whose end was not seen.
        """
        dev, *inodes = NAMESPACES_PAYLOAD.unpack_from(raw)
        if not self.dev:
            self.dev = dev
        insts: list[Instance | None] = []
        for index, ino in enumerate(inodes):
            present = base.inst[index] if base is not None else None
            if ino == 0:
                insts.append(None)  # the kernel was built without that type
            elif present is not None and present.ino == ino:
                insts.append(present)
            elif present is not None and fresh & _FLAGS[index]:
                insts.append(self._new(index, dev, ino, now))
            else:
                insts.append(self.find(index, dev, ino, now))
        insts += base.inst[_REPORTED:] if base is not None else _UNREPORTED
        return self.intern(tuple(insts), raw)

    def intern(self, insts: tuple[Instance | None, ...], raw: bytes | None = None) -> NsSet:
        """The one :class:`NsSet` of these instances."""
        found = self._sets.get(insts)
        if found is None:
            if raw is None and None not in insts[:_REPORTED]:
                inodes = [inst.ino for inst in insts[:_REPORTED] if inst is not None]
                raw = NAMESPACES_PAYLOAD.pack(self.dev, *inodes)
            found = self._sets[insts] = NsSet(insts, raw[:64] if raw is not None else None)
            if len(self._sets) > self._most_sets:
                self._drop_empty()
        return found

    def _drop_empty(self) -> None:
        """Forget the sets in which nobody lives: look-ups make such of what several have in common."""
        self._sets = {insts: nsset for insts, nsset in self._sets.items() if nsset.members}
        self._most_sets = 2 * len(self._sets) + _EMPTY_SETS

    @staticmethod
    def sets_of(inst: Instance) -> list[NsSet]:
        """The sets with living members that hold ``inst``."""
        return list(inst.sets)

    # -- members

    def enter(self, nsset: NsSet, tid: int) -> None:
        """Thread ``tid`` lives in ``nsset`` from now on."""
        members = nsset.members
        if not members:
            self._sets.setdefault(nsset.inst, nsset)
            for inst in nsset.inst:
                if inst is not None:
                    if not inst.sets:
                        self._inhabit(inst)
                    inst.sets[nsset] = None
        members.add(tid)

    def _inhabit(self, inst: Instance) -> None:
        """The first task comes to live in ``inst``."""
        if inst.serial is None:
            self.born.append(inst)
        if inst.ended is not None:
            inst.ended = inst.held = None
            self.numbers.ended -= 1
            self.unproven_ends.pop(inst.number, None)
            if self.empty_by_inode.get((inst.index, inst.ino)) is inst:
                del self.empty_by_inode[inst.index, inst.ino]
            self.current[inst.index].setdefault(inst.ino, inst)
            self.note(inst.index, inst.ino)

    def leave(self, nsset: NsSet, tid: int, now: int) -> Sequence[Instance]:
        """Thread ``tid`` is no longer in ``nsset``; returns the instances that have no living task now."""
        members = nsset.members
        if tid not in members:
            return ()
        members.discard(tid)
        if members:
            return ()
        self._sets.pop(nsset.inst, None)
        vacated = []
        for inst in nsset.inst:
            if inst is None:
                continue
            inst.sets.pop(nsset, None)
            if not inst.sets and not inst.initial:
                vacated.append(inst)
                inst.ended = now
                self.numbers.ended += 1
                if self.current[inst.index].here(inst.ino) is inst:
                    del self.current[inst.index][inst.ino]
                    if inst.serial is None or inst.has_kernel_id:
                        self.empty_by_inode[inst.index, inst.ino] = inst
                    self.note(inst.index, inst.ino)
                if inst.has_kernel_id:
                    self.unproven_ends[inst.number] = inst
                else:
                    self.died.append((inst, now))
        return vacated

    def end_empty(self, nsset: NsSet, ended: int) -> None:
        """Nobody is known to live in what ``nsset`` was interned for, a process that ``ended``: whoever is seen with
        one of these inodes from now on is in another namespace."""
        for inst in nsset.inst:
            if inst is None or inst.sets or inst.initial or inst.ended is not None:
                continue
            inst.ended = ended
            self.numbers.ended += 1
            if self.current[inst.index].here(inst.ino) is inst:
                del self.current[inst.index][inst.ino]
                self.note(inst.index, inst.ino)
            self.died.append((inst, ended))

    def gone(self, inst: Instance, now: int, held: bool | None = False) -> bool:
        """``inst`` without tasks has ended: proven (``held`` False), or there is no way to know (None). True when that
        is news."""
        if self.unproven_ends.pop(inst.number, None) is None:
            return False
        inst.held = held
        self.died.append((inst, now))
        if held is False and self.empty_by_inode.get((inst.index, inst.ino)) is inst:
            del self.empty_by_inode[inst.index, inst.ino]
            self.note(inst.index, inst.ino)
        return True

    def tasks(self, nsset: NsSet) -> Iterator[int]:
        """The threads that live in ``nsset``."""
        yield from (tid for tid in nsset.members if tid > 0)
        for tid in [tid for tid in nsset.members if tid < 0]:
            yield from self.packed(-tid)

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
        if serial >= MINTED:
            self.minted[serial] = inst
        inst.serial = serial
        self.serials[serial] = inst
        self.unnumbered.pop(inst.number, None)
        if inst.ended is not None:
            self.named(inst.number, inst.has_kernel_id)
            if inst.has_kernel_id:
                self._wait(inst)  # it was asked in its last moment
            self.note(inst.index, inst.ino)

    def join(self, inst: Instance, former: Instance) -> None:
        """``inst`` is ``former``, which had outlived its tasks: it goes on under the same serial."""
        self.unproven_ends.pop(former.number, None)
        self.unnumbered.pop(inst.number, None)
        former.held = True
        inst.serial, inst.born, inst.reported, inst.joined = former.serial, former.born, former.reported, True
        inst.first, inst.creator, inst.origin = former.first, former.creator, former.origin
        if inst.serial is not None:
            self.serials[inst.serial] = inst
        if inst.ended is not None:
            self._wait(inst)

    def _wait(self, inst: Instance) -> None:
        self.unproven_ends[inst.number] = inst
        if inst.ino not in self.current[inst.index]:
            self.empty_by_inode[inst.index, inst.ino] = inst
            self.note(inst.index, inst.ino)

    def hold(self, index: int, ino: int, serial: int, now: int) -> Instance:
        """A namespace that the kernel has listed at ``now`` and that no task is in: what holds it is not known."""
        inst = self._new(index, self.dev, ino, now)
        inst.possible_predecessor = None
        del self.current[index][ino]
        inst.ended, inst.held = now, True
        self.numbers.ended += 1
        self.give(inst, serial)
        return inst

    def serial(self, inst: Instance) -> int:
        """The serial of ``inst``; minted now where nobody asked the kernel for it."""
        if inst.serial is None:
            self.give(inst, 0)
        assert inst.serial is not None
        return inst.serial

    def end(self, at: int) -> int:
        """When the one ended that has place ``at`` among those that have, the first having 0 (CLOCK_MONOTONIC ns)."""
        return self._in_order()[at][1]

    def _in_order(self) -> deque[tuple[Instance, int]]:
        if self._late:
            self.died = deque(sorted(self.died, key=lambda one: one[1]))
            self._late = False
        return self.died

    def expired(self, before: int, *, numbered: bool = False) -> Iterator[Instance]:
        """Those that ended before a moment, which are to be forgotten; ``numbered``: up to the first that has no serial
        yet, whose end cannot be determined before."""
        died = self._in_order()
        while died and died[0][1] < before and not (numbered and died[0][0].serial is None):
            yield died.popleft()[0]

    def forget(self, inst: Instance) -> bool:
        """Drop the record of a dead instance's serial; a minted one is never given again all the same. False where it
        lives again, or may."""
        if inst.number in self.unproven_ends or inst.ended is None:
            return False
        if self.unnumbered.pop(inst.number, None) is not None:
            self.forgotten = max(self.forgotten, inst.number)
        # the container it knows knows it: without this only the garbage collector would free them
        inst.possible_predecessor = inst.owner = None
        if self.empty_by_inode.get((inst.index, inst.ino)) is inst:
            del self.empty_by_inode[inst.index, inst.ino]
            self.note(inst.index, inst.ino)
        if inst.serial is not None and self.serials.get(inst.serial) is inst:
            del self.serials[inst.serial]
            self.minted.pop(inst.serial, None)
        return True

    def describe(self, nsset: NsSet) -> JsonObject:
        """``{type: {"serial", "dev", "ino"}}`` of a set, ``None`` for what is not known; mints what has no serial."""
        out: JsonObject = {}
        for name, inst in zip(ALL_ORDER, nsset.inst, strict=True):
            out[name] = (
                None if inst is None else {"serial": self.serial(inst), "dev": inst.dev or self.dev, "ino": inst.ino}
            )
        return out
