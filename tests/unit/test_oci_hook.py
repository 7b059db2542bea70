"""The runtimes' hook: what it asks for, and that it never stands in a container's way."""

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.cli.ocihook import snippets
from auditns_connector.errors import AuditnsError
from auditns_connector.registration import hooks_d, oci_state
from auditns_connector.registration.hook_program import HOOK_PROGRAM, TIMEOUT
from auditns_connector.registration.oci_state import BadState
from tests.unit.world import HEX

STATE = {"ociVersion": "1.0.2", "id": HEX, "status": "creating", "pid": 4711, "bundle": "/b"}


def request(state: Any = None, annotations: Any = None, **more: Any) -> Any:
    return oci_state.request_from({**STATE, **more} if state is None else state, {"annotations": annotations})


def test_what_is_asked_for() -> None:
    assert request() == {"v": 1, "op": "contid-hook", "pid": 4711, "names": {"runtime": "oci", "id": HEX}}
    # where the process lives, it is being restored
    restored = {"v": 1, "op": "contid-stopped", "id": HEX, "pid": 4711, "names": {"runtime": "oci", "id": HEX}}
    assert request(status="stopped") == restored
    assert request(status="stopped", pid=0) == {"v": 1, "op": "contid-stopped", "id": HEX}
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
    with pytest.raises(BadState):
        oci_state.request_from(state, {})


def test_what_is_read_of_the_bundle(tmp_path: Path) -> None:
    state = {**STATE, "bundle": "/bundle"}
    (tmp_path / "bundle").mkdir()
    config = tmp_path / "bundle" / "config.json"

    def pod() -> str | None:
        return oci_state.request_of(json.dumps(state).encode(), str(tmp_path))["names"].get("pod")

    assert pod() is None
    config.write_text(json.dumps({"annotations": {"io.kubernetes.pod.name": "shop"}}))
    assert pod() == "shop"
    assert "pod" not in oci_state.request_of(json.dumps(state).encode(), None)["names"]
    config.write_bytes(b" " * oci_state.MAX_CONFIG + b"{}")
    assert pod() is None
    config.unlink()
    os.mkfifo(config)  # nobody writes: it is not waited for
    assert pod() is None
    config.unlink()
    config.mkdir()
    assert pod() is None


@pytest.mark.parametrize("document", [b"", b"{", b"[" * 200_000, b"\xff\xfe\x00", b"[]", b'"x"'])
def test_documents_that_make_no_sense(document: bytes) -> None:
    with pytest.raises(BadState):
        oci_state.request_of(document, "/")


# -- the program


def hook(*args: str, stdin: bytes | None = b"", keep_open: bool = False) -> tuple[int, str]:
    """(exit code, stderr) of one run."""
    with subprocess.Popen([HOOK_PROGRAM, *args], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        with contextlib.suppress(BrokenPipeError):  # it has given up
            process.stdin.write(stdin or b"")
            process.stdin.flush()
        if not keep_open:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        said = process.stderr.read().decode()
        return process.wait(), said


class Listener:
    """Serves the control socket for one connection an answer: keeps the request and its document, gives ``answers``."""

    def __init__(self, path: str, *answers: bytes) -> None:
        self.request, self.document, self.seals, self.asked = b"", b"", 0, 0
        self._answers = answers
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.bind(path)
        self._server.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            client, _ = self._server.accept()
            with client:
                self.request, fds, _, _ = socket.recv_fds(client, 65536, 4)
                self.document = b""
                for fd in fds:
                    self.document += os.pread(fd, 1 << 23, 0)
                    self.seals = fcntl.fcntl(fd, 1034)
                    os.close(fd)
                self.asked += 1
                client.send(answer)
                client.recv(1)  # until it has ended

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._server.close()


def test_a_listener_that_is_behind_is_asked_again(tmp_path: Path) -> None:
    path = str(tmp_path / "c")
    with Listener(path, b"no EAGAIN: much happens", b"no EAGAIN: still", b"ok 3") as listener:
        assert hook("--control", path, "--timeout=60000", stdin=b"{}") == (0, "")
    assert listener.asked == 3
    assert listener.document == b"{}"


LONG = json.dumps({**STATE, "annotations": {str(number): "x" for number in range(100_000)}}).encode()


@pytest.mark.parametrize("document", [b"", b"{", json.dumps(STATE).encode(), bytes(range(256)) * 3, LONG])
def test_the_document_is_handed_on_as_it_is(tmp_path: Path, document: bytes) -> None:
    with Listener(str(tmp_path / "c"), b"ok 3") as listener:
        assert hook("--control", str(tmp_path / "c"), "--timeout=60000", stdin=document) == (0, "")
    assert json.loads(listener.request) == {"v": 1, "op": "contid-state"}
    assert listener.document == document
    assert listener.seals == 0xF  # nobody changes it any more


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"no EEXIST: it is set\n\x1b[31m", "refused: EEXIST: it is set??[31m"), (b"ok", "no answer that"),
        (b"", "no answer that"), (b"x" * 4000, "no answer that"), (b'{"ok": false}', "an older version serves it"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_ok(tmp_path: Path, answer: bytes, said: str) -> None:
    for strict in ([], ["--strict"]):
        path = str(tmp_path / f"c{len(strict)}")
        with Listener(path, answer):
            code, err = hook(f"--control={path}", "--timeout=60000", *strict)
        assert (code, err.count("\n")) == (len(strict), 1)
        assert said in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--control", "NOWHERE/x"], "nobody serves it"), (["--control", "x" * 200], "too long"),
        (["--contro"], "--contro: is not an option"), (["\x1b[0m"], "?[0m: is not an option"),
    ],
)  # fmt: skip
def test_a_start_is_never_broken(args: list[str], said: str, tmp_path: Path) -> None:
    args = [one.replace("NOWHERE", str(tmp_path)) for one in args]
    for strict in ([], ["--strict"]):
        code, err = hook(*args, *strict, stdin=json.dumps(STATE).encode())
        assert (code, err.count("\n")) == (len(strict), 1)
        assert said in err


