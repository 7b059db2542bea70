"""The doctor's judgement, and how it is told."""

import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from auditns_connector.auditrules.codec import AuditStatus, our_rules
from auditns_connector.cli import doctor as command
from auditns_connector.deploy.doctor import CAPABILITIES, Finding, Host, Plugin, examine
from auditns_connector.deploy.probe import look_at_plugin

STATUS = AuditStatus(0, 1, 1, 300, 0, 8192, 0, 0, 127, 15000, 0)
GOOD = Host(
    capabilities=sum(1 << bit for bit in CAPABILITIES),
    kernel="6.18.0",
    cmdline="audit=1",
    initial={"user": True, "pid": True, "net": True},
    nm=False,
    perf_features=frozenset({"task", "namespaces", "cgroup", "attach"}),
    ns_id=True,
    audit=STATUS,
    rules=our_rules("x86_64", "auditns"),
    plugin=Plugin(installed=True, active=True, executable="/usr/sbin/audisp-auditns"),
)


def states(host: Host) -> dict[str, str]:
    return {finding.id: finding.state for finding in examine(host) if finding.state != "ok"}


def test_good_host_has_no_complaint() -> None:
    assert states(GOOD) == {}
    assert all(not finding.remedy for finding in examine(GOOD))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"capabilities": 0, "euid": 1000}, {"privilege": "fail"}),
        ({"proc_readable": False}, {"proc-ns": "warn"}),
        ({"initial": {"user": True, "pid": True, "net": False}}, {"namespaces": "fail"}),
        ({"initial": {"user": True, "pid": True, "net": None}}, {"namespaces": "warn"}),
        ({"initial": {"user": False, "pid": True, "net": True}}, {"privilege": "warn", "namespaces": "fail"}),
        ({"connector_error": "refused", "nm": None}, {"connector": "warn"}),
        (
            {"connector_error": "refused", "nm": None, "perf_error": "refused", "perf_features": frozenset()},
            {"connector": "fail", "perf": "fail", "namespace-source": "warn"},
        ),
        ({"nm": True, "perf_error": "refused", "perf_features": frozenset()}, {"perf": "warn"}),
        ({"nm": None}, {"connector-nm": "warn"}),
        ({"perf_features": frozenset({"task", "namespaces"})}, {"tracefs": "warn"}),
        ({"ns_id": False}, {}),
        ({"peer_pidfd": False}, {"streams": "warn"}),
        ({"audit": None, "audit_error": "no audit"}, {"audit": "fail"}),
        ({"audit": STATUS._replace(enabled=0)}, {"audit": "warn"}),
        ({"audit": STATUS._replace(enabled=2)}, {}),
        ({"audit": STATUS._replace(backlog_limit=64)}, {"backlog": "warn"}),
        ({"audit": STATUS._replace(backlog_limit=0)}, {}),
        ({"audit": STATUS._replace(lost=9)}, {"lost": "warn"}),
        ({"audit": STATUS._replace(pid=0)}, {"kernel-log": "warn"}),
        ({"readlog_error": "silent"}, {"readlog": "fail"}),
        ({"rules": []}, {"rules": "warn"}),
        ({"cmdline": ""}, {"older-processes": "warn"}),
        ({"plugin": Plugin()}, {"plugin": "warn"}),
        ({"plugin": Plugin(installed=True)}, {"plugin": "warn"}),
        ({"plugin": Plugin(installed=True, active=True, trouble="mode")}, {"plugin": "fail"}),
        ({"selinux": "enforcing"}, {"selinux": "warn"}),
        ({"selinux": "permissive"}, {}),
    ],
)
def test_each_trouble_is_found(change: dict[str, object], expected: dict[str, str]) -> None:
    host = replace(GOOD, **change)  # type: ignore[arg-type]
    assert states(host) == expected


#: findings that no command mends: what the kernel cannot do, what could not be found out, what somebody wants so
UNMENDABLE = {"proc-ns", "connector-nm", "streams"}


