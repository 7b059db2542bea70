"""NS_INFO of a process whose threads are in different namespaces: only what they share, at every moment."""

from auditns_connector.model import processes
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import NET, UTS
from tests.unit.world import World


def world() -> World:
    w = World()
    w.fork(1, 100, 500)
    w.unshare(100, 500)
    w.thread(100, 101, 1000)
    return w


def net(w: World, at: float, index: int = NET) -> int | None:
    """The inode of the network namespace in an answer for a record stamped at ``at``; None is unknown."""
    nsset = w.state(100, at).nsset
    inst = nsset.inst[index] if nsset is not None else None
    return inst.ino if inst is not None else None


def later(w: World, at: float) -> None:
    w.put(f.K_COMM, at, pid=1, tid=1)


def test_threads_together_are_known() -> None:
    w = world()
    later(w, 9000)
    assert net(w, 2000) is not None
    assert w.model.processes[100].thread_namespaces is None


def test_a_thread_that_unshares_makes_it_unknown_from_then_on_and_shortly_before() -> None:
    w = world()
    w.unshare(100, 3000, tid=101, net=11)
    later(w, 9000)
    assert net(w, 2000) is not None
    assert [net(w, at) for at in (2995, 3000, 3005, 4000, 8000)] == [None] * 5
    assert net(w, 4000, UTS) is not None


def test_a_thread_that_has_gone_leaves_it_known_again_after_a_while() -> None:
    w = world()
    w.unshare(100, 3000, tid=101, net=11)
    w.exit(100, 5000, tid=101)
    later(w, 9000)
    assert [net(w, at) for at in (2995, 4000, 4999, 5000.5)] == [None] * 4
    assert net(w, 2000) == net(w, 6000) is not None


def test_a_thread_that_came_back_was_away() -> None:
    w = world()
    w.unshare(100, 3000, tid=101, net=11)
    w.unshare(100, 5000, tid=101)
    later(w, 9000)
    assert net(w, 4000) is None
    assert net(w, 2000) == net(w, 7000) is not None


def test_a_leader_that_goes_leaves_its_threads() -> None:
    w = world()
    w.unshare(100, 3000, net=11)
    later(w, 9000)
    assert net(w, 4000) is None
    assert net(w, 2000) is not None
    w.exit(100, 9500, tid=101)
    later(w, 12000)
    assert net(w, 10000) == 11


def test_a_thread_born_elsewhere() -> None:
    w = world()
    w.put(f.K_FORK, 3000, pid=100, tid=102, ppid=100, ptid=101, payload=w.ns(net=11))
    later(w, 9000)
    assert net(w, 4000) is None
    assert net(w, 2000) is not None


def test_an_exec_leaves_one_thread() -> None:
    w = world()
    w.unshare(100, 3000, tid=101, net=11)
    w.exit(100, 5000)
    w.exec(100, 5000, old=101)
    later(w, 9000)
    assert net(w, 4000) is None
    assert net(w, 6000) == 11


def test_a_storm_is_remembered_as_unknown() -> None:
    w = world()
    for n in range(200):
        w.unshare(100, 3000 + n, tid=101, net=11 + n % 2)
    assert len(w.model.processes[100].thread_namespaces or ()) <= processes.KEPT
    later(w, 9000)
    assert [net(w, at) for at in (2000, 3050, 3199)] == [None] * 3


def test_threads_that_ended_with_an_exec_are_none_of_what_comes_behind_it() -> None:
    """The stamp of a record is as old as the clock's last tick: the exec, and its threads, may have been since."""
    w = world()
    w.unshare(100, 3000, tid=101, net=11)
    w.exit(100, 5000, tid=101)
    w.exec(100, 5001)
    assert w.who_exec(100, 4997) is None
    w.called_unshare(100, 5002, 5003, uts=12)
    w.told_call(100, 4998)
    later(w, 9000)
    assert net(w, 4998) is not None
    assert net(w, 4998, UTS) == 12
