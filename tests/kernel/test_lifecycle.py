"""Namespaces on this kernel: they begin, are entered, outlive their processes and end, each under one serial."""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import NsChange, NsDel, NsInit
from auditns_connector.model.places import MINTED, Instance
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.sources.perf import PerfSource
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.vocabulary.namespaces import ALL_ORDER, FLAGS, INDEX, NET, UTS
from tests.kernel.programs import AUDITNS, TIMEOUT, auditns, environment, listening, signals_count
from tests.kernel.support import can_tell_life, need, need_tool, until

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]

LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND = 4096
LOOPS = 10_000
BATCHES = 40
#: makes argv[3] namespaces in each batch, one after the other, and waits to be told to go on. Where a process can have
#: a new one again and again it unshares, else there is a child for each. A time namespace shows in /proc alone, so its
#: processes stay until /proc has been read.
MAKER = """
import ctypes, os, signal, sys
libc, name, flag, count = ctypes.CDLL(None), sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def clone():
    arguments = (ctypes.c_uint64 * 8)(flag, 0, 0, 0, signal.SIGCHLD)
    return libc.syscall(435, arguments, 64)
def one(children):
    if name in ("pid", "user", "time"):
        pid = clone()
        if pid == 0:
            if name == "time":
                signal.pause()
            os._exit(0)
        assert pid > 0
        children.append(pid)
    else:
        assert libc.unshare(flag) == 0
for _ in range(int(sys.argv[4])):
    children = []
    for _ in range(count):
        one(children)
    if name == "time":
        os.write(1, b"made\\n")
        os.read(0, 1)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)
    if name != "time":
        os.write(1, b"made\\n")
        os.read(0, 1)
"""


@pytest.fixture
def observer() -> Iterator[Observer]:
    made = Observer(Model(), perf=PerfSource(pages=8192, calls=True), all_serials=True)
    made.tell_lifecycle(True)
    made.start()
    made.model.own.begin(0, 0)  # who is watched here are children of this process
    made.model.outputs.clear()
    yield made
    made.close()


def unshare(flags: int) -> None:
    if LIBC.unshare(flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked child and wait for its end; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    return pid


def settle(observer: Observer) -> None:
    """Take in all that has happened, and what the kernel says of what has ended."""
    observer.sync()
    observer.prove()


def of(observer: Observer, pid: int) -> list[NsInit | NsChange]:
    return [o for o in observer.model.outputs if isinstance(o, NsInit | NsChange) and o.process.pid == pid]


def ends(observer: Observer, inst: Instance) -> list[NsDel]:
    """What is told of the end of ``inst``, which comes soon."""
    found: list[NsDel] = []

    def told() -> list[NsDel]:
        settle(observer)
        found[:] = [o for o in observer.model.outputs if isinstance(o, NsDel) and o.inst is inst]
        return found

    until(told, "the end of a namespace")
    return found


class Resident:
    """A child in a new namespace; ``stop`` ends it. ``path`` names the namespace."""

    def __init__(self, name: str) -> None:
        self.ready, ready = os.pipe()
        stop, self._stop = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._stop)
                unshare(FLAGS[name])
                os.write(ready, b"x")
                os.read(stop, 1)
            finally:
                os._exit(0)
        os.close(ready)
        os.close(stop)
        assert os.read(self.ready, 1)
        os.close(self.ready)
        self.path = f"/proc/{self.pid}/ns/{name}"

    def stop(self) -> None:
        os.close(self._stop)
        os.waitpid(self.pid, 0)


# -- identity


