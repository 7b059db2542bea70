"""Where a process belongs: the rules decide alone, and unknown is what cannot be told apart, no more."""

from typing import Any

import pytest

from auditns_connector.model.containers import Containers
from auditns_connector.model.membership import RULES, Doubt, Evidence, decide, looked_at, no_cgroup
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.runtimes import unit_of
from auditns_connector.vocabulary.namespaces import ALL_ORDER, INDEX, NET, PID, USER, UTS
from tests.unit.world import HEX, World, contid

DOCKER = f"/system.slice/docker-{HEX}.scope"
IN = contid(HEX)
PODMAN = f"/machine.slice/libpod-{HEX[::-1]}.scope"


def in_docker(**hello: Any) -> World:
    """100 is a process of a container that its cgroup names."""
    w = World(sandbox_types=["pid"], **hello)
    w.fork(1, 100, 10)
    w.attach(100, DOCKER, 20)
    w.exec(100, 25)
    return w


# -- unknown only where answers differ


@pytest.mark.parametrize("kind", ["uts", "net", "ipc", "user", "mnt", "cgroup"])
@pytest.mark.parametrize("host", [True, False])
def test_who_changes_its_namespaces_without_end_stays_known(kind: str, host: bool) -> None:
    w = in_docker()
    who, wanted = (1, None) if host else (100, IN)
    w.fork(who, 200, 40)
    for number in range(1000):
        w.unshare(200, 50 + number, **{kind: 4026540000 + number})
    told = [w.who(200, 60 + number) for number in range(0, 980, 7)]
    assert told == [wanted] * len(told)
    assert len(w.model.processes[200].past or ()) <= 64
    assert w.inode(200, 70, INDEX[kind]) is None, "which one it was is not remembered"
    assert w.inode(200, 70, INDEX["pid"]) is not None


def test_states_in_different_containers_are_forgotten_all_the_same() -> None:
    w = in_docker()
    w.fork(1, 200, 40)
    for number in range(200):
        w.attach(200, (DOCKER, "/")[number % 2], 50 + 20 * number)
    assert w.who(200, 60) == "?"
    assert w.who(200, 50 + 20 * 198 + 1) == IN


def test_a_host_process_in_other_namespaces_is_the_hosts() -> None:
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 10, net=70, uts=71, ipc=72, mnt=73, cgroup=74, user=75)
    w.fork(100, 101, 50, user=76)
    assert (w.who(100, 30), w.who(101, 70)) == (None, None)


def test_a_user_namespace_nobody_knows_changes_nothing_where_it_makes_no_container() -> None:
    for types, wanted in ((["pid"], None), (["pid", "user"], "?")):
        w = World(sandbox_types=types)
        w.proc(50, 1, 5, start=1, ns={**w.model.namespaces.initial_inodes, "user": 0})
        assert w.who(50, 100) == wanted


def test_a_known_container_stays_where_the_namespaces_are_not_known() -> None:
    w = in_docker()
    w.proc(300, 1, 30, start=28, cg=DOCKER, ns={})
    assert w.who(300, 100) == IN
    w.proc(301, 1, 31, start=29, cg=PODMAN, ns={})
    assert w.who(301, 100) == "?", "it may be one inside another container"


# -- sandboxes


def rootless(**types: Any) -> World:
    """podman of a user (100, in a user namespace) with conmon (101, 103) and two containers (102, 104)."""
    w = World(**types)
    w.fork(1, 100, 10)
    w.unshare(100, 11, user=80, mnt=81)
    for number in (0, 2):
        at = 20 + number
        w.fork(100, 101 + number, at, user=80, mnt=81)
        w.fork(101 + number, 102 + number, at + 1, user=80, mnt=90 + number, pid=91 + number, uts=92 + number)
    return w


def test_a_rootless_engine_is_the_hosts_and_its_containers_are_their_own() -> None:
    w = rootless(sandbox_types=["pid"])
    assert [w.who(pid, 100) for pid in (100, 101, 103)] == [None, None, None]
    one, other = w.who(102, 100), w.who(104, 100)
    assert one not in (None, "?")
    assert other not in (None, "?", one)


def test_a_user_namespace_is_a_sandbox_where_that_is_asked_for() -> None:
    w = rootless(sandbox_types=["pid", "user"])
    assert len({w.who(pid, 100) for pid in (100, 101, 102, 103, 104)}) == 1
    assert w.who(100, 100) not in (None, "?")


def test_a_journal_that_does_not_say_so_had_user_namespaces_for_sandboxes() -> None:
    assert rootless().who(100, 100) not in (None, "?")


@pytest.mark.parametrize("kind", ["net", "uts", "ipc", "mnt", "cgroup"])
def test_other_types_make_sandboxes_where_they_are_asked_for(kind: str) -> None:
    w = World(sandbox_types=[kind])
    w.fork(1, 100, 10, **{kind: 77})
    w.fork(100, 101, 20, pid=78)
    assert w.who(100, 50) not in (None, "?")
    assert w.who(101, 50) == w.who(100, 50)


def test_without_sandboxes_a_pid_namespace_makes_no_container_but_a_runtimes_own_it() -> None:
    w = World(sandbox_types=[])
    w.fork(1, 100, 10, pid=77)
    assert w.who(100, 50) is None
    w.fork(1, 200, 60, pid=88)
    w.attach(200, DOCKER, 61)
    w.exec(200, 62)
    w.fork(1, 300, 80)
    w.fork(300, 301, 90, pid=88)
    assert w.who(301, 110) == IN, "it was born into the container's pid namespace"


