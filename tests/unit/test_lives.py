"""Lives of namespaces that the table in C knows alone: what becomes of them, and what is left to Python."""

import pytest

from auditns_connector._native import lib
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.model.outputs import NsChange, NsDel, NsInit
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import PID, USER
from tests.property.test_grouping import points_of
from tests.unit.world import MS, REAL, World


@pytest.fixture
def world() -> World:
    """The host, with process 100 a row."""
    w = World(lifecycle=True)
    w.fork(1, 100, 1000)
    w.model.outputs = []
    w.model.forget_questions()
    return w


def alone(w: World, pid: int) -> bool:
    """Whether the newest holder of ``pid`` is in the table alone."""
    row = lib.table_find(w.model.table.c, pid, w.model.table._version)
    return bool(row and lib.table_life_of(w.model.table.c, row))


def lives(w: World, who: int, at: float, /, **namespaces: int) -> None:
    """One that is born with namespaces of its own, and ends."""
    w.fork(100, who, at, **namespaces)
    w.put(f.K_NEWTASK, at, tid=who, arg=0x30000000)
    w.exit(who, at + 1)


def named(w: World, number: int, index: int, at: float, serial: int = 0) -> None:
    w.put(f.K_NSID, at, f.S_PROCFS, ppid=index, cgroup=number, arg=serial, payload=bytes(8))


def test_no_object_is_made_of_one_that_nobody_looks_at(world: World) -> None:
    for i in range(50):
        lives(world, 200 + i, 1010 + i, user=7000, pid=8000)
    assert all(alone(world, 200 + i) for i in range(50))
    assert not [pid for pid in world.model.table.held if pid >= 200]
    assert world.model.pending_outputs == 50 * 7


def test_a_scan_behind_a_loss_looks_at_nobody_who_has_ended(world: World) -> None:
    """Where a storm makes the kernel's rings lose events, tens of thousands are remembered that have ended."""
    for i in range(50):
        lives(world, 200 + i, 1010 + i, user=7000, pid=8000)
    world.fork(100, 400, 1100, user=7001, pid=8001)
    world.fork(100, 401, 1101)
    world.put(f.K_RESYNC, 1200, f.S_PROCFS, arg=1)
    world.put(f.K_RESYNC, 1201, f.S_PROCFS, arg=2)
    assert all(alone(world, 200 + i) for i in range(50))
    assert world.model.processes[400].end == world.model.processes[401].end == 1200 * MS


def test_who_is_looked_at_is_as_if_it_always_had_been_an_object(world: World) -> None:
    lives(world, 200, 1010, user=7000, pid=8000)
    process = world.model.processes[200]
    assert not alone(world, 200)
    assert process.end == 1011 * MS
    assert process.state.container is not None
    assert process.state.container.init == (200, 1010 * MS)
    assert [type(output) for output in world.model.outputs].count(NsInit) == 2


def test_what_a_life_tells_it_tells_in_its_order(world: World) -> None:
    lives(world, 200, 1010, user=7000, pid=8000)
    first = world.model.namespaces.created - 1
    named(world, first, PID, 1020)
    named(world, first + 1, USER, 1020)
    told = [type(output).__name__ for output in world.model.outputs]
    assert told == ["ContainerInfo", *["NsInit", "NsChange"] * 2, "NsLeft", "NsLeft", "NsDel", "NsDel"]
    assert all(output.process.pid == 200 for output in world.model.outputs if isinstance(output, NsDel))


def test_the_program_of_one_is_what_a_record_names_not_what_execve_was_given(world: World) -> None:
    world.exec(100, 1005, "./run")
    lives(world, 200, 1010, user=7000, pid=8000)
    assert alone(world, 200)
    assert [output.exe for output in world.model.outputs if isinstance(output, NsChange)] == [b"", b""]
    world.model.outputs = []
    lives(world, 201, 1020, user=7001, pid=8001)
    world.put(f.K_EXE, 1030, f.S_AUDIT, pid=100, arg=1005 * MS, payload=b"/srv/run\0")
    assert [output.exe for output in world.model.outputs if isinstance(output, NsChange)] == [b"/srv/run"] * 2


