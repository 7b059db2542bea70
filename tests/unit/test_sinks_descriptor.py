"""stdout and the like: pipes, sockets, terminals, files; slow readers, gone readers."""

import os
import pty
import socket
import tty
from pathlib import Path

import pytest

from auditns_connector.sinks.descriptor import DescriptorSink, open_descriptor
from auditns_connector.sinks.threaded import ThreadedSink
from tests.unit.sinkhelp import block, drain, line, lost_line, until

LIMIT = 64 * 1024


def test_pipe_gets_everything_and_keeps_its_mode() -> None:
    read, write = os.pipe()
    sink = open_descriptor(write, LIMIT, lost_line)
    assert isinstance(sink, DescriptorSink)
    sink.write(block(0, 100))
    assert sink.flush(10)
    assert os.read(read, 1 << 20) == block(0, 100)
    assert os.get_blocking(write), "the open file is shared with others, it must stay as it was"
    sink.close(1)
    os.write(write, b"still the caller's")
    os.close(write)
    os.close(read)


def test_slow_pipe_loses_whole_lines_and_is_told_in_place() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    sink = open_descriptor(write, LIMIT, lost_line)
    for start in range(0, 4000, 10):
        sink.write(block(start, 10, size=100))
        assert sink.counters()["queued_bytes"] <= LIMIT
    dropped = sink.counters()["dropped_records"]
    assert dropped > 0
    got: list[bytes] = []

    def more() -> bool:
        got.append(drain(read))
        return b"LOST" in b"".join(got) and not sink.counters()["queued_bytes"]

    until(sink, more)
    sink.write(line(9999))
    assert sink.flush(10)
    got.append(drain(read))
    first = 4000 - dropped
    told = b"LOST stdout %d %d 1700000000.123:%d 1700000000.123:3999\n" % (dropped, dropped * 100, first)
    assert b"".join(got) == block(0, first, size=100) + told + line(9999)
    sink.close(1)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("when", ["before a write", "while waiting"])
def test_reader_gone_is_broken_not_an_exception(when: str) -> None:
    read, write = os.pipe()
    sink = open_descriptor(write, LIMIT, lost_line)
    if when == "before a write":
        os.close(read)
        sink.write(line(1))
    else:
        sink.write(block(0, 600, size=200))
        os.close(read)
        full = sink.counters()
        assert full["queued_bytes"] > 0
        sink.on_ready()
    assert sink.broken
    sink.write(line(2))
    sink.on_ready()
    assert sink.notices == []
    sink.close(0.1)
    lost = full["dropped_records"] if when == "while waiting" else 0  # for want of room, while it was there
    assert (sink.counters()["dropped_records"], sink.counters()["queued_bytes"]) == (lost, 0)
    os.close(write)


def test_idle_pipe_notices_that_its_reader_left() -> None:
    read, write = os.pipe()
    sink = open_descriptor(write, LIMIT, lost_line)
    os.close(read)
    until(sink, lambda: sink.broken)
    sink.close(0.1)
    os.close(write)


def test_socket_is_not_made_nonblocking() -> None:
    ours, theirs = socket.socketpair()
    sink = open_descriptor(ours.fileno(), LIMIT, lost_line)
    for start in range(0, 10_000, 10):
        sink.write(block(start, 10, size=100))
    assert 0 < sink.counters()["queued_bytes"] <= LIMIT
    assert os.get_blocking(ours.fileno())
    theirs.setblocking(False)
    got: list[bytes] = []

    def more() -> bool:
        got.append(drain(theirs.fileno()))
        return b"LOST" in got[-1]

    until(sink, more)
    text = b"".join(got)
    assert block(0, 10_000, size=100).startswith(text[: text.index(b"LOST")])
    theirs.close()
    until(sink, lambda: sink.broken)
    sink.close(0.1)
    ours.close()


def test_stopped_terminal_does_not_stop_us() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    sink = open_descriptor(slave, LIMIT, lost_line)
    for start in range(0, 2000, 10):
        sink.write(block(start, 10, size=100))
    dropped = sink.counters()["dropped_records"]
    assert dropped > 0
    got: list[bytes] = []

    def more() -> bool:
        got.append(drain(master))
        return b"".join(got).count(b"\n") == 2000 - dropped + 1

    until(sink, more)
    assert b"".join(got).startswith(block(0, 2000 - dropped, size=100) + b"LOST")
    sink.close(1)
    os.close(master)
    os.close(slave)


def test_regular_file_and_null_device(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        sink = open_descriptor(file.fileno(), LIMIT, lost_line)
        assert isinstance(sink, ThreadedSink)
        sink.write(block(0, 10))
        sink.write(block(10, 10))
        assert sink.flush(10)
        sink.close(5)
        file.write(b"the caller's own\n")
    assert (tmp_path / "out").read_bytes() == block(0, 20) + b"the caller's own\n"
    with open("/dev/null", "wb") as file:
        sink = open_descriptor(file.fileno(), LIMIT, lost_line)
        sink.write(block(0, 10))
        assert sink.flush(10)
        sink.close(5)
        assert sink.counters()["written_records"] == 10


def test_full_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        sink = open_descriptor(file.fileno(), LIMIT, lost_line)
        sink.write(line(1))
        until(sink, lambda: sink.notices)
        assert "No space left on device" in sink.notices[0]
        sink.close(0.1)
        assert sink.counters()["dropped_records"] == 1
