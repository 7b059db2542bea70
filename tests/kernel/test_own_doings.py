"""What the listener starts itself on this kernel is in no NS_* line, no event of a process and no list."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import NsChange
from auditns_connector.sources.perf import PerfSource
from tests.kernel.programs import auditns, listening, until
from tests.kernel.support import AuditState, auditctl, need, need_tool

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]


@pytest.fixture
def quiet(audit_state: AuditState) -> AuditState:
    """Auditing off and no auditd; put back as everything else."""
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    auditctl("-e", "0")
    return AuditState.read()


@pytest.fixture
def observer() -> Iterator[Observer]:
    """Another one, that sees what the program does."""
    model = Model()
    model.lifecycle = True
    watching = Observer(model, perf=PerfSource(pages=1024, calls=True), options={"lifecycle": True})
    watching.start()
    yield watching
    watching.close()


def started_by(observer: Observer, pid: int) -> tuple[set[int], set[int]]:
    """Who descends from process ``pid``, and who of them was seen to change its namespaces."""
    observer.sync()
    model = observer.model
    descendants = {process.pid for process in model.table.family(pid, model.processes[pid].start)}
    movers = {output.process.pid for output in model.outputs if isinstance(output, NsChange)}
    return descendants, descendants & movers


def test_no_line_and_no_list_has_its_probes(quiet: AuditState, observer: Observer, tmp_path: Path) -> None:
    need_tool("unshare")
    with listening(tmp_path / "run", "--format", "raw") as run:
        subprocess.run(["unshare", "-u", "/bin/true"], check=True)
        until(lambda: b"type=NS_CHANGE" in run.out, "a line about another's namespace")
        own, movers = started_by(observer, run.process.pid)
        listed = auditns("tree", "--all", "--json", "--control", tmp_path / "run/control").stdout
        text = run.out
    assert movers, "the program has not looked what the kernel can do"
    lines = [line for line in text.splitlines() if line.startswith((b"type=NS_", b"type=UNKNOWN[134"))]
    told = {int(pid) for line in lines for pid in re.findall(rb" pid=(\d+)", line)}
    assert not told & (own | {run.process.pid})
    assert told
    in_list = {int(pid) for pid in re.findall(rb'"pid": ?(\d+)', listed)}
    assert os.getpid() in in_list
    assert not in_list & own


def test_no_event_is_of_one_of_them(observer: Observer, tmp_path: Path) -> None:
    with listening(tmp_path, "--events", "--format", "json") as run:
        subprocess.run(["/bin/true"], check=True)
        time.sleep(0.2)
        own, movers = started_by(observer, run.process.pid)
        text = run.out
    assert movers
    told = {json.loads(line).get("pid") for line in text.splitlines()}
    assert not told & own