def test_who_does_more_than_end_is_for_python(world: World) -> None:
    for i, act in enumerate(("exec", "fork", "unshare")):
        pid = 200 + i
        world.fork(100, pid, 1010 + i, user=7000 + i, pid=8000 + i)
        assert alone(world, pid)
        if act == "exec":
            world.exec(pid, 1020)
        elif act == "fork":
            world.fork(pid, 300, 1020)
        else:
            world.unshare(pid, 1020, net=9000)
        assert not alone(world, pid)


def test_who_is_born_where_somebody_is_known_is_for_python(world: World) -> None:
    world.fork(100, 200, 1010, user=7000, pid=8000)
    assert world.model.processes[200].end is None  # looked at: its namespaces are known to Python
    world.fork(100, 201, 1011, user=7000, pid=8001)
    assert not alone(world, 201)


@pytest.mark.parametrize(("at", "serial"), [(1012.5, 0), (1500, 0), (1500, 71)])
def test_a_serial_of_ours_for_one_whose_inode_was_python_s_is_python_s_as_well(
    world: World, at: float, serial: int
) -> None:
    lives(world, 200, 1010, user=7000)
    assert world.model.processes[200].end is not None
    lives(world, 201, 1012, user=7000)
    named(world, world.model.namespaces.created, USER, at, serial)
    assert not alone(world, 201)


def test_one_whose_inode_was_of_a_namespace_that_is_asked_about_is_named_by_python(world: World) -> None:
    lives(world, 200, 1010, user=7000)
    assert world.model.processes[200].end is not None
    first = world.model.namespaces.created
    lives(world, 201, 1012, user=7000)
    assert alone(world, 201)
    named(world, first, USER, 1010.5, serial=70)  # it was asked while it lived
    named(world, first + 1, USER, 1012.5, serial=71)
    gone = [output for output in world.model.outputs if isinstance(output, NsDel)]
    assert [(output.inst.serial, output.held) for output in gone] == [(70, False)]
    assert not alone(world, 201)


def test_one_that_is_named_too_late_has_a_serial_of_ours(world: World) -> None:
    lives(world, 200, 1010, user=7000)
    named(world, world.model.namespaces.created, USER, 1500, serial=70)
    assert alone(world, 200)
    (gone,) = [output for output in world.model.outputs if isinstance(output, NsDel)]
    assert gone.inst.serial is not None
    assert not gone.inst.has_kernel_id


def test_the_kernels_id_is_given_by_python(world: World) -> None:
    world.fork(100, 200, 1010, user=7000)
    named(world, world.model.namespaces.created, USER, 1010.5, serial=70)
    assert not alone(world, 200)
    assert 70 in world.model.namespaces.serials


def test_no_row_answers_for_one_with_namespaces_of_its_own(world: World) -> None:
    correlator = Correlator(world.model)

    def by_rows(pid: int, at: int) -> bool:
        points = points_of([(pid, 1, at)], REAL // MS)
        if correlator.answer_ready(points, (at + 50) * MS) is not None:
            return True
        correlator.answer(points, (at + 50) * MS)
        return False

    world.fork(100, 199, 3000)
    assert [by_rows(100, 4000), by_rows(100, 4001)] == [False, True]
    world.fork(100, 200, 5000, pid=8000)
    assert not by_rows(200, 5500)
    assert world.who(200, 5500) is not None


def test_they_are_forgotten_with_their_processes(world: World) -> None:
    for i in range(20):
        lives(world, 200 + i, 1010 + i, user=7000, pid=8000)
    c = world.model.table.c
    rows = c.processes
    world.model.outputs = []
    world.put(f.K_MARK, 60_000, f.S_PIPELINE, arg=50_000 * MS)
    assert c.processes == rows - 20
    assert not c.alive


def test_who_is_forgotten_before_it_was_told_is_told(world: World) -> None:
    lives(world, 200, 1010, user=7000)
    world.put(f.K_MARK, 60_000, f.S_PIPELINE, arg=50_000 * MS)
    assert [type(output) for output in world.model.outputs].count(NsInit) == 1


def test_looking_at_all_namespaces_shows_those_of_living_ones(world: World) -> None:
    world.fork(100, 200, 1010, user=7000, pid=8000)
    assert alone(world, 200)
    assert 8000 in [inst.ino for inst in world.model.namespaces.current[PID].values()]
    assert not alone(world, 200)
    assert [c.kind for c in world.model.containers.by_key.values()] == ["sandbox"]
