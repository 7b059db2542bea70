"""The kernel's own list of namespaces: what is asked, what is made of an answer, and what the model makes of that."""

import errno
import struct
from typing import Any

import pytest

from auditns_connector._native import ffi
from auditns_connector.model.apply.namespace_life import GONE
from auditns_connector.model.outputs import NsChange, NsDel, NsInit
from auditns_connector.sources import listns
from auditns_connector.sources.listns import NamespaceList, request
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWNS, INITIAL_INODES_618, MNT, NET, PID, UTS
from tests.unit.test_nslife import born, nsid, told, verdict, world
from tests.unit.world import World

EVERY = (1 << 8) - 1


class Kernel:
    """listns(2) over ``ids`` as the kernel has it: those behind an id, ascending, ENOENT behind the last."""

    def __init__(self, ids: list[int], error: int = 0, inode: int = 100) -> None:
        self.ids, self.error, self.inode, self.asked = ids, error, inode, 0

    def nsid_list(self, asked: Any, page: Any, most: int) -> int:
        self.asked += 1
        size, _, behind, flag, _, owner = struct.unpack("=IIQIIQ", ffi.buffer(asked))
        assert (size, owner) == (32, 0)
        assert flag == CLONE_NEWNS
        if self.error:
            return -self.error
        found = sorted(number for number in self.ids if number > behind)[:most]
        if not found and behind:
            return -errno.ENOENT
        for at, number in enumerate(found):
            page[at] = number
        return len(found)

    def nsid_find(self, number: int, answer: Any) -> int:
        answer.ino = self.inode + number
        return 0 if number in self.ids else -errno.ESTALE


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel([8, 12, 10])
    monkeypatch.setattr(listns, "lib", made)
    return made


def test_a_request_has_the_layout_of_the_kernel() -> None:
    assert request(CLONE_NEWNS, 0x1122334455667788) == bytes.fromhex(
        "20000000 00000000 8877665544332211 00000200 00000000 0000000000000000"
    )


def test_more_than_a_page_is_listed_whole(kernel: Kernel) -> None:
    kernel.ids = list(range(1, 3 * 4096 + 1))
    assert NamespaceList().ids(MNT) == kernel.ids
    assert kernel.asked == 4
    kernel.ids = list(range(1, 4097))
    assert NamespaceList().ids(MNT) == kernel.ids


def test_a_list_that_never_ends_is_cut(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "nsid_list", lambda asked, page, most: most)
    assert len(NamespaceList().ids(MNT)) == 4096


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_a_kernel_without_a_list_is_asked_once(kernel: Kernel, error: int) -> None:
    kernel.error = error
    listing = NamespaceList()
    assert listing.ids(MNT) == listing.fresh(MNT, ()) == listing.types == []
    assert not listing.available
    assert kernel.asked == 1


def test_only_what_is_new_is_looked_at(kernel: Kernel) -> None:
    listing = NamespaceList()
    assert listing.fresh(MNT, {8}) == [10, 12]
    kernel.ids += [14, 9]
    assert listing.fresh(MNT, {8}) == [9, 14]
    assert listing.fresh(MNT, {8}) == []
    kernel.ids.remove(10)
    assert listing.fresh(MNT, ()) == []
    assert listing.types == [MNT]


def test_of_many_at_once_some_wait(kernel: Kernel) -> None:
    listing = NamespaceList()
    assert [listing.fresh(MNT, (), 2) for _ in range(3)] == [[8, 10], [12], []]


def test_an_id_has_an_inode_while_it_is_there(kernel: Kernel) -> None:
    assert NamespaceList().find(12, MNT) == (12, 112, MNT)
    assert NamespaceList().find(13, MNT) is None


# -- the model


def listed(w: World, at: float, *rows: tuple[int, int, int], news: bool = True, types: int = EVERY) -> None:
    """A list of (id, inode, type)."""
    payload = b"".join(f.NSLIST_ROW.pack(*row, 0) for row in rows)
    w.put(f.K_NSLIST, at, f.S_PROCFS, pid=types, arg=int(news), payload=payload)


def enter(w: World, pid: int, at: float, **changed: int) -> None:
    """setns."""
    w.put(f.K_SETNS, at, pid=pid, tid=pid)
    w.unshare(pid, at, **changed)


def identified(w: World, serial: int, at: float) -> None:
    """The kernel's id of the one instance that is new."""
    c, born = w.model.table.c, w.model.namespaces.born
    if c.borns:  # nobody has looked at its process: it is in the table alone
        (number,), c.borns = list(c.born[0 : c.borns]), 0
        w.put(f.K_NSID, at, f.S_PROCFS, ppid=NET, cgroup=number, arg=serial, payload=bytes(8))
        return
    (inst,), w.model.namespaces.born = born, []
    nsid(w, inst, serial, at)


