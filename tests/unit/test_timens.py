"""Time namespaces, which no event names: right or unknown, one kernel history at a time."""

import pytest

from auditns_connector.attribution.exec_match import find_exec
from auditns_connector.model.outputs import NsChange
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWTIME, INITIAL_INODES_618, TIME
from tests.unit.world import World

HOST = INITIAL_INODES_618["time"]
NEW = 4026533000


def world(kernel: str = "6.18.1", lifecycle: bool = False) -> World:
    w = World(timens=True, kernel=kernel, lifecycle=lifecycle)
    w.proc(1, 0, ns=ns())
    return w


def ns(time: int = HOST, children: int | None = None, **more: int) -> dict[str, int]:
    inodes = {**INITIAL_INODES_618, "pid_for_children": INITIAL_INODES_618["pid"], **more}
    return {**inodes, "time": time, "time_for_children": time if children is None else children}


def call(w: World, kind: int, pid: int, flags: int, at: float, tid: int = 0, **changed: int) -> None:
    """A system call that succeeds: its entry, then the record of the namespaces."""
    w.put(kind, at, pid=pid, tid=tid or pid, arg=flags)
    w.unshare(pid, at + 0.01, tid, **changed)


def timens(w: World, pid: int) -> int | None:
    nsset = w.model.processes[pid].state.nsset
    inst = nsset.inst[TIME] if nsset is not None else None
    return inst.ino if inst is not None else None


def timens_of_exec(w: World, pid: int, at: float) -> int | None:
    state = find_exec(w.model, pid, -1, [int(at * 1e6)], w.now, b"/bin/x", b"x")
    assert state.nsset is not None
    inst = state.nsset.inst[TIME]
    return inst.ino if inst is not None else None


def asked(w: World) -> set[int]:
    pids, w.model.queries = {query.pid for query in w.model.queries}, []
    return pids


def start(w: World, pid: int = 100, at: float = 1000) -> None:
    w.fork(1, pid, at, net=INITIAL_INODES_618["net"])
    asked(w)


def test_other_calls_leave_it_alone() -> None:
    w = world()
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWNET, 1001, net=77)
    call(w, f.K_UNSHARE, 100, CLONE_NEWPID, 1002, net=77)
    call(w, f.K_SETNS, 100, CLONE_NEWNET, 1003, net=78)
    call(w, f.K_SETNS, 100, 0, 1004, net=79)
    w.exec(100, 1005)
    w.fork(100, 101, 1006, net=79)
    assert (timens(w, 100), timens(w, 101)) == (HOST, HOST)
    assert timens_of_exec(w, 100, 1005) == HOST
    assert asked(w) == set()


def test_unshare_moves_at_exec_and_the_answer_holds_from_then_on() -> None:
    w = world(lifecycle=True)
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    assert timens(w, 100) == HOST
    assert asked(w) == {100}
    w.exec(100, 1005)
    assert timens(w, 100) is None
    assert asked(w) == {100}
    w.proc(100, 1, 1010, start=1000, ns=ns(NEW))
    assert timens(w, 100) == NEW
    assert timens_of_exec(w, 100, 1005) == NEW
    changes = [(out.reason, out.inst.ino) for out in w.model.outputs if isinstance(out, NsChange)]
    assert changes == [("unshare", NEW)]


def test_known_before_the_exec() -> None:
    w = world()
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    w.proc(100, 1, 1002, start=1000, ns=ns(HOST, NEW))
    assert timens(w, 100) == HOST
    asked(w)
    w.exec(100, 1005)
    assert (timens(w, 100), timens_of_exec(w, 100, 1005)) == (NEW, NEW)
    w.fork(100, 101, 1010, net=INITIAL_INODES_618["net"])
    assert timens(w, 101) == NEW
    assert asked(w) == set()


def test_gone_before_it_could_be_asked() -> None:
    w = world()
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    w.exec(100, 1005)
    w.exit(100, 1006)
    assert timens_of_exec(w, 100, 1005) is None


def test_an_answer_read_before_the_end_still_counts() -> None:
    w = world()
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    w.exec(100, 1005)
    w.exit(100, 1006)
    w.proc(100, 1, 1005.5, start=1000, ns=ns(NEW))
    assert timens_of_exec(w, 100, 1005) == NEW


def test_an_answer_from_before_the_change_is_asked_for_again() -> None:
    w = world()
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    w.exec(100, 1005)
    asked(w)
    w.proc(100, 1, 1004, start=1000, ns=ns(HOST, NEW))
    assert timens(w, 100) is None
    assert asked(w) == {100}


def test_a_child_is_unknown_until_it_execs() -> None:
    w = world()
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    w.proc(100, 1, 1002, start=1000, ns=ns(HOST, NEW))
    w.fork(100, 101, 1010, net=INITIAL_INODES_618["net"])  # by fork it is in there, by vfork not yet
    assert timens(w, 101) is None
    assert asked(w) == {100, 101}
    w.exec(101, 1011)
    assert (timens(w, 100), timens(w, 101)) == (HOST, NEW)
    w.fork(101, 102, 1012, net=INITIAL_INODES_618["net"])
    assert timens(w, 102) == NEW


def test_a_child_of_a_process_in_doubt_is_in_doubt_and_asked_for() -> None:
    w = world()
    start(w)
    call(w, f.K_SETNS, 100, CLONE_NEWTIME, 1001)
    asked(w)
    w.fork(100, 101, 1010, net=INITIAL_INODES_618["net"])
    assert (timens(w, 100), timens(w, 101)) == (None, None)
    assert asked(w) == {101}
    w.proc(101, 100, 1011, start=1010, ns=ns(NEW))
    w.proc(100, 1, 1012, start=1000, ns=ns(NEW))
    assert (timens(w, 100), timens(w, 101)) == (NEW, NEW)


