"""The rule lease over an audit subsystem made of a list."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from auditns_connector.auditrules import codec as auditrule
from auditns_connector.auditrules.codec import AuditStatus, our_rules
from auditns_connector.auditrules.hints import hints
from auditns_connector.auditrules.lease import RuleLease
from auditns_connector.auditrules.netlink import AuditControl, LoadedRules
from auditns_connector.errors import AuditnsError, LockedError, NotPermittedError, NotSupportedError
from auditns_connector.state.directory import SafeDir

OURS = our_rules("x86_64", "auditns")
ADMIN = auditrule.build_syscall_rule(0xC000003E, [59], "admin")
QUIET = "audit=1 quiet"


class FakeControl(AuditControl):
    """Keeps rules and status itself; ``fail`` names a method that raises."""

    def __init__(self, *, enabled: int = 0, backlog_limit: int = 64, pid: int = 0) -> None:
        self.now = AuditStatus(0, enabled, 1, pid, 0, backlog_limit, 0, 0, 127, 15000, 0)
        self.rules = [ADMIN]
        self.fail = ""

    def _allowed(self, name: str) -> None:
        if self.now.enabled == 2:
            raise NotSupportedError("immutable")
        if name == self.fail:
            raise NotPermittedError("no")

    def status(self) -> AuditStatus:
        return self.now

    def set_enabled(self, value: int) -> None:
        self._allowed("set_enabled")
        self.now = self.now._replace(enabled=value)

    def set_backlog_limit(self, value: int) -> None:
        self._allowed("set_backlog_limit")
        self.now = self.now._replace(backlog_limit=value)

    def list_rules(self) -> list[bytes]:
        return list(self.rules)

    def add_rule(self, rule: bytes, *, append: bool = True) -> bool:
        self._allowed("add_rule")
        if rule in self.rules:
            return False
        self.rules.append(rule)
        return True

    def delete_rule(self, rule: bytes) -> bool:
        self._allowed("delete_rule")
        if rule not in self.rules:
            return False
        self.rules.remove(rule)
        return True

    def loaded(self) -> LoadedRules:
        """What the kernel says when it is asked for both."""
        return LoadedRules(list(self.rules), self.now)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "rules.json"


def lease_on(control: AuditControl, path: Path) -> RuleLease:
    return RuleLease(control, state_path=str(path), machine="x86_64")


def test_everything_is_put_back(path: Path) -> None:
    control = FakeControl()
    before = control.now
    with lease_on(control, path):
        assert control.rules == [ADMIN, *OURS]
        assert (control.now.enabled, control.now.backlog_limit) == (1, 8192)
    assert (control.now, control.rules) == (before, [ADMIN])
    assert not path.exists()


@pytest.mark.parametrize("limit", [0, 8192, 65536])
def test_queue_that_is_long_enough_is_left_alone(path: Path, limit: int) -> None:
    control = FakeControl(backlog_limit=limit)
    with lease_on(control, path):
        assert control.now.backlog_limit == limit
    assert control.now.backlog_limit == limit


def test_what_others_changed_meanwhile_stays(path: Path) -> None:
    control = FakeControl()
    lease = lease_on(control, path)
    lease.acquire()
    control.now = control.now._replace(backlog_limit=999, pid=4711)
    control.rules.remove(OURS[1])
    control.rules.insert(0, auditrule.build_syscall_rule(0xC000003E, [1], "new"))
    assert lease.close() == []
    assert (control.now.enabled, control.now.backlog_limit) == (1, 999)
    assert any("auditd" in notice for notice in lease.notices)
    assert len(control.rules) == 2
    assert lease.close() == []


def test_what_was_found_is_what_was_before_anything_is_taken_back(path: Path) -> None:
    """Where auditing was off the kernel has numbered no event of ours before; a killed run leaves it on."""
    control = FakeControl()
    killed = lease_on(control, path)
    killed.acquire()
    assert killed.found_off
    killed._living = lambda state: []  # type: ignore[method-assign]
    killed.acquire()
    assert not killed.found_off
    assert killed.close() == []
    assert control.now.enabled == 0


def test_state_file_taken_away_is_known_still(path: Path) -> None:
    control = FakeControl()
    lease = lease_on(control, path)
    lease.acquire()
    path.unlink()
    assert lease.close() == []
    assert (control.rules, control.now.enabled, control.now.backlog_limit) == ([ADMIN], 0, 64)
    assert not path.exists()


def test_directory_taken_away(path: Path) -> None:
    control = FakeControl()
    lease = lease_on(control, path)
    lease.acquire()
    shutil.rmtree(path.parent)
    path.parent.write_text("somebody else's")
    assert len(lease.close()) == 1
    assert (control.rules, control.now.enabled, control.now.backlog_limit) == ([ADMIN], 0, 64)


@pytest.mark.parametrize("damage", ["{", ""])
def test_state_damaged_during_the_lease(path: Path, damage: str) -> None:
    control = FakeControl()
    lease = lease_on(control, path)
    lease.acquire()
    path.write_text(damage)
    (trouble,) = lease.close()
    assert "damaged" in trouble
    assert (control.rules, control.now.enabled) == ([ADMIN], 0)


def test_who_came_after_the_file_was_taken_away_puts_all_back(path: Path) -> None:
    control = FakeControl()
    first, second = lease_on(control, path), lease_on(control, path)
    with subprocess.Popen(["sleep", "infinity"]) as other:
        try:
            first._myself = lambda: [other.pid, first._start_of(other.pid)]  # type: ignore[method-assign]
            two_leases(control, path, first, second)
        finally:
            other.kill()


def two_leases(control: FakeControl, path: Path, first: RuleLease, second: RuleLease) -> None:
    first.acquire()
    path.unlink()
    second.acquire()
    assert first.close() == []
    assert control.now.enabled == 1
    assert len(control.rules) == 1 + len(OURS)
    assert second.close() == []
    assert (control.rules, control.now.enabled, control.now.backlog_limit) == ([ADMIN], 0, 64)


def test_immutable_configuration(path: Path) -> None:
    control = FakeControl(enabled=2)
    with pytest.raises(NotSupportedError, match="-e 2") as caught:
        lease_on(control, path).acquire()
    assert caught.value.exit_code == 3
    assert not path.exists()
    control.rules += OURS
    lease = lease_on(control, path)
    lease.acquire()
    assert lease.close() == []
    assert control.rules == [ADMIN, *OURS]


def test_locked_during_the_lease_is_told_once_and_remembered(path: Path) -> None:
    control = FakeControl()
    lease = lease_on(control, path)
    lease.acquire()
    control.now = control.now._replace(enabled=2)
    assert lease.close() == ["immutable"]
    assert path.exists()


@pytest.mark.parametrize("step", ["set_backlog_limit", "add_rule", "set_enabled"])
def test_failure_half_way_takes_back_what_was_done(path: Path, step: str) -> None:
    control = FakeControl()
    control.fail = step
    with pytest.raises(NotPermittedError):
        lease_on(control, path).acquire()
    assert control.rules == [ADMIN]
    assert control.now.enabled == 0


def test_state_is_written_before_the_change(path: Path) -> None:
    control = FakeControl()
    seen: list[dict[str, object]] = []
    plain = control.add_rule

    def add_rule(rule: bytes, *, append: bool = True) -> bool:
        seen.append(json.loads(path.read_bytes()))
        return plain(rule, append=append)

    control.add_rule = add_rule  # type: ignore[method-assign]
    with lease_on(control, path):
        assert [state["rules"] for state in seen] == [sorted(rule.hex() for rule in OURS)] * 2
        assert seen[0]["enabled"] == 0


def test_leftovers_that_cannot_be_removed_are_an_error(path: Path) -> None:
    control = FakeControl()
    lease_on(control, path).acquire()
    state = json.loads(path.read_bytes())
    state["holders"] = [[1 << 22, 1]]
    path.write_text(json.dumps(state))
    control.fail = "delete_rule"
    with pytest.raises(AuditnsError, match="killed run"):
        lease_on(control, path).acquire()
    control.fail = ""
    with lease_on(control, path) as lease:
        assert any("killed run" in notice for notice in lease.notices)
    assert (control.rules, control.now.enabled) == ([ADMIN], 0)


def test_pid_of_a_holder_taken_by_another_process_is_no_holder(path: Path) -> None:
    control = FakeControl()
    lease_on(control, path).acquire()
    state = json.loads(path.read_bytes())
    state["holders"][0][1] += 1  # our pid, another start time
    path.write_text(json.dumps(state))
    with lease_on(control, path) as lease:
        assert any("killed run" in notice for notice in lease.notices)
    assert control.rules == [ADMIN]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"rules": ["zz"]},
        {"rules": ["00"]},
        {"rules": 3},
        {"holders": [[1]]},
        {"holders": [[-1, 0]]},
        {"holders": [[True, 0]]},
        {"enabled": 2},
        {"backlog_limit": 64},
        {"auditd": None},
        {"boot_id": 0},
    ],
)
def test_damaged_state_is_refused(path: Path, change: dict[str, object]) -> None:
    control = FakeControl()
    lease = lease_on(control, path)
    lease.acquire()
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises(AuditnsError, match="damaged"):
        lease_on(control, path).acquire()


def rule_of(filter_list: int, action: int, *fields: tuple[int, int, int]) -> bytes:
    words = [0] * 260
    words[:3] = filter_list, action, len(fields)
    words[3:66] = [0xFFFFFFFF] * 63
    for i, (number, operator, value) in enumerate(fields):
        words[67 + i], words[131 + i], words[195 + i] = number, value, operator
    return b"".join(word.to_bytes(4, "little") for word in words)


@pytest.mark.parametrize(
    ("rules", "cmdline", "expected"),
    [
        ([], QUIET, []),
        ([ADMIN, *OURS], QUIET, []),
        ([], "quiet", ["older-processes"]),
        ([rule_of(auditrule.FILTER_TASK, auditrule.ACTION_NEVER)], QUIET, ["never-task"]),
        ([rule_of(auditrule.FILTER_EXIT, auditrule.ACTION_NEVER)], QUIET, ["never-exit"]),
        ([rule_of(auditrule.FILTER_EXCLUDE, 0, (12, auditrule.OP_EQUAL, 1309))], QUIET, ["excluded-type"]),
        ([rule_of(auditrule.FILTER_EXCLUDE, 2, (12, 0x50000000, 1000))], QUIET, ["excluded-type"]),
        ([rule_of(auditrule.FILTER_EXCLUDE, 0, (12, auditrule.OP_EQUAL, 1327))], QUIET, []),
    ],
)
def test_hints(rules: list[bytes], cmdline: str, expected: list[str]) -> None:
    status = FakeControl(enabled=1, pid=7).now
    assert [hint.id for hint in hints(status, rules, cmdline)] == expected


def test_hints_of_the_status() -> None:
    status = FakeControl(enabled=0).now._replace(rate_limit=5)
    assert [hint.id for hint in hints(status, [], "")] == ["older-processes", "kernel-log", "rate-limit"]


def test_nobody_waits_for_a_program_that_keeps_the_lease_locked(path: Path) -> None:
    """It may have been stopped: the loop looks after the rules later, the end leaves them to whoever starts next."""
    control = FakeControl()
    lease = lease_on(control, path)
    lease.acquire()
    control.rules.remove(OURS[1])
    with SafeDir(str(path.parent)) as stopped, stopped.locked(path.name + ".lock"):
        with pytest.raises(LockedError):
            lease.ensure(control.loaded())
        assert lease.unsure
        assert OURS[1] not in control.rules
    assert lease.ensure(control.loaded()) == ["somebody has removed 1 of our audit rules; they are loaded again"]
    assert not lease.unsure
    with SafeDir(str(path.parent)) as stopped, stopped.locked(path.name + ".lock"):
        (told,) = lease.close()
    assert "taken back by the next" in told
    assert control.rules == [ADMIN, OURS[0], *OURS[2:], OURS[1]]
    later = lease_on(control, path)
    later._living = lambda state: []  # type: ignore[method-assign]
    later.take_back()
    assert (control.rules, control.now.enabled) == ([ADMIN], 0)
