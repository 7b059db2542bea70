"""Containers that name cgroups of their own like other containers': never taken for them, never in their way."""

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.cli.contid import _wanted
from auditns_connector.model.containers import Containers
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.pipeline.filters import EventFilter, parse_contids
from tests.unit.test_registry import SHELL, TASK, Registering, again, snapshot
from tests.unit.world import HEX, MS, World, contid

EVIL = "e" * 64
VICTIM = contid(HEX)
INSIDE = f"/docker/{EVIL}/docker/{HEX}"
LENT = f"/user.slice/user-1000.slice/user@1000.service/docker-{HEX}.scope"


@pytest.fixture
def world() -> Registering:
    return Registering()


def enter(world: Registering, pid: int, path: str, at: float) -> Container:
    world.fork(SHELL, pid, at, pid=pid + 10_000)
    world.attach(pid, path, at + 0.1)
    container = world.model.processes[pid].state.container
    assert container is not None
    return container


def meant(world: Registering, term: str, container: Container) -> bool:
    return EventFilter(contids=[parse_contids(term)]).tells(world.model.containers, 0, 0, container)


def test_the_outer_container_gets_its_number_however_late(world: Registering) -> None:
    posing = enter(world, 101, INSIDE, 10)
    deeper = enter(world, 102, f"{INSIDE}/lxc.payload.x", 11)
    assert world.who(101, 20) == f"{VICTIM},^{contid(EVIL)}"
    deep = world.model.containers.text(deeper)
    enter(world, 103, f"/docker/{HEX}", 30)
    assert world.who(103, 40) == VICTIM
    text = world.model.containers.text(posing)
    assert text.endswith(f",^{contid(EVIL)}")
    assert not text.startswith(VICTIM)
    assert posing.rehashed
    # those inside it are called after it
    assert world.model.containers.text(deeper) == deep.replace(f"{VICTIM},^{contid(EVIL)}", text)


def test_one_that_comes_later_takes_nothing(world: Registering) -> None:
    enter(world, 103, f"/docker/{HEX}", 10)
    posing = enter(world, 101, INSIDE, 20)
    assert (world.who(103, 40), posing.rehashed) == (VICTIM, True)


