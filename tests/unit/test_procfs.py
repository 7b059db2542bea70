"""Procfs on a made-up /proc: what is missing is null, what is hostile is kept as it is, nothing raises."""

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from auditns_connector.sources import procfs
from auditns_connector.sources.procfs import Procfs
from auditns_connector.vocabulary import frames
from auditns_connector.vocabulary.namespaces import ALL_ORDER

STATUS = "Name:\tx\nState:\tS (sleeping)\nTgid:\t{pid}\nUid:\t1000\t0\t0\t1000\nNSpid:\t{pid}\t7\nThreads:\t1\n"
INODES = {name: 4026531830 + number for number, name in enumerate(ALL_ORDER)}
CGROUP = b"9:name=systemd:/a\n4:cpu,cpuacct:/b:c\n1:pids:/\n0::/a/\xff\n"


def stat(
    pid: int, comm: bytes = b"sh", *, threads: int = 1, ticks: int = 4711, state: str = "S", ppid: int = 1
) -> bytes:
    fields = [state, ppid, pid, pid, 0, -1, 4194304, 1, 2, 3, 4, 5, 6, 7, 8, 20, 0, threads, 0, ticks, 1, 2]
    return b"%d (%b) %b\n" % (pid, comm, " ".join(map(str, fields)).encode())


def add(root: Path, pid: int, **keywords: Any) -> Path:
    """A process with everything; returns its folder for a test to spoil."""
    home = root / str(pid)
    (home / "ns").mkdir(parents=True)
    (home / "stat").write_bytes(stat(pid, **keywords))
    (home / "status").write_text(STATUS.format(pid=pid))
    (home / "cgroup").write_bytes(CGROUP)
    (home / "loginuid").write_text("1000")
    (home / "sessionid").write_text("3")
    for name, ino in INODES.items():
        (home / "ns" / name).symlink_to(f"{name}:[{ino}]")
    (home / "ns/pid_for_children").symlink_to("pid:[4026539999]")
    (home / "ns/time_for_children").symlink_to(f"time:[{INODES['time']}]")
    return home


def describe(root: Path, pid: int) -> dict[str, Any]:
    answer = Procfs(str(root)).describe(pid)
    assert answer is not None
    return answer


def test_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "boot_offset", lambda: 5_000_000_000)
    add(tmp_path, 42, ppid=7)
    assert describe(tmp_path, 42) == {
        "pid": 42,
        "tids": [42],
        "ppid": 7,
        "start": 42_110_000_000,
        "start_ticks": 4711,
        "comm": "sh",
        "state": "S",
        "ns": {**INODES, "pid_for_children": 4026539999, "time_for_children": INODES["time"]},
        "ns_dev": None,
        "cg": {"9": "/a", "4": "/b:c", "0": "/a/\udcff"},
        "uids": [1000, 0, 0, 1000],
        "nspid": [42, 7],
        "loginuid": 1000,
        "sessionid": 3,
    }


COMMS = [
    b"",
    b" ",
    b")",
    b") S 1 (",
    b"a) R 0 0",
    b"a\nb",
    b"a\n99 (b) S",
    b"\xff\xfe",
    b"(((",
    "café".encode(),
    b"\x01\x1d",
]


@pytest.mark.parametrize("comm", COMMS)
def test_hostile_comm(tmp_path: Path, comm: bytes) -> None:
    add(tmp_path, 42, comm=comm, ppid=7)
    answer = describe(tmp_path, 42)
    assert answer["comm"].encode("utf-8", "surrogateescape") == comm
    assert (answer["ppid"], answer["start_ticks"], answer["state"]) == (7, 4711, "S")


def test_threads(tmp_path: Path) -> None:
    home = add(tmp_path, 42, threads=3)
    for tid in (42, 50, 44):
        (home / "task" / str(tid)).mkdir(parents=True)
    assert describe(tmp_path, 42)["tids"] == [42, 44, 50]


def test_a_leader_gone_before_its_threads_has_their_namespaces(tmp_path: Path) -> None:
    home = add(tmp_path, 42, threads=2, state="Z")
    (home / "task/44").mkdir(parents=True)
    shutil.move(home / "ns", home / "task/44/ns")
    (home / "ns").mkdir()
    assert describe(tmp_path, 42)["ns"]["net"] == INODES["net"]


def test_a_thread_is_no_process(tmp_path: Path) -> None:
    (add(tmp_path, 43) / "status").write_text(STATUS.format(pid=42))
    assert Procfs(str(tmp_path)).read_process(43) is None


@pytest.mark.parametrize(
    ("missing", "key"),
    [("loginuid", "loginuid"), ("sessionid", "sessionid")],
)
def test_a_kernel_without_audit(tmp_path: Path, missing: str, key: str) -> None:
    (add(tmp_path, 42) / missing).unlink()
    answer = describe(tmp_path, 42)
    assert [name for name, value in answer.items() if value is None] == ["ns_dev", key]


def test_a_kernel_without_time_namespaces(tmp_path: Path) -> None:
    home = add(tmp_path, 42)
    for name in ("time", "time_for_children", "pid_for_children"):
        (home / "ns" / name).unlink()
    found = describe(tmp_path, 42)["ns"]
    assert [name for name, ino in found.items() if ino is None] == ["time", "pid_for_children", "time_for_children"]


