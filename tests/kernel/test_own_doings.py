"""What the listener starts itself on this kernel is in no NS_* line, no event of a process and no list."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import NsChange
from auditns_connector.sources.perf import PerfSource
from tests.kernel.programs import AUDITNS, auditns, listening, until
from tests.kernel.support import AuditState, need_tool

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]


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


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("form", [("--format", "raw"), ("--events", "--format", "json")])
def test_the_doctor_is_in_no_line_and_no_event(
    quiet: AuditState, observer: Observer, tmp_path: Path, form: tuple[str, ...], known: bool
) -> None:
    """Its probes change namespaces, which is told of where it cannot show who it is."""
    with listening(tmp_path / "run", *form) as run:
        control = tmp_path / ("run/control" if known else "nobody")
        doctor = subprocess.Popen([*AUDITNS, "doctor", "--control", control], stdout=subprocess.DEVNULL)
        doctor.wait()
        own, movers = started_by(observer, doctor.pid)
        assert movers, "it has not looked what the kernel can do"
        last = subprocess.Popen(["unshare", "-u", "/bin/true"])
        last.wait()
        until(lambda: str(last.pid).encode() in run.out, "what came behind it")
        text = run.out
    told = {int(pid) for pid in re.findall(rb'[ "]pid"?[=:] ?(\d+)', text)}
    assert last.pid in told
    assert bool(told & (own - {doctor.pid})) is not known
    assert bool(told & movers) is not known or "--events" in form


def test_a_container_with_the_socket_hides_nothing(quiet: AuditState, tmp_path: Path) -> None:
    need_tool("unshare")
    ask = (
        "import sys, subprocess\n"
        "from auditns_connector.control.server import ask\n"
        "print(ask(sys.argv[1], {'op': 'own'})['ok'], flush=True)\n"
        "made = subprocess.Popen(['unshare', '-u', '/bin/true'])\n"
        "made.wait()\n"
        "print(made.pid)\n"
    )
    for prefix in (["unshare", "-fp", "--mount-proc"], []):
        directory = tmp_path / f"run-{len(prefix)}"
        with listening(directory, "--format", "raw") as run:
            command = [*prefix, sys.executable, "-c", ask, str(directory / "control")]
            done = subprocess.run(command, capture_output=True, text=True)
            last = subprocess.Popen(["unshare", "-i", "/bin/true"])
            last.wait()
            until(lambda: b" pid=%d " % last.pid in run.out, "the line about the last one")  # noqa: B023
        believed, pid = done.stdout.split()
        uts = [line for line in run.out.splitlines() if b" type=4000000 " in line and b"type=NS_CHANGE" in line]
        if prefix:  # it is a container, and its number for the process is not ours
            assert believed == "False"
            assert [line for line in uts if b" contid=" in line]
        else:
            assert believed == "True"
            assert not [line for line in uts if f" pid={pid} ".encode() in line]