@pytest.mark.parametrize("elsewhere", [LENT, f"/box/docker-{HEX}.scope"], ids=["of a user", "of a sandbox"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_the_same_name_at_another_place_is_another_container(world: Registering, elsewhere: str, first: bool) -> None:
    if first:
        posing, real = enter(world, 101, elsewhere, 10), enter(world, 103, f"/docker/{HEX}", 20)
    else:
        real, posing = enter(world, 103, f"/docker/{HEX}", 10), enter(world, 101, elsewhere, 20)
    again_ = enter(world, 104, f"/docker/{HEX}/sub", 30)
    assert posing is not real
    assert again_ is real
    texts = [world.model.containers.text(c) for c in (real, posing)]
    assert len(set(texts)) == 2
    if not first or elsewhere is LENT:
        assert texts[0] == VICTIM
    assert posing.id == real.id == HEX
    for pid in (101, 103, 104):
        world.exit(pid, 40)
    assert [*world.model.containers.by_key, *world.model.containers.by_contid] == []


def test_each_gets_a_number_of_its_own(world: Registering) -> None:
    inside = enter(world, 101, INSIDE, 10)
    enter(world, 103, f"/docker/{HEX}", 20)
    former = inside.contid
    enter(world, 104, f"/box/docker-{HEX}.scope", 30)
    enter(world, 105, f"/docker/{'d' * 64}/docker/{HEX}", 40)
    numbers = {c.contid for c in world.model.containers.by_key.values()}
    assert len(numbers) == len(world.model.containers.by_key) == 6
    assert inside.contid == former


def test_hierarchies_that_join_one_by_one_are_one_container(world: Registering) -> None:
    for pid, cgroups in enumerate(({"4": "/docker"}, {"0": "/x/docker"}, {"4": "/docker", "0": "/docker"}), 101):
        world.proc(pid, SHELL, 10, start=5, cg={root: f"{path}/{HEX}" for root, path in cgroups.items()})
    found = [world.model.processes[pid].state.container for pid in (101, 102, 103)]
    assert found[0] is found[1] is not None
    # one hierarchy says where it is, and the third is elsewhere in another: not the same one
    assert found[2] is not found[0]


BOX = "/box/own"


def boxed(world: Registering, registered: bool) -> str:
    """A container known by its pid namespace, in a cgroup of its own that says nothing; what it is called."""
    world.fork(SHELL, 101, 10, pid=900, mnt=901)
    world.attach(101, BOX, 11)
    if registered:
        assert world.set(101, 7, 12, hook=True, new=True) == ""
    world.exec(101, 13)
    world.fork(SHELL, 110, 20)
    world.attach(110, BOX, 21)
    world.fork(110, 111, 22, pid=900, mnt=901)
    world.exec(111, 23)
    return world.model.containers.text(world.model.processes[101].state.container)


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "sandbox"])
@pytest.mark.parametrize("pid", [101, 111], ids=["its first process", "one that entered"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("name", [f"docker-{HEX}.scope", HEX, f"docker/{'d' * 64}/docker/{HEX}"])
def test_below_its_own_cgroup_it_is_inside_itself(
    world: Registering, registered: bool, pid: int, first: bool, name: str
) -> None:
    own = boxed(world, registered)
    if not first:
        enter(world, 103, f"/docker/{HEX}", 30)
    world.attach(pid, f"{BOX}/{name}", 100)
    world.fork(pid, 112, 101)
    if first:
        enter(world, 103, f"/docker/{HEX}", 130)
    assert world.who(103, 200) == VICTIM
    for one in (pid, 112):
        text = world.who(one, 200)
        assert text is not None
        assert text.split(",^")[-1] == own
        container = world.model.processes[one].state.container
        assert container is not None
        assert meant(world, own, container)
        assert not meant(world, VICTIM, container)
    world.attach(pid, BOX, 300)
    assert world.who(pid, 400) == own
    for one in (112, 111, 110, 101, 103):
        world.exit(one, 500)
    assert [*world.model.containers.by_key, *world.model.containers.by_contid] == []


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "sandbox"])
def test_after_a_restart_it_is_still_inside_itself(world: Registering, registered: bool) -> None:
    own = boxed(world, registered)
    world.fork(101, 120, 100, pid=950, mnt=951)
    world.attach(120, f"{BOX}/docker/{HEX}", 101)
    world.exec(120, 102)
    world.fork(120, 121, 103)
    world.attach(111, f"{BOX}/docker-{'f' * 64}.scope", 104)
    enter(world, 130, f"/docker/{'9' * 64}", 105)
    before = [world.who(pid, 200) for pid in (101, 120, 121, 111, 130)]
    assert before[:3] == [own, f"{VICTIM},^{own}", f"{VICTIM},^{own}"]
    other = again(world, snapshot(world), 2000)
    after = [other.who(pid, 3000) for pid in (101, 120, 121, 111, 130)]
    if not registered:  # a sandbox may have another number in another run
        now = after[0]
        assert now is not None
        before = [text.replace(own, now) if text is not None else None for text in before]
    assert after == before
    for pid in (111, 110, 121, 120, 101, 130):
        other.exit(pid, 4000)
    assert list(other.model.containers.by_key) == []


def test_its_runtime_may_move_it_until_it_runs_a_program_of_its_own(world: Registering) -> None:
    world.fork(SHELL, 101, 10, pid=900, mnt=901)
    world.attach(101, BOX, 11)
    world.attach(101, f"{BOX}/docker/{HEX}", 12)
    world.exec(101, 13)
    world.fork(101, 102, 14)
    assert (world.who(101, 100), world.who(102, 100)) == (VICTIM, VICTIM)