@pytest.mark.parametrize("name", ALL_ORDER)
def test_ten_thousand_made_and_unmade_have_as_many_serials(observer: Observer, name: str) -> None:
    """No serial comes twice, no two living ones share one, and none is missed."""
    index = INDEX[name]
    serials: set[int] = set()
    begun = 0
    maker = subprocess.Popen(
        [sys.executable, "-S", "-c", MAKER, name, str(FLAGS[name]), str(LOOPS // BATCHES), str(BATCHES)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with maker:
        assert maker.stdin is not None
        assert maker.stdout is not None
        for _ in range(BATCHES):
            assert maker.stdout.readline() == b"made\n"
            settle(observer)
            outputs, observer.model.outputs = observer.model.outputs, []
            for output in outputs:
                if isinstance(output, NsInit) and output.inst.index == index:
                    begun += 1
                    serials.add(observer.model.namespaces.serial(output.inst))
            live = [inst for inst in observer.model.namespaces.current[index].values() if inst.live]
            assert len({inst.serial for inst in live}) == len(live)
            maker.stdin.write(b"\n")
            maker.stdin.flush()
    assert maker.returncode == 0
    assert observer.model.epoch == 0, "perf lost events"
    assert begun >= LOOPS
    assert len(serials) == begun


def test_a_serial_is_the_kernels_where_it_can_be_asked(observer: Observer) -> None:
    need(can_tell_life(), "ids of namespaces (Linux 6.18)")
    resident = Resident("uts")
    observer.sync()
    (begun,) = [o for o in of(observer, resident.pid) if isinstance(o, NsInit)]
    resident.stop()
    assert begun.inst.serial is not None
    assert 0 < begun.inst.serial < MINTED
    assert begun.old is not None
    assert begun.old.initial


# -- ends


@pytest.mark.parametrize("name", [name for name in ALL_ORDER if name not in ("pid", "time")])
def test_an_end_is_proven_though_we_looked(observer: Observer, name: str) -> None:
    """No descriptor of ours keeps a namespace alive past its last process."""
    need(can_tell_life(), "file handles of namespaces (Linux 6.18)")
    resident = Resident(name)
    observer.sync()
    (begun,) = [o for o in of(observer, resident.pid) if isinstance(o, NsInit)]
    resident.stop()

    assert [told.held for told in ends(observer, begun.inst)] == [False]


def test_bind_mounted_it_outlives_its_processes_and_is_entered_as_the_same(observer: Observer, tmp_path: Path) -> None:
    need(can_tell_life(), "file handles of namespaces (Linux 6.18)")
    place = tmp_path / "net"
    place.touch()
    resident = Resident("net")
    observer.sync()
    (begun,) = [o for o in of(observer, resident.pid) if isinstance(o, NsInit)]
    assert LIBC.mount(resident.path.encode(), bytes(place), None, MS_BIND, None) == 0
    try:
        resident.stop()
        settle(observer)
        assert begun.inst.held is True
        assert not [o for o in observer.model.outputs if isinstance(o, NsDel) and o.inst is begun.inst]
        enter = f"import os; fd = os.open({str(place)!r}, 0); import ctypes; assert not ctypes.CDLL(None).setns(fd, 0)"
        visitor = subprocess.Popen([sys.executable, "-c", f"{enter}; print(flush=True); input()"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert visitor.stdout is not None
        assert visitor.stdout.readline()
        settle(observer)
        state = observer.model.processes[visitor.pid].state
        assert state.nsset is not None
        inside = state.nsset.inst[NET]
        assert inside is not None
        assert inside.serial == begun.inst.serial
        assert [o.reason for o in of(observer, visitor.pid) if isinstance(o, NsChange)] == ["setns"]
        assert not [o for o in of(observer, visitor.pid) if isinstance(o, NsInit)]
        visitor.communicate(b"\n")
    finally:
        assert LIBC.umount2(bytes(place), 2) == 0

    assert [told.held for told in ends(observer, inside)] == [False]


# -- what is told


def test_a_process_of_its_own_is_told_from_its_beginning_to_its_end(observer: Observer) -> None:
    resident = Resident("uts")
    observer.sync()
    resident.stop()
    (begun_at,) = [o for o in of(observer, resident.pid) if isinstance(o, NsInit)]
    ends(observer, begun_at.inst)
    standalone = StandaloneRecords(observer.model, EventSerials(None), ["raw"])
    mine = begun_at.inst
    outputs = [o for o in observer.model.outputs if mine in (getattr(o, "inst", None), getattr(o, "old", None))]
    text = b"".join(blocks["raw"] for blocks in standalone.format_outputs(outputs)).decode()
    kinds = re.findall(r"^type=(\w+)", text, re.MULTILINE)
    assert kinds == ["NS_INIT", "NS_CHANGE", "NS_CHANGE", "NS_DEL"]
    begun, changed, left, ended = text.splitlines()
    assert f"pid={resident.pid} uid={os.getuid()} auid=" in begun
    assert f" type={FLAGS['uts']:x} " in begun
    assert " reason=unshare " in changed
    assert " reason=exit " in left
    assert left.endswith(" last=1 res=1")
    assert ended.endswith((" held=no res=1", " held=unknown res=1"))


@pytest.mark.parametrize("numeric", [False, True])
def test_ausearch_takes_each_as_one_event(observer: Observer, tmp_path: Path, numeric: bool) -> None:
    need_tool("ausearch")
    for _ in range(3):
        child(lambda: unshare(FLAGS["uts"] | FLAGS["ipc"]))
        settle(observer)
    time.sleep(0.1)
    settle(observer)
    name = "numeric" if numeric else "raw"
    standalone = StandaloneRecords(observer.model, EventSerials(None), [name])
    log = tmp_path / "log"
    first = standalone.emit_initial_namespaces(time.monotonic_ns())
    told = [*first, *standalone.format_outputs(observer.model.outputs)]
    log.write_bytes(b"".join(blocks[name] for blocks in told))
    count = log.read_bytes().count(b"\n")
    assert count >= 8 + 3 * 4
    for more in ([], ["-i"]):
        done = subprocess.run(["ausearch", "-if", str(log), *more], capture_output=True, text=True, check=True,
                              stdin=subprocess.DEVNULL)  # fmt: skip
        assert done.stdout.count("----\n") == count
    rows = subprocess.run(["ausearch", "-if", str(log), "--format", "csv"], capture_output=True, text=True, check=True,
                          stdin=subprocess.DEVNULL).stdout.splitlines()  # fmt: skip
    assert len(rows) == count + 1


def test_inodes_are_recycled_and_serials_are_not(observer: Observer) -> None:
    serials, inodes = set(), set()
    for _ in range(30):
        resident = Resident("uts")
        observer.sync()
        state = observer.model.processes[resident.pid].state
        assert state.nsset is not None
        inst = state.nsset.inst[UTS]
        assert inst is not None
        serials.add(inst.serial)
        inodes.add(inst.ino)
        resident.stop()
        settle(observer)
    assert len(serials) == 30
    assert len(inodes) < 30


# -- the programs


def test_the_listener_tells_and_is_asked(tmp_path: Path) -> None:
    control = tmp_path / "control"
    with listening(tmp_path / "listen", "--format", "json", "--type", "NS_INIT", control=control) as program:
        resident = Resident("uts")
        found: list[dict[str, Any]] = []

        def told() -> bool:
            found[:] = [json.loads(line) for line in program.out.splitlines()]
            return any(event["records"][0]["pid"] == resident.pid for event in found)

        until(told, "NS_INIT")
        initial = [event["records"][0] for event in found if event["records"][0]["pid"] == 0]
        assert sorted(record["nstype"] for record in initial) == sorted(f"{flag:x}" for flag in FLAGS.values())
        assert {record["old_snum"] for record in initial} == {"0"}
        (begun,) = [event["records"][0] for event in found if event["records"][0]["pid"] == resident.pid]
        assert begun["ino"] == os.stat(resident.path).st_ino
        assert begun["comm"]
        one = json.loads(auditns("ns", str(resident.pid), "--json", "--control", control).stdout)["namespaces"]
        assert [row["type"] for row in one] == list(ALL_ORDER)
        (mine,) = [row for row in one if row["type"] == "uts"]
        assert (mine["serial"], mine["ino"]) == (begun["snum"], begun["ino"])
        assert mine["creator"]["pid"] == resident.pid
        assert mine["age_s"] >= 0
        tree = auditns("tree", "--all", "--control", control)
        assert tree.returncode == 0
        assert f"uts={begun['snum']}" in tree.stdout.decode()
        resident.stop()


def test_no_lifecycle_leaves_it_out(tmp_path: Path) -> None:
    with listening(tmp_path, "--format", "raw", "--no-lifecycle") as program:
        child(lambda: unshare(FLAGS["uts"]))
        time.sleep(1.5)
        assert b"NS_" not in program.out


def test_the_tree_is_followed(tmp_path: Path) -> None:
    control = tmp_path / "control"
    with listening(tmp_path / "listen", "--sandbox", "pid,user", control=control), (tmp_path / "out").open("wb") as out:
        command = [*AUDITNS, "tree", "--follow", "--interval", "0.2", "--json", "--control", str(control)]
        following = subprocess.Popen(
            command,
            stdout=out,
            env=environment(),
            preexec_fn=signals_count,  # noqa: PLW1509 - there are no threads here
        )

        def last() -> str:
            """The newest tree. Behind the last newline stands one that is still being written."""
            *whole, _ = (tmp_path / "out").read_text().split("\n")
            return whole[-1] if whole else ""

        try:
            until(last, "the first tree")
            resident = Resident("user")
            until(lambda: f'"pid": {resident.pid},' in last(), "what has changed")
            resident.stop()
            until(lambda: f'"pid": {resident.pid},' not in last(), "what has gone")
            json.loads(last())
        finally:
            following.send_signal(signal.SIGINT)
            assert following.wait(TIMEOUT) == 0
