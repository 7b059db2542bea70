"""The rule lease against this kernel's audit, seen through auditctl."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from auditns_connector.auditrules.codec import our_rules
from auditns_connector.auditrules.lease import RuleLease, take_back_leftovers
from auditns_connector.auditrules.netlink import AuditControl, LoadedRules
from auditns_connector.errors import AuditnsError
from auditns_connector.sources.readlog import ReadlogSource
from tests.kernel.support import AuditState, auditctl

pytestmark = pytest.mark.kernel

HOLD = """
import sys
from auditns_connector.auditrules.lease import RuleLease
lease = RuleLease(state_path=sys.argv[1], key=sys.argv[2])
lease.acquire()
print("held", flush=True)
sys.stdin.read()
print(lease.close(), flush=True)
"""


def hold(state: Path, key: str) -> "subprocess.Popen[str]":
    """A process of its own that holds a lease until its stdin ends."""
    command = [sys.executable, "-c", HOLD, str(state), key]
    root = str(Path(__file__).parents[2])
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def read_until(source: ReadlogSource, marker: bytes) -> bytes:
    """What the source gives up to a record that holds ``marker``."""
    text = b""
    while marker not in text:
        assert select.select([source], [], [], 120)[0], f"{marker!r} never came"
        text += source.drain()
    return text


@pytest.fixture
def state(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "run" / "rules.json"


@pytest.fixture
def key(token: str) -> str:
    return f"auditns-{token}"


def test_builder_agrees_with_auditctl(audit_state: AuditState, key: str) -> None:
    for arch in ("b64", "b32"):
        auditctl("-a", "always,exit", "-F", f"arch={arch}", "-S", "execve,execveat,unshare,setns", "-k", key)
    with AuditControl() as control:
        loaded = control.list_rules()
        assert loaded[-2:] == our_rules(os.uname().machine, key)
        assert [control.add_rule(rule) for rule in our_rules(os.uname().machine, key)] == [False, False]
        assert [control.delete_rule(rule) for rule in our_rules(os.uname().machine, key)] == [True, True]
        assert [control.delete_rule(rule) for rule in our_rules(os.uname().machine, key)] == [False, False]


def test_prepended_rule_is_listed_first(audit_state: AuditState, key: str) -> None:
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "acct", "-k", f"{key}-first")
    rule = our_rules(os.uname().machine, key)[0]
    with AuditControl() as control:
        control.add_rule(rule, append=False)
        rules = control.list_rules()
        assert rules.index(rule) < len(rules) - 1
        control.delete_rule(rule)


def test_status_agrees_with_auditctl(audit_state: AuditState) -> None:
    with AuditControl() as control:
        status = control.status()
    for name in ("enabled", "failure", "rate_limit", "backlog_limit", "backlog_wait_time"):
        assert str(getattr(status, name)) == audit_state.settings[name]


def test_lease_adds_and_restores(audit_state: AuditState, state: Path, key: str) -> None:
    auditctl("-e", "0")
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "acct", "-k", f"{key}-admin")
    before = AuditState.read()
    with RuleLease(state_path=str(state), key=key):
        during = AuditState.read()
        assert during.settings["enabled"] == "1"
        assert during.rules[: len(before.rules)] == before.rules
        assert len(during.rules) == len(before.rules) + 2
        assert all(rule.endswith(f"key={key}") for rule in during.rules[-2:])
        assert not any("clone" in rule or "fork" in rule for rule in during.rules[-2:])
        assert json.loads(state.read_bytes())["enabled"] == 0
    assert AuditState.read() == before
    assert not state.exists()


def test_enabled_stays_when_it_was(audit_state: AuditState, state: Path, key: str) -> None:
    auditctl("-e", "1")
    before = AuditState.read()
    with RuleLease(state_path=str(state), key=key, backlog_limit=0):
        assert AuditState.read().settings == before.settings
    assert AuditState.read() == before


def test_rule_that_was_there_stays(audit_state: AuditState, state: Path, key: str) -> None:
    with AuditControl() as control:
        control.add_rule(our_rules(os.uname().machine, key)[0])
        before = AuditState.read()
        with RuleLease(state_path=str(state), key=key):
            assert len(AuditState.read().rules) == len(before.rules) + 1
        assert AuditState.read() == before
        control.delete_rule(our_rules(os.uname().machine, key)[0])


def test_administrators_key_matches_first(audit_state: AuditState, state: Path, key: str) -> None:
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", "exe=/usr/bin/env", "-k", f"{key}-admin")
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", "euid=0", "-k", f"{key}-admin")
    with RuleLease(state_path=str(state), key=key), ReadlogSource() as source:
        subprocess.run(["unshare", "--uts", "/bin/true"], check=True)
        auditctl("-m", f"marker-{key}")
        lines = read_until(source, f"marker-{key}".encode()).splitlines()
    records = [line for line in lines if b"type=SYSCALL" in line and b'comm="unshare"' in line]
    execs = [line for line in records if b" syscall=59 " in line]
    others = [line for line in records if b" syscall=272 " in line]
    assert execs
    assert all(f'key="{key}-admin"'.encode() in line for line in execs)
    assert others
    assert all(f'key="{key}"'.encode() in line for line in others)


def test_killed_run_is_cleaned_up_by_the_next(audit_state: AuditState, state: Path, key: str) -> None:
    auditctl("-e", "0")
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", f"{key}-admin")
    before = AuditState.read()
    holder = hold(state, key)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    left = AuditState.read()
    assert left.settings["enabled"] == "1"
    assert len(left.rules) == len(before.rules) + 2
    lease = RuleLease(state_path=str(state), key=key)
    lease.acquire()
    assert any("killed run" in notice for notice in lease.notices)
    assert len(AuditState.read().rules) == len(before.rules) + 2
    assert lease.close() == []
    assert AuditState.read() == before


def test_a_start_without_rules_cleans_up_too(audit_state: AuditState, state: Path, key: str) -> None:
    auditctl("-e", "0")
    before = AuditState.read()
    assert take_back_leftovers(str(state)) == []
    holder = hold(state, key)
    during = AuditState.read()
    assert take_back_leftovers(str(state)) == []
    assert AuditState.read() == during  # its holder lives
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert AuditState.read() == during
    assert take_back_leftovers(str(state)) == ["removed 2 audit rules left behind by a killed run"]
    assert AuditState.read() == before
    assert not state.exists()
    state.write_text("{}")
    (complaint,) = take_back_leftovers(str(state))
    assert "is damaged" in complaint


def test_last_of_two_holders_restores(audit_state: AuditState, state: Path, key: str) -> None:
    before = AuditState.read()
    first, second = hold(state, key), hold(state, key)
    first.communicate("")
    assert len(AuditState.read().rules) == len(before.rules) + 2
    assert second.communicate("")[0] == "[]\n"
    assert AuditState.read() == before


def loaded(control: AuditControl) -> LoadedRules:
    return LoadedRules(control.list_rules(), control.status())


def test_ensure_loads_again(audit_state: AuditState, state: Path, key: str) -> None:
    with RuleLease(state_path=str(state), key=key) as lease:
        during = AuditState.read()
        with AuditControl() as control:
            for rule in our_rules(os.uname().machine, key):
                control.delete_rule(rule)
            assert "removed 2 of our" in " ".join(lease.ensure(loaded(control)))
            assert lease.ensure(loaded(control)) == []
            assert AuditState.read() == during
            control.set_enabled(0)
            assert "switched auditing off" in " ".join(lease.ensure(loaded(control)))
            assert control.status().enabled == 0
            control.set_enabled(1)


def test_state_of_another_boot_is_forgotten(audit_state: AuditState, state: Path, key: str) -> None:
    holder = hold(state, key)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with AuditControl() as control:
        for rule in our_rules(os.uname().machine, key):
            control.delete_rule(rule)
        audit_state.restore()
        old = json.loads(state.read_bytes())
        state.write_text(json.dumps({**old, "boot_id": "another", "enabled": 0}))
        auditctl("-e", "1")
        with RuleLease(state_path=str(state), key=key):
            assert control.status().enabled == 1
        assert control.status().enabled == 1


def test_damaged_state_is_an_error_and_changes_nothing(audit_state: AuditState, state: Path, key: str) -> None:
    state.parent.mkdir(mode=0o755)
    for text in ("{", "[]", '{"version":1,"rules":["zz"]}', '{"version":2}', "\0" * 100):
        state.write_text(text)
        with pytest.raises(AuditnsError, match="damaged"):
            RuleLease(state_path=str(state), key=key).acquire()
    assert AuditState.read() == audit_state


def test_state_file_behind_a_link_is_refused(audit_state: AuditState, state: Path, key: str, tmp_path: Path) -> None:
    state.parent.mkdir(mode=0o755)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    state.symlink_to(victim)
    with pytest.raises(AuditnsError, match="symbolic link"):
        RuleLease(state_path=str(state), key=key).acquire()
    assert victim.read_text() == "precious"
    assert AuditState.read() == audit_state


def test_never_task_is_told(audit_state: AuditState, state: Path, key: str) -> None:
    auditctl("-a", "never,task")
    with RuleLease(state_path=str(state), key=key) as lease:
        assert any("never,task" in notice for notice in lease.notices)