UNITS = [
    ("/system.slice/web.service", "web.service"),
    ("/system.slice/web@a\\x2db.service/payload", "web@a\\x2db.service"),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice/app.service", "app.service"),
    ("/user.slice/user-0.slice/session-3.scope", "session-3.scope"),
    ("/system.slice/a.slice", ""),
    ("/web.servicex/y", ""),
    ("/", ""),
]


@pytest.mark.parametrize(("path", "name"), UNITS)
def test_a_unit_is_told_by_its_cgroup(path: str, name: str) -> None:
    assert unit_of(path) == name


def test_a_sandbox_is_called_like_the_unit_it_is_in() -> None:
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 10)
    w.attach(100, "/system.slice/private.service", 11)
    w.fork(100, 101, 20, pid=77)
    w.exec(101, 30)
    found = w.state(101, 50).container
    assert found is not None
    assert (found.kind, found.name) == ("sandbox", "private.service")
    w.attach(101, "/system.slice/other.service", 60)
    assert found.name == "private.service", "what it does later is its own doing"


def test_a_unit_that_its_process_enters_before_its_program_counts() -> None:
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 10, pid=77)
    w.attach(100, "/system.slice/private.service", 11)
    found = w.state(100, 50).container
    assert found is not None
    assert found.name == "private.service"


# -- the rules themselves


def evidence(containers: Containers, **known: Any) -> Evidence:
    found = {
        "containers": containers, "who": (100, 1), "now": 5, "cgroups": None, "named": None, "namespaces": None,
        "registered": None, "creator": None, "mounts": None, "set_up": False, **known,
    }  # fmt: skip
    return Evidence(**found)


def test_deciding_changes_nothing() -> None:
    w = in_docker()
    w.fork(1, 200, 30)
    before = (dict(w.model.containers.by_key), dict(w.model.containers.by_contid))
    cgroups = w.model.cgroups.of([(0, PODMAN)])
    nsset = w.model.namespaces.resolve(w.ns(pid=90, user=91), None, 40)
    for set_up in (True, False):
        for registered in (None, UNKNOWN, w.model.processes[100].state.container):
            found = evidence(
                w.model.containers, cgroups=cgroups, named=w.model.containers.named(cgroups), namespaces=nsset,
                registered=registered, creator=w.model.processes[100].state.container, set_up=set_up,
            )  # fmt: skip
            decide(found)
    assert (w.model.containers.by_key, w.model.containers.by_contid) == before
    assert [nsset.inst[index].owner for index in (PID, USER)] == [None, None]  # type: ignore[union-attr]


def test_the_first_rule_that_has_an_answer_decides() -> None:
    namespaces = Namespaces()
    containers = Containers(namespaces)
    initial = namespaces.intern(tuple([None] * len(ALL_ORDER)))
    one = Container((("", "x"),), "registered", 1, None)
    root = evidence(containers, cgroups=w_root(), namespaces=initial)
    assert decide(evidence(containers, registered=one)).belongs is UNKNOWN, "another may be inside it"
    assert decide(root._replace(registered=one)).belongs is one
    assert decide(root).belongs is UNKNOWN
    assert RULES[0] is no_cgroup


def w_root() -> Any:
    return World().model.cgroups.root


def test_what_a_registration_may_hide_is_unknown_where_nothing_else_tells() -> None:
    w = World(sandbox_types=["pid"])
    namespaces = w.model.initial
    lost = evidence(w.model.containers, cgroups=w.model.cgroups.root, namespaces=namespaces, registered=UNKNOWN)
    assert decide(lost).belongs is UNKNOWN
    assert decide(lost._replace(registered=None)).belongs is None
    assert namespaces is not None
    assert namespaces.inst[NET] is not namespaces.inst[UTS]


def test_rules_say_the_same_where_they_look_at_nothing_that_differs() -> None:
    """Of who goes from one set of namespaces to another they are asked only where they look at what differs."""
    w = World()
    containers, initial = w.model.containers, w.model.initial
    assert initial is not None
    cgroups = w.model.cgroups.of([(0, PODMAN)])
    inside, names = Container((("", "x"),), "registered", 1, None), ("pid", "user", "net", "mnt", "uts", "time")
    facts: list[dict[str, Any]] = [
        {"doubt": Doubt(unproven=bool(bits & 1), there=bool(bits & 2), missed=bool(bits & 4)), "set_up": bool(bits & 8)}
        | {"creator": creator, "registered": registered, "mounts": mounts, **seen}
        for bits in range(16)
        for creator in (None, inside, UNKNOWN)
        for registered in (None, UNKNOWN)
        for mounts in (None, inside)
        for seen in ({"cgroups": w_root()}, {"cgroups": cgroups, "named": containers.named(cgroups)})
    ]
    skipped = 0
    for bits in range(1 << len(names)):
        containers.sandbox_types = frozenset(name for bit, name in enumerate(names) if bits >> bit & 1)
        for number, name in enumerate(names):
            made = w.model.namespaces.find(INDEX[name], 4, 7000 + number, 5)
            insts = list(initial.inst)
            insts[INDEX[name]] = made
            other = w.model.namespaces.intern(tuple(insts))
            for made.owner, made.first in ((None, (100, 1)), (None, (7, 1)), (UNKNOWN, (100, 1)), (inside, (7, 1))):
                if looked_at(containers, initial, other):
                    continue
                skipped += 1
                for known in facts:
                    one = decide(evidence(containers, namespaces=initial, **known))
                    two = decide(evidence(containers, namespaces=other, **known))
                    assert one.belongs is two.belongs
                    assert [step.__qualname__ for step in one.steps] == [step.__qualname__ for step in two.steps]
    assert skipped > 100
