"""What the listener starts itself on this kernel is in no NS_* line, no event of a process and no list."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import NsChange
from auditns_connector.registration.hook_program import HOOK_PROGRAM
from auditns_connector.sources.perf import PerfSource
from tests.kernel.programs import AUDITNS, Program, auditns, listening, until
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


def pids_in(text: bytes) -> set[int]:
    """The processes that lines or objects are about."""
    return {int(pid) for pid in re.findall(rb'[ "]pid"?[=:] ?(\d+)', text)}


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
        until(lambda: last.pid in pids_in(run.out), "what came behind it")
        text = run.out
    told = pids_in(text)
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


#: the command as it is installed
COMMAND = Path(sys.executable).parent / "auditns"


def told_of(run: Program) -> set[int]:
    """The processes that the events are about, and whose children they are."""
    found = [json.loads(line) for line in run.out.splitlines()]
    return {event.get(name) for event in found for name in ("pid", "ppid")}


def end_of(run: Program, pid: int) -> None:
    def ended() -> bool:
        return any(
            (event := json.loads(line))["event"] == "exit" and event["pid"] == pid for line in run.out.splitlines()
        )

    until(ended, f"the exit of {pid}")


def hook(control: Path, *prefix: str) -> int:
    """Run the hook as a container runtime does; its pid."""
    state = json.dumps({"ociVersion": "1.0.2", "id": "x" * 12, "pid": os.getpid(), "status": "creating"})
    command = [*prefix, HOOK_PROGRAM, f"--control={control}", "--timeout=20000"]
    made = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    made.communicate(state.encode(), 30)
    return made.pid


@pytest.mark.parametrize("who", ["another", "itself"])
def test_neither_hook_nor_doctor_is_in_an_event(quiet: AuditState, tmp_path: Path, who: str) -> None:
    """They show who they are to the program that serves, which tells the one that shows events, if that is another."""
    with contextlib.ExitStack() as stack:
        if who == "another":
            serving = stack.enter_context(listening(tmp_path / "serving", "--format", "raw"))
        options = ["--events", "--format", "json", "--info"]
        control = tmp_path / ("serving" if who == "another" else "events") / "control"
        run = stack.enter_context(listening(tmp_path / "events", *options, control=control))
        hooked = [hook(control) for _ in range(20)]
        doctor = subprocess.Popen([COMMAND, "doctor", "--control", control], stdout=subprocess.DEVNULL)
        doctor.wait()
        other = subprocess.Popen(["/bin/true"])
        other.wait()
        end_of(run, other.pid)
        if who == "another":
            assert serving.process.poll() is None
    told = told_of(run)
    assert other.pid in told
    assert not told & {*hooked, doctor.pid}


def test_the_doctors_probes_are_in_no_line_of_who_follows(
    quiet: AuditState, observer: Observer, tmp_path: Path
) -> None:
    with listening(tmp_path / "serving", "--format", "raw") as serving:
        control = serving.directory / "control"
        with listening(tmp_path / "second", "--format", "raw", control=control) as second:
            doctor = subprocess.Popen([*AUDITNS, "doctor", "--control", control], stdout=subprocess.DEVNULL)
            doctor.wait()
            _, movers = started_by(observer, doctor.pid)
            last = subprocess.Popen(["unshare", "-u", "/bin/true"])
            last.wait()
            until(lambda: b" pid=%d " % last.pid in second.out, "what came behind it")
            told = {int(pid) for pid in re.findall(rb" pid=(\d+)", second.out)}
    assert movers
    assert not told & movers


def test_whoever_is_called_like_one_of_ours_is_in_the_events(quiet: AuditState, tmp_path: Path) -> None:
    """Root's programs and a user's, copies and our own ones that are not believed."""
    need_tool("setpriv")
    folder = Path(f"/var/tmp/auditns-{os.getpid()}")
    folder.mkdir(mode=0o755)
    names = ("auditns-oci-hook", "auditns")
    user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", 'exec "$@"', "sh"]
    try:
        for name in names:
            shutil.copy(shutil.which("true") or "", folder / name)
        with listening(tmp_path / "events", "--events", "--format", "json") as run:
            control, pids = run.directory / "control", []
            for prefix in ([], user):
                for name in names:
                    made = subprocess.Popen([*prefix, folder / name, "doctor"])
                    made.wait()
                    pids.append(made.pid)
            pids.append(hook(control, *user))
            end_of(run, pids[-1])
        told = told_of(run)
    finally:
        shutil.rmtree(folder)
    assert set(pids) <= told
