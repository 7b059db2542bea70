"""How often Python calls into C for a block, on the ways of docs/architecture.md that most blocks go: what the one
begins the other ends."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from auditns_connector._native import lib
from auditns_connector.cli import main
from auditns_connector.host.feed import Feed
from auditns_connector.journal.files import JournalWriter
from auditns_connector.pipeline import file_loop
from auditns_connector.pipeline.file_loop import FileLoop
from auditns_connector.vocabulary import frames as f

from . import test_file_loop
from .test_file_loop import recorded  # noqa: F401, a fixture
from .test_native_loop import MS, Host, Kept, event
from .world import World


def calls(work: Callable[[], object]) -> list[str]:
    """The functions of C that ``work`` has called from Python, in their order."""
    found: list[str] = []

    def note(_: FrameType, what: str, function: Any) -> None:
        if what == "c_call" and getattr(function, "__self__", None) is lib:
            found.append(function.__name__)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def test_a_block_of_live_text_is_one_call() -> None:
    host, now = Host(Kept(), native=True), time.time_ns() // MS - 5
    for serial in range(1000, 1004):
        host.come(b"", event(serial, now, 100))
    for serial in range(1004, 1020):
        host.theirs.sendall(event(serial, now, 100))
        # the rings of this test are Python's, which the C calls
        assert [name for name in calls(host.step) if name != "perf_look"] == ["loop_round"]
    host.end()


def test_a_block_of_kernel_events_is_one_call_beside_the_one_that_drains(tmp_path: Path) -> None:
    world, blocks = World(), [b"", b""]
    for number in range(200):
        pid, at = 2000 + number, (10 + number) * MS
        blocks[number // 100] += f.pack(f.K_FORK, f.S_PERF, at, pid=pid, tid=pid, ppid=1, ptid=1)
        blocks[number // 100] += f.pack(f.K_EXIT_SAMPLE, f.S_PERF, at + 1, pid=pid, tid=pid)
        blocks[number // 100] += f.pack(f.K_EXIT, f.S_PERF, at + 1, pid=pid, tid=pid, ppid=1, ptid=1)
    feed = Feed(world.model, JournalWriter(str(tmp_path / "journal")))
    feed.feed(blocks[0])  # who makes them has a row from then on
    assert calls(lambda: feed.feed(blocks[1])) == ["table_apply"]
    assert world.model.processes[2199].end is not None


def test_blocks_of_a_file_are_one_call(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    path = tmp_path / "log"
    pids = [test_file_loop.journal.FIRST_PID + number % 300 for number in range(1, test_file_loop.KNOWN)]
    path.write_text("".join(test_file_loop.event(number, pid) for number, pid in enumerate(pids, 1)))
    made: list[list[str]] = []
    blocks = 0
    run: Callable[..., int] = FileLoop.run

    def noted(self: FileLoop, fd: int, unended: bool) -> int:
        nonlocal blocks
        how: list[int] = []
        at = os.lseek(fd, 0, os.SEEK_CUR)
        made.append(calls(lambda: how.append(run(self, fd, unended))))
        blocks += (os.lseek(fd, 0, os.SEEK_CUR) - at) // file_loop.BLOCK
        return how[0]

    monkeypatch.setattr(FileLoop, "run", noted)
    monkeypatch.setattr(file_loop, "BLOCK", 4096)
    assert main.run(["enrich", "--journal", str(recorded), str(path)]) == 0
    assert set(map(tuple, made)) == {("file_rounds",)}
    assert blocks > len(made)