@pytest.mark.parametrize(
    "change",
    [
        {"euid": 1000, "capabilities": 0, "connector_error": "no", "nm": None, "audit": None, "readlog_error": "no"},
        {"initial": {"user": False, "pid": False, "net": False}, "connector_error": "no", "audit": None},
        {"euid": 1000, "perf_error": "no", "perf_features": frozenset(), "connector_error": "no", "nm": None},
        {"proc_readable": False, "peer_pidfd": False, "nm": None, "perf_features": frozenset({"namespaces"})},
        {
            "audit": STATUS._replace(enabled=0, backlog_limit=64, lost=9, pid=0, rate_limit=5),
            "cmdline": "",
            "rules": [],
        },
        {"selinux": "enforcing", "plugin": Plugin()},
        {"plugin": Plugin(installed=True)},
        {"plugin": Plugin(installed=True, active=True, trouble="mode")},
    ],
)
def test_each_trouble_has_the_command_that_mends_it(change: dict[str, object]) -> None:
    host = replace(GOOD, boot_tool="grubby", **change)  # type: ignore[arg-type]
    troubles = [finding for finding in examine(host) if finding.state != "ok"]
    assert troubles
    for finding in troubles:
        assert bool(finding.remedy) == (finding.id not in UNMENDABLE), finding


@pytest.mark.parametrize("tool", ["grubby", "update-grub", ""])
def test_the_kernel_command_line_is_changed_by_what_the_host_has(tool: str) -> None:
    (finding,) = (item for item in examine(replace(GOOD, cmdline="", boot_tool=tool)) if item.state != "ok")
    assert "audit=1" in finding.remedy
    assert tool in finding.remedy
    done = subprocess.run(["sh", "-n"], input=finding.remedy, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_namespace_source_says_what_it_misses() -> None:
    texts = {
        finding.text
        for host in (GOOD, replace(GOOD, nm=True), replace(GOOD, nm=True, perf_features=frozenset()))
        for finding in examine(host)
        if finding.id == "namespace-source"
    }
    assert len(texts) == 3
    assert all("time namespace" in text or "user namespaces" in text for text in texts)


def test_text_and_json_hold_every_finding() -> None:
    findings = [Finding("a", "ok", "fine", "never shown"), Finding("bb", "fail", "bad", "mend it")]
    out = io.StringIO()
    command._write_text(findings, out)
    assert out.getvalue() == "ok    a   fine\nfail  bb  bad\n          → mend it\n"
    out = io.StringIO()
    command._write_json(findings, out)
    answer = json.loads(out.getvalue())
    assert (answer["v"], answer["ok"], [item["id"] for item in answer["findings"]]) == (1, False, ["a", "bb"])


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("files of root's cannot be made")
    program = tmp_path / "audisp-auditns"
    program.write_text('#!/bin/sh\n[ "$*" = --check-config ]\n')
    program.chmod(0o750)
    conf = tmp_path / "auditns.conf"
    conf.write_text(f"# a comment = no\nactive = yes\n path = {program}\n")
    return conf


def test_plugin_that_auditd_takes(installed: Path) -> None:
    plugin = look_at_plugin(str(installed))
    assert (plugin.installed, plugin.active, plugin.trouble) == (True, True, "")
    assert look_at_plugin(str(installed) + ".not").installed is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho 'no module x' >&2\nexit 1\n", "does not start: no module x"),
        ("#!/bin/sh\nexit 3\n", "does not start: it ended with 3"),
        ("#!/nowhere/python3.9\n", "cannot be run: No such file or directory"),
    ],
)
def test_plugin_is_started_to_see_whether_it_can_be(installed: Path, text: str, said: str) -> None:
    (installed.parent / "audisp-auditns").write_text(text)
    assert said in look_at_plugin(str(installed)).trouble


