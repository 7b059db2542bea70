"""Time namespaces on the running kernel: what the observer says is what /proc says, or unknown."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.attribution.exec_match import find_exec
from auditns_connector.host.observer import Observer
from auditns_connector.host.open_sources import host_observer
from auditns_connector.vocabulary import namespaces as nstypes
from tests.kernel.support import need, need_tool

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]

CLONE3_NEWTIME = """
import ctypes, os, struct, time
args = struct.pack("<8Q", 0x80, 0, 0, 0, 17, 0, 0, 0)
pid = ctypes.CDLL(None).syscall(435, args, 64)
if pid == 0:
    time.sleep(600)
    os._exit(0)
print(pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def observer(root: None) -> Iterator[Observer]:
    need(os.path.exists("/proc/self/ns/time"), "a kernel with time namespaces")
    need_tool("unshare", "nsenter")
    made, _ = host_observer(all_serials=True, perf_buffer=1 << 20)
    made.start()
    yield made
    made.close()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    children: list[subprocess.Popen[str]] = []
    yield children
    for child in children:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def own() -> int:
    return os.stat("/proc/self/ns/time").st_ino


def start(started: list[subprocess.Popen[str]], *command: str) -> subprocess.Popen[str]:
    started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return started[-1]


def execed(pid: int, comm: str) -> None:
    """Wait until ``pid`` runs ``comm``."""
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/comm").read_text().strip() != comm:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def said(observer: Observer, pid: int) -> int | None:
    """The inode of the time namespace that the model says ``pid`` is in now."""
    nsset = observer.model.processes[pid].state.nsset
    inst = nsset.inst[nstypes.TIME] if nsset is not None else None
    return inst.ino if inst is not None else None


def test_unshare_and_exec(observer: Observer, started: list[subprocess.Popen[str]]) -> None:
    child = start(started, "unshare", "-T", "sleep", "600")
    execed(child.pid, "sleep")
    truth = os.stat(f"/proc/{child.pid}/ns/time").st_ino
    need(truth != own(), "a kernel whose exec enters the time namespace")
    observer.sync()
    assert said(observer, child.pid) == truth
    name = (shutil.which("sleep") or "").encode()
    (exec_,) = [e for e in observer.model.processes[child.pid].execs or () if e.comm == b"sleep"]
    # the exec of unshare itself lies a millisecond before: it is the record's names that say which of the two is meant
    state = find_exec(observer.model, child.pid, -1, [exec_.time], time.monotonic_ns(), name, exec_.comm)
    assert state.nsset is not None
    inst = state.nsset.inst[nstypes.TIME]
    assert inst is not None
    assert inst.ino == truth


def test_the_child_of_unshare_and_its_sibling(observer: Observer, started: list[subprocess.Popen[str]]) -> None:
    child = start(started, "unshare", "-fT", "sh", "-c", "echo $$; sleep 600; :")
    assert child.stdout is not None
    inner = int(child.stdout.readline())
    observer.sync()
    assert said(observer, child.pid) == own()
    assert said(observer, inner) == os.stat(f"/proc/{inner}/ns/time").st_ino != own()
    guest = start(started, "nsenter", "-t", str(inner), "-T", "sleep", "600")
    execed(guest.pid, "sleep")
    observer.sync()
    assert said(observer, guest.pid) == said(observer, inner)


def test_clone3(observer: Observer, started: list[subprocess.Popen[str]]) -> None:
    need(os.uname().machine == "x86_64", "the number of clone3 here")
    child = start(started, sys.executable, "-c", CLONE3_NEWTIME)
    assert child.stdout is not None
    inner = int(child.stdout.readline())
    observer.sync()
    assert said(observer, inner) == os.stat(f"/proc/{inner}/ns/time").st_ino != own()
    assert said(observer, child.pid) == own()
    os.kill(inner, 9)


def test_the_short_lived_are_never_said_to_be_of_the_host(observer: Observer) -> None:
    """Whether /proc could be asked in time or not."""
    children = [subprocess.Popen(["unshare", "-T", "true"]) for _ in range(10)]
    children += [subprocess.Popen(["unshare", "-n", "true"]) for _ in range(10)]
    for child in children:
        child.wait()
    observer.sync()
    for child in children[:10]:
        last = (observer.model.processes[child.pid].execs or [])[-1]
        assert last.state.nsset is not None
        inst = last.state.nsset.inst[nstypes.TIME]
        assert inst is None or inst.ino != own()
    for child in children[10:]:
        assert said(observer, child.pid) == own()
