"""A process whose cgroup is known late, what was before, and whom it made meanwhile."""

import pytest

from auditns_connector.model.apply.perf import CLONE_INTO_CGROUP
from auditns_connector.vocabulary import frames as f
from tests.unit.test_entries import OTHER, PATH, begun, container, entry, world
from tests.unit.world import HEX, World, contid

ONE, TWO = contid(HEX), contid(HEX[::-1])
#: a cgroup that no frame has told of
UNTOLD = 999


def into_cgroup(w: World, parent: int, child: int, at: float, **namespaces: int) -> None:
    """A child that clone3(2) puts into a cgroup."""
    w.fork(parent, child, at, **namespaces)
    w.put(f.K_NEWTASK, at, pid=child, tid=child, arg=CLONE_INTO_CGROUP)


def tell(w: World, at: float, path: str = PATH) -> None:
    w.put(f.K_CGROUP, at, cgroup=UNTOLD, payload=path.encode() + b"\0")


def asked(w: World) -> set[int]:
    queries, w.model.queries = w.model.queries, []
    return {query.pid for query in queries if query.what == "proc"}


@pytest.fixture
def w() -> World:
    made = world()
    container(made, 200, 200)
    begun(made)
    return made


def test_children_of_one_that_entered_by_its_birth_are_where_it_is(w: World) -> None:
    """They had inherited nothing, and were unknown until they ended."""
    into_cgroup(w, 60, 300, 300)
    w.fork(300, 301, 320)
    w.fork(301, 302, 340)
    w.exit(302, 360)
    assert [w.who(pid, 350) for pid in (300, 301, 302)] == ["?"] * 3
    assert {300, 301, 302} <= asked(w)
    w.proc(300, 60, 400, 300, cg=PATH)
    assert [w.who(pid, 350) for pid in (300, 301, 302)] == [ONE] * 3
    (one,) = begun(w)
    assert entry(w, 300) is entry(w, 301) is entry(w, 302) is one
    w.fork(301, 303, 420)
    assert (w.who(303, 430), entry(w, 303)) == (ONE, one)
    for pid in (300, 301, 303, 201, 200):
        w.exit(pid, 500)
    assert w.model.containers.by_key == {}, "who has ended is counted no more"


def test_children_are_where_the_exec_of_one_shows_it(w: World) -> None:
    into_cgroup(w, 60, 300, 300)
    w.fork(300, 301, 320)
    tell(w, 330)
    w.exec(300, 340, cgroup=UNTOLD)
    assert [w.who(pid, 360) for pid in (300, 301)] == [ONE] * 2
    assert w.state(301, 360).origin == "inherited"
    assert entry(w, 301) is entry(w, 300) is not None


def test_a_child_that_is_known_first_is_of_the_entry_of_its_maker(w: World) -> None:
    into_cgroup(w, 60, 300, 300)
    w.fork(300, 301, 320)
    tell(w, 330)
    w.exec(301, 340, cgroup=UNTOLD)
    assert (w.who(301, 360), entry(w, 301)) == (ONE, None)
    w.proc(300, 60, 400, 300, cg=PATH)
    (one,) = begun(w)
    assert entry(w, 301) is one


def test_a_child_that_went_elsewhere_is_there(w: World) -> None:
    into_cgroup(w, 60, 300, 300)
    w.fork(300, 301, 320)
    w.attach(301, OTHER, 340)
    into_cgroup(w, 300, 302, 345)
    w.fork(302, 303, 350)
    w.proc(300, 60, 400, 300, cg=PATH)
    assert [w.who(pid, 390) for pid in (300, 301, 302, 303)] == [ONE, TWO, "?", "?"]
    w.proc(302, 300, 410, 345, cg=OTHER)
    assert [w.who(pid, 420) for pid in (301, 302, 303)] == [TWO] * 3


def test_who_is_moved_before_it_is_known_leaves_its_children_to_proc(w: World) -> None:
    into_cgroup(w, 60, 300, 300)
    w.fork(300, 301, 320)
    w.attach(300, OTHER, 340)
    assert [w.who(pid, 360) for pid in (300, 301)] == [TWO, "?"]
    assert 301 in asked(w)
    w.proc(301, 300, 400, 320, cg=PATH)
    assert w.who(301, 390) == ONE


def test_a_cgroup_without_a_path_says_nothing_of_the_time_before(w: World) -> None:
    """The whole life of the process was said to have been in the container: also what it did on the host before."""
    w.fork(60, 300, 300)
    w.put(f.K_ATTACH, 400, tid=300, cgroup=UNTOLD, payload=PATH.encode() + b"\0")
    w.exec(300, 450, cgroup=UNTOLD)
    w.fork(300, 301, 455)
    assert [w.who(300, at) for at in (350, 420, 470)] == [None, ONE, "?"]
    w.proc(300, 60, 480, 300, cg=PATH)
    assert [w.who(300, at) for at in (350, 420, 470)] == [None, ONE, ONE]
    assert w.who(301, 470) == ONE
    assert w.who_exec(300, 449) == ONE, "its exec came when that was not known yet"


def test_nor_where_that_was_not_known_either() -> None:
    w = world(v2_only=False)
    container(w, 200, 200)
    w.fork(290, 300, 300)
    w.put(f.K_ATTACH, 400, tid=300, cgroup=UNTOLD, payload=PATH.encode() + b"\0")
    w.exec(300, 450, cgroup=UNTOLD)
    w.proc(300, 290, 480, 300, cg=PATH)
    assert [w.who(300, at) for at in (350, 470)] == ["?", ONE]


def test_what_happened_behind_a_loss_is_not_said_of_the_time_before(w: World) -> None:
    into_cgroup(w, 60, 300, 300)
    w.put(f.K_LOST, 500, arg=3, cgroup=400 * 1_000_000)
    tell(w, 510)
    w.exec(300, 520, cgroup=UNTOLD)
    assert w.who(300, 350) == "?"
