"""The runtimes' hook: what it asks for, and that it never stands in a container's way."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.errors import AuditnsError
from auditns_connector.registration import hooks_d as hookfile
from auditns_connector.registration import oci_hook as ocihook
from tests.unit.world import HEX

STATE = {"ociVersion": "1.0.2", "id": HEX, "status": "creating", "pid": 4711, "bundle": "/b"}


def request(state: Any = None, annotations: Any = None, **more: Any) -> Any:
    return ocihook.request_of({**STATE, **more} if state is None else state, {"annotations": annotations})


def test_what_is_asked_for() -> None:
    assert request() == {"v": 1, "op": "contid-hook", "pid": 4711, "names": {"runtime": "oci", "id": HEX}}
    assert request(status="stopped") == {"v": 1, "op": "contid-stopped", "id": HEX}
    assert request(pid=0) == {"v": 1, "op": "contid-stopped", "id": HEX}
    without = {key: value for key, value in STATE.items() if key != "pid"}
    assert request(without) == {"v": 1, "op": "contid-stopped", "id": HEX}


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        (
            {
                "io.kubernetes.cri.container-name": "web", "io.kubernetes.cri.sandbox-name": "shop-1",
                "io.kubernetes.cri.sandbox-namespace": "prod", "io.kubernetes.cri.image-name": "nginx",
            },
            {"runtime": "containerd", "name": "web", "pod": "shop-1", "namespace": "prod", "image": "nginx"},
        ),
        (
            {"io.container.manager": "cri-o", "io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": "n"},
            {"runtime": "crio", "pod": "p", "namespace": "n"},
        ),
        ({"io.container.manager": "libpod"}, {"runtime": "podman"}),
        ({"nerdctl/name": "x" * 10_000}, {"runtime": "oci", "name": "x" * 600}),
        ({"io.kubernetes.pod.name": 5, "io.kubernetes.container.name": ["x"]}, {"runtime": "oci"}),
        ([], {"runtime": "oci"}),
        ("x", {"runtime": "oci"}),
    ],
)  # fmt: skip
def test_names_from_annotations(annotations: Any, names: dict[str, str]) -> None:
    assert request(None, annotations)["names"] == {"id": HEX, **names}


def test_the_states_annotations_come_before_the_bundles() -> None:
    state = {**STATE, "annotations": {"io.kubernetes.pod.name": "state"}}
    assert request(state, {"io.kubernetes.pod.name": "bundle"})["names"]["pod"] == "state"


@pytest.mark.parametrize(
    "state",
    [None, [], {}, "x", {"id": 5, "pid": 1}, {"id": ""}, *({**STATE, "pid": pid} for pid in ("1", -1, 1 << 31, True))],
)  # fmt: skip
def test_states_that_make_no_sense(state: Any) -> None:
    with pytest.raises(ocihook.Trouble):
        ocihook.request_of(state, {})


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(hookfile.__file__).parents[2])}


#: long enough for whatever else the machine has to do, where what comes out is to be seen
PATIENT = "--timeout=60000"


def hook(*args: str, stdin: bytes | None = None, keep_open: bool = False) -> tuple[int, str]:
    """(exit code, stderr) of one run."""
    command = [sys.executable, "-m", "auditns_connector.cli.main", "oci-hook", *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        with contextlib.suppress(BrokenPipeError):  # it has given up
            if stdin is not None:
                process.stdin.write(stdin)
                process.stdin.flush()
            if not keep_open:
                process.stdin.close()
        said = process.stderr.read().decode()
        return process.wait(), said


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "not JSON"), (b"{", "not JSON"), (b"[" * 200_000, "not JSON"), (b"[]", "not the state"),
        (b"\xff\xfe\x00", "not JSON"), (json.dumps(STATE).encode(), "nobody serves"),
    ],
)  # fmt: skip
def test_a_start_is_never_broken(tmp_path: Path, stdin: bytes, said: str) -> None:
    code, err = hook("--control", str(tmp_path / "none"), PATIENT, stdin=stdin)
    assert code == 0
    assert err.count("\n") == 1
    assert said in err
    assert hook("--control", str(tmp_path / "none"), "--strict", PATIENT, stdin=stdin)[0] == 1


LONG = {**STATE, "annotations": {str(number): "x" for number in range(200_000)}}
HOSTILE = {**STATE, "annotations": {"io.kubernetes.container.name": "\n\"'\x1d" * (1 << 18)}}


@pytest.mark.parametrize("document", [b"", b"{", *(json.dumps(one).encode() for one in (STATE, HOSTILE, LONG))])
@pytest.mark.parametrize("served", [True, False], ids=["slow", "nobody"])
def test_it_gives_up_in_one_line_whatever_it_is_given(tmp_path: Path, document: bytes, served: bool) -> None:
    path = str(tmp_path / "slow")
    state = tmp_path / "config.json"
    state.write_bytes(document)
    document = document.replace(b'"/b"', json.dumps(str(tmp_path)).encode())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        if served:
            server.bind(path)
            server.listen(8)
        code, said = hook("--control", path, stdin=document, keep_open=document == b"{")
    assert (code, said.count("\n")) == (0, 1)


# How long it takes, in steps: Python's start, one wait for the child for what is left of the time, and the kill. All
# that depends on what it is given is the child's.


class Waits:
    """In place of select(2): the child never has anything to say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, age: float) -> None:
        self.seconds: list[float] = []
        self.killed: list[int] = []
        monkeypatch.setattr(select, "select", self._select)
        monkeypatch.setattr(os, "kill", self._kill)
        monkeypatch.setattr(ocihook, "_age", lambda: age)

    def _select(self, readers: list[int], _: list[int], __: list[int], seconds: float) -> tuple[list[int], ...]:
        self.seconds.append(seconds)
        return [], [], []

    def _kill(self, pid: int, number: int) -> None:
        self.killed.append(number)
        signal.pidfd_send_signal(fd := os.pidfd_open(pid), number)
        os.close(fd)
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("args", "age", "left"),
    [
        ([], 0.0, 0.160), ([], 0.06, 0.1), ([], 0.159, 0.01), ([], 7.0, 0.01),
        (["--timeout=300"], 0.05, 0.25), (["--timeout", "300"], 0.5, 0.01),
    ],
)  # fmt: skip
def test_one_wait_of_what_is_left_since_its_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], args: list[str], age: float, left: float
) -> None:
    waits = Waits(monkeypatch, age)
    monkeypatch.setattr(ocihook, "_work", lambda control, writer: signal.pause())
    assert ocihook.main(args) == 0
    assert waits.seconds == [pytest.approx(left)]
    assert waits.killed == [signal.SIGKILL]
    assert "no answer within" in capfd.readouterr().err
    assert ocihook.main([*args, "--strict"]) == 1


