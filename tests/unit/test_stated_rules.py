"""Rules that give up certainty, each by a case in which nothing but this rule stands between unknown and a guess."""

from types import SimpleNamespace
from typing import Any

import pytest

from auditns_connector.attribution import clone_result
from auditns_connector.auditrules import codec
from auditns_connector.auditrules.coverage import all_audited
from auditns_connector.model.clock import Clock
from auditns_connector.model.containers import Containers
from auditns_connector.model.membership import Evidence, belongs
from auditns_connector.model.places import UNKNOWN
from auditns_connector.vocabulary import frames as f
from tests.unit.world import HEX, MS, World, contid

DOCKER = f"/docker/{HEX}"
SECOND = 1000 * MS


def test_who_ended_before_the_horizon_may_have_been_another() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.exit(100, 4000)
    w.fork(1, 100, 4995)
    w.attach(100, DOCKER, 4995)
    w.put(f.K_MARK, 5100, f.S_PIPELINE, arg=5000 * MS)
    assert w.who(100, 4990) == "?"
    assert w.who(100, 5050) == contid(HEX)


def test_an_event_may_be_a_little_earlier_than_its_stamp() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 2000.5)
    w.now += 100 * MS
    assert w.who(100, 2001) == "?"
    assert w.who(100, 2002) == contid(HEX)


def test_an_exec_that_was_forgotten_may_be_meant() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.exec(100, 2000)
    w.attach(100, DOCKER, 2000.5)
    for number in range(60):
        w.exec(100, 2001 + number)
    assert w.who_exec(100, 2000) == "?"


def two_execs(w: World, names: tuple[str, str], comms: tuple[bytes, bytes]) -> None:
    """One on the host and one in a container, which audit's coarse clock does not tell apart."""
    w.fork(1, 100, 1000)
    for at, name, comm in zip((2000, 2002), names, comms, strict=True):
        w.put(f.K_COMM, at, pid=100, tid=100, arg=1, payload=comm + b"\0")
        w.put(f.K_EXEC, at, pid=100, tid=100, ppid=100, payload=name.encode() + b"\0")
        if at == 2000:
            w.attach(100, DOCKER, 2001)


def test_an_exec_is_known_by_its_file() -> None:
    w = World()
    two_execs(w, ("/bin/x", "/usr/bin/x"), (b"x", b"x"))
    assert w.who_exec(100, 1999.5, "/usr/bin/x") == contid(HEX)


def test_an_exec_of_the_same_file_is_known_by_its_comm() -> None:
    w = World()
    two_execs(w, ("/bin/x", "/bin/x"), (b"other", b"x"))
    assert w.who_exec(100, 1999.5, "/bin/x") == contid(HEX)


def test_the_reading_of_a_stamp_that_is_recent_outrules_an_older_one() -> None:
    clock = Clock()
    offset = 1_700_000_000 * SECOND
    clock.sample(1 * SECOND, offset)
    clock.sample(3600 * SECOND, offset)
    clock.sample(3601 * SECOND, offset - 1800 * SECOND)
    real = offset + 1804 * SECOND
    assert clock.candidates(real, 3605 * SECOND) == [3604 * SECOND]
    assert clock.candidates(real, 3700 * SECOND) == [3604 * SECOND, 1804 * SECOND]


def test_without_evidence_it_is_unknown_not_the_hosts() -> None:
    w = World()
    init = w.model.alive(1)
    assert init is not None
    who = Evidence(w.model.containers, (100, 0), 0, None, None, init.state.nsset, None, None, None, False)
    assert belongs(who) is UNKNOWN
    assert belongs(who._replace(cgroups=init.cgroups)) is None


@pytest.mark.parametrize(
    ("types", "made", "host"), [(["pid"], "user", True), (["pid", "user"], "user", False), (["user"], "pid", True)]
)
def test_only_the_configured_types_of_namespaces_make_a_sandbox(types: list[str], made: str, host: bool) -> None:
    w = World(sandbox_types=types)
    w.fork(1, 100, 1000, **{made: 77})
    w.fork(1, 200, 1000)
    w.unshare(200, 1010, **{made: 78})
    w.fork(200, 300, 1020, **{made: 78})
    w.now += 100 * MS
    assert [w.who(pid, 1050) is None for pid in (100, 200, 300)] == [host, host, host]


@pytest.mark.parametrize(("place", "inside"), [("/a/b/c", True), ("/a/bc", False), ("/a/b", False), ("/a", False)])
def test_a_cgroup_is_below_another_by_whole_names(place: str, inside: bool) -> None:
    owner: Any = SimpleNamespace(home=SimpleNamespace(path=lambda root: "/a/b"))
    cgroups: Any = SimpleNamespace(places=[{0: place}])
    assert Containers.below(World().model.containers, owner, cgroups) is inside


def test_a_clone_whose_stamp_can_mean_two_has_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone_result, "_at", lambda model, pid, low, now, number: 7 if low < SECOND else 8)
    model: Any = None
    assert clone_result.child_of(model, 100, [0, 2 * SECOND], 9 * SECOND, 5) is None
    assert clone_result.child_of(model, 100, [2 * SECOND, 3 * SECOND], 9 * SECOND, 5) == 8


STATUS = codec.AuditStatus(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
EXECS = codec.build_syscall_rule(0xC000003E, [59, 322], "k"), codec.build_syscall_rule(0x40000003, [11, 358], "k")


def never(rule: bytes) -> bytes:
    """The same rule with the action never."""
    return rule[:4] + codec.ACTION_NEVER.to_bytes(4, "little") + rule[8:]


def test_every_exec_makes_a_record_only_where_nothing_may_keep_it_back() -> None:
    def complete(*rules: bytes, status: codec.AuditStatus = STATUS) -> bool:
        return all_audited(status, rules, "x86_64", ("execve", "execveat"))

    assert complete(*EXECS)
    assert not complete(EXECS[0])
    assert not complete(*EXECS, never(codec.build_syscall_rule(0xC000003E, [1], "x")))
    assert not complete(*EXECS, status=STATUS._replace(rate_limit=5))
    assert not complete(*EXECS, status=STATUS._replace(enabled=0))


def ended(w: World, pid: int, at: float) -> None:
    """The kernel's sample of an exit, and the exit."""
    w.put(f.K_EXIT_SAMPLE, at, pid=pid, tid=pid, cgroup=1)
    w.exit(pid, at + 0.01)


def test_an_exit_before_the_start_is_of_a_former_holder() -> None:
    w = World()
    w.fork(1, 100, 5000)
    ended(w, 100, 1000)
    assert w.model.alive(100) is not None
