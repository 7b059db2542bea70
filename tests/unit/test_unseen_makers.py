"""Who made a namespace that was not seen to be made: unknown where that is open, and no more than that."""

from typing import Any

import pytest

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.world import HEX, MS, World, contid

DOCKER = f"/system.slice/docker-{HEX}.scope"
IN = contid(HEX)
TIME = 5000


def ns(**own: int) -> dict[str, int]:
    return {**INITIAL_INODES_618, **own}


def lose(w: World, since: int, until: int) -> None:
    w.put(f.K_LOST, until, arg=1, cgroup=since * MS)


def scan(w: World, at: int, *rows: tuple[int, int, int, str, dict[str, int]]) -> None:
    """/proc is read: (pid, ppid, start, cgroup, namespaces) of everybody but 1."""
    w.put(f.K_RESYNC, at, source=f.S_PROCFS, arg=1)
    w.proc(1, 0, ns={})
    for pid, ppid, start, cgroup, namespaces in rows:
        w.proc(pid, ppid, start=start, cg=cgroup, ns=namespaces)
    w.put(f.K_RESYNC, at, source=f.S_PROCFS, arg=2)
    w.now = TIME * MS


def answer(w: World, pid: int) -> str | None:
    return w.who(pid, TIME)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("types", [["pid"], ["pid", "user"]])
def test_a_maker_that_is_in_a_container_by_its_cgroup_alone_proves_nothing(types: list[str], lost: bool) -> None:
    """It may have been moved there behind that, and the child out of there as well."""
    w = World(sandbox_types=types)
    if lost:
        lose(w, 10, 1000)
    rows = [(100, 1, 100, DOCKER, ns())]
    rows += [(101 + place, 100, 200, "/", ns(**{type_: 77})) for place, type_ in enumerate(types)]
    scan(w, 1000, *rows)
    assert answer(w, 100) == IN
    assert [answer(w, pid) for pid, *_ in rows[1:]] == ["?"] * len(types)


@pytest.mark.parametrize("lost", [False, True])
def test_a_maker_in_the_containers_own_pid_namespace_proves_it(lost: bool) -> None:
    """Whatever its cgroup is: nobody leaves a pid namespace."""
    w = World(sandbox_types=["pid"])
    if lost:
        w.fork(1, 100, 5, pid=70)
        w.attach(100, DOCKER, 6)
        lose(w, 10, 1000)
    scan(
        w, 1000, (100, 1, 5, DOCKER, ns(pid=70)), (101, 100, 200, DOCKER, ns(pid=70)), (102, 101, 300, "/", ns(pid=77))
    )
    assert [answer(w, pid) for pid in (100, 101, 102)] == [IN] * 3


def test_a_maker_that_shares_its_user_namespace_proves_it() -> None:
    """As of a rootless Podman without cgroups: conmon and the container's first process are in its user namespace."""
    w = World(sandbox_types=["pid", "user"])
    scan(
        w, 1000, (100, 1, 100, "/", ns(user=70)), (101, 100, 200, "/", ns(user=70, pid=77)),
        (102, 100, 200, "/", ns(user=71)),
    )  # fmt: skip
    assert answer(w, 101) == answer(w, 100) not in (None, "?")
    assert answer(w, 102) == "?", "100 may have unshared its user namespace behind that"


def test_a_host_process_has_made_a_sandbox() -> None:
    w = World(sandbox_types=["pid"])
    lose(w, 10, 1000)
    scan(w, 1000, (100, 1, 100, "/", ns()), (101, 100, 200, "/", ns(pid=77)))
    assert answer(w, 100) is None
    assert answer(w, 101) not in (None, "?", IN)


@pytest.mark.parametrize(("moved", "sandbox"), [(50, False), (500, True)])
def test_where_a_maker_was_then_events_have_told(moved: int, sandbox: bool) -> None:
    """The birth of 101 was not taken for what it was; the moves of its maker were seen, and nothing is missing."""
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 20)
    w.attach(100, DOCKER, moved)
    w.proc(101, 100, 1000, start=200, cg="/", ns=ns(pid=77))
    w.now = TIME * MS
    assert (answer(w, 101) == IN) is not sandbox
    assert answer(w, 101) not in (None, "?")