def test_too_long_a_document() -> None:
    code, err = hook("--timeout=60000", stdin=b" " * ((4 << 20) + 1))
    assert (code, "too large" in err) == (0, True)


def test_what_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "c")
    code, err = hook("--timeout=50", stdin=b'{"id":', keep_open=True)
    assert (code, "no answer within 50 ms" in err) == (0, True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen(0)
        for full in (False, True):
            if full:  # not even accepted
                clients = [
                    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) for _ in range(4)
                ]
                assert any(client.connect_ex(path) for client in clients)
            code, err = hook(f"--control={path}", "--timeout=50")
            assert (code, "no answer within 50 ms" in err) == (0, True)


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-", ">&-"])
def test_missing_standard_streams_break_no_start(tmp_path: Path, closed: str) -> None:
    command = f"{HOOK_PROGRAM} --control {tmp_path / 'none'} {closed}"
    done = subprocess.run(["sh", "-c", command], input=json.dumps(STATE).encode(), capture_output=True)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 0 if "2>&-" in closed else 1)


def test_the_command_becomes_the_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "auditns_connector.cli.main", "oci-hook"]
    environment = {**os.environ, "PYTHONPATH": str(Path(hooks_d.__file__).parents[2])}
    path = str(tmp_path / "c")
    with Listener(path, b"ok 0") as listener:
        done = subprocess.run([*command, f"--control={path}", "--timeout=60000"], input=b"{}", env=environment)
    assert (done.returncode, listener.document) == (0, b"{}")
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, env=environment).stdout
    assert f"(default: {TIMEOUT})" in shown
    source = Path(hooks_d.__file__).parents[2] / "cdefs/hook/auditns_oci_hook.c"
    assert re.findall(r"^#define TIMEOUT (\d+)", source.read_text(), re.M) == [str(TIMEOUT)]


def test_what_is_printed_names_programs_that_are_there() -> None:
    for path in re.findall(r'"path": "([^"]*)"', snippets()):
        assert path == "/usr/local/sbin/auditns-runc" or os.access(path, os.X_OK), path


def test_the_hooks_file(tmp_path: Path) -> None:
    program = tmp_path / "auditns"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder = tmp_path / "a" / "hooks.d"
    path = hooks_d.install(str(folder), program=str(program), strict=True, control="/run/x")
    found = json.loads(Path(path).read_text())
    assert (found["version"], found["when"]) == ("1.0.0", {"always": True})
    assert found["stages"] == ["createRuntime", "poststop"]
    assert found["hook"]["path"] == str(program)
    assert found["hook"]["args"] == ["auditns-oci-hook", "--strict", "--control=/run/x"]
    hooks_d.uninstall(str(folder))
    hooks_d.uninstall(str(folder))
    assert list(folder.iterdir()) == []
    program.chmod(0o777)
    with pytest.raises(AuditnsError, match="written by others"):
        hooks_d.install(str(folder), program=str(program))
    with pytest.raises(AuditnsError, match="cannot be found"):
        hooks_d.install(str(folder), program=str(tmp_path / "none"))
