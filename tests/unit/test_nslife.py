"""How namespaces come, go and are entered: told by the model, one kernel history at a time."""

import gc
from typing import Any

from auditns_connector.model.apply.namespace_life import GONE, HELD, UNKNOWN_END
from auditns_connector.model.outputs import NsChange, NsDel, NsInit, NsLeft
from auditns_connector.model.past import KEPT_STATES
from auditns_connector.model.places import MINTED, Instance
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER, INDEX, INITIAL_INODES_618, IPC, MNT, NET, PID, USER, UTS
from tests.unit.world import MS, World


def world(**more: Any) -> World:
    w = World(lifecycle=True, **more)
    w.model.outputs.clear()
    w.model.forget_questions()
    return w


def ids(w: World, at: float, /, **serials: int) -> None:
    """The kernel's ids of the instances that are new, by type; 0 for those not named."""
    for inst in w.born():
        nsid(w, inst, serials.get(inst.type, 0), at)


def nsid(w: World, inst: Instance, serial: int, at: float) -> None:
    w.put(f.K_NSID, at, f.S_PROCFS, ppid=inst.index, cgroup=inst.number, arg=serial)


def verdict(w: World, inst: Instance, what: int, at: float) -> None:
    w.put(f.K_NSGONE, at, f.S_PROCFS, ppid=inst.index, cgroup=inst.number, arg=what)


def told(w: World) -> list[tuple[Any, ...]]:
    """The outputs since the last call, in short."""
    out: list[tuple[Any, ...]] = []
    outputs, w.model.outputs = w.model.outputs, []
    for o in outputs:
        if isinstance(o, NsInit):
            out.append(("init", o.inst.type, o.process.pid))
        elif isinstance(o, NsChange):
            out.append(("change", o.inst.type, o.process.pid, o.reason, "last" if o.last else "", o.tid))
        elif isinstance(o, NsLeft):
            out.append(("left", o.inst.type, o.process.pid, o.tid))
        elif isinstance(o, NsDel):
            out.append(("del", o.inst.type, o.held))
    return out


def inst(w: World, pid: int, index: int) -> Instance:
    nsset = w.model.processes[pid].state.nsset
    assert nsset is not None
    found = nsset.inst[index]
    assert found is not None
    return found


def born(w: World, pid: int, at: float) -> None:
    """A child in the namespaces of process 1, with the record that says so."""
    w.fork(1, pid, at)
    w.unshare(pid, at)


def sample(w: World, pid: int, at: float, tid: int = 0) -> None:
    w.put(f.K_EXIT_SAMPLE, at, pid=pid, tid=tid or pid)


# -- beginnings and changes


def test_a_clone_begins_what_its_creator_made() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11, pid=12)
    assert told(w) == [
        ("init", "net", 1), ("change", "net", 100, "clone", "", 0),
        ("init", "pid", 1), ("change", "pid", 100, "clone", "", 0),
    ]  # fmt: skip
    assert inst(w, 100, NET).creator == (1, 0)


def test_an_unshare_begins_and_the_next_one_leaves_the_last_behind() -> None:
    w = world()
    born(w, 100, 1000)
    w.unshare(100, 1001, uts=11)
    w.unshare(100, 1002, uts=12)
    first, second = (o for o in w.model.outputs if isinstance(o, NsInit))
    assert second.old is first.inst
    assert told(w) == [
        ("init", "uts", 100), ("change", "uts", 100, "unshare", "", 0),
        ("init", "uts", 100), ("change", "uts", 100, "unshare", "last", 0),
    ]  # fmt: skip


def test_a_setns_is_a_change_alone() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    born(w, 200, 1001)
    told(w)
    w.unshare(200, 1002, net=11)
    assert told(w) == [("change", "net", 200, "setns", "", 0)]
    assert inst(w, 200, NET) is inst(w, 100, NET)


def test_a_setns_into_what_nobody_was_known_in_begins_nothing() -> None:
    w = world()
    born(w, 200, 1001)
    w.put(f.K_SETNS, 1002, pid=200, tid=200, arg=0)
    w.unshare(200, 1002, net=11)
    assert told(w) == [("change", "net", 200, "setns", "", 0)]


def test_the_maker_is_asked_about_once() -> None:
    w = world()
    born(w, 100, 1000)
    w.model.queries.clear()
    w.unshare(100, 1001, uts=11, net=12)
    assert {query.pid for query in w.model.queries} == {100}
    w.model.queries.clear()
    w.fork(100, 101, 1002)
    w.exit(101, 1003)
    assert w.model.queries == []


