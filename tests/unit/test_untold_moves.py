"""Where neither tracepoints nor samples tell of moves between cgroups: what a program's process is in is asked of
/proc, and unknown until that has answered."""

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.world import HEX, World, contid


def world() -> World:
    return World(features=["newtask", "exit_sample"])


def ran(w: World, pid: int, at: float) -> None:
    """The process has run a program."""
    w.put(f.K_COMM, at, pid=pid, tid=pid, arg=1, payload=b"x\0")
    w.exec(pid, at)


def answered(w: World, pid: int, at: float, *, start: float, cg: str) -> None:
    w.proc(pid, 1, at, start=start, cg=cg, ns={**INITIAL_INODES_618, "pid": 11})


def test_the_first_of_a_sandbox_may_be_a_runtimes_by_the_time_it_runs_a_program() -> None:
    w = world()
    w.fork(1, 100, 1000, pid=11)
    assert w.who(100, 1001) not in (None, "?")
    ran(w, 100, 1010)
    assert w.who(100, 1030) == "?"
    answered(w, 100, 1040, start=1000, cg=f"/docker/{HEX}")
    assert w.who(100, 1060) == contid(HEX)
    w.fork(100, 101, 1070)
    ran(w, 101, 1071)
    assert w.who(101, 1090) == contid(HEX)


def test_one_that_stays_where_it_was_is_the_sandboxs_again() -> None:
    w = world()
    w.fork(1, 100, 1000, pid=11)
    sandbox = w.who(100, 1001)
    ran(w, 100, 1010)
    answered(w, 100, 1040, start=1000, cg="/")
    assert w.who(100, 1060) == sandbox
    w.fork(100, 101, 1070)
    ran(w, 101, 1071)
    assert w.who(101, 1090) == sandbox  # not the first: whoever moves it now takes it out of a container that is known


def test_where_moves_are_told_nothing_is_in_doubt() -> None:
    w = World()
    w.fork(1, 100, 1000, pid=11)
    sandbox = w.who(100, 1001)
    ran(w, 100, 1010)
    assert w.who(100, 1030) == sandbox
