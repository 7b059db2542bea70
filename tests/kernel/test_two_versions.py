"""0.1.0 and this version on one host at once, as an upgrade has them until the last program is started anew.

The former version is taken from the repository's history and built, so this wants a clone with history and gcc.
"""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from auditns_connector import api
from auditns_connector.registration.hook_program import HOOK_PROGRAM
from tests.kernel.programs import (
    ROOT,
    Program,
    Task,
    auditns,
    contids,
    environment,
    event_of,
    listening,
    until,
    whole_event_of,
)
from tests.kernel.support import AuditState, auditctl, need, need_tool
from tests.kernel.test_plugin import Plugin, act, audited, true

__all__ = ["audited"]

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]
#: the last commit of 0.1.0
FORMER = "c1a62104f812e695120ff145e0f1a98f3a445356"
WIDE = 1 << 30


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of 0.1.0, built."""
    need_tool("git", "gcc")
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
    there = subprocess.run([*git, "cat-file", "-e", f"{FORMER}^{{commit}}"], capture_output=True).returncode == 0
    need(there, "the repository's history, back to 0.1.0")
    tree = tmp_path_factory.mktemp("former")
    archive = subprocess.run([*git, "archive", FORMER], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-C", str(tree), "-xf", "-"], input=archive, check=True)
    subprocess.run([sys.executable, "cdefs/build.py"], cwd=tree, capture_output=True, check=True)
    return tree


@pytest.fixture(params=["former first", "former second"])
def order(request: pytest.FixtureRequest, former: Path) -> tuple[Path, Path]:
    """Whose program comes first, and whose second."""
    return (former, ROOT) if request.param == "former first" else (ROOT, former)


@pytest.fixture
def control(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o755)
    return folder / "control"


def command(root: Path, *args: str | Path) -> str:
    """What a short command of a version says; it must succeed."""
    done = auditns(*args, root=root)
    assert done.returncode == 0, (root, args, done.stdout, done.stderr)
    return done.stdout.decode().strip()


def told_serials(text: bytes) -> set[int]:
    """The serials of events of our own: far from the kernel's."""
    found = {int(one) for one in re.findall(rb"type=NS_\w+ msg=audit\([0-9.]+:(\d+)\)", text)}
    return {one for one in found if one > WIDE}


def test_versions(former: Path) -> None:
    assert "0.1.0" in command(former, "--version")
    assert "0.1.0" not in command(ROOT, "--version")


def test_two_listeners(
    order: tuple[Path, Path], quiet: AuditState, tasks: list[Task], tmp_path: Path, control: Path, token: str
) -> None:
    """One serves, the other follows and takes over; commands of both are answered by both; serials of their own
    events never meet."""
    one, other = order
    tasks += [Task(), Task(), Task()]
    with listening(tmp_path / "a", "--rules", "--format", "raw", control=control, root=one) as first:
        command(other, "contid", "set", str(tasks[0].pid), "1", "--control", control)
        with listening(tmp_path / "b", "--format", "raw", control=control, root=other) as second:
            assert "another program serves registrations" in second.err
            command(other, "contid", "set", str(tasks[1].pid), "2", "--control", control)
            for number in (0, 1):
                tasks[number].run(f"/bin/true {number}-{token}")
                for program in (first, second):
                    answered(program, f'a1="{number}-{token}"', str(number + 1))
            for version in order:
                assert command(version, "contid", "get", str(tasks[0].pid), "--control", control) == "1"
                status = json.loads(command(version, "status", "--json", "--control", control))
                assert isinstance(status["uptime_s"], float)
            for number in range(20):
                act(f"sandbox-{number}-{token}", sandbox=True)
            for program in (first, second):
                until(lambda p=program: len(told_serials(p.out)) >= 20, "lives of namespaces")
            first.stop()
            until(lambda: "registrations are served here now" in second.err, "the second one to serve")
            auditctl("-e", "1")
            command(one, "contid", "set", str(tasks[2].pid), "3", "--control", control)
            for number in (0, 1, 2):
                assert command(one, "contid", "get", str(tasks[number].pid), "--control", control) == str(number + 1)
    ours, theirs = told_serials(first.out), told_serials(second.out)
    assert len(ours) >= 20
    assert not ours & theirs


def answered(program: Program, words: str, contid: str) -> None:
    until(lambda: whole_event_of(program.out, words), "the event")
    assert contids(event_of(program.out, words)) == [contid]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_state_goes_on_over_an_upgrade(
    former: Path, quiet: AuditState, tasks: list[Task], tmp_path: Path, control: Path, token: str, stop: signal.Signals
) -> None:
    """What 0.1.0 had registered is registered. Back to 0.1.0 it is too, or what it cannot use is said."""
    tasks.append(Task())
    with listening(tmp_path / "former", "--rules", "--format", "raw", control=control, root=former) as listener:
        command(former, "contid", "set", str(tasks[0].pid), "31", "--control", control)
        tasks[0].run("sleep 100 &")
        (child,) = tasks[0].run("jobs -p").split()
        listener.stop(stop)
    with listening(tmp_path / "this", "--rules", "--format", "raw", control=control) as listener:
        assert "not used" not in listener.err
        for pid in (str(tasks[0].pid), child):
            assert api.get_contid(int(pid), control=str(control)).contid == "31"
        tasks[0].run(f"/bin/true now-{token}")
        answered(listener, f'a1="now-{token}"', "31")
        listener.stop(stop)
    with listening(tmp_path / "back", "--rules", "--format", "raw", control=control, root=former) as listener:
        found = command(former, "contid", "get", str(tasks[0].pid), "--control", control)
        assert found == "31" or "not used" in listener.err
    auditctl("-D")