def test_a_zombie_has_no_namespaces(tmp_path: Path) -> None:
    home = add(tmp_path, 42, state="Z")
    for link in (home / "ns").iterdir():
        link.unlink()
    answer = describe(tmp_path, 42)
    assert (answer["ns"], answer["state"], answer["cg"]["9"]) == (None, "Z", "/a")


@pytest.mark.parametrize(("flags", "gone"), [(4194304, False), (4194304 | 4, True), (None, True)])
def test_who_has_begun_to_exit_is_gone(tmp_path: Path, flags: int | None, gone: bool) -> None:
    if flags is not None:
        home = add(tmp_path, 42)
        (home / "stat").write_bytes(stat(42).replace(b"4194304", b"%d" % flags))
    (frame,) = frames.iter_frames(Procfs(str(tmp_path)).read_alive(42))
    answer = json.loads(frame.payload.rstrip(b"\0"))
    assert (answer.get("gone", False), answer["start"] is None) == (gone, gone)


@pytest.mark.parametrize("missing", ["stat", "status", "cgroup"])
def test_a_process_that_vanishes_at_any_step_is_none(tmp_path: Path, missing: str) -> None:
    (add(tmp_path, 42) / missing).unlink()
    add(tmp_path, 43)
    reader = Procfs(str(tmp_path))
    assert [reader.read_process(pid) is None for pid in (42, 43)] == [True, False]
    assert reader.counters() == {"read": 1, "vanished": 1, "denied": 0, "malformed": 0}


def test_no_such_process(tmp_path: Path) -> None:
    assert Procfs(str(tmp_path)).read_process(42) is None


@pytest.mark.parametrize("name", ["stat", "status", "cgroup", "loginuid", "ns"])
def test_a_refused_read_leaves_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    add(tmp_path, 42)
    lib = procfs.lib

    def text(folder: int, file: bytes, *room: Any) -> int:
        return -errno.EPERM if file == name.encode() else lib.procfs_text(folder, file, *room)

    def links(folder: int, where: bytes, *rest: Any) -> int:
        return -errno.EPERM if where == name.encode() else lib.procfs_links(folder, where, *rest)

    monkeypatch.setattr(procfs, "lib", SimpleNamespace(procfs_text=text, procfs_links=links))
    reader = Procfs(str(tmp_path))
    answer = reader.describe(42)
    assert answer is not None
    lost = {"stat": "start", "status": "uids", "cgroup": "cg"}.get(name, name)
    assert answer[lost] is None
    assert answer["pid"] == 42
    assert reader.counters()["denied"] == 1


def test_refused_links_are_null_and_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, 42)

    def links(folder: int, where: bytes, names: bytes, count: int, inodes: Any, errors: Any) -> int:
        for i in range(count):
            inodes[i], errors[i] = 0, errno.EACCES
        return 0

    monkeypatch.setattr(procfs, "lib", SimpleNamespace(procfs_text=procfs.lib.procfs_text, procfs_links=links))
    reader = Procfs(str(tmp_path))
    answer = reader.describe(42)
    assert answer is not None
    assert answer["ns"] is None
    assert answer["cg"] is not None
    assert reader.counters()["denied"] == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [("stat", b""), ("stat", b"42 (sh"), ("stat", b"x (sh) S 1"), ("stat", b"42 (sh) S 1 2 3\n"), ("stat", stat(41))],
)
def test_a_malformed_stat_is_counted_and_left_out(tmp_path: Path, name: str, text: bytes) -> None:
    (add(tmp_path, 42) / name).write_bytes(text)
    reader = Procfs(str(tmp_path))
    assert reader.read_process(42) is None
    assert reader.counters()["malformed"] == 1


def test_malformed_parts_are_null(tmp_path: Path) -> None:
    home = add(tmp_path, 42)
    (home / "loginuid").write_text("many")
    (home / "ns/net").unlink()
    (home / "ns/net").symlink_to("elsewhere")
    (home / "cgroup").write_bytes(b"\nnonsense\nx:y:/z\n0::/a")
    reader = Procfs(str(tmp_path))
    answer = reader.describe(42)
    assert answer is not None
    assert (answer["loginuid"], answer["ns"]["net"], answer["cg"]) == (None, None, {"0": "/a"})
    assert reader.counters()["malformed"] == 2


def test_a_text_longer_than_one_read(tmp_path: Path) -> None:
    path = "/" + "x" * 40000
    (add(tmp_path, 42) / "cgroup").write_text(f"0::{path}\n")
    assert describe(tmp_path, 42)["cg"] == {"0": path}


def test_a_start_before_the_monotonic_clock_is_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "boot_offset", lambda: 10**12)
    assert Procfs().start_ns(1) == 0


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    add(tmp_path, 42, threads=2)
    (add(tmp_path, 43) / "status").unlink()
    shutil.rmtree(add(tmp_path, 44) / "ns")
    reader = Procfs(str(tmp_path))
    before = os.listdir("/proc/self/fd")
    for pid in (42, 43, 44):
        reader.describe(pid)
    assert os.listdir("/proc/self/fd") == before


def test_a_file_larger_than_expected_is_read_whole(tmp_path: Path) -> None:
    add(tmp_path, 42)
    paths = "".join(f"{number}:c{number}:/{'x' * 3000}\n" for number in range(1, 40))
    (tmp_path / "42" / "cgroup").write_text(paths)
    answer = Procfs(str(tmp_path)).describe(42)
    assert answer is not None
    assert len(answer["cg"]) == 39
