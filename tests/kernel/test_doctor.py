"""The doctor on this host, and in namespaces where less is allowed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.support import AuditState, auditctl, need_tool

pytestmark = pytest.mark.kernel


def doctor(*prefix: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and findings by id."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "auditns_connector.cli.main", "doctor", "--json"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    answer = json.loads(done.stdout)
    assert answer["ok"] == (done.returncode == 0)
    return done.returncode, {finding["id"]: finding for finding in answer["findings"]}


def test_this_host(audit_state: AuditState, token: str) -> None:
    key = f"auditns-{token}"
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", key)
    auditctl("-e", "1")
    _code, found = doctor()
    for name in ("privilege", "namespaces", "connector", "perf", "audit", "readlog", "rules", "namespace-source"):
        assert found[name]["state"] == "ok", found[name]
    auditctl("-e", "0")
    assert doctor()[1]["audit"]["state"] == "warn"


@pytest.mark.parametrize(
    ("option", "word", "failed"),
    [
        ("--net", "net (", {"namespaces", "readlog"}),
        ("--pid", "pid (", {"namespaces", "audit"}),
        ("--user", "user (", {"namespaces", "audit", "readlog", "perf", "connector"}),
    ],
)
def test_namespaces_of_a_container(kernel_lock: None, option: str, word: str, failed: set[str]) -> None:
    need_tool("unshare")
    extra = ["--map-root-user"] if option == "--user" else []
    code, found = doctor("unshare", option, "--fork", *extra)
    assert code == 1
    assert word in found["namespaces"]["text"]
    assert failed <= {name for name, finding in found.items() if finding["state"] == "fail"}


def test_without_privilege(kernel_lock: None) -> None:
    need_tool("setpriv")
    code, found = doctor("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert code == 1
    assert found["privilege"]["state"] == "fail"
    assert "CAP_AUDIT_CONTROL" in found["privilege"]["text"]
