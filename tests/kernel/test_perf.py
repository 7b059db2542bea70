"""The perf source on the running kernel: what is done here is what it tells."""

import ctypes
import os
import resource
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.sources import cpus, perf, tracefs, tracepoints
from auditns_connector.sources.connector import ConnectorSource
from auditns_connector.sources.perf import PerfSource
from auditns_connector.vocabulary import frames
from auditns_connector.vocabulary import namespaces as nstypes
from tests.kernel.support import in_child, need, need_tool, until
from tests.kernel.test_connector import drained

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE3 = 435
SIGCHLD = 17


@pytest.fixture
def source(root: None) -> Iterator[PerfSource]:
    with PerfSource(pages=512) as made:
        yield made


def of(block: bytes, pid: int) -> list[frames.Frame]:
    return [frame for frame in frames.iter_frames(block) if pid in (frame.pid, frame.tid)]


def inodes(frame: frames.Frame) -> dict[str, int]:
    return dict(zip(nstypes.PERF_ORDER, frames.NAMESPACES_PAYLOAD.unpack(frame.payload)[1:], strict=True))


def own_inodes() -> dict[str, int]:
    return {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in nstypes.PERF_ORDER}


def test_everything_is_had_here(source: PerfSource) -> None:
    need(os.uname().release >= "6", "a kernel of our days")
    assert source.notices == []
    assert source.features == {
        "task", "namespaces", "cgroup", "exec_sample", "attach", "newtask", "exit_sample", "sample_cgroup",
    }  # fmt: skip
    assert len(source.filenos()) == len(cpus.online_cpus())


def test_a_process_from_fork_to_exit(source: PerfSource) -> None:
    before = time.monotonic_ns()
    done = subprocess.Popen(["/bin/true"])
    done.wait()
    told = of(source.drain(), done.pid)
    after = time.monotonic_ns()

    by_kind = {frame.kind: frame for frame in told}
    fork = by_kind[frames.K_FORK]
    assert (fork.pid, fork.tid, fork.ppid, fork.ptid) == (done.pid, done.pid, os.getpid(), threading.get_native_id())
    assert inodes(fork) == own_inodes()
    assert frames.text(by_kind[frames.K_EXEC].payload) == b"/bin/true"
    assert by_kind[frames.K_EXEC].ppid == done.pid
    assert (by_kind[frames.K_COMM].arg, frames.text(by_kind[frames.K_COMM].payload)) == (1, b"true")
    assert told[-1].kind == frames.K_EXIT
    assert [frame.time for frame in told] == sorted(frame.time for frame in told)
    assert before <= fork.time <= told[-1].time <= after


def test_unshare_shows_the_new_namespaces(source: PerfSource) -> None:
    need_tool("unshare")
    done = subprocess.run(
        ["unshare", "--net", "--uts", "sh", "-c", "echo $$; stat -Lc %i /proc/self/ns/net /proc/self/ns/uts"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    pid, net, uts = (int(word) for word in done.stdout.split())
    changed = [inodes(frame) for frame in of(source.drain(), pid) if frame.kind == frames.K_NAMESPACES]
    assert changed[-1] == {**own_inodes(), "net": net, "uts": uts}


def test_a_pid_namespace_shows_at_the_fork_into_it(source: PerfSource) -> None:
    need_tool("unshare")
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "stat", "-Lc", "%i", "/proc/self/ns/pid"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [frame for frame in frames.iter_frames(source.drain()) if frame.kind == frames.K_FORK and frame.payload]
    assert int(done.stdout) in [inodes(frame)["pid"] for frame in found]


def test_threads_have_their_events(source: PerfSource) -> None:
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()))
    thread.start()
    thread.join()
    told: list[tuple[int, int, int]] = []

    def ended() -> bool:  # the join comes before the thread's very end
        told.extend((frame.kind, frame.pid, frame.tid) for frame in of(source.drain(), ids[0]))
        return (frames.K_EXIT, os.getpid(), ids[0]) in told

    until(ended, "the end of the thread")
    assert (frames.K_FORK, os.getpid(), ids[0]) in told


