"""The scan in C tells of a process what the look-up in Python does, and is as hard to mislead."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.procfs import Answer
from auditns_connector.sources import procfs, procscan
from auditns_connector.sources.procfs import Procfs
from auditns_connector.vocabulary import frames
from tests.unit.test_procfs import CGROUP, COMMS, INODES, STATUS, add, stat
from tests.unit.world import World


def answers(blocks: bytes, model: Model | None = None) -> dict[int, Answer]:
    """What the model makes of frames, by pid; where PROC and PROCESS say the same in two ways, in one."""
    model = model or World().model
    model.apply(frames.pack(frames.K_RESYNC, frames.S_PROCFS, 1, arg=1))
    model.apply(blocks)
    scanned = model.answers._scan or []
    # the only thread of a process has its number
    return {
        answer.pid: answer._replace(ids=None, tids=tuple(answer.tids or [answer.pid]), nspid=tuple(answer.nspid))
        for _, answer in scanned
    }


def both(root: Path) -> tuple[dict[int, Answer], dict[int, Answer]]:
    """What the scan tells, and what looking all up tells."""
    pids = sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal())
    one_by_one = [Procfs(str(root)).read_process(pid) or b"" for pid in pids]
    model = World().model
    return answers(b"".join(Procfs(str(root)).scan()), model), answers(b"".join(one_by_one), model)


def plain(home: Path) -> None:
    """Nothing is spoilt."""


def no_links(home: Path) -> None:
    for link in (home / "ns").iterdir():
        link.unlink()


def threads(home: Path) -> None:
    (home / "stat").write_bytes(stat(42, threads=3))
    for tid in (50, 42, 44):
        (home / "task" / str(tid)).mkdir(parents=True)


def leader_gone(home: Path) -> None:
    (home / "stat").write_bytes(stat(42, threads=2, state="Z"))
    (home / "task/44").mkdir(parents=True)
    (home / "task/45").mkdir(parents=True)
    shutil.move(home / "ns", home / "task/45/ns")
    (home / "ns").mkdir()


def no_time_namespaces(home: Path) -> None:
    for name in ("time", "time_for_children", "pid_for_children"):
        (home / "ns" / name).unlink()


def odd_link(home: Path) -> None:
    for name in ("net", "uts", "mnt"):
        (home / "ns" / name).unlink()
    (home / "ns/net").symlink_to("elsewhere")
    (home / "ns/uts").symlink_to("uts:[18446744073709551616]")
    (home / "ns/mnt").symlink_to("mnt:[4026531832")


def without(name: str) -> Callable[[Path], None]:
    def spoil(home: Path) -> None:
        shutil.rmtree(home / name) if (home / name).is_dir() else (home / name).unlink()

    return spoil


def holding(name: str, text: bytes) -> Callable[[Path], None]:
    def spoil(home: Path) -> None:
        (home / name).write_bytes(text)

    return spoil


LONG = b"".join(b"%d:c%d:/%b\n" % (number, number, b"x" * 3000) for number in range(1, 40))
GROUPS = STATUS.format(pid=42).encode().replace(b"\nNSpid", b"\nGroups:\t" + b"1000 " * 20_000 + b"\nNSpid")
SPOILT = {
    "nothing": plain,
    "no links": no_links,
    "threads": threads,
    "its leader has ended": leader_gone,
    "no time namespaces": no_time_namespaces,
    "odd links": odd_link,
    **{f"no {name}": without(name) for name in ("stat", "status", "cgroup", "ns")},
    **{f"comm {comm!r}": holding("stat", stat(42, comm)) for comm in COMMS},
    **{
        f"stat {text[:40]!r}": holding("stat", text)
        for text in (b"", b"4", b"42 (sh", b"42 (sh) ", b"x (sh) S 1", b"42 (sh) S 1 2 3\n", b"42 sh) S 1", stat(41),
                     stat(42, ticks=2**40), stat(42, ppid=0), stat(42, state="X"), stat(42, threads=0))
    },
    **{
        f"cgroup {text[:20]!r}": holding("cgroup", text)
        for text in (b"", b"\nnonsense\nx:y:/z\n0::/a", LONG, CGROUP * 2)
    },
    **{
        f"status {number}": holding("status", text)
        for number, text in enumerate((b"", STATUS.format(pid=41).encode(), b"\nTgid:\tx\n", GROUPS,
                                       b"Name:\tx\nTgid:\t42\nNSpid:\t42\t7\t1\n", b"Name:\tx\nTgid:\t42\nNSpid:\n"))
    },
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_the_scan_tells_what_a_look_up_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(procfs, "boot_offset", lambda: 5_000_000_000)
    spoil(add(tmp_path, 42, ppid=7))
    add(tmp_path, 43)
    scanned, looked_up = both(tmp_path)
    assert scanned == looked_up
    assert 43 in scanned


def test_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "boot_offset", lambda: 5_000_000_000)
    add(tmp_path, 42, ppid=7, comm=b"\xff")
    (answer,) = both(tmp_path)[0].values()
    cgroups = answer.cgroups
    assert cgroups is not None
    assert cgroups.paths == ((0, "/a/\udcff"), (4, "/b:c"), (9, "/a"))
    assert answer == Answer(
        42, 7, 42_110_000_000, b"\xff", False, 0, tuple(INODES.values()), INODES["time"], cgroups, (42, 7), (42,), None
    )  # fmt: skip


def test_frames_are_whole_and_each_process_has_one(tmp_path: Path) -> None:
    for pid in (300, 5, 42):
        add(tmp_path, pid)
    for other in ("self", "sys", "uptime"):
        (tmp_path / other).mkdir()
    found = list(frames.iter_frames(b"".join(Procfs(str(tmp_path)).scan())))
    assert [(frame.pid, frame.kind, frame.source) for frame in found] == [
        (pid, frames.K_PROCESS, frames.S_PROCFS) for pid in (300, 42, 5)
    ]
    assert found[0].time <= found[1].time <= found[2].time


def test_what_vanished_was_refused_or_made_no_sense_is_counted(tmp_path: Path) -> None:
    add(tmp_path, 41)
    (add(tmp_path, 42) / "cgroup").unlink()
    (add(tmp_path, 43) / "stat").write_bytes(b"43 (x")
    (tmp_path / "44").write_text("no folder")
    reader = Procfs(str(tmp_path))
    told = {frame.pid: frame.arg for frame in frames.iter_frames(b"".join(reader.scan()))}
    assert sorted(told) == [41, 44]
    assert told[44] == 2**64 - 1  # it is there, and more is not known
    assert reader.counters() == {"read": 1, "vanished": 1, "denied": 1, "malformed": 1}


def test_of_who_is_in_our_own_pid_namespace_the_number_is_known(tmp_path: Path) -> None:
    (add(tmp_path, 42) / "status").unlink()
    (tmp_path / "self").symlink_to("42")
    (tmp_path / "ns").symlink_to("42/ns")
    scan = procscan.ProcScan(
        str(tmp_path), tick=10_000_000, boot_offset=0, ns_dev=4, host_pid_ns=INODES["pid"]
    )  # fmt: skip
    (answer,) = answers(b"".join(scan.blocks([42]))).values()
    assert (answer.nspid, answer.ns_dev) == ((42,), 4)


def test_more_processes_than_one_thread_reads_at_once(tmp_path: Path) -> None:
    many = range(1, 4 * procscan._CHUNK)
    for pid in many:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(stat(pid))
        (tmp_path / str(pid) / "cgroup").write_bytes(CGROUP)
        (tmp_path / str(pid) / "status").write_text(STATUS.format(pid=pid))
    reader = Procfs(str(tmp_path))
    found = [frame.pid for frame in frames.iter_frames(b"".join(reader.scan()))]
    assert sorted(found) == list(many)
    assert reader.counters()["read"] == len(many)


def test_a_scan_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    for pid in range(1, 4 * procscan._CHUNK):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(stat(pid))
    before = os.listdir("/proc/self/fd")
    scan: Any = Procfs(str(tmp_path)).scan()
    next(scan)
    scan.close()
    assert os.listdir("/proc/self/fd") == before


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    threads(add(tmp_path, 42))
    (add(tmp_path, 43) / "status").unlink()
    shutil.rmtree(add(tmp_path, 44) / "ns")
    before = os.listdir("/proc/self/fd")
    list(Procfs(str(tmp_path)).scan())
    assert os.listdir("/proc/self/fd") == before


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(Procfs(str(tmp_path / "absent")).scan())


def test_numbers_and_layouts_are_the_same_in_c() -> None:
    lib, ffi = procscan.lib, procscan.ffi
    assert (lib.K_PROCESS, lib.S_PROCFS) == (frames.K_PROCESS, frames.S_PROCFS)
    assert ffi.sizeof("struct frame_process") == frames.PROCESS_PAYLOAD.size
