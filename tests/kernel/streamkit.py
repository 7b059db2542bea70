"""What tests of streams on this kernel share: a listener with streams, containers with a user namespace, readers."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.streams import client
from tests.kernel import runtimes as rt
from tests.kernel.programs import TIMEOUT, Program, auditns, environment, whole_event_of
from tests.kernel.runtimes import Container, Runtimes
from tests.kernel.support import need_tool

DOCKER = "/docker/" + "ab12" * 16


@contextlib.contextmanager
def listening(base: Path, *more: str) -> Iterator[Program]:
    program = Program(base / "listen", ["listen", "--rules", "--format", "raw", "--control", base / "control", *more])
    try:
        yield program.ready()
    finally:
        program.process.terminate()
        program.wait()


def stream(base: Path, do: str, *args: str) -> str:
    done = auditns("stream", do, *args, "--control", base / "control")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def shown(base: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stream(base, "show", name, "--json"))
    return found


def read_up_to(base: Path, name: str, *words: str) -> bytes:
    """What a reader gets that stays until the whole of the first event with all ``words`` has come."""
    text = b""
    for line in client.read(str(base / "streams" / name), duration=TIMEOUT):
        text += line
        if (line.startswith(b"type=EOE ") or words[0].encode() in line) and whole_event_of(text, *words):
            return text
    raise AssertionError(f"stream {name} has no event with {words}: {text!r}")


def read_until(base: Path, name: str, *words: str) -> list[bytes]:
    """That event."""
    return whole_event_of(read_up_to(base, name, *words), *words)


def start(
    base: Path, kind: str, monkeypatch: pytest.MonkeyPatch, started: Runtimes, argv: list[str], **binds: Path
) -> Container:
    """A container with a user namespace: its 0 is the host's 100000 (groups: 200000). ``binds`` (runc alone): what of
    the host's is seen there, read-only, below which name of the root directory."""
    need_tool("busybox", *rt.TOOLS[kind])
    plain, make = rt._oci_config, rt._make_rootfs

    def rootfs(top: Path) -> None:
        make(top)
        for name in binds:
            (top / name).mkdir(exist_ok=True)
        subprocess.run(["chown", "-R", "100000:200000", str(top)], check=True)

    def config(top: Path, argv: list[str], cgroup: str) -> dict[str, Any]:
        found: dict[str, Any] = plain(top, argv, cgroup)
        found["linux"]["namespaces"].append({"type": "user"})
        found["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        found["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        found["mounts"] += [
            {"destination": f"/{name}", "type": "bind", "source": str(place), "options": ["rbind", "ro"]}
            for name, place in binds.items()
        ]
        return found

    monkeypatch.setattr(rt, "_make_rootfs", rootfs)
    if kind == "runc":
        monkeypatch.setattr(rt, "_oci_config", config)
        return started.start("runc", argv, cgroup=DOCKER)
    started.podman_run = ["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"]
    return started.start("podman", argv)


def syscalls(lines: list[str]) -> dict[str, dict[str, str]]:
    """Serial -> fields of the SYSCALL record."""
    found = {}
    for line in lines:
        if line.startswith("type=SYSCALL "):
            found[re.search(r":(\d+)\):", line)[1]] = dict(w.split("=", 1) for w in line.split() if "=" in w)  # type: ignore[index]
    return found


def enter(container: Container, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the host's inside the container's pid and user namespace: it counts as the container's."""
    command = ["nsenter", "-t", str(container.pid), "-p", "-U", "-S", "0", "-G", "0", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=TIMEOUT)
