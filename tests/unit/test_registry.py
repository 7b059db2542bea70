"""Registered identifiers: the rules, their order, inheritance, nesting and the end."""

import json
from typing import Any

import pytest

from auditns_connector.model.apply.restore_requests import requests_of
from auditns_connector.model.outputs import ContainerOp
from auditns_connector.model.process import REGISTERED
from auditns_connector.model.runtimes import free_contid
from auditns_connector.vocabulary import frames as f
from tests.unit.world import HEX, MS, World, contid

SHELL, TASK = 50, 100


class Registering(World):
    """A world with a privileged shell of the host, pid 50, and a task it started, pid 100."""

    def __init__(self, **hello: Any) -> None:
        super().__init__(**hello)
        self.fork(1, SHELL, 1)
        self.fork(SHELL, TASK, 2)

    def set(self, pid: int, number: object, at: float, *, by: int = SHELL, **more: Any) -> str:
        """Ask; returns the errno's name or ""."""
        return self.ask("set", pid, at, by, id=str(number), **more)

    def ask(self, op: str, pid: int, at: float, by: int = SHELL, **more: Any) -> str:
        target, caller = self.model.alive(pid), self.model.alive(by)
        request = {
            "op": op, "start": target.start if target else None,
            "caller": {"pid": by, "start": caller.start if caller else None, "privileged": more.pop("root", True)},
            **more,
        }  # fmt: skip
        self.put(f.K_REGISTER, at, f.S_CONTROL, pid=pid, payload=json.dumps(request).encode())
        return self.model.registry.last.error

    def told(self) -> list[tuple[str, int, str, str, str]]:
        return [
            (out.op, out.opid, out.contid, out.old, out.error)
            for out in self.model.outputs
            if isinstance(out, ContainerOp)
        ]


@pytest.fixture
def world() -> Registering:
    return Registering()


def test_a_set_id_is_that_of_the_task_and_of_all_it_forks(world: Registering) -> None:
    assert world.set(TASK, 123456, 10) == ""
    world.fork(TASK, 101, 11)
    world.fork(101, 102, 12)
    assert [world.who(pid, 100) for pid in (TASK, 101, 102, SHELL)] == ["123456", "123456", "123456", None]
    assert world.state(102, 100).origin == REGISTERED
    assert world.told() == [("set", TASK, "123456", "-1", "")]


def test_before_it_was_set_the_task_was_the_hosts(world: Registering) -> None:
    world.set(TASK, 7, 100)
    assert (world.who(TASK, 50), world.who(TASK, 95), world.who(TASK, 101)) == (None, "?", "7")


@pytest.mark.parametrize(
    ("number", "error"),
    [
        ("", "EINVAL"), ("x", "EINVAL"), ("-1", "EINVAL"), ("+1", "EINVAL"), ("1 ", "EINVAL"), ("0x", "EINVAL"),
        ("١", "EINVAL"), ("1_0", "EINVAL"), ("18446744073709551616", "ERANGE"), ("9" * 5000, "ERANGE"),
        ("0x10000000000000000", "ERANGE"), ("18446744073709551615", "EINVAL"), ("0xffffffffffffffff", "EINVAL"),
        ("18446744073709551614", ""), ("0", ""), ("0xFF", ""), ("000000000000000000000000000001", ""),
    ],
)  # fmt: skip
def test_what_is_an_identifier(world: Registering, number: str, error: str) -> None:
    assert world.set(TASK, number, 10) == error


def test_no_such_process(world: Registering) -> None:
    assert world.set(4711, 1, 10) == "ESRCH"
    assert world.told() == [("set", 4711, "?", "-1", "ESRCH")]


def test_another_holder_of_the_pid_is_not_meant(world: Registering) -> None:
    start = world.model.processes[TASK].start
    world.exit(TASK, 100)
    world.fork(SHELL, TASK, 200)
    assert world.set(TASK, 1, 300, start=start) == "ESRCH"
    assert world.who(TASK, 400) is None