def test_threads_change_on_their_own() -> None:
    w = world()
    w.fork(1, 100, 1000)
    w.thread(100, 101, 1001)
    w.unshare(100, 1002, tid=101, net=11)
    assert told(w) == [("init", "net", 100), ("change", "net", 100, "unshare", "", 101)]
    w.put(f.K_FORK, 1003, pid=100, tid=102, ppid=100, ptid=101, payload=w.ns(net=11, uts=12))
    assert told(w) == [("init", "uts", 100), ("change", "uts", 100, "clone", "", 102)]
    w.exit(100, 1004, tid=102)
    assert told(w) == [("left", "uts", 100, 102)]
    w.exit(100, 1005, tid=101)
    assert told(w) == [("left", "net", 100, 101)]


def test_nothing_is_told_when_nobody_wants_it_and_nothing_on_a_plain_fork() -> None:
    w = world()
    w.fork(1, 100, 1000)
    w.exit(100, 1001)
    assert told(w) == []
    w.model.lifecycle = False
    w.fork(1, 100, 1002, net=11)
    w.exit(100, 1003)
    assert told(w) == []


# -- ends


def test_gone_is_told_at_the_proof() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    ids(w, 1001, net=70)
    was = inst(w, 100, NET)
    w.exit(100, 1010)
    assert told(w)[2:] == [("left", "net", 100, 0)]
    verdict(w, was, GONE, 1020)
    assert [o.time for o in w.model.outputs] == [1020 * MS]
    assert told(w) == [("del", "net", False)]
    verdict(w, was, GONE, 1030)
    assert told(w) == []


def test_without_the_kernels_id_the_last_exit_is_the_end() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    ids(w, 1001)
    told(w)
    w.exit(100, 1010)
    assert told(w) == [("left", "net", 100, 0), ("del", "net", None)]


def test_one_that_ended_before_it_could_be_asked_is_minted_and_its_end_told_once() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    was = inst(w, 100, NET)
    w.exit(100, 1010)
    assert told(w)[2:] == [("left", "net", 100, 0)]
    ids(w, 1020)
    assert told(w) == [("del", "net", None)]
    assert was.serial is not None
    assert was.serial > MINTED


def test_a_kernel_that_cannot_tell_leaves_it_open() -> None:
    w = world()
    w.fork(1, 100, 1000, mnt=11)
    ids(w, 1001, mnt=70)
    was = inst(w, 100, MNT)
    w.exit(100, 1010)
    told(w)
    verdict(w, was, UNKNOWN_END, 1020)
    assert [o.time for o in w.model.outputs] == [1010 * MS]
    assert told(w) == [("del", "mnt", None)]


def test_what_is_held_lives_on_and_who_enters_it_is_in_the_same() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    ids(w, 1001, net=70)
    former = inst(w, 100, NET)
    w.exit(100, 1010)
    verdict(w, former, HELD, 1020)
    told(w)
    born(w, 200, 2000)
    w.unshare(200, 2001, net=11)
    ids(w, 2002, net=70)
    again = inst(w, 200, NET)
    assert again.serial == 70
    assert again.first == (100, 1000 * MS)
    assert told(w) == [("change", "net", 200, "setns", "", 0)]
    w.exit(200, 2010)
    verdict(w, again, GONE, 2020)
    assert told(w) == [("left", "net", 200, 0), ("del", "net", False)]


def test_it_is_the_same_even_when_the_visitor_left_before_it_was_asked() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    ids(w, 1001, net=70)
    w.exit(100, 1010)
    born(w, 200, 2000)
    w.unshare(200, 2001, net=11)
    first = inst(w, 200, NET)
    w.exit(200, 2002)
    born(w, 300, 2003)
    w.unshare(300, 2004, net=11)
    assert first.possible_predecessor is not None
    nsid(w, first, 70, 2010)  # the former one is still there, so it was that one
    nsid(w, inst(w, 300, NET), 70, 2010)
    assert (first.serial, inst(w, 300, NET).serial) == (70, 70)


def test_a_recycled_inode_is_another_namespace_and_proves_the_end_of_the_former() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    ids(w, 1001, net=70)
    w.exit(100, 1010)
    told(w)
    w.fork(1, 200, 1011, net=11)
    ids(w, 1012, net=71)
    assert inst(w, 200, NET).serial == 71
    assert [item for item in told(w) if item[0] != "change"] == [("init", "net", 1), ("del", "net", False)]


def test_an_answer_asked_too_late_is_not_believed() -> None:
    """One process makes A, B and C; A's inode is C's by the time it is asked."""
    w = world()
    born(w, 100, 1000)
    instances = []
    for at, inode in ((1001, 11), (1002, 12), (1003, 11)):
        w.unshare(100, at, uts=inode)
        instances.append(inst(w, 100, UTS))
    a, b, c = instances
    nsid(w, a, 90, 1010)
    nsid(w, b, 0, 1010)
    nsid(w, c, 90, 1010)
    assert c.serial == 90
    assert len({a.serial, b.serial, c.serial}) == 3
    assert min(a.serial or 0, b.serial or 0) > MINTED