def test_the_parent_reads_nothing_of_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the document and whatever is in it, the wait is not."""
    waits = Waits(monkeypatch, 0.0)
    read = []
    monkeypatch.setattr(os, "read", lambda fd, size: read.append(fd))
    monkeypatch.setattr(ocihook, "_work", lambda control, writer: signal.pause())
    assert ocihook.main([]) == 0
    assert (read, len(waits.seconds)) == ([], 1)


def test_the_time_python_takes_to_start_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts from the fork: what a process does before the hook is imported is in it."""
    with open("/proc/self/stat", "rb") as file:
        started = int(file.read().rpartition(b") ")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(time, "clock_gettime", lambda clock: {time.CLOCK_BOOTTIME: started + 0.3}[clock])
    assert ocihook._age() == pytest.approx(0.3)
    monkeypatch.setattr(time, "clock_gettime", lambda clock: started - 5.0)
    assert ocihook._age() == 0.0


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-", ">&-"])
def test_missing_standard_streams_break_no_start(tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m auditns_connector.cli.main oci-hook --control {tmp_path / 'none'} {closed}"
    done = subprocess.run(["sh", "-c", command], input=json.dumps(STATE).encode(), capture_output=True, env=ENVIRONMENT)
    assert done.returncode == 0
    assert done.stderr.count(b"\n") == (0 if "2>&-" in closed else 1)


def test_a_daemon_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "slow")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen(8)
        for backlog in (False, True):
            if backlog:  # not even accepted
                for _ in range(20):
                    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
                    if client.connect_ex(path):
                        break
            code, err = hook("--control", path, stdin=json.dumps(STATE).encode())
            assert (code, "no answer within" in err) == (0, True)


def test_a_state_that_never_comes_is_not_waited_for() -> None:
    code, err = hook(stdin=b'{"id":', keep_open=True)
    assert (code, "no answer within" in err) == (0, True)


@pytest.mark.parametrize(
    "answer", [b"x", b"{}", b"[]", b"null", b'{"ok": false}', b'{"ok": true, "wait_ms": 1e9}', b"[" * 60_000]
)
def test_answers_that_make_no_sense(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "odd")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen(8)
        child = os.fork()
        if child == 0:
            client, _ = server.accept()
            client.recv(65536)
            client.send(answer)
            os._exit(0)
        code, err = hook("--control", path, PATIENT, stdin=json.dumps(STATE).encode())
        os.waitpid(child, 0)
    assert code == 0
    assert (err == "") == (b"true" in answer)


def test_it_imports_little() -> None:
    """A container waits for it."""
    code = f"import sys; sys.path.insert(0, {str(Path(hookfile.__file__).parents[2])!r})\n"
    code += "import auditns_connector.registration.oci_hook; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True, check=True)
    out = done.stdout.split()
    assert not {"argparse", "structlog", "pyroute2", "dataclasses", "json", "logging", "socket"} & set(out)


def test_the_hooks_file(tmp_path: Path) -> None:
    program = tmp_path / "auditns"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder = tmp_path / "a" / "hooks.d"
    path = hookfile.install(str(folder), program=str(program), strict=True, control="/run/x")
    found = json.loads(Path(path).read_text())
    assert (found["version"], found["when"]) == ("1.0.0", {"always": True})
    assert found["stages"] == ["createRuntime", "poststop"]
    assert found["hook"]["path"] == str(program)
    assert found["hook"]["args"] == ["auditns", "oci-hook", "--strict", "--control=/run/x"]
    hookfile.uninstall(str(folder))
    hookfile.uninstall(str(folder))
    assert list(folder.iterdir()) == []
    program.chmod(0o777)
    with pytest.raises(AuditnsError, match="written by others"):
        hookfile.install(str(folder), program=str(program))
    with pytest.raises(AuditnsError, match="cannot be found"):
        hookfile.install(str(folder), program=str(tmp_path / "none"))
