"""What is a container of its own on this kernel and what is not, and that nobody is unknown for changing namespaces."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.kernel import cgroupfs
from tests.kernel.programs import contids, event_of, events, listening, until, whole_event_of
from tests.kernel.support import AuditState, need_tool

pytestmark = pytest.mark.kernel
ROUNDS: Final = 1000
#: changes its UTS namespace again and again
RESTLESS: Final = f"""
import ctypes, os
libc = ctypes.CDLL(None)
print(os.getpid(), flush=True)
for _ in range({ROUNDS}):
    assert libc.unshare(0x04000000) == 0
"""


@pytest.fixture
def group(token: str) -> Iterator[str]:
    """The cgroup of a systemd service, made by :func:`cgroupfs.command_in`."""
    top = f"/auditns-{token}.slice"
    before = cgroupfs.folders(top)
    yield f"{top}/private-{token}.service"
    cgroupfs.remove_new(top, before)


def true(word: str) -> str:
    return f'a0="/bin/true" a1="{word}"'


def test_a_user_namespace_alone_is_no_container(quiet: AuditState, tmp_path: Path, token: str) -> None:
    need_tool("unshare")
    with listening(tmp_path / "run", "--rules", "--format", "raw") as run:
        subprocess.run(["unshare", "-U", "-r", "-n", "-u", "/bin/true", f"user-{token}"], check=True)
        inner = f"for i in 1 2; do unshare -p -f /bin/true both-$i-{token}; done; /bin/true engine-{token}"
        subprocess.run(["unshare", "-U", "-r", "-m", "sh", "-c", inner], check=True)
        subprocess.run(["/bin/true", f"end-{token}"], check=True)
        until(lambda: whole_event_of(run.out, true(f"end-{token}")), "the last event")
        text = run.out
    for word in ("user", "engine", "end"):
        assert contids(event_of(text, true(f"{word}-{token}"))) == [], word
    one, other = (contids(event_of(text, true(f"both-{i}-{token}"))) for i in (1, 2))
    assert len(one) == len(other) == 1
    assert one != other
    assert "?" not in (*one, *other)


def test_user_namespaces_are_containers_where_that_is_asked_for(quiet: AuditState, tmp_path: Path, token: str) -> None:
    need_tool("unshare")
    with listening(tmp_path / "run", "--rules", "--format", "raw", "--sandbox", "pid,user") as run:
        subprocess.run(["unshare", "-U", "-r", "/bin/true", f"user-{token}"], check=True)
        until(lambda: whole_event_of(run.out, true(f"user-{token}")), "the event")
        (found,) = contids(event_of(run.out, true(f"user-{token}")))
    assert found != "?"


def test_a_sandbox_has_the_name_of_its_unit(quiet: AuditState, tmp_path: Path, token: str, group: str) -> None:
    need_tool("unshare")
    with listening(tmp_path / "run", "--rules", "--format", "raw", "--info") as run:
        command = ["unshare", "-p", "-f", "/bin/true", f"unit-{token}"]
        subprocess.run(cgroupfs.command_in(group, command), check=True)
        until(lambda: whole_event_of(run.out, true(f"unit-{token}")), "the event")
        lines = event_of(run.out, true(f"unit-{token}"))
    info = [line for line in lines if b"type=CONTAINER_INFO" in line]
    assert f'name="private-{token}.service"'.encode() in info[0]


@pytest.mark.parametrize("where", ["container", "host"])
def test_who_changes_its_namespaces_without_end_is_known(
    quiet: AuditState, tmp_path: Path, token: str, where: str
) -> None:
    name = secrets.token_hex(32)
    command = [sys.executable, "-c", RESTLESS]
    before = cgroupfs.folders("/docker")
    try:
        with listening(tmp_path / "run", "--rules", "--format", "raw", "--no-lifecycle") as run:
            if where == "container":
                command = cgroupfs.command_in(f"/docker/{name}", command)
            # all is answered late, when far more has changed than is remembered
            run.process.send_signal(signal.SIGSTOP)
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            run.process.send_signal(signal.SIGCONT)
            subprocess.run(["/bin/true", f"end-{token}"], check=True)
            until(lambda: whole_event_of(run.out, true(f"end-{token}")), "the last event")
            text = run.out
    finally:
        cgroupfs.remove_new("/docker", before)
    pid = f" pid={done.stdout.strip()} ".encode()
    seen = [
        contids(lines)
        for lines in events(text).values()
        if any(pid in line and b"syscall=272" in line for line in lines)
    ]
    wanted = [[str(int(name[:16], 16))]] if where == "container" else [[]]
    lost = b"source=audit" in text  # the kernel's backlog may have run over; nothing else may be missing
    assert len(seen) == ROUNDS or lost
    assert [found for found in seen if [found] != wanted] == []