def test_the_first_rule_broken_decides(world: Registering) -> None:
    assert world.set(4711, "x", 10, audit=False, root=False) == "ESRCH"
    assert world.set(TASK, "x", 10, audit=False, root=False) == "EINVAL"
    assert world.set(TASK, "18446744073709551615", 10, audit=False, root=False) == "ENOPROTOOPT"
    assert world.set(TASK, "18446744073709551615", 10, root=False) == "EINVAL"
    world.fork(TASK, 101, 11)
    assert world.set(TASK, 1, 12, root=False) == "EPERM"
    assert world.set(SHELL, 1, 12) == "EBUSY"
    world.exit(101, 13)
    world.exit(TASK, 14)
    assert world.set(SHELL, 1, 15) == "EXDEV"


def test_children_and_threads(world: Registering) -> None:
    world.thread(TASK, 101, 3)
    assert world.set(TASK, 1, 4) == "EBUSY"
    world.exit(TASK, 5, tid=101)
    world.fork(TASK, 102, 6)
    assert world.set(TASK, 1, 7) == "EBUSY"
    world.exit(102, 8)
    assert world.set(TASK, 1, 9) == ""


def test_an_ancestor_of_the_caller_is_refused(world: Registering) -> None:
    world.fork(TASK, 101, 3)
    world.fork(101, 102, 4)
    assert world.set(TASK, 1, 5, by=102, hook=True) == "EXDEV"
    assert world.set(102, 1, 5, by=102) == "EXDEV"


def test_written_once(world: Registering) -> None:
    assert world.set(TASK, 1, 10) == ""
    for again in (1, 2):
        assert world.set(TASK, again, 11) == "EEXIST"
    assert world.set(TASK, "18446744073709551615", 12) == "EINVAL"
    assert world.who(TASK, 100) == "1"
    world.fork(TASK, 101, 101)
    assert world.set(101, 3, 102) == "EEXIST"
    assert world.told()[1:3] == [("set", TASK, "1", "1", "EEXIST"), ("set", TASK, "2", "1", "EEXIST")]


def test_the_owner_puts_more_tasks_in(world: Registering) -> None:
    world.set(TASK, 1, 10)
    world.fork(SHELL, 101, 11)
    assert world.set(101, 1, 12, new=True) == "ENOTUNIQ"
    assert world.set(101, 1, 12) == ""
    assert world.model.processes[101].state.container is world.model.processes[TASK].state.container
    world.exit(TASK, 20)
    assert world.told()[-1][0] == "set"
    world.exit(101, 21)
    assert world.told()[-1] == ("drop", 101, "-1", "1", "")


def test_dropped_when_the_last_one_has_gone_though_the_parent_went_first(world: Registering) -> None:
    world.set(TASK, 5, 10)
    world.fork(TASK, 101, 11)
    world.exit(TASK, 12)
    assert world.told()[-1][0] == "set"
    world.fork(101, 102, 13)
    world.exit(101, 14)
    assert world.who(102, 100) == "5"
    world.exit(102, 101)
    assert world.told()[-1] == ("drop", 102, "-1", "5", "")
    world.fork(SHELL, 103, 110)
    assert world.set(103, 5, 111) == ""


def test_an_id_not_reaped_is_its_owners_alone(world: Registering) -> None:
    world.set(TASK, 5, 10)
    world.exit(TASK, 11)
    world.fork(SHELL, 101, 12)
    assert world.set(101, 5, 13, unreaped=True) == ""
    inner = Registering()
    inner.set(TASK, 5, 10)
    inner.ask("delegate", TASK, 11)
    inner.fork(TASK, 101, 12)
    inner.set(101, 9, 13, by=TASK)
    inner.exit(101, 14)
    inner.fork(SHELL, 102, 15)
    assert inner.set(102, 9, 16, unreaped=True) == "ENOTUNIQ"
    assert inner.set(102, 9, 17) == ""


def test_nesting_needs_the_right_and_stays_inside(world: Registering) -> None:
    world.set(TASK, 1, 10)
    world.fork(TASK, 101, 11)
    world.fork(TASK, 102, 11)
    world.fork(SHELL, 60, 11)
    assert world.set(101, 2, 12, by=TASK) == "EPERM"
    assert world.ask("delegate", TASK, 13) == ""
    assert world.set(60, 2, 14, by=TASK) == "EXDEV"
    assert world.set(101, 2, 15, by=TASK) == ""
    assert world.set(102, 2, 16, by=TASK) == ""
    assert world.who(101, 100) == "2,^1"
    world.fork(101, 103, 101)
    assert world.set(103, 4, 102, by=TASK) == "EEXIST"
    assert world.set(103, 4, 103, by=101) == "EPERM"
    assert world.ask("delegate", 101, 104, by=TASK) == ""
    assert world.set(103, 4, 105, by=101) == ""
    assert world.who(103, 200) == "4,^2,^1"
    world.fork(SHELL, 61, 201)
    assert world.set(61, 2, 202) == "ENOTUNIQ"
    world.exit(103, 210)
    assert world.told()[-1] == ("drop", 103, "-1", "4,^2,^1", "")