def test_a_child_of_a_process_in_doubt_whose_namespaces_are_told_in_a_record_of_their_own() -> None:
    w = world(lifecycle=True)
    start(w)
    w.unshare(100, 1001, net=77)
    w.put(f.K_FORK, 1002, pid=101, tid=101, ppid=100, ptid=100)
    w.unshare(101, 1002.001, net=77)
    w.proc(101, 100, 1003, start=1002, ns=ns(NEW, net=77))
    told = [(out.process.pid, out.inst.type, out.reason) for out in w.model.outputs if isinstance(out, NsChange)]
    assert told == [(100, "net", "unshare"), (101, "time", "clone")]


def test_an_answer_that_was_overtaken_by_the_exec_it_shows() -> None:
    w = world()
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    # read from 1002 on, but the time namespace only after the exec at 1003, whose event comes behind the answer
    w.proc(100, 1, 1002, start=1000, ns=ns(NEW))
    w.exec(100, 1003)
    assert timens_of_exec(w, 100, 1003) == NEW


def test_a_second_doubt_before_the_first_is_answered() -> None:
    w = world()
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    w.fork(100, 101, 1010, net=INITIAL_INODES_618["net"])
    w.exec(101, 1020)
    w.proc(101, 100, 1030, start=1010, ns=ns(NEW))
    nsset = w.state(101, 1011).nsset
    assert nsset is not None
    assert nsset.inst[TIME] is None
    assert timens_of_exec(w, 101, 1020) == NEW
    assert timens(w, 101) == NEW


@pytest.mark.parametrize("flags", [CLONE_NEWTIME, CLONE_NEWTIME | CLONE_NEWNET, 0])
def test_setns_moves_at_once(flags: int) -> None:
    w = world(lifecycle=True)
    start(w)
    call(w, f.K_SETNS, 100, flags, 1001)
    assert timens(w, 100) is None
    w.proc(100, 1, 1002, start=1000, ns=ns(NEW))
    assert timens(w, 100) == NEW
    assert [out.reason for out in w.model.outputs if isinstance(out, NsChange)] == ["setns"]


def test_clone3_with_the_flag() -> None:
    w = world()
    start(w)
    w.put(f.K_NEWTASK, 1000.01, ppid=1, ptid=1, tid=100, arg=CLONE_NEWTIME)
    assert timens(w, 100) is None
    assert asked(w) == {100}
    w.proc(100, 1, 1002, start=1000, ns=ns(NEW))
    assert timens(w, 100) == NEW


def test_a_record_without_a_call_before_it_may_have_been_anything() -> None:
    w = world(lifecycle=True)
    start(w)
    w.unshare(100, 1001, net=77)
    assert timens(w, 100) is None
    w.proc(100, 1, 1002, start=1000, ns=ns(HOST, net=77))
    assert timens(w, 100) == HOST
    assert [out.inst.type for out in w.model.outputs if isinstance(out, NsChange)] == ["net"]


def test_two_records_before_an_answer_are_no_change_where_it_shows_none() -> None:
    w = world(lifecycle=True)
    start(w)
    w.unshare(100, 1001, net=77)
    w.unshare(100, 1002, net=78)
    w.proc(100, 1, 1003, start=1000, ns=ns(net=78))
    told = [output.inst.type for output in w.model.outputs if isinstance(output, NsChange)]
    assert (timens(w, 100), told) == (HOST, ["net", "net"])


def test_a_call_that_failed_is_not_the_next_one() -> None:
    w = world()
    start(w)
    w.put(f.K_UNSHARE, 1001, pid=100, tid=100, arg=CLONE_NEWTIME)
    call(w, f.K_UNSHARE, 100, CLONE_NEWNET, 1002, net=77)
    assert timens(w, 100) == HOST


def test_a_thread_that_unshares_and_execs() -> None:
    w = world()
    start(w)
    w.thread(100, 105, 1001)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1002, tid=105)
    w.exit(100, 1003)
    w.exec(100, 1003.1, old=105)
    assert timens(w, 100) is None
    w.proc(100, 1, 1004, start=1000, ns=ns(NEW))
    assert timens(w, 100) == NEW


def test_before_linux_6_3_an_exec_stays() -> None:
    w = world("6.1.0-28-amd64")
    start(w)
    call(w, f.K_UNSHARE, 100, CLONE_NEWTIME, 1001)
    w.proc(100, 1, 1002, start=1000, ns=ns(HOST, NEW))
    w.exec(100, 1005)
    assert timens(w, 100) is None
    w.proc(100, 1, 1006, start=1000, ns=ns(HOST, NEW))
    assert timens(w, 100) == HOST


def test_found_at_the_start() -> None:
    w = world()
    w.proc(100, 1, 1000, start=500, ns=ns(HOST, NEW))
    w.fork(100, 101, 1001, net=INITIAL_INODES_618["net"])
    assert timens(w, 101) is None
    w.exec(101, 1002)
    assert timens(w, 101) == NEW


def test_a_kernel_without_them() -> None:
    w = World()
    w.fork(1, 100, 1000, net=INITIAL_INODES_618["net"])
    w.unshare(100, 1001, net=77)
    assert asked(w) == set()
