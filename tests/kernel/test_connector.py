"""The proc connector source on the running kernel: what is done here is what it tells."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2.netlink.connector.cn_proc import ProcEventMarshal

from auditns_connector.errors import NotPermittedError
from auditns_connector.sources.connector import IGNORE, LISTEN, NETLINK_CONNECTOR, ConnectorSource, probe_nm, request
from auditns_connector.vocabulary import frames
from tests.kernel.support import in_child, need, need_tool, until

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]


@pytest.fixture
def source(root: None) -> Iterator[ConnectorSource]:
    with ConnectorSource() as made:
        yield made


def of(block: bytes, pid: int) -> list[frames.Frame]:
    return [frame for frame in frames.iter_frames(block) if frame.pid == pid]


def drained(source: ConnectorSource, *pids: int) -> bytes:
    """All that has happened up to the exits of ``pids``. The kernel tells an exit after it has woken whoever waits for
    the process (kernel/exit.c, do_exit)."""
    block = b""

    def told() -> bool:
        nonlocal block
        block += source.drain()
        return all(any(frame.kind == frames.K_EXIT for frame in of(block, pid)) for pid in pids)

    until(told, "the exits")
    return block


def test_a_process_from_fork_to_exit(source: ConnectorSource) -> None:
    before = time.monotonic_ns()
    done = subprocess.Popen(["/bin/true"])
    done.wait()
    told = of(drained(source, done.pid), done.pid)
    after = time.monotonic_ns()

    kinds = [frame.kind for frame in told]
    assert kinds[0] == frames.K_FORK
    assert frames.K_EXEC in kinds
    assert kinds[-1] == frames.K_EXIT
    assert (told[0].ppid, told[0].tid) == (os.getpid(), done.pid)
    assert told[-1].arg == 0
    assert [frame.time for frame in told] == sorted(frame.time for frame in told)
    assert before <= told[0].time
    assert told[-1].time <= after


def test_comm_ids_session_and_exit_code(source: ConnectorSource) -> None:
    def work() -> None:
        os.setsid()
        with open("/proc/self/comm", "wb") as file:
            file.write(b"auditns-cn")
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        os._exit(7)

    pid = in_child(work)
    told = {frame.kind: frame for frame in of(drained(source, pid), pid)}
    assert frames.K_SID in told
    assert frames.text(told[frames.K_COMM].payload) == b"auditns-cn"
    assert frames.IDS_PAYLOAD.unpack(told[frames.K_UID].payload) == (65534, 65534)
    assert frames.IDS_PAYLOAD.unpack(told[frames.K_GID].payload) == (65534, 65534)
    assert told[frames.K_EXIT].arg == 7 << 8


def test_a_coredump_has_its_event(source: ConnectorSource) -> None:
    def crash() -> None:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGQUIT)
        signal.pause()

    pid = in_child(crash)
    told = {frame.kind: frame for frame in of(drained(source, pid), pid)}
    assert told[frames.K_EXIT].arg & 0x7F == signal.SIGQUIT
    assert told[frames.K_COREDUMP].ppid == os.getpid()


def test_the_cut_holds_back_what_is_later(source: ConnectorSource) -> None:
    with ConnectorSource() as witness:
        first = in_child(lambda: os._exit(0))
        drained(witness, first)
        cut = time.monotonic_ns()
        second = in_child(lambda: os._exit(0))
        drained(witness, second)

    early, late = source.drain(cut), source.drain()
    assert of(early, first)
    assert not of(early, second)
    assert not of(late, first)
    assert [frame.kind for frame in of(late, second)] == [frames.K_FORK, frames.K_EXIT]


def test_every_dropped_event_is_told_as_lost() -> None:
    with ConnectorSource(rcvbuf=32768) as source:
        for _ in range(200):
            in_child(lambda: os._exit(0))
        lost = 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            source.heartbeat()  # a loss at the end shows only at a CPU's next event
            time.sleep(0.01)
            for frame in frames.iter_frames(source.drain()):
                lost += frame.arg if frame.kind == frames.K_LOST else 0
            counters = source.counters()
            if counters["lost"] == counters["drops"]:
                break  # on a busy host the next ones may be dropped already
    assert counters["drops"] > 0
    assert lost == counters["lost"] == counters["drops"]
    assert counters["disorder"] == counters["malformed"] == counters["enobufs"] == 0


def test_a_loss_on_a_cpu_that_was_quiet_until_then_is_told() -> None:
    may = os.sched_getaffinity(0)
    need(len(may) > 1, "two CPUs")
    one, other, *_ = may
    try:
        os.sched_setaffinity(0, {one})
        with ConnectorSource(rcvbuf=32768) as source:
            for cpu in (one, other):
                os.sched_setaffinity(0, {cpu})
                for _ in range(100):
                    in_child(lambda: os._exit(0))
            source.drain()
            in_child(lambda: os._exit(0))
            lost = [frame.cpu for frame in frames.iter_frames(source.drain()) if frame.kind == frames.K_LOST]
    finally:
        os.sched_setaffinity(0, may)
    assert other in lost


def test_the_heartbeat_comes_from_every_cpu(source: ConnectorSource) -> None:
    told: set[int] = set()
    deadline = time.monotonic() + 60
    while told < os.sched_getaffinity(0) and time.monotonic() < deadline:
        source.heartbeat()
        time.sleep(0.02)
        told |= {frame.cpu for frame in frames.iter_frames(source.drain()) if frame.kind == frames.K_ACK}
    assert told >= os.sched_getaffinity(0)
    # it has not switched the events off
    pid = in_child(lambda: os._exit(0))
    assert of(drained(source, pid), pid)


def test_a_filtered_source_tells_forks_and_exits_and_no_loss() -> None:
    with ConnectorSource(mask_all=False) as source:
        pids = [in_child(os.setsid) for _ in range(20)]
        kinds = {frame.kind for frame in frames.iter_frames(drained(source, *pids))}
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    need(release >= (6, 6), "the 8-byte proc_input of Linux 6.6")
    assert kinds == {frames.K_FORK, frames.K_EXIT} or kinds == {frames.K_FORK, frames.K_EXIT, frames.K_EXEC}


def test_pyroute2_reads_the_same_from_the_socket(source: ConnectorSource) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, NETLINK_CONNECTOR) as theirs:
        theirs.bind((0, 1))
        theirs.send(request(LISTEN))
        source.drain()
        pid = in_child(lambda: os._exit(5))
        parse = ProcEventMarshal().parse
        seen = []
        told = of(drained(source, pid), pid)
        while not seen or seen[-1]["event"] != "PROC_EVENT_EXIT":
            assert select.select([theirs], [], [], 60)[0], seen
            events = parse(theirs.recv(65536))
            seen += [event for event in events if pid in (event.get("child_tgid"), event.get("process_tgid"))]
        theirs.send(request(IGNORE))
    names = {frames.K_FORK: "PROC_EVENT_FORK", frames.K_EXIT: "PROC_EVENT_EXIT"}
    assert [(names[frame.kind], frame.time, frame.cpu) for frame in told] == [
        (event["event"], event["timestamp_ns"], event["cpu"]) for event in seen
    ]
    assert told[-1].arg == seen[-1]["exit_code"]


def test_the_probe_agrees_with_the_kernel() -> None:
    assert probe_nm() is ("proc-event-nm" in os.uname().release)  # mainline never took it


@pytest.mark.parametrize(
    ("options", "error"),
    [(["--user", "--map-root-user"], NotPermittedError), (["--net"], NotPermittedError)],
    ids=["another user namespace", "another network namespace"],
)
def test_where_it_cannot_work_it_says_so(options: list[str], error: type[Exception]) -> None:
    need_tool("unshare")
    script = "from auditns_connector.sources.connector import ConnectorSource; ConnectorSource()"
    done = subprocess.run(
        ["unshare", *options, sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert error.__name__ in done.stderr


@pytest.mark.parametrize(
    ("module", "kind", "size"), [("connector", "ConnectorSource", 64 << 20), ("readlog", "ReadlogSource", 32 << 20)]
)
def test_a_shorter_receive_buffer_is_told_and_works(module: str, kind: str, size: int) -> None:
    """Without CAP_NET_ADMIN the buffer is what net.core.rmem_max allows."""
    need_tool("setpriv")
    allowed = int(Path("/proc/sys/net/core/rmem_max").read_text())
    need(allowed < size, f"net.core.rmem_max below {size}")
    script = f"from auditns_connector.sources.{module} import {kind}\nwith {kind}() as s: print(*s.notices, sep='|')"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", script],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{allowed} bytes instead of {size}: " in done.stdout
    assert "CAP_NET_ADMIN" in done.stdout
    assert "|" not in done.stdout