def test_nobody_puts_tasks_in_after_the_owner_has_gone(world: Registering) -> None:
    world.set(TASK, 1, 10)
    world.ask("delegate", TASK, 11)
    world.fork(TASK, 101, 12)
    world.set(101, 2, 13, by=TASK)
    world.exit(TASK, 14)
    world.fork(SHELL, 60, 15)
    assert world.set(60, 2, 16) == "ENOTUNIQ"
    assert world.who(101, 100) == "2,^1"


def test_the_right_is_that_of_the_process_and_what_it_starts_there(world: Registering) -> None:
    world.set(TASK, 1, 10)
    world.ask("delegate", TASK, 11)
    world.fork(TASK, 101, 12)
    world.fork(TASK, 102, 12)
    assert world.set(102, 2, 13, by=101) == ""
    world.fork(102, 103, 14)
    assert world.set(103, 3, 15, by=102) == "EPERM"


def test_an_unprivileged_caller_cannot_delegate(world: Registering) -> None:
    assert world.ask("delegate", TASK, 10, root=False) == "EPERM"
    assert world.told() == [("delegate", TASK, "-1", "-1", "EPERM")]


def test_it_replaces_a_derived_id(world: Registering) -> None:
    world.attach(TASK, f"/docker/{HEX}", 10)
    assert world.who(TASK, 50) == contid(HEX)
    assert world.set(TASK, 77, 60) == ""
    assert world.who(TASK, 100) == "77"
    assert world.told() == [("set", TASK, "77", contid(HEX), "")]


def test_what_enters_a_registered_container_belongs_to_it(world: Registering) -> None:
    world.fork(SHELL, 101, 3, pid=900)
    world.attach(101, f"/docker/{HEX}", 4)
    world.fork(101, 102, 5)
    assert world.set(101, int(HEX[:16], 16), 10, hook=True, new=True, rehash=True) == ""
    assert (world.who(101, 100), world.who(102, 100)) == (contid(HEX), contid(HEX))
    world.fork(SHELL, 103, 101)
    world.attach(103, f"/docker/{HEX}", 102)
    assert world.model.processes[103].state.container is world.model.processes[101].state.container
    world.fork(SHELL, 104, 103)
    world.fork(104, 105, 104, pid=900)
    assert world.model.processes[105].state.container is world.model.processes[101].state.container
    for pid in (101, 102, 103, 105):
        assert world.told()[-1][0] == "set"
        world.exit(pid, 200 + pid)
    assert world.told()[-1] == ("drop", 105, "-1", contid(HEX), "")
    assert list(world.model.containers.by_key) == []


def test_a_hook_inside_a_container_means_the_descendants_too(world: Registering) -> None:
    world.set(TASK, 1, 10)
    world.ask("delegate", TASK, 11)
    world.fork(TASK, 101, 12, pid=900)
    world.fork(101, 102, 13)
    world.fork(TASK, 103, 13)
    assert world.set(101, 9, 14, by=TASK) == "EBUSY"
    assert world.set(101, 9, 15, by=TASK, hook=True, new=True, rehash=True) == ""
    assert [world.who(pid, 100) for pid in (101, 102, 103)] == ["9,^1", "9,^1", "1"]


def test_a_runtime_that_moves_the_process_after_the_hook(world: Registering) -> None:
    world.fork(SHELL, 101, 3, pid=900)
    assert world.set(101, int(HEX[:16], 16), 10, hook=True, new=True) == ""
    world.attach(101, f"/docker/{HEX}", 20)
    assert world.who(101, 100) == contid(HEX)
    world.exit(101, 101)
    assert list(world.model.containers.by_key) == list(world.model.containers.taken) == []