def test_a_first_list_begins_nothing_and_what_is_in_it_ends() -> None:
    w = world()
    listed(w, 10, (50, 11, MNT), (51, 12, NET), news=False)
    assert told(w) == []
    held = {inst.serial: inst for inst in w.model.namespaces.unproven_ends.values()}
    assert sorted(held) == [50, 51]
    assert all(inst.held and inst.creator is None for inst in held.values())
    verdict(w, held[50], GONE, 20)
    assert told(w) == [("del", "mnt", False)]


def test_what_a_later_list_has_began_since_and_nobody_knows_by_whom() -> None:
    w = world()
    listed(w, 10, news=False)
    listed(w, 20, (50, 11, MNT))
    (output,) = w.model.outputs
    assert isinstance(output, NsInit)
    assert (output.process, output.old, output.state.container.text if output.state.container else "") == (
        None, None, "?",
    )  # fmt: skip
    listed(w, 30, (50, 11, MNT))
    assert len(w.model.outputs) == 1


def test_who_enters_a_listed_one_begins_nothing_and_is_in_that_one() -> None:
    w = world()
    listed(w, 10, (50, 11, MNT), news=False)
    born(w, 200, 1001)
    w.model.forget_questions()
    enter(w, 200, 1002, mnt=11)
    identified(w, 50, 1003)
    assert [type(output) for output in w.model.outputs] == [NsChange]
    nsset = w.model.processes[200].state.nsset
    assert nsset is not None
    inst = nsset.inst[MNT]
    assert inst is not None
    assert (inst.serial, inst.creator) == (50, None)


def test_what_was_in_no_list_began_before_it_was_entered() -> None:
    w = world()
    listed(w, 10, news=False)
    born(w, 200, 1001)
    w.model.forget_questions()
    enter(w, 200, 1002, mnt=11)
    identified(w, 50, 1003)
    assert [type(output) for output in w.model.outputs] == [NsInit, NsChange]
    assert w.model.outputs[0].time == w.model.outputs[1].time


def test_without_a_list_nobody_knows_whether_it_began() -> None:
    w = world()
    born(w, 200, 1001)
    w.model.forget_questions()
    enter(w, 200, 1002, mnt=11)
    identified(w, 50, 1003)
    assert [type(output) for output in w.model.outputs] == [NsChange]


def test_a_namespace_with_processes_gets_its_serial_by_the_list() -> None:
    w = world()
    w.fork(1, 100, 1000, uts=11)
    w.model.outputs.clear()
    listed(w, 1001, (50, 11, UTS), (1, INITIAL_INODES_618["uts"], UTS))
    nsset = w.model.processes[100].state.nsset
    assert nsset is not None
    assert nsset.inst[UTS] is w.model.namespaces.serials[50]
    assert w.model.outputs == []


def test_an_inode_that_is_anothers_since_tells_nothing() -> None:
    w = world()
    w.fork(1, 100, 1000, uts=11)
    w.model.outputs.clear()
    listed(w, 999, (50, 11, UTS))
    assert 50 not in w.model.namespaces.serials
    assert w.model.outputs == []


def test_one_that_was_asked_too_late_does_not_begin_twice() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    w.exit(100, 1001)
    identified(w, 0, 1002)
    w.model.outputs.clear()
    listed(w, 1003, (50, 11, NET))
    assert w.model.outputs == []


def test_one_that_was_passed_through_has_begun() -> None:
    w = world()
    listed(w, 10, news=False)
    born(w, 200, 1001)
    w.model.forget_questions()
    enter(w, 200, 1002, mnt=11)
    w.exit(200, 1003)
    identified(w, 0, 1004)
    w.model.outputs.clear()
    listed(w, 1005, (50, 11, MNT))
    assert [type(output) for output in w.model.outputs] == [NsInit]


@pytest.mark.parametrize("row", [(0, 11, MNT), (1 << 63, 11, MNT), (50, 0, MNT), (50, 11, 8), (50, 11, 0xFFFFFFFF)])
def test_rows_of_a_damaged_journal_are_left_out(row: tuple[int, int, int]) -> None:
    w = world()
    listed(w, 10, row)
    w.put(f.K_NSLIST, 11, f.S_PROCFS, pid=-1, arg=1, payload=f.NSLIST_ROW.pack(50, 11, MNT, 0)[:16])
    assert w.model.outputs == []
    assert not w.model.namespaces.unproven_ends


def test_listed_ones_are_nobodys_and_forgotten_like_others() -> None:
    w = world()
    listed(w, 10, (50, 11, PID))
    (inst,) = w.model.namespaces.unproven_ends.values()
    w.model.outputs.clear()
    verdict(w, inst, GONE, 20)
    assert isinstance(w.model.outputs[0], NsDel)
    assert w.model.outputs[0].process is None
    w.put(f.K_MARK, 30, f.S_PIPELINE, arg=int(29e6))
    assert 50 not in w.model.namespaces.serials