def test_containers_that_share_a_pid_namespace_are_two(world: Registering) -> None:
    world.fork(SHELL, 101, 10, pid=900, mnt=901)
    world.attach(101, "/kubepods/pause", 11)
    assert world.set(101, 7, 12, hook=True, new=True) == ""
    world.exec(101, 13)
    world.fork(SHELL, 102, 20, pid=900, mnt=902)
    world.attach(102, f"/kubepods/{HEX}", 21)
    world.exec(102, 22)
    assert (world.who(101, 100), world.who(102, 100)) == ("7", VICTIM)
    world.fork(SHELL, 103, 30, pid=900, mnt=903)
    world.attach(103, f"/kubepods/{'d' * 64}", 31)
    assert world.set(103, 9, 32, hook=True, new=True) == ""
    world.exec(103, 33)
    assert (world.who(103, 100), world.who(101, 100)) == ("9", "7")


def test_no_registration_is_refused_for_it(world: Registering) -> None:
    number = f"{7:016x}"
    posing = enter(world, 101, f"/docker/{EVIL}/docker/{number}{HEX[16:]}", 10)
    assert posing.contid is None or world.who(101, 12) == f"7,^{contid(EVIL)}"
    assert world.set(TASK, 7, 20, new=True) == ""
    assert world.who(TASK, 30) == "7"
    assert not world.model.containers.text(posing).startswith("7,")
    # what the host itself has running still stands in the way
    enter(world, 103, f"/docker/{HEX}", 40)
    world.fork(SHELL, 104, 41)
    assert world.set(104, int(VICTIM), 50) == "ENOTUNIQ"


def test_a_filter_is_not_fooled(world: Registering) -> None:
    posing = enter(world, 101, f"/docker/{EVIL}/lxc.payload.web", 10)
    inner, outer = world.model.containers.text(posing).split(",^")
    assert not meant(world, inner, posing)
    assert meant(world, f"!={inner}", posing)
    assert meant(world, outer, posing)
    assert meant(world, f"{inner},^{outer}", posing)
    assert meant(world, f"5,{inner},^{outer},unset", posing)
    assert not meant(world, f"{inner},^5", posing)
    named = EventFilter(names=["web"])
    assert not named.tells(world.model.containers, 0, 0, posing)
    assert not EventFilter(runtimes=["lxc"]).tells(world.model.containers, 0, 0, posing)
    assert EventFilter(runtimes=["docker"]).tells(world.model.containers, 0, 0, posing)


def test_after_a_restart_the_container_around_is_not_guessed(world: Registering) -> None:
    enter(world, 103, f"/docker/{HEX}", 10)
    world.ask("delegate", 103, 11)
    world.fork(103, 105, 12)
    assert world.set(105, 5, 13, by=103) == ""
    assert world.who(105, 20) == f"5,^{VICTIM}"
    saved = snapshot(world)
    other = again(world, saved, 2000)
    assert other.who(105, 3000) == f"5,^{VICTIM}"
    world.fork(SHELL, 101, 1000, pid=77)
    world.attach(101, f"/box/docker-{HEX}.scope", 1001)
    other = again(world, saved, 2000)
    assert other.who(105, 3000) == "5,^?"


def test_the_list_is_filtered_alike() -> None:
    known = [
        {"contid": "2", "kind": "runtime"},
        {"contid": "4,^2", "kind": "runtime"},
        {"contid": "5,^4,^2", "kind": "registered"},
        {"contid": "4", "kind": "sandbox"},
        {"contid": "6,^?", "kind": "registered"},
    ]

    def found(*terms: str) -> list[str]:
        return [about["contid"] for about in _wanted(known, list(terms), [])]

    assert found() == ["2", "4,^2", "5,^4,^2", "4", "6,^?"]
    assert found("2") == ["2", "4,^2", "5,^4,^2"]
    assert found("4") == ["4"]
    assert found("4,^2") == ["4,^2", "5,^4,^2"]
    assert found("5", "!=2") == []
    assert found("!=2") == ["4", "6,^?"]
    assert found("6") == ["6,^?"]


