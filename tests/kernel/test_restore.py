"""Containers that are dumped to an image and restored from one: by real hook calls of runc with an image as CRIU writes
it, and by CRIU itself where one of 4.1 or later can start here."""

import json
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from auditns_connector import api
from auditns_connector.model.runtimes import derive_contid
from auditns_connector.registration.hook_program import HOOK_PROGRAM
from tests.kernel.printed import PATIENT
from tests.kernel.programs import Program, listening, until
from tests.kernel.runtimes import Container, Runtimes
from tests.kernel.support import AuditState
from tests.kernel.test_contid import hook, ops, serving
from tests.unit.test_checkpoints import inventory

pytestmark = pytest.mark.kernel


def told(listener: Program, op: str) -> list[dict[str, str]]:
    """The CONTAINER_OP records of an operation."""
    found = []
    for line in listener.out.decode().splitlines():
        if "type=CONTAINER_OP " in line and f" op={op} " in line:
            found.append(dict(word.split("=", 1) for word in line.split("): ", 1)[1].split()))
    return found


def restored_by_hand(control: Path, container: Container, ident: str, bundle: Path, *, pid: int = 0) -> None:
    """The call that a runtime makes while it restores ``container``."""
    state = {"ociVersion": "1.0.2", "id": ident, "status": "stopped", "pid": pid or container.pid}
    document = json.dumps({**state, "bundle": str(bundle)}).encode()
    command = [HOOK_PROGRAM, f"--control={control}", "--strict", PATIENT]
    done = subprocess.run(command, input=document, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_dump_and_a_restore_by_hook_calls(quiet: AuditState, runtimes: Runtimes, tmp_path: Path) -> None:
    run, names = str(uuid.uuid4()), [uuid.uuid4().hex * 2 for _ in range(2)]
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        runtimes.hooks = hook(control)
        first = runtimes.start("runc", name=names[0])
        image = runtimes.directory / f"{names[0]}.bundle" / "checkpoint/inventory.img"
        image.parent.mkdir()
        image.write_bytes(inventory(run))
        first.stop()  # runc calls poststop, as it does behind a checkpoint
        until(lambda: told(listener, "checkpoint"), "the checkpoint")
        runtimes.hooks = {}
        second = runtimes.start("runc", name=names[1])
        bundle = tmp_path / "restoring"
        (bundle / "checkpoint").mkdir(parents=True)
        (bundle / "checkpoint/inventory.img").write_bytes(inventory(run))
        restored_by_hand(control, second, names[1], bundle)
        found = api.get_contid(second.pid, control=str(control))
        old, new = (str(derive_contid("oci", name)) for name in names)
        assert (found.contid, found.container["kind"]) == (new, "registered")
        until(lambda: told(listener, "restore"), "the restore")
        restored_by_hand(control, second, names[1], bundle)  # prestart and createRuntime are both called
        # what somebody's process has for a pid is no container that is restored
        restored_by_hand(control, second, uuid.uuid4().hex * 2, bundle, pid=os.getpid())
    (checkpoint,), (restore,) = told(listener, "checkpoint"), told(listener, "restore")
    assert (checkpoint["contid"], checkpoint["opid"], checkpoint["run-id"]) == (old, str(first.pid), run)
    assert (restore["contid"], restore["old-contid"], restore["run-id"], restore["res"]) == (new, old, run, "1")
    assert restore["opid"] == str(second.pid)
    assert [op["res"] for op in ops(listener, second.pid) if op["op"] == "set"] == ["1", "0"]
    assert ops(listener, os.getpid()) == []


@pytest.fixture
def criu() -> str:
    """The folder of a CRIU that writes UUIDs and runs on this kernel; Debian's 3.17 does neither on Linux 6.18."""
    program = os.environ.get("AUDITNS_CRIU") or shutil.which("criu") or ""
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout if program else ""
    version = re.search(r"Version: (\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < (4, 1):
        pytest.skip("no CRIU of 4.1 or later (AUDITNS_CRIU names one)")
    return os.path.dirname(program)


@pytest.mark.nightly
def test_a_dump_and_a_restore_by_criu(
    quiet: AuditState, criu: str, runtimes: Runtimes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{criu}:{os.environ['PATH']}")
    names = [uuid.uuid4().hex * 2 for _ in range(2)]
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        runtimes.hooks = hook(control)
        # nothing open that lies outside of it
        script = "exec sleep 600 </dev/null >/dev/null 2>&1"
        first = runtimes.start("runc", ["sh", "-c", script], name=names[0])
        until(lambda: Path(f"/proc/{first.pid}/comm").read_text() == "sleep\n", "its program")
        bundle = runtimes.directory / f"{names[0]}.bundle"
        base = ["runc", "--root", str(runtimes.directory / "runc.state")]
        images = ["--image-path", str(tmp_path / "image"), "--work-path", str(tmp_path / "work")]
        subprocess.run([*base, "checkpoint", *images, names[0]], check=True, stdin=subprocess.DEVNULL)
        until(lambda: told(listener, "checkpoint"), "the checkpoint")
        pid_file = tmp_path / "pid"
        restore = [*base, "restore", "-d", "--bundle", str(bundle), "--pid-file", str(pid_file), *images, names[1]]
        quiet_streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.run(restore, check=True, **quiet_streams)  # type: ignore[call-overload]
        try:
            found = api.get_contid(int(pid_file.read_text()), control=str(control))
            assert found.container["kind"] == "registered"
            until(lambda: told(listener, "restore"), "the restore")
        finally:
            subprocess.run([*base, "delete", "-f", names[1]], check=False)
    old, new = (str(derive_contid("oci", name)) for name in names)
    (checkpoint,), (restored,) = told(listener, "checkpoint"), told(listener, "restore")
    assert (checkpoint["contid"], checkpoint["opid"]) == (old, str(first.pid))
    assert (restored["contid"], restored["old-contid"], restored["run-id"]) == (new, old, checkpoint["run-id"])
    assert re.fullmatch(r"[0-9a-f-]{36}", restored["run-id"])