@pytest.fixture
def cgroup(root: None, token: str) -> Iterator[Path]:
    """A cgroup (v2) of our own."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    roots = [fields[4] for fields in mounts if "cgroup2" in fields]
    need(roots, "cgroup2")
    made = Path(roots[0]) / f"auditns-{token}"
    made.mkdir()
    yield made
    made.rmdir()


def test_a_new_cgroup_and_a_move_into_it(source: PerfSource, cgroup: Path) -> None:
    pid = in_child(lambda: (cgroup / "cgroup.procs").write_text(str(os.getpid())) and os._exit(0))
    told = list(frames.iter_frames(source.drain()))
    inode = cgroup.stat().st_ino
    attached = [frame for frame in told if frame.kind == frames.K_ATTACH and frame.tid == pid]
    assert [(frame.pid, frame.cgroup, frames.text(frame.payload)) for frame in attached] == [
        (0, inode, f"/{cgroup.name}".encode())
    ]
    assert [frame.cgroup for frame in told if frame.kind == frames.K_EXIT_SAMPLE and frame.tid == pid] == [
        inode if _perf_is_v2() else 1
    ]


def _perf_is_v2() -> bool:
    """Whether the perf_event controller is on the v2 hierarchy: that is where samples take their cgroup from."""
    return not any("perf_event" in line.split(":")[1] for line in Path("/proc/self/cgroup").read_text().splitlines())


def test_a_child_made_in_another_cgroup_is_told(source: PerfSource, cgroup: Path) -> None:
    fd = os.open(cgroup, os.O_PATH | os.O_DIRECTORY)
    # struct clone_args up to its cgroup field: 11 u64
    args = struct.pack("11Q", tracepoints.CLONE_INTO_CGROUP, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, fd)
    pid = LIBC.syscall(CLONE3, args, len(args))
    if pid == 0:
        os._exit(0)
    assert pid > 0, os.strerror(ctypes.get_errno())
    os.waitpid(pid, 0)
    os.close(fd)
    in_child(lambda: os._exit(0))
    told = list(frames.iter_frames(source.drain()))
    new = [frame for frame in told if frame.kind == frames.K_NEWTASK]
    assert [(frame.tid, frame.ppid, frame.arg & tracepoints.CLONE_INTO_CGROUP) for frame in new] == [
        (pid, os.getpid(), tracepoints.CLONE_INTO_CGROUP)
    ]
    if _perf_is_v2():
        ends = [frame.cgroup for frame in told if frame.kind == frames.K_EXIT_SAMPLE and frame.tid == pid]
        assert ends == [cgroup.stat().st_ino]


def test_the_cut_leaves_what_is_later_in_the_ring(source: PerfSource) -> None:
    first = in_child(lambda: os._exit(0))
    cut = time.monotonic_ns()
    second = in_child(lambda: os._exit(0))
    early, late = source.drain(cut), source.drain()
    assert of(early, first)
    assert not of(early, second)
    assert all(frame.time <= cut for frame in frames.iter_frames(early))
    assert next(frame.kind for frame in of(late, second)) == frames.K_FORK
    assert not of(late, first)


def test_both_sources_agree_on_the_time(source: PerfSource) -> None:
    with ConnectorSource() as connector:
        pids = [in_child(lambda: os._exit(0)) for _ in range(20)]
        cn, ring = drained(connector, *pids), source.drain()
    for pid in pids:
        cn_exit = next(frame for frame in of(cn, pid) if frame.kind == frames.K_EXIT)
        perf_exit = next(frame for frame in of(ring, pid) if frame.kind == frames.K_EXIT)
        fork = next(frame for frame in of(ring, pid) if frame.kind == frames.K_FORK)
        assert fork.time < cn_exit.time
        # one clock: any other would be far off; how far apart they are is for the scheduler to say
        assert abs(cn_exit.time - perf_exit.time) < 10_000_000_000


def lost_counters(source: PerfSource) -> dict[int, int]:
    """CPU -> records lost by the kernel's own count (PERF_FORMAT_LOST)."""
    return {cpu: source._lost(fds) for cpu, fds in source._rings}