def test_a_maker_that_has_ended_unread_is_open() -> None:
    w = World(sandbox_types=["pid"])
    lose(w, 10, 1000)
    scan(w, 1000, (101, 100, 200, "/", ns(pid=77)), (102, 1, 200, "/", ns(pid=78)))
    assert answer(w, 101) == "?"
    assert answer(w, 102) not in (None, "?", IN)


def test_where_a_namespace_was_made_no_later_move_of_its_first_process_tells() -> None:
    """101 may have been made in a container: then that owns its namespace, wherever it goes."""
    w = World(sandbox_types=["pid"])
    lose(w, 10, 1000)
    scan(w, 1000, (100, 1, 100, DOCKER, ns()), (101, 100, 200, "/", ns(pid=77)))
    other = DOCKER.replace(HEX, HEX[::-1])
    w.attach(101, other, 2000)
    w.fork(1, 102, 2200, pid=77)
    w.attach(101, "/", 2400)
    w.now = TIME * MS
    assert [w.who(101, 2300), answer(w, 101), answer(w, 102)] == [contid(HEX[::-1]), "?", "?"]


def test_a_maker_that_left_a_container_within_the_loss_is_open() -> None:
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 2)
    w.attach(100, DOCKER, 5)
    lose(w, 10, 1000)
    scan(w, 1000, (100, 1, 2, "/", ns()), (101, 100, 200, "/", ns(pid=77)))
    assert [answer(w, 100), answer(w, 101)] == [None, "?"]


def joined(w: World, *more: Any) -> None:
    """The container's first process 100, and 102, which is in its pid namespace alone."""
    scan(w, 1000, (100, 1, 5, DOCKER, ns(pid=70)), (102, 1, 500, "/", ns(pid=70)), *more)


def test_who_may_have_been_in_a_sandbox_before_it_was_a_containers_is_unknown() -> None:
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 5, pid=70)
    lose(w, 10, 1000)
    joined(w)
    assert [answer(w, 100), answer(w, 102)] == [IN, "?"]
    w.fork(1, 103, 2000, pid=70)
    w.now = TIME * MS
    assert answer(w, 103) == IN, "it enters a container's namespace"


def test_who_was_in_a_sandbox_before_it_was_a_containers_stays_there() -> None:
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 5, pid=70)
    w.fork(100, 101, 6)
    lose(w, 10, 1000)
    joined(w, (101, 100, 6, "/", ns(pid=70)))
    assert answer(w, 101) not in (None, "?", IN)


def test_who_has_entered_a_containers_pid_namespace_is_known_at_the_start() -> None:
    w = World(sandbox_types=["pid"])
    joined(w)
    assert [answer(w, 100), answer(w, 102)] == [IN, IN]


@pytest.mark.parametrize("into", [False, True])
def test_who_entered_within_a_loss_what_had_been_a_containers_before_is_known(into: bool) -> None:
    """Its runtime has moved its first process there alone, or has made it there (CLONE_INTO_CGROUP)."""
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 5, pid=70)
    if into:
        w.put(f.K_NEWTASK, 5, tid=100, arg=0x2_0000_0000 | 0x2000_0000)
        w.proc(100, 1, 6, start=5, cg=DOCKER, ns=ns(pid=70))
    else:
        w.attach(100, DOCKER, 6)
    lose(w, 10, 1000)
    joined(w)
    assert [answer(w, 100), answer(w, 102)] == [IN, IN]


def test_a_sandbox_that_was_seen_to_become_a_containers_while_others_lived_there() -> None:
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 5, pid=70)
    w.fork(100, 101, 6)
    w.attach(100, DOCKER, 7)
    lose(w, 10, 1000)
    joined(w)
    assert [answer(w, 100), answer(w, 102)] == [IN, "?"], "101 may have made 102"
