"""The real /proc: what a process is, while processes come, go and hide."""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.sources.procfs import Procfs, boot_offset
from auditns_connector.vocabulary import frames
from auditns_connector.vocabulary import namespaces as nstypes
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import in_child, need

THREADED = """
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print(flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit, of the leading thread alone
"""


def test_this_process() -> None:
    answer = Procfs().describe(os.getpid())
    assert answer is not None
    assert answer["ppid"] == os.getppid()
    assert answer["uids"][:2] == [os.getuid(), os.geteuid()]
    assert answer["ns"]["uts"] == os.stat("/proc/self/ns/uts").st_ino
    assert answer["ns_dev"] == os.stat("/proc/self/ns/uts").st_dev
    assert set(answer["ns"]) >= set(nstypes.ALL_ORDER)
    assert os.getpid() in answer["tids"]
    assert answer["nspid"][-1] == os.getpid()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        assert answer["cg"].get(number, "/") == path


def test_threads_are_told() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        answer = Procfs().describe(os.getpid())
        assert answer is not None
        assert {os.getpid(), thread.native_id} <= set(answer["tids"])
        assert Procfs().read_process(thread.native_id or 0) is None
    finally:
        stop.set()
        thread.join()


def test_the_start_is_within_a_tick() -> None:
    before = time.monotonic_ns()
    child = subprocess.Popen(["sleep", "60"])
    after = time.monotonic_ns()
    try:
        answer = Procfs().describe(child.pid)
        assert answer is not None
        need(boot_offset() == 0, "a host that was never suspended")
        tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        assert before - tick - 1_000_000 <= answer["start"] <= after
    finally:
        child.kill()
        child.wait()


def test_a_hostile_comm() -> None:
    comm = b"a) R 1\n(\xff)"
    code = f"import ctypes,sys; ctypes.CDLL(None).prctl(15, {comm!r}); print(flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        answer = Procfs().describe(child.pid)
        assert answer is not None
        assert answer["comm"].encode("utf-8", "surrogateescape") == comm
        assert answer["ppid"] == os.getpid()
    finally:
        child.communicate()


def test_a_leader_that_ended_before_its_threads() -> None:
    need(os.uname().machine == "x86_64", "the exit system call's number of x86_64")
    child = subprocess.Popen([sys.executable, "-c", THREADED], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        answer = _until_state(child.pid, "Z")
        assert len(answer["tids"]) == 2
        assert answer["ns"]["net"] == os.stat("/proc/self/ns/net").st_ino
    finally:
        child.kill()
        child.communicate()


def test_a_zombie_is_told() -> None:
    child = subprocess.Popen(["true"])
    answer = _until_state(child.pid, "Z")
    assert answer["ns"]["net"] is None
    assert answer["ns"]["pid"] == os.stat("/proc/self/ns/pid").st_ino
    assert answer["ppid"] == os.getpid()
    child.wait()
    assert Procfs().read_process(child.pid) is None


@pytest.mark.usefixtures("root")
def test_every_process_is_told_and_none_twice() -> None:
    own = {os.getpid(), os.getppid(), 1}
    reader = Procfs()
    found = [frame.pid for frame in frames.iter_frames(b"".join(reader.scan()))]
    assert len(found) == len(set(found))
    assert own <= set(found)
    assert reader.counters()["read"] == len(found)
    assert reader.counters()["malformed"] == 0


def test_processes_that_vanish_while_they_are_read() -> None:
    spawner = subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"])
    reader = Procfs()
    try:
        for _ in range(20):
            for frame in frames.iter_frames(b"".join(reader.scan())):
                assert frame.pid > 0
                assert frame.arg != 2**64 - 1  # its start
    finally:
        spawner.kill()
        spawner.wait()
    assert reader.counters()["malformed"] == 0


def test_a_container(runtimes: Runtimes) -> None:
    container = runtimes.start("runc")
    answer = Procfs().describe(container.pid)
    assert answer is not None
    assert answer["nspid"] == [container.pid, 1]
    assert answer["cg"]["0"].endswith(container.name)
    for name in ("mnt", "pid", "uts", "ipc", "net"):
        assert answer["ns"][name] != os.stat(f"/proc/self/ns/{name}").st_ino
    assert answer["ns"]["pid_for_children"] == answer["ns"]["pid"]


def test_unshared_pid_namespace_shows_for_children() -> None:
    need(os.geteuid() == 0, "root")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import ctypes,sys; print(ctypes.CDLL(None).unshare(0x20000000), flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        need(child.stdout.readline() == b"0\n", "unshare(CLONE_NEWPID)")
        answer = Procfs().describe(child.pid)
        assert answer is not None
        assert answer["ns"]["pid"] == os.stat("/proc/self/ns/pid").st_ino
        assert answer["ns"]["pid_for_children"] != answer["ns"]["pid"]  # null: no process in it yet
    finally:
        child.communicate()


def be_nobody() -> None:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def told_by_child(tell: Callable[[], object]) -> Any:
    """What ``tell`` returns in a forked child, by way of JSON."""
    reading, writing = os.pipe()
    in_child(lambda: os.write(writing, json.dumps(tell()).encode()))
    os.close(writing)
    with open(reading, "rb") as pipe:
        return json.loads(pipe.read())


def test_as_another_user_what_is_hidden_is_null() -> None:
    need(os.geteuid() == 0, "root")

    def describe() -> dict[str, Any] | None:
        be_nobody()
        return Procfs().describe(os.getppid())

    answer = told_by_child(describe)
    assert answer["ns"] is None
    assert answer["uids"] == [0, 0, 0, 0]
    assert answer["cg"] is not None


def test_hidepid(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "root")

    def describe() -> dict[str, Any] | str | None:
        libc = ctypes.CDLL(None, use_errno=True)
        private = libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0
        if not private or libc.mount(b"proc", bytes(tmp_path), b"proc", 0, b"hidepid=1") != 0:
            return "no mount"
        be_nobody()
        return Procfs(str(tmp_path)).describe(os.getppid())

    answer = told_by_child(describe)
    need(answer != "no mount", "a proc mount of one's own")
    assert answer["pid"] == os.getpid()
    assert {name for name, value in answer.items() if value is not None} <= {"pid", "ns_dev"}


def _until_state(pid: int, state: str) -> dict[str, Any]:
    for _ in range(2000):
        answer = Procfs().describe(pid)
        assert answer is not None
        if answer["state"] == state:
            return answer
        time.sleep(0.005)
    raise TimeoutError(f"process {pid} did not come to state {state}")