def test_what_a_small_ring_loses_is_told_once_and_exactly() -> None:
    with PerfSource(pages=1) as source:
        seen = 0
        for _ in range(3):
            for _ in range(60):
                in_child(lambda: os._exit(0))
            before = sum(lost_counters(source).values())
            told = list(frames.iter_frames(source.drain()))
            seen += sum(frame.arg for frame in told if frame.kind == frames.K_LOST)
            assert before <= seen <= sum(lost_counters(source).values())  # others' events may be lost meanwhile
        # the LOST records of the rings come now: they tell nothing new
        for _ in range(3):
            in_child(lambda: os._exit(0))
            before = sum(lost_counters(source).values())
            seen += sum(frame.arg for frame in frames.iter_frames(source.drain()) if frame.kind == frames.K_LOST)
        assert 0 < before <= seen == source.counters()["lost"] <= sum(lost_counters(source).values())
        assert source.counters()["malformed"] == 0


def test_a_ring_gone_round_many_times_is_read_without_a_flaw() -> None:
    with PerfSource(pages=16) as source:
        told: list[frames.Frame] = []
        pids = []
        for _ in range(80):
            pids += [in_child(lambda: os._exit(0)) for _ in range(10)]
            told += frames.iter_frames(source.drain())
        counters = source.counters()
    assert (counters["unknown"], counters["malformed"]) == (0, 0)
    forked = [frame.pid for frame in told if frame.kind == frames.K_FORK and frame.ppid == os.getpid()]
    # a busy host may make the ring run over all the same: then what is missing was told
    assert len(pids) - len(forked) <= counters["lost"]
    assert forked == [pid for pid in pids if pid in set(forked)]


def test_without_tracepoints_the_rest_works() -> None:
    with PerfSource(pages=64, tracepoints=False) as source:
        pid = in_child(lambda: os._exit(0))
        assert [frame.kind for frame in of(source.drain(), pid)] == [frames.K_FORK, frames.K_EXIT]
        assert source.features == {"task", "namespaces", "cgroup"}


def test_one_tracepoint_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_attach(events: list[str]) -> tuple[dict[str, tracefs.EventFormat], list[str]]:
        return tracefs.read_formats([event if event != tracepoints.ATTACH else "cgroup/none" for event in events])

    monkeypatch.setattr(perf, "read_formats", without_attach)
    with PerfSource(pages=64) as source:
        assert "attach" not in source.features
        assert "exec_sample" in source.features
        assert len(source.notices) == 1
        assert "cgroup/none" in source.notices[0]


def test_tracefs_is_read_by_a_child_and_no_mount_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    monkeypatch.setattr(tracefs, "MOUNT_POINTS", ())
    formats, notices = tracefs.read_formats([tracepoints.EXEC, "no/such"])
    assert Path("/proc/self/mountinfo").read_text() == before
    assert formats[tracepoints.EXEC].fields["filename"].size == 4
    assert notices == ["tracepoint no/such: No such file or directory"]


def test_descriptors_and_memory_are_given_back() -> None:
    fds = len(os.listdir("/proc/self/fd"))
    maps = Path("/proc/self/maps").read_text().count("perf_event")
    for _ in range(3):
        with PerfSource(pages=16) as source:
            source.drain()
    assert len(os.listdir("/proc/self/fd")) == fds
    assert Path("/proc/self/maps").read_text().count("perf_event") == maps


def test_a_low_limit_of_descriptors_is_lifted() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = (
        "import resource\n"
        "from auditns_connector.sources.perf import PerfSource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (8, {hard}))\n"
        "with PerfSource(pages=16) as source: print(len(source.notices), 'attach' in source.features)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