def test_a_collision_is_rehashed_for_a_hook(world: Registering) -> None:
    world.set(TASK, 9, 10)
    world.fork(SHELL, 101, 11)
    assert world.set(101, 9, 12, hook=True, new=True, rehash=True) == ""
    other = str(free_contid(9, (("registered", "9"),), {9}.__contains__))
    assert world.who(101, 100) == other
    assert world.told()[1:] == [("set", 101, "9", "-1", "ENOTUNIQ"), ("set", 101, other, "-1", "")]


def test_a_container_started_inside_nests(world: Registering) -> None:
    world.set(TASK, 1, 10)
    world.fork(TASK, 101, 100)
    world.attach(101, f"/docker/{HEX}", 101)
    assert world.who(101, 200) == f"{contid(HEX)},^1"


def test_a_move_takes_no_registration_away(world: Registering) -> None:
    world.fork(SHELL, 60, 3)
    world.attach(60, f"/docker/{HEX}", 4)
    world.set(TASK, 1, 10)
    world.fork(TASK, 101, 100)
    world.attach(101, f"/docker/{HEX}", 101)
    assert (world.who(101, 200), world.who(60, 200)) == ("1", contid(HEX))


def test_names_are_kept_and_bounded(world: Registering) -> None:
    names = {"name": "n\n\x1d" * 1000, "image": "i\ud800", "pod": 5, "namespace": "ns", "evil": "x"}
    assert world.set(TASK, 1, 10, names=names) == ""
    container = world.model.processes[TASK].state.container
    assert container is not None
    assert (len(container.name), container.image, container.pod) == (512, "i?", "")
    assert (container.namespace, container.labels) == ("ns", {})


def snapshot(world: World) -> list[bytes]:
    world.now = max(world.now, 500 * MS)
    return [json.dumps(request).encode() for request in requests_of(world.model, world.now)]


def again(world: World, saved: list[bytes], at: float) -> Registering:
    """The host as another run finds it at ``at``: a scan of /proc, then what was saved."""
    other = Registering.__new__(Registering)
    World.__init__(other)
    for process in sorted(world.model.processes.values(), key=lambda p: p.start):
        if process.end is not None or process.pid == 1:
            continue
        parent = world.model.alive(process.creator[0]) if process.creator else None
        nsset = process.state.nsset
        assert nsset is not None
        assert process.cgroups is not None
        ns = {inst.type: inst.ino for inst in nsset.inst if inst is not None}
        ppid = parent.pid if parent else 1
        other.proc(process.pid, ppid, at, start=process.start / MS, ns=ns, cg=process.cgroups.path(0))
    for payload in saved:
        other.put(f.K_REGISTER, at, f.S_CONTROL, payload=payload)
    return other


def test_registrations_survive_a_restart(world: Registering) -> None:
    world.fork(SHELL, 101, 3, pid=900)
    world.attach(101, f"/docker/{HEX}", 4)
    world.set(TASK, 1, 10)
    world.ask("delegate", TASK, 11)
    world.fork(TASK, 102, 12)
    world.set(102, 2, 13, by=TASK)
    world.set(101, 3, 14, hook=True, names={"name": "web"})
    saved = snapshot(world)
    world.fork(102, 110, 1000)
    world.fork(101, 111, 1001)
    world.fork(SHELL, 112, 1002, uts=77)
    world.exit(TASK, 1003)
    world.fork(SHELL, 113, 1004)
    world.attach(113, f"/docker/{HEX}", 1005)
    other = again(world, saved, 2000)
    found = {pid: other.who(pid, 3000) for pid in (101, 102, 110, 111, 113)}
    assert found == {101: "3", 102: "2,^1", 110: "2,^1", 111: "3", 113: "3"}
    container = other.state(101, 3000).container
    assert container is not None
    assert container.name == "web"
    assert other.set(110, 4, 3001) == "EEXIST"
    other.exit(101, 3100)
    other.exit(111, 3101)
    other.exit(113, 3102)
    assert other.told()[-1] == ("drop", 113, "-1", "3", "")