def test_names_are_filtered_alike() -> None:
    """What only a cgroup inside a container tells of is called as whoever is inside likes."""
    known = [
        {"contid": "2", "kind": "runtime", "id": "aa", "name": "web"},
        {"contid": "4,^2", "kind": "runtime", "id": "bb", "name": "victim"},
        {"contid": "5,^4,^2", "kind": "registered", "name": "own"},
        {"contid": "4", "kind": "runtime", "name": "victim"},
    ]

    def found(*names: str) -> list[str]:
        return [about["contid"] for about in _wanted(known, [], list(names))]

    assert found("web") == found("aa") == ["2", "4,^2", "5,^4,^2"]
    assert found("victim") == ["4"]
    assert found("o?n", "v*") == ["5,^4,^2", "4"]
    assert found("bb") == []


def test_an_answer_that_comes_late_does_not_call_a_container_what_it_was_called_only_later() -> None:
    """It gave its number to another one between the event and the answer."""
    outer, victim = "a" * 64, HEX
    for late in (False, True):
        w = World(sandbox_types=["pid"])
        w.fork(1, 100, 1)
        w.attach(100, f"/docker/{outer}", 2)
        w.fork(100, 101, 3)
        w.attach(101, f"/docker/{outer}/docker/{victim}", 4)
        w.exec(101, 100)
        before = f"{contid(victim)},^{contid(outer)}"
        if not late:
            assert w.who(101, 50) == before
        w.fork(1, 200, 200)
        w.attach(200, f"/docker/{victim}", 210)
        assert w.who(200, 300) == contid(victim)
        after = w.who(101, 300)
        assert after not in (before, "?", None)
        assert w.who(101, 50) == before
        assert w.who_exec(101, 99) == before
        assert w.who(101, 209) == "?"  # it may be of before and of after
        correlator = Correlator(w.model)
        text = b"".join(
            b"type=SYSCALL msg=audit(%d.%03d:%d): arch=c000003e syscall=82 success=yes pid=101\n"
            % (*divmod(1_700_000_000_000 + at, 1000), serial)
            for serial, at in enumerate([50, 300, 60, 310] * 20, 1)
        )
        for _ in range(2):  # also when its text has been given already
            stream = TextStream()
            stream.put(text)
            points = stream.flush(eof=True)
            choice, tails = correlator.answer(points, 400 * MS), correlator.tails[0]
            told = [bytes(tails.text(number)).partition(b" contid=")[2].strip().decode() for number in choice]
            assert told == [before, after, before, after] * (len(told) // 4)
            assert len(told) == 80


def test_an_exec_is_of_the_container_as_that_was_called_when_it_happened() -> None:
    """However its record is stamped: the kernel's event of the exec has the very time."""
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 1)
    w.attach(100, f"/docker/{EVIL}/docker/{HEX}", 4)
    w.fork(1, 200, 50)
    w.attach(200, f"/docker/{HEX}", 210)  # the other one is called otherwise from here on
    w.exec(100, 212)
    assert w.who_exec(100, 208) == w.who(100, 300) != contid(HEX)


def test_a_container_is_found_by_the_name_that_it_had() -> None:
    """Also by that of the one around it, in filters as in text; of many names the oldest are forgotten: unknown."""
    containers = Containers(Namespaces())
    outer = Container((("docker", "o"),), "runtime", 0, None)
    inner = Container((*outer.key, ("docker", "i")), "runtime", 0, outer)
    for number, c in enumerate((outer, inner), 1):
        containers.by_key[c.key] = c
        containers.number(c, number)
    for now in range(10, 200, 10):
        containers.now = lambda now=now: now  # type: ignore[misc]
        other = Container((("docker", f"other {now}"),), "runtime", 0, None)
        containers.number(other, outer.contid or 0)
    then = inner.called(185, 189)
    assert containers.text(then).startswith("2,^")
    assert containers.text(then) != containers.text(inner)
    assert [containers.contid(link) for link in then.chain()] == [2, int(containers.text(then).partition(",^")[2])]
    assert parse_contids(str(then.chain()[1].contid)).match(containers, then)
    assert not parse_contids(str(outer.contid)).match(containers, then)
    assert inner.called(190, 500) is inner
    assert inner.called(185, 195) is inner.called(5, 5) is UNKNOWN
    assert len(inner.former) == 8