def test_asked_in_the_last_moment_it_is_believed() -> None:
    w = world()
    born(w, 100, 1000)
    w.unshare(100, 1001, uts=11)
    a = inst(w, 100, UTS)
    w.exit(100, 1020)
    nsid(w, a, 90, 1010)
    assert a.serial == 90
    verdict(w, a, GONE, 1030)
    assert told(w)[-1] == ("del", "uts", False)


def test_a_serial_never_changes() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    found = inst(w, 100, NET)
    minted = w.model.namespaces.serial(found)
    nsid(w, found, 70, 1010)
    assert found.serial == minted > MINTED


# -- who leaves when


def test_members_leave_at_the_exit_sample_for_the_inode_may_be_anothers_at_the_exit_event() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11, uts=12)
    born(w, 200, 1001)
    was = inst(w, 100, NET)
    sample(w, 100, 1010)
    w.unshare(200, 1010.01, net=11)  # the kernel has given the inode away
    w.exit(100, 1010.02)
    assert inst(w, 200, NET) is not was
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    state = w.state(100, 1009)
    assert state.nsset is not None
    assert state.nsset.inst[NET] is was


def test_a_thread_leaves_alone() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    w.thread(100, 101, 1001)
    sample(w, 100, 1002, tid=101)
    w.exit(100, 1002.1, tid=101)
    assert inst(w, 100, NET).live == 1
    sample(w, 100, 1003)
    assert w.model.namespaces.current[NET].get(11) is None
    assert told(w)[-1] == ("left", "net", 100, 0)


def test_a_leader_that_ended_first_is_replaced_by_the_thread_that_execs() -> None:
    w = world()
    w.fork(1, 100, 1000, net=11)
    w.thread(100, 101, 1001)
    sample(w, 100, 1002)
    w.exit(100, 1002.1)
    told(w)
    w.exec(100, 1003, old=101)
    assert inst(w, 100, NET).live == 1
    assert told(w) == []
    w.exit(100, 1010)
    assert told(w) == [("left", "net", 100, 0)]


def test_a_clone_in_an_inode_thought_alive_made_a_new_one() -> None:
    """The exit event of the former holder is late: without tracepoints it may come behind."""
    w = world()
    w.fork(1, 100, 1000, net=11, pid=21)
    was = inst(w, 100, NET)
    w.fork(1, 200, 1010, net=11, pid=21)
    assert inst(w, 200, NET) is not was
    assert inst(w, 200, PID) is inst(w, 100, PID)  # that one may have been prepared by setns
    w.exit(100, 1010.01)
    assert w.model.namespaces.current[NET][11] is inst(w, 200, NET)


def test_what_proc_showed_too_early_is_not_mistaken_for_new() -> None:
    """/proc is read before the events that led there are."""
    w = world()
    w.proc(100, 1, at=1050, start=900, ns={**INITIAL_INODES_618, "net": 11})
    w.fork(100, 101, 1000)
    w.put(f.K_FORK, 1001, pid=102, tid=102, ppid=100, ptid=100, payload=w.ns())
    assert inst(w, 102, NET).initial


# -- containers


def test_a_sandbox_that_is_held_keeps_its_identifier() -> None:
    w = world()
    w.fork(1, 100, 1000, user=11)
    ids(w, 1001, user=70)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    contid = w.who(100, 1050)
    former = inst(w, 100, USER)
    w.exit(100, 1200)
    verdict(w, former, HELD, 1210)
    born(w, 200, 2000)
    w.unshare(200, 2001, user=11)
    ids(w, 2002, user=70)
    w.put(f.K_COMM, 2500, pid=1, tid=1)
    assert w.who(200, 2400) == contid
    assert inst(w, 200, USER).owner is former.owner


# -- replay


def test_a_journal_that_begins_in_the_middle_gives_the_same_serials() -> None:
    """Its instances are numbered otherwise; type and inode say which are meant."""
    w = world()
    w.fork(1, 100, 1000, net=11)
    w.proc(100, 1, at=1001, start=1000, ns={**INITIAL_INODES_618, "net": 11})
    found = inst(w, 100, NET)
    w.put(f.K_NSID, 1002, f.S_PROCFS, ppid=NET, cgroup=999, arg=70, payload=(11).to_bytes(8, "little"))
    assert found.serial == 70
    w.fork(1, 200, 1003, uts=12)
    other = inst(w, 200, UTS)
    w.put(f.K_NSID, 1004, f.S_PROCFS, ppid=NET, cgroup=other.number, arg=71, payload=(11).to_bytes(8, "little"))
    assert (found.serial, other.serial) == (70, None)
    w.exit(100, 1010)
    told(w)
    w.put(f.K_NSGONE, 1020, f.S_PROCFS, ppid=NET, cgroup=998, arg=GONE, payload=(11).to_bytes(8, "little"))
    assert told(w) == [("del", "net", False)]