def test_what_runs_inside_a_registered_container_does_so_after_a_restart(world: Registering) -> None:
    world.set(TASK, 1, 10)
    world.fork(TASK, 101, 100)
    world.attach(101, f"/docker/{HEX}", 101)
    world.fork(SHELL, 60, 102)
    world.attach(60, f"/docker/{'d' * 64}", 103)
    world.fork(TASK, 103, 104)
    world.attach(103, f"/docker/{'d' * 64}", 105)  # into one of the host
    saved = snapshot(world)
    world.fork(101, 102, 1000)
    other = again(world, saved, 2000)
    assert [other.who(pid, 3000) for pid in (TASK, 101, 102)] == ["1", f"{contid(HEX)},^1", f"{contid(HEX)},^1"]
    assert [other.who(pid, 3000) for pid in (60, 103)] == [contid("d" * 64), "1"]
    for pid in (101, 102, TASK, 103):
        other.exit(pid, 4000)
    assert other.told()[-1] == ("drop", 103, "-1", "1", "")


def test_an_orphan_of_the_outage_is_unknown_not_the_hosts(world: Registering) -> None:
    world.set(TASK, 1, 10)
    saved = snapshot(world)
    world.fork(TASK, 110, 1000)
    world.fork(110, 111, 1001)
    world.exit(110, 1002)
    world.fork(1, 112, 1003)
    world.attach(112, "/system.slice/x.service", 1004)
    world.fork(1, 113, 5)
    other = again(world, saved, 2000)
    assert [other.who(pid, 3000) for pid in (111, 112, 113, SHELL)] == ["?", None, None, None]
    other.fork(111, 114, 3001)
    assert other.who(114, 3100) == "?"


def test_the_end_of_a_container_during_the_outage_is_told(world: Registering) -> None:
    world.set(TASK, 1, 10)
    saved = snapshot(world)
    world.exit(TASK, 1000)
    world.fork(1, 60, 10)
    world.fork(60, TASK, 1001)
    other = again(world, saved, 2000)
    assert other.who(TASK, 3000) is None
    assert other.model.registry.living() == []
    assert other.told() == [("drop", 0, "-1", "1", "")]


def test_a_child_found_only_after_a_loss_is_its_parents(world: Registering) -> None:
    world.set(TASK, 1, 10)
    world.put(f.K_LOST, 1000, arg=5)
    world.put(f.K_RESYNC, 1001, f.S_PROCFS, arg=1)
    for pid, ppid, start in ((1, 0, 0), (SHELL, 1, 1), (TASK, SHELL, 2), (101, TASK, 1000)):
        world.proc(pid, ppid, 1001, start=start)
    world.put(f.K_RESYNC, 1001, f.S_PROCFS, arg=2)
    assert world.who(101, 2000) == "1"


def test_sixteen_levels_are_the_most() -> None:
    world = Registering()
    inside = TASK
    assert world.set(TASK, 1, 10) == ""
    for level in range(2, 18):
        world.ask("delegate", inside, 10 * level)
        child = 1000 + level
        world.fork(inside, child, 10 * level + 1)
        assert world.set(child, level, 10 * level + 2, by=inside) == ("" if level <= 16 else "EMLINK"), level
        inside = child
    container = world.model.alive(1016).state.container
    assert container is not None
    assert len(world.model.containers.text(container)) < 400
    op, opid, contid, _, error = world.told()[-1]
    assert (op, opid, contid, error) == ("set", 1017, "17", "EMLINK")


def test_cgroups_below_the_sixteenth_container_are_the_sixteenths(world: Registering) -> None:
    """Root of a container can make as many cgroups one in the other as a path has room for."""
    deep = "".join(f"/lxc/{n}" for n in range(300))
    world.attach(TASK, deep, 10)
    texts = [world.who(TASK, 50)]
    # inside a container of its own, and a registered one
    world.fork(SHELL, 200, 60, pid=5000)
    assert world.set(200, 7, 61) == ""
    world.exec(200, 62)
    world.fork(200, 201, 70, pid=5000)
    world.attach(201, "/docker/" + HEX + deep, 71)
    texts.append(world.who(201, 90))
    for n in range(20):
        world.fork(201, 300 + n, 100 + n, pid=5000)
        world.attach(300 + n, "/docker/" + HEX + "".join(f"/lxc/{m}" for m in range(n)), 100.5 + n)
        texts.append(world.who(300 + n, 130))
    assert all(text is not None and text.count("^") <= 15 for text in texts), texts
    assert texts[0] is not None
    assert texts[0].count("^") == 15
