"""The child plugin: started as auditd would, restarted without losing what it had not read, ended in order."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditns_connector.config.options import ChildOutput
from auditns_connector.sinks import child as child_module
from auditns_connector.sinks.child import ChildSink
from auditns_connector.sinks.spawner import ENVIRONMENT
from tests.unit.sinkhelp import block, end_spawners, line, lost_line, read_all, spawner, until

LIMIT = 64 * 1024
Start = Callable[..., ChildSink]


@pytest.fixture(autouse=True)
def spawners() -> Iterator[None]:
    yield
    end_spawners()


def child_of(argv: tuple[str, ...], queue: int = LIMIT) -> ChildSink:
    return ChildSink(ChildOutput(True, argv, "numeric", queue), lost_line, spawner(argv))


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a child that runs Python code; OUT, its first argument, is a file for it to write."""
    monkeypatch.setattr(child_module, "BACKOFF_FIRST", 0.01)
    made: list[ChildSink] = []

    def start_code(code: str, queue: int = LIMIT) -> ChildSink:
        program = tmp_path / "program"
        program.write_text(
            f"#!{os.path.realpath(sys.executable)} -IS\nimport os, sys, time\nOUT = sys.argv[1]\n{code}\n"
        )
        program.chmod(0o750)
        argv = (str(program), str(tmp_path / "out"))
        sink = child_of(argv, queue)
        made.append(sink)
        return sink

    yield start_code
    for sink in made:
        sink.close(0.1)


COPY = """
with open(OUT, "ab", buffering=0) as out:
    while data := os.read(0, 65536):
        out.write(data)
"""


def test_child_gets_everything_and_ends_at_end_of_file(start: Start, tmp_path: Path) -> None:
    sink = start(COPY)
    for serial in range(0, 5000, 10):
        sink.write(block(serial, 10))
        sink.flush(10)
    assert sink.counters()["running"] == 1
    sink.close(20)
    assert read_all(tmp_path / "out") == block(0, 5000)
    counters = sink.counters()
    assert (counters["written_records"], counters["dropped_records"], counters["reconnects"]) == (5000, 0, 0)
    assert sink.notices == [f"child: {tmp_path / 'program'} ended with 0"]


def test_child_starts_as_auditd_would_start_it(start: Start, tmp_path: Path) -> None:
    code = """
import json, socket, stat
status = dict(row.split(":\\t", 1) for row in open("/proc/self/status").read().splitlines() if ":\\t" in row)
stdin = socket.socket(fileno=os.dup(0))
report = {
    "family": stdin.family, "type": stdin.type, "environment": dict(os.environ),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)),
    "same": os.fstat(1).st_ino == os.fstat(2).st_ino, "dup": stdin.fileno(),
    "blocked": status["SigBlk"], "ignored": status["SigIgn"], "group": os.getpgrp() == os.getpid(),
    "nonblocking": not os.get_blocking(0),
}
with open(OUT + ".new", "w") as out:
    json.dump(report, out)
os.rename(OUT + ".new", OUT)
time.sleep(60)
"""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    stray = os.open("/dev/null", os.O_RDONLY)
    try:
        sink = start(code)
    finally:
        signal.signal(signal.SIGHUP, old[0])
        signal.pthread_sigmask(signal.SIG_SETMASK, old[1])
        os.close(stray)
    until(sink, (tmp_path / "out").exists)
    report = json.loads((tmp_path / "out").read_text())
    assert (report["family"], report["type"]) == (1, 1)
    assert report["environment"] == ENVIRONMENT
    assert report["fds"] == [0, 1, 2, report["dup"]]
    assert report["same"]
    assert int(report["blocked"], 16) == 0
    ignored = {sign for sign in signal.valid_signals() if int(report["ignored"], 16) >> (sign - 1) & 1}
    assert ignored == {signal.SIGPIPE, signal.SIGXFSZ}, "those Python ignores by itself, in the child"
    assert report["group"]
    assert not report["nonblocking"]


def test_restart_sends_what_was_not_read_and_repeats_the_line_begun(start: Start, tmp_path: Path) -> None:
    code = """
import socket
with open(OUT, "ab", buffering=0) as out:
    first = os.path.getsize(OUT) == 0
    if first:
        out.write(socket.socket(fileno=0).recv(1000, socket.MSG_WAITALL))
        os.kill(os.getpid(), 9)
    while data := os.read(0, 65536):
        out.write(data)
"""
    sink = start(code)
    text = block(0, 600, size=96)
    for number in range(0, len(text), 960):
        sink.write(text[number : number + 960])
    until(sink, lambda: sink.counters()["reconnects"] == 1)
    assert sink.flush(20)
    sink.close(20)
    assert read_all(tmp_path / "out") == text[:1000] + text[960:]
    assert sink.notices[0] == f"child: {tmp_path / 'program'} was killed by SIGKILL"
    assert sink.counters()["dropped_records"] == 0


def test_everything_arrives_through_many_restarts(start: Start, tmp_path: Path) -> None:
    """Each child reads a little, ends, and the next goes on; lines begun are repeated, none is missing."""
    code = """
with open(OUT, "ab", buffering=0) as out:
    for _ in range(3):
        out.write(b"<" + os.read(0, 700) + b">")
"""
    sink = start(code)
    sink.write(block(0, 200, size=64))
    until(sink, lambda: b":199):" in read_all(tmp_path / "out"), 60)
    text = read_all(tmp_path / "out").replace(b"><", b"")
    wanted = block(0, 200, size=64).splitlines(keepends=True)
    assert all(text.count(item.rstrip(b"\n")) >= 1 for item in wanted[:-1])
    assert sink.counters()["reconnects"] >= 5