@pytest.mark.parametrize(
    ("said", "code", "edits"),
    [
        ("audisp-auditns: /x.toml: info: 1 is not allowed; allowed: true, false", 2, True),
        ("audisp-auditns: cannot be read", 1, False),
        ("/usr/bin/python3: can't open file '/usr/lib/x.py': [Errno 2] No such file or directory", 2, False),
    ],
)
def test_configuration_that_is_refused_is_not_mended_by_installing_again(
    installed: Path, said: str, code: int, edits: bool
) -> None:
    program = installed.parent / "audisp-auditns"
    program.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit {code}\n')
    for package in ("", "deb", "rpm"):
        plugin = replace(look_at_plugin(str(installed)), package=package)
        (finding,) = (one for one in examine(replace(GOOD, plugin=plugin)) if one.id == "plugin")
        assert finding.state == "fail"
        assert said in finding.text
        assert (finding.remedy == f"correct that, then: {program} --check-config") == edits
        assert ("install" in finding.remedy) == (not edits)


def test_who_installed_the_plugin_puts_it_right() -> None:
    for package, remedy in (("", "auditns install-plugin"), ("deb", "apt-get"), ("rpm", "dnf")):
        host = replace(GOOD, plugin=replace(GOOD.plugin, trouble="it is gone", package=package))
        assert [f.remedy.startswith(remedy) for f in examine(host) if f.id == "plugin"] == [True]


def test_plugin_that_auditd_refuses(installed: Path) -> None:
    program = installed.parent / "audisp-auditns"
    for mode, word in ((0o700, "0750"), (0o775, "written by others")):
        program.chmod(mode)
        assert word in look_at_plugin(str(installed)).trouble
    program.chmod(0o750)
    os.chown(program, 65534, 0)
    assert "belong" in look_at_plugin(str(installed)).trouble
    program.unlink()
    assert "No such file" in look_at_plugin(str(installed)).trouble
    program.symlink_to("/bin/true")
    assert "regular" in look_at_plugin(str(installed)).trouble
    installed.chmod(0o666)
    assert "others cannot write" in look_at_plugin(str(installed)).trouble


@pytest.mark.parametrize(
    ("initial", "euid", "said"),
    [
        ({"user": True, "pid": True, "net": True}, 1000, "sudo auditns doctor"),
        ({"user": True, "pid": True, "net": False}, 0, "nsenter -t 1 -n auditns doctor"),
        # from another pid namespace nsenter would find the container's first process, and sudo gives no more
        ({"user": True, "pid": False, "net": True}, 0, "run auditns doctor on the host, or in a container that shares"),
        ({"user": False, "pid": True, "net": True}, 65534, "run auditns doctor on the host, or in a container that"),
    ],
)
def test_the_remedy_leads_out_of_where_it_is(initial: dict[str, bool], euid: int, said: str) -> None:
    host = replace(GOOD, initial=initial, euid=euid, capabilities=0, connector_error="refused", nm=None)
    remedies = {finding.remedy for finding in examine(host) if finding.id in ("privilege", "namespaces", "connector")}
    assert [remedy[: len(said)] for remedy in remedies - {""}] == [said]


def test_what_root_lacks_is_what_is_to_be_given() -> None:
    host = replace(GOOD, capabilities=GOOD.capabilities & ~(1 << 37), readlog_error="refused")
    remedies = {finding.remedy for finding in examine(host) if finding.state == "fail"}
    assert [remedy.startswith("give it CAP_AUDIT_READ (docker: ") for remedy in remedies] == [True]


def test_a_remedy_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        Finding("a", "fail", "x", "do it"),
        Finding("b", "fail", "y", "do it"),
        Finding("c", "warn", "z", "do that"),
    ]
    out = io.StringIO()
    command._write_text(found, out)
    assert [line.strip() for line in out.getvalue().splitlines() if "\N{RIGHTWARDS ARROW}" in line] == [
        "→ do it",
        "→ do that",
    ]
