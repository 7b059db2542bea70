"""Outputs that the loop in C writes to by itself: each has the same text, also one that takes it late or in parts."""

import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.config.options import FileOutput, SocketOutput
from auditns_connector.sinks.descriptor import DescriptorSink, open_descriptor
from auditns_connector.sinks.file import FileSink
from auditns_connector.sinks.native import MOST
from auditns_connector.sinks.unixsocket import SocketSink

from .sinkhelp import block, lost_line
from .test_native_loop import Host, Kept, event, run, text
from .world import MS

STAMP = re.compile(rb"(?:audit\(|since=)\d+\.\d+:?")  # two runs are not of the same time


class Reader:
    """Reads in a thread all that comes, up to the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._pieces: list[bytes] = []
        self._read = read
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while piece := self._read(4096):
            self._pieces.append(piece)

    def text(self) -> bytes:
        self._thread.join()
        return b"".join(self._pieces)


def joined(sink: SocketSink) -> socket.socket:
    reader = socket.socket(socket.AF_UNIX)
    reader.connect(sink.options.path)
    sink.on_ready()
    return reader


def recent(serial: int) -> bytes:
    return event(serial, time.time_ns() // MS - 5, 2)


@pytest.mark.parametrize("late", [False, True], ids=["read at once", "read at the end"])
def test_each_output_has_the_same_text(late: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    file = FileSink(FileOutput(path=str(log), group=""), lost_line)
    shared = SocketSink(SocketOutput(path=str(tmp_path / "sock"), group=""), lost_line)
    read, write = os.pipe()
    pipe = open_descriptor(write, 64 << 20, lost_line)
    host = Host(file, shared, pipe, native=True)
    first, second = joined(shared), joined(shared)
    for sock in (first, second):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def readers() -> list[Reader]:
        return [Reader(first.recv), Reader(second.recv), Reader(lambda size: os.read(read, size))]

    reading = [] if late else readers()
    for frames, piece in text(1, host.world):
        host.come(frames, piece)
        for sink in (shared, pipe):
            sink.on_ready()
    native = host.answered
    reading = reading or readers()
    host.end()
    os.close(write)
    texts = [log.read_bytes(), *(one.text() for one in reading)]
    slow, _, _ = run(1, native=False)
    assert native > 40
    for one in texts:
        assert STAMP.sub(b"", one) == STAMP.sub(b"", slow)
    for sink in (file, pipe):
        counted = sink.counters()
        assert (counted["written_records"], counted["written_bytes"]) == (slow.count(b"\n"), len(texts[0]))
    assert shared.counters()["written_records"] == 2 * slow.count(b"\n")
    first.close()
    second.close()
    os.close(read)


def test_a_pipe_takes_what_there_is_room_for_and_the_rest_waits() -> None:
    read, write = os.pipe()
    sink = open_descriptor(write, 64 << 20, lost_line)
    assert isinstance(sink, DescriptorSink)
    host = Host(sink, native=True)
    for serial in range(1000, 1400):  # four times what a pipe holds
        host.come(b"", recent(serial))
    assert sink.natives() is None
    assert host.answered > 100
    reader = Reader(lambda size: os.read(read, size))
    host.end()
    os.close(write)
    assert reader.text().count(b"type=EOE") == 400
    assert sink.counters()["dropped_records"] == 0
    os.close(read)


def test_a_reader_who_has_gone_ends_the_pipe_and_leaves_the_socket(tmp_path: Path) -> None:
    read, write = os.pipe()
    pipe = open_descriptor(write, 64 << 20, lost_line)
    shared = SocketSink(SocketOutput(path=str(tmp_path / "sock"), group=""), lost_line)
    host = Host(pipe, shared, native=True)
    reader = joined(shared)
    for serial in range(1000, 1004):
        host.come(b"", recent(serial))
    assert host.loop.ready()
    reader.close()
    os.close(read)
    for serial in range(1004, 1008):
        host.come(b"", recent(serial))
    assert pipe.broken
    assert shared.counters()["readers"] == 0
    assert not host.loop.ready()
    host.end()
    os.close(write)


def test_somebody_waits_for_what_a_socket_has_and_nobody_for_a_file(tmp_path: Path) -> None:
    shared = SocketSink(SocketOutput(path=str(tmp_path / "sock"), group=""), lost_line)
    host = Host(FileSink(FileOutput(path=str(tmp_path / "log"), group=""), lost_line), shared, native=True)
    assert not host.pipeline.outputs.prompt
    reader = joined(shared)
    assert host.pipeline.outputs.prompt
    host.pipeline.text.adapt()
    assert host.pipeline.text.coalescer.c.prompt
    reader.close()
    host.end()


@pytest.mark.parametrize("readers", [0, 1, MOST, MOST + 1])
def test_the_c_writes_to_so_many_and_no_more(readers: int, tmp_path: Path) -> None:
    shared = SocketSink(SocketOutput(path=str(tmp_path / "sock"), group="", readers=100), lost_line)
    host = Host(shared, native=True)
    there = [joined(shared) for _ in range(readers)]
    natives = host.pipeline.outputs.natives()
    assert (None if natives is None else len(natives)) == (readers if readers <= MOST else None)
    for serial in range(1000, 1010):
        host.come(b"", recent(serial))
    host.end()
    for one in there:
        assert Reader(one.recv).text().count(b"type=EOE") == 10
        one.close()


def test_sinks_that_the_c_knows_nothing_of_are_given_all() -> None:
    kept, other = Kept(), Kept()
    host = Host(kept, other, native=True)
    for serial in range(1000, 1010):
        host.come(b"", recent(serial))
    assert host.answered > 4
    host.end()
    assert kept.text.count(b"type=EOE") == other.text.count(b"type=EOE") == 10


def test_a_stream_socket_on_stdout_is_written_by_the_c() -> None:
    ours, theirs = socket.socketpair()
    sink: Any = open_descriptor(ours.fileno(), 1 << 20, lost_line)
    assert sink.natives() == (sink,)
    sink.write(block(0, 3))
    assert select.select([theirs], [], [], 0)[0]
    assert theirs.recv(4096) == block(0, 3)
    sink.close(0)
    ours.close()
    theirs.close()
