"""The runtimes' hook: what it asks for, and that it never stands in a container's way."""

import contextlib
import json
import os
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


def hook(*args: str, stdin: bytes | None = None, keep_open: bool = False) -> tuple[int, str, float]:
    """(exit code, stderr, seconds) of one run."""
    command = [sys.executable, "-m", "auditns_connector.cli.main", "oci-hook", *args]
    began = time.monotonic()
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
        code = process.wait(20)
        return code, said, time.monotonic() - began


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "not JSON"), (b"{", "not JSON"), (b"[" * 200_000, "not JSON"), (b"[]", "not the state"),
        (b"\xff\xfe\x00", "not JSON"), (json.dumps(STATE).encode(), "nobody serves"),
    ],
)  # fmt: skip
def test_a_start_is_never_broken(tmp_path: Path, stdin: bytes, said: str) -> None:
    code, err, _ = hook("--control", str(tmp_path / "none"), stdin=stdin)
    assert code == 0
    assert err.count("\n") == 1
    assert said in err
    assert hook("--control", str(tmp_path / "none"), "--strict", stdin=stdin)[0] == 1


LONG = {**STATE, "annotations": {str(number): "x" for number in range(200_000)}}
HOSTILE = {**STATE, "annotations": {"io.kubernetes.container.name": "\n\"'\x1d" * (1 << 18)}}


@pytest.mark.parametrize("document", [b"", b"{", *(json.dumps(one).encode() for one in (STATE, HOSTILE, LONG))])
@pytest.mark.parametrize("served", [True, False], ids=["slow", "nobody"])
def test_it_gives_up_within_200_ms_whatever_it_is_given(tmp_path: Path, document: bytes, served: bool) -> None:
    path = str(tmp_path / "slow")
    state = tmp_path / "config.json"
    state.write_bytes(document)
    document = document.replace(b'"/b"', json.dumps(str(tmp_path)).encode())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        if served:
            server.bind(path)
            server.listen(8)
        runs = [hook("--control", path, stdin=document, keep_open=document == b"{") for _ in range(5)]
    assert {code for code, _, _ in runs} == {0}
    assert {said.count("\n") for _, said, _ in runs} == {1}
    # the machine may have something else to do meanwhile, but not each time
    assert min(seconds for _, _, seconds in runs) < 0.2


def test_the_time_python_takes_to_start_counts(tmp_path: Path) -> None:
    path = str(tmp_path / "slow")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen(8)
        late = "import sys, time; time.sleep(0.3)\n"
        late += "from auditns_connector.registration.oci_hook import main, _age; print(_age()); "
        command = [sys.executable, "-c", late + f"sys.exit(main(['--control={path}', '--timeout=100000']))"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
            assert process.stdout is not None
            assert 0.3 < float(process.stdout.readline()) < 5
            process.kill()
        command[-1] = command[-1].replace("100000", "300")
        began = time.monotonic()
        done = subprocess.run(command, input=json.dumps(STATE).encode(), capture_output=True, env=ENVIRONMENT)
        assert (done.returncode, b"no answer within 300 ms" in done.stderr) == (0, True)
        assert time.monotonic() - began < 0.6


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
            code, err, _ = hook("--control", path, stdin=json.dumps(STATE).encode())
            assert (code, "no answer within" in err) == (0, True)


def test_a_state_that_never_comes_is_not_waited_for() -> None:
    code, err, _ = hook(stdin=b'{"id":', keep_open=True)
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
        code, err, _ = hook("--control", path, "--timeout", "5000", stdin=json.dumps(STATE).encode())
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
