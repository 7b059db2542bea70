"""Asking the kernel about namespaces for the model: their ids while they live, and whether they are gone afterwards.

An answer is a frame (NSID, NSGONE). It says what held at the moment it was asked; whoever feeds it must first let the
model take in all that happened before that moment, so that it can tell an answer about a recycled inode from one about
the namespace it asked for.
"""

import os
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.model.apply.namespace_life import GONE, HELD, UNKNOWN_END, nsid
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import Instance
from auditns_connector.model.processes import Processes
from auditns_connector.sources.listns import MOST, NamespaceList
from auditns_connector.sources.nsid import NsIds, alive
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER, MNT, PID, USER

#: threads through which one instance is asked for
_TRIES: Final = 8
#: bytes of a NSID frame
_NSID_SIZE: Final = f.HEADER_SIZE + 8
_NEVER: Final = (1 << 64) - 1
#: namespaces known to be held that are asked about in one round
_HELD_A_ROUND: Final = 1000
#: namespaces found in the kernel's list that are asked for their inode in one round
_FOUND_A_ROUND: Final = 4096
_EVERY_TYPE: Final = range(len(ALL_ORDER))


class NsAsker:
    """Answers for ``namespaces``; ``all_serials`` asks for every namespace that appears, not only for those an
    identifier is made from."""

    def __init__(self, namespaces: Namespaces, *, all_serials: bool) -> None:
        self.all_serials = all_serials
        self.ids = NsIds()
        self._list = NamespaceList()
        self._namespaces = namespaces
        self._turn = 0

    def wants(self, born: Iterable[Instance]) -> list[Instance]:
        """Those of ``born`` whose id is to be asked for."""
        return [inst for inst in born if inst.serial is None and (self.all_serials or inst.index in (PID, USER))]

    def too_late(self, now: int) -> bytes:
        """NSID frames of ``now`` for namespaces that had ended by then, before anybody asked for their ids: there is no
        thread left to ask through, so serials are minted, and what happens until the others' answers is no matter."""
        namespaces, frames = self._namespaces, []
        waiting = []
        for inst in namespaces.born:
            former = inst.possible_predecessor
            if inst.ended is None or (former is not None and former.has_kernel_id):
                waiting.append(inst)
            elif self.wants((inst,)):
                frames.append(nsid(inst, 0, now))
        namespaces.born = waiting
        return b"".join(frames)

    def of_table(self, table: Processes, young: int) -> list[bytes]:
        """NSID frames for namespaces of processes that are in the table in C alone (model/apply/lives.py), but for
        those that are alive and no older than ``young`` (ns): a serial is minted for those that have ended."""
        c, now = table.c, time.monotonic_ns()
        if not c.borns:
            return []
        frames, rest = ffi.new("uint8_t[]", c.borns * _NSID_SIZE), ffi.new("struct table_made_row[]", c.borns)
        found = ffi.new("uint32_t *")
        since = now - young if young else _NEVER
        size = int(lib.table_ask_born(c, now, since, self.all_serials, frames, rest, found))
        answers = [bytes(ffi.buffer(frames, size))]
        for number, pid in [(one.time, one.pid) for one in list(rest[0 : found[0]])]:
            table.hold(pid)
            inst = self._namespaces.unnumbered.get(number)
            if inst is not None:
                answers.append(self.identify(inst))
        self._namespaces.born.clear()
        return answers

    def ask_again(self) -> None:
        """Everything without a serial is asked for next time (after ``all_serials`` was switched on)."""
        namespaces = self._namespaces
        namespaces.born = [inst for inst in namespaces.unnumbered.values() if inst.sets]

    def identify(self, inst: Instance) -> bytes:
        """A NSID frame: the kernel's id of ``inst``, through a thread that lives in it; 0, mint one, where it was too
        late."""
        name, serial, asked = ALL_ORDER[inst.index], 0, 0
        for asked in self._inhabitants(inst):
            found = self.ids.ns_id(asked, name, inst.ino)
            if found is not None:
                serial = found.id
                break
        former = inst.possible_predecessor
        # it has gone already; but if its inode's former holder is still there, it was that one
        if not serial and former is not None and former.has_kernel_id and alive(former.serial or 0, name, former.ino):
            serial = former.serial or 0
        now = time.monotonic_ns()
        return nsid(inst, serial, now, asked)

    def numbered(self) -> bytes:
        """NSID frames for all that have a serial: a journal that begins now tells them."""
        now = time.monotonic_ns()
        serials = self._namespaces.serials.items()
        return b"".join(nsid(inst, serial, now) for serial, inst in serials if inst.sets or inst.initial)

    def held(self) -> bytes:
        """An NSLIST frame of all that no task is in: a journal that begins now tells them."""
        rows = [(inst.serial or 0, inst.ino, inst.index) for inst in self._namespaces.unproven_ends.values()]
        return _list_frame(time.monotonic_ns(), self._list.types, rows, news=False) if rows else b""

    def list_all(self, *, news: bool) -> bytes:
        """An NSLIST frame of what the kernel's list has and the model has no serial of; ``news``: what the list before
        did not have has begun since."""
        return self._listed(_EVERY_TYPE, MOST, news)

    def list_unseen(self) -> bytes:
        """The same of mount namespaces, which may begin without any event; of many at once some wait."""
        return self._listed((MNT,), _FOUND_A_ROUND, True)

    def _listed(self, types: Sequence[int], most: int, news: bool) -> bytes:
        now, listing = time.monotonic_ns(), self._list
        rows = []
        for index in types:
            for number in listing.fresh(index, self._namespaces.serials, most):
                if (found := listing.find(number, index)) is not None:
                    rows.append(found)
        return _list_frame(now, types, rows, news=news) if listing.available else b""

    def _inhabitants(self, inst: Instance) -> list[int]:
        if inst.initial:
            return [os.getpid(), 2, 1]
        return list(islice((tid for nsset in inst.sets for tid in self._namespaces.tasks(nsset)), _TRIES))

    @property
    def waiting(self) -> bool:
        """There are namespaces without tasks about which the kernel has not been asked yet."""
        return any(inst.held is None for inst in self._namespaces.unproven_ends.values())

    def proofs(self) -> list[bytes]:
        """NSGONE frames: what is new about the namespaces without tasks."""
        unproven_ends = self._namespaces.unproven_ends
        if not unproven_ends:
            return []
        held = [inst for inst in unproven_ends.values() if inst.held]
        if len(held) > _HELD_A_ROUND:
            start = self._turn % len(held)
            self._turn = start + _HELD_A_ROUND
            held = (held + held)[start : start + _HELD_A_ROUND]
        out = []
        for inst in [*(inst for inst in unproven_ends.values() if not inst.held), *held]:
            there = alive(inst.serial or 0, ALL_ORDER[inst.index], inst.ino)
            if there and inst.held:
                continue
            verdict = UNKNOWN_END if there is None else HELD if there else GONE
            now = time.monotonic_ns()
            ino = inst.ino.to_bytes(8, "little")
            out.append(
                f.pack(f.K_NSGONE, f.S_PROCFS, now, ppid=inst.index, cgroup=inst.number, arg=verdict, payload=ino)
            )
        return out


def _list_frame(now: int, types: Iterable[int], rows: Iterable[tuple[int, ...]], *, news: bool) -> bytes:
    payload = b"".join(f.NSLIST_ROW.pack(*row, 0) for row in rows)
    return f.pack(f.K_NSLIST, f.S_PROCFS, now, pid=sum(1 << index for index in types), arg=int(news), payload=payload)