@pytest.fixture
def plugin_of(former: Path, launcher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """The launcher of each version's plugin."""
    top = tmp_path_factory.mktemp("plugin-0.1.0")
    command(former, "install-plugin", "--prefix", top)
    return {former: top / "usr/sbin/audisp-auditns", ROOT: launcher}


def test_a_plugin_and_a_listener(
    order: tuple[Path, Path], plugin_of: dict[Path, Path], audited: str, tmp_path: Path, tasks: list[Task], token: str
) -> None:
    """The one runs under auditd, the other follows it; both know what was registered with either."""
    one, other = order
    plugin = Plugin(tmp_path / "plugin", plugin_of[one])
    plugin.toml.parent.mkdir(exist_ok=True)
    plugin.configure()
    control = plugin.top / "control"
    tasks += [Task()]
    with plugin.auditd.serving():
        plugin.answers(f"warm-{token}")
        with listening(tmp_path / "listener", "--format", "raw", control=control, root=other) as listener:
            assert "another program serves registrations" in listener.err
            command(other, "contid", "set", str(tasks[0].pid), "7", "--control", control)
            tasks[0].run(f"/bin/true in-{token}")
            act(f"out-{token}")
            answered(listener, f'a1="in-{token}"', "7")
            until(lambda: whole_event_of(plugin.read(), true(f"out-{token}")), "the plugin's")
            until(lambda: whole_event_of(listener.out, true(f"out-{token}")), "the listener's")
            assert contids(event_of(plugin.read(), true(f"in-{token}"))) == ["7"]
            for text in (plugin.read(), listener.out):
                assert contids(event_of(text, true(f"out-{token}"))) == []


def test_hooks(
    order: tuple[Path, Path], former: Path, quiet: AuditState, tasks: list[Task], tmp_path: Path, control: Path
) -> None:
    """The hook of 0.1.0 registers with this version; ours cannot with 0.1.0, says why, and breaks no start."""
    server, caller = order
    tasks.append(Task())
    state = {"ociVersion": "1.0.2", "id": "ab" * 32, "status": "created", "pid": tasks[0].pid, "bundle": str(tmp_path)}
    hook = [sys.executable, "-m", "auditns_connector.cli.main", "oci-hook"] if caller == former else [HOOK_PROGRAM]
    with listening(tmp_path / "l", "--rules", "--format", "raw", control=control, root=server):
        done = subprocess.run(
            [*hook, f"--control={control}", "--timeout=30000"],
            input=json.dumps(state), capture_output=True, text=True, env=environment(caller), timeout=60,
        )  # fmt: skip
        assert done.returncode == 0
        known = command(server, "contid", "get", str(tasks[0].pid), "--control", control)
        if caller == former:
            assert (done.stderr, known) == ("", str(int("ab" * 8, 16)))
        else:
            assert known == "unset"
            assert done.stderr.count("\n") == 1
            assert "an older version serves it: start that anew" in done.stderr


@pytest.fixture
def recorded(order: tuple[Path, Path], quiet: AuditState, tmp_path: Path, token: str) -> tuple[Path, Path]:
    """A journal and the audit text of a run of the first version."""
    journal, text = tmp_path / "run.journal", tmp_path / "audit.log"
    with listening(
        tmp_path / "l", "--rules", "--format", "raw", "--journal", journal, "--no-lifecycle", root=order[0]
    ) as listener:
        act(f"out-{token}")
        act(f"in-{token}", sandbox=True)
        until(lambda: whole_event_of(listener.out, true(f"in-{token}")), "its end")
    lines = [line for line in listener.out.splitlines(keepends=True) if b"type=CONTAINER_" not in line]
    text.write_bytes(b"".join(lines))
    return journal, text


def test_a_journal_of_the_other(
    order: tuple[Path, Path], former: Path, recorded: tuple[Path, Path], token: str
) -> None:
    """This version replays what 0.1.0 recorded, and says that damage may not show. 0.1.0 does not know what this one
    records: it says so, or answers as the run did."""
    _, reader = order
    journal, text = recorded
    done = auditns("enrich", "--journal", journal, text, root=reader)
    assert b"Traceback" not in done.stderr
    if reader == former:
        assert done.returncode != 0 or contids(event_of(done.stdout, true(f"out-{token}"))) == []
        return
    assert done.returncode == 0
    assert b"the journal has no checksums (0.1.0 wrote none)" in done.stderr
    assert contids(event_of(done.stdout, true(f"out-{token}"))) == []
    (inside,) = contids(event_of(done.stdout, true(f"in-{token}")))
    assert inside.isdecimal()