def test_child_that_cannot_start_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_FIRST", 0.01)
    path = tmp_path / "later"
    sink = child_of((str(path), str(tmp_path / "out")))
    assert sink.notices == [f"child: cannot start {path}: No such file or directory"]
    assert sink.deadline() is not None
    sink.write(line(1))
    path.write_text('#!/bin/sh\nexec cat > "$1"\n')
    path.chmod(0o750)
    until(sink, lambda: sink.counters()["running"])
    assert sink.deadline() is None
    assert sink.flush(10)
    sink.close(10)
    assert read_all(tmp_path / "out") == line(1)


def backoff_after(sink: ChildSink, ends: int) -> float:
    """Seconds that the sink waits after the end of its last child but ``ends``."""
    for number in range(1, ends + 1):
        until(sink, lambda wanted=number: sink.counters()["reconnects"] >= wanted - 1 and not sink.pid)
    due = sink.deadline()
    assert due is not None
    assert due - time.monotonic() <= sink._backoff
    return sink._backoff / 2


def test_restarts_become_rarer(start: Start) -> None:
    sink = start("sys.exit(3)")
    assert backoff_after(sink, 5) == 0.16
    assert sink.notices[0].endswith("ended with 3")


def test_restarts_do_not_become_rarer_after_a_child_that_lived_long(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_LAST", 0.1)
    assert backoff_after(start("time.sleep(0.2)"), 3) == 0.01


def test_attempts_to_start_become_rarer_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(child_module, "BACKOFF_LAST", 0.03)
    sink = child_of((str(tmp_path / "none"),))
    until(sink, lambda: len(sink.notices) >= 4)
    assert sink._backoff == 0.03
    sink.close(0.1)


def test_stuck_child_loses_whole_lines_and_is_told(start: Start, tmp_path: Path) -> None:
    sink = start(
        """
while not os.path.exists(OUT + ".go"):
    time.sleep(0.01)
"""
        + COPY
    )
    for serial in range(0, 10_000, 10):
        sink.write(block(serial, 10, size=100))
        assert sink.counters()["queued_bytes"] <= LIMIT
    dropped = sink.counters()["dropped_records"]
    assert dropped > 0
    (tmp_path / "out.go").touch()
    until(sink, lambda: b"LOST" in read_all(tmp_path / "out"))
    sink.write(line(99999))
    sink.close(20)
    first = 10_000 - dropped
    told = b"LOST child %d %d 1700000000.123:%d 1700000000.123:9999\n" % (dropped, dropped * 100, first)
    assert read_all(tmp_path / "out") == block(0, first, size=100) + told + line(99999)


def test_hup_is_handed_on(start: Start, tmp_path: Path) -> None:
    sink = start(
        """
import signal
signal.signal(signal.SIGHUP, lambda *_: open(OUT, "w").close())
open(OUT + ".ready", "w").close()
while True:
    time.sleep(1)
"""
    )
    until(sink, (tmp_path / "out.ready").exists)
    sink.reopen()
    until(sink, (tmp_path / "out").exists)
    assert sink.counters()["running"] == 1


def test_child_that_ignores_the_end_is_killed(start: Start, tmp_path: Path) -> None:
    sink = start(
        """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(OUT, "w").close()
while True:
    time.sleep(1)
"""
    )
    until(sink, (tmp_path / "out").exists)
    pid = sink.pid
    sink.write(block(0, 10))
    sink.close(0.05)
    assert sink.notices[-1].endswith("was killed by SIGKILL")
    assert sink.counters()["dropped_records"] == 10
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_child_that_refuses_to_read_is_replaced(start: Start, tmp_path: Path) -> None:
    sink = start(
        """
import socket
if not os.path.exists(OUT):
    open(OUT, "w").close()
    socket.socket(fileno=0).shutdown(socket.SHUT_RD)
    open(OUT + ".shut", "w").close()
    time.sleep(60)
"""
        + COPY
    )
    until(sink, (tmp_path / "out.shut").exists)
    sink.write(line(1))
    until(sink, lambda: read_all(tmp_path / "out") == line(1))


@pytest.mark.parametrize("what", ["symlink", "writable by all", "writable by a group", "another owner's", "directory"])
def test_root_runs_only_what_root_alone_can_change(tmp_path: Path, what: str) -> None:
    path = tmp_path / "plugin"
    if what == "directory":
        path.mkdir()
    elif what == "symlink":
        path.symlink_to("/bin/cat")
    else:
        path.write_text("#!/bin/sh\nexec cat\n")
        path.chmod({"writable by all": 0o757, "writable by a group": 0o770}.get(what, 0o755))
    if what in ("writable by all", "writable by a group", "another owner's"):
        if os.geteuid() != 0:
            pytest.skip("needs root: checked for root only")
        os.chown(path, 65534 if what == "another owner's" else 0, 65534)
    sink = child_of((str(path),))
    assert sink.pid == 0
    assert "cannot start" in sink.notices[0]
    sink.close(0.1)