# -- memory


def test_a_storm_leaves_nothing_behind() -> None:
    w = world()
    for n in range(300):
        w.fork(1, 100 + n, 1000 + n, net=11, ipc=12)
        ids(w, 1000 + n + 0.1, net=7000 + 2 * n, ipc=7001 + 2 * n)
        insts = [inst(w, 100 + n, index) for index in (NET, IPC)]
        w.exit(100 + n, 1000 + n + 0.2)
        for one in insts:
            verdict(w, one, GONE, 1000 + n + 0.3)
    w.put(f.K_MARK, 50_000, f.S_PIPELINE, arg=49_000 * MS)
    namespaces = w.model.namespaces
    assert len(namespaces.serials) + len(namespaces.unnumbered) <= len(ALL_ORDER)
    assert (namespaces.unproven_ends, namespaces.empty_by_inode, namespaces.minted) == ({}, {}, {})
    assert all(len(namespaces.current[INDEX[name]]) == 1 for name in ("net", "ipc"))


# -- forgotten early


def test_one_that_waits_for_its_serial_is_not_forgotten_before_its_end_is_told() -> None:
    w = world()
    w.fork(1, 100, 1000)
    for number in range(4):
        w.unshare(100, 1001 + number, uts=50 + number)
    one, *others = (inst for inst in w.model.namespaces.unnumbered.values() if inst.index == UTS and not inst.initial)
    nsid(w, others[0], 0, 1010)
    w.put(f.K_MARK, 1011, f.S_PIPELINE, cgroup=1011 * MS)
    assert one.number in w.model.namespaces.unnumbered  # and those behind it wait as well
    assert [inst for inst, _ in w.model.namespaces.died] == [one, *others[:2]]
    told(w)
    nsid(w, one, 0, 1012)
    assert told(w) == [("del", "uts", None)]
    w.put(f.K_MARK, 1013, f.S_PIPELINE, cgroup=1013 * MS)
    assert [inst for inst, _ in w.model.namespaces.died] == [others[1]]
    assert one.serial not in w.model.namespaces.serials


def test_an_answer_about_a_forgotten_namespace_is_not_taken_for_one_about_the_next_with_its_inode() -> None:
    w = world()
    w.model.lifecycle = False
    w.fork(1, 100, 1000)
    w.unshare(100, 1001, uts=50)
    former = inst(w, 100, UTS)
    w.unshare(100, 1002)
    w.put(f.K_MARK, 1003, f.S_PIPELINE, cgroup=1003 * MS)
    w.unshare(100, 1004, uts=50)
    nsid(w, former, 77, 1005)
    assert inst(w, 100, UTS) is not former
    assert inst(w, 100, UTS).serial is None
    nsid(w, inst(w, 100, UTS), 78, 1006)
    assert inst(w, 100, UTS).serial == 78


def test_one_process_that_makes_namespaces_one_after_the_other_leaves_none_behind() -> None:
    """Each knew the one before it, so that the last one kept all."""
    w = world()
    w.fork(1, 100, 1000)
    for number in range(200):
        w.unshare(100, 1002 + number, uts=987_000 + number)
        ids(w, 1002.5 + number)
        told(w)
    w.put(f.K_MARK, 50_000, f.S_PIPELINE, arg=49_000 * MS)
    there = [one for one in gc.get_objects() if isinstance(one, Instance) and 987_000 <= one.ino < 988_000]
    assert inst(w, 100, UTS) in there
    assert len(there) <= 2 + KEPT_STATES
    assert len(w.model.namespaces.serials) <= len(ALL_ORDER) + 1


def test_what_proc_shows_of_a_namespace_that_has_gone_by_then_is_not_kept() -> None:
    """/proc is read later than the events that are being applied: what it shows may never be seen by them."""
    w = world()
    w.fork(1, 100, 1000)
    for number in range(100):
        w.proc(100, 1, 1001 + number, start=1000, ns={**INITIAL_INODES_618, "uts": 60})
        w.called_unshare(100, 1001.2 + number, 1001.4 + number, uts=60)
        w.called_unshare(100, 1001.6 + number, 1001.8 + number, uts=61)
        ids(w, 1001.9 + number)
    assert len(w.model.namespaces.unnumbered) <= len(ALL_ORDER) + 1
