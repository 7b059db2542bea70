"""The thread that writes, before a receiver that takes what it likes: a pipe."""

import fcntl
import os
import random
import sys
import termios
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from auditns_connector._native import ffi, lib
from auditns_connector.sinks import threaded
from auditns_connector.sinks.loss import Block
from auditns_connector.sinks.threaded import BOUNDLESS, ThreadedSink
from tests.unit.sinkhelp import block, line, lost_line, until

#: too large to be copied
LARGE = 20_000
PIPE = 65_536


class PipeTarget:
    """The writing end of a pipe, or of the next one after it was opened anew."""

    def __init__(self) -> None:
        self.out, self.fd = os.pipe()
        self.slow = self.reopened = 0

    def write(self, views: list[memoryview]) -> int:
        self.slow += 1
        return os.writev(self.fd, views)

    def direct(self) -> tuple[int, int]:
        return self.fd, BOUNDLESS

    def wrote(self, count: int) -> None:
        """Nobody asks how much."""

    def fell_short(self, view: memoryview, count: int) -> int:
        return count

    def reopen(self) -> None:
        os.close(self.fd)
        self.out, self.fd = os.pipe()
        self.reopened += 1

    def close(self) -> None:
        os.close(self.fd)

    def counters(self) -> dict[str, int]:
        return {}


@pytest.fixture
def target() -> Iterator[PipeTarget]:
    found = PipeTarget()
    yield found
    os.close(found.out)


def read(fd: int, size: int) -> bytes:
    """That many bytes of the pipe."""
    found = b""
    while len(found) < size:
        more = os.read(fd, size - len(found))
        assert more, f"{len(found)} of {size} bytes"
        found += more
    return found


def opened(target: PipeTarget, queue: int = 1 << 20) -> ThreadedSink:
    """A sink whose thread waits for what comes."""
    sink = ThreadedSink("pipe", queue, lost_line, target)
    served(sink)
    return sink


def served(sink: ThreadedSink) -> None:
    """Wait until the thread, which has nothing to write, takes blocks without the interpreter."""
    news = ffi.new("struct writer_news *")

    def serving() -> bool:
        lib.writer_tell(sink.writer, news)
        return bool(news.serving)

    assert sink.flush(10)
    until(sink, serving)


def stalled(sink: ThreadedSink, target: PipeTarget) -> bytes:
    """Fill the pipe, and more than that: a block that the writer hangs in."""
    data = block(100_000, PIPE // 100 + 10, size=100)
    sink.write(data)
    until(sink, lambda: filled(target) == PIPE)
    return data


def filled(target: PipeTarget) -> int:
    """How many bytes are in the pipe."""
    return int.from_bytes(fcntl.ioctl(target.out, termios.FIONREAD, bytes(4)), sys.byteorder)


def random_block(serial: int, seed: random.Random) -> Block:
    data = block(serial, 1, size=seed.choice([60, 200, 3000, LARGE, 100_000]))
    return memoryview(data) if seed.random() < 0.5 else data


@pytest.mark.parametrize("seed", range(6))
def test_blocks_that_are_copied_and_others_keep_their_order(target: PipeTarget, seed: int) -> None:
    seeded, sink = random.Random(seed), opened(target, queue=1 << 30)
    blocks = [random_block(serial, seeded) for serial in range(400)]
    expected, found = b"".join(blocks), []

    def drain() -> None:
        while sum(map(len, found)) < len(expected):
            found.append(os.read(target.out, 100_000))
            if seeded.random() < 0.3:
                time.sleep(0.001)

    reader = threading.Thread(target=drain)
    reader.start()
    for data in blocks:
        sink.write(data)
        if seeded.random() < 0.1:
            time.sleep(0.002)
    assert sink.flush(20)
    reader.join(20)
    assert b"".join(found) == expected
    counters = sink.counters()
    assert (counters["written_records"], counters["written_bytes"]) == (400, len(expected))
    assert counters["queued_bytes"] == counters["dropped_records"] == counters["errors"] == 0
    sink.close(5)


def test_what_the_writer_was_given_counts_for_the_limit_and_loss_is_told_in_its_place(target: PipeTarget) -> None:
    sink = opened(target, queue=PIPE + 20_000)
    first = stalled(sink, target)
    limit = PIPE + 20_000 - len(first)
    for serial in range(300):
        sink.write(line(serial, size=100))
        assert sink.counters()["queued_bytes"] <= PIPE + 20_000
    kept, dropped = limit // 100, 300 - limit // 100
    assert sink.counters()["dropped_records"] == dropped
    assert read(target.out, len(first) + kept * 100) == first + block(0, kept, size=100)
    until(sink, lambda: not sink.counters()["queued_bytes"])
    sink.write(line(300))
    assert sink.flush(10)
    told = b"LOST pipe %d %d 1700000000.123:%d 1700000000.123:299\n" % (dropped, dropped * 100, kept)
    assert read(target.out, len(told + line(300))) == told + line(300)
    assert sink.counters()["written_records"] == first.count(b"\n") + kept + 2
    sink.close(5)


def test_more_blocks_than_the_writer_has_places_for(target: PipeTarget) -> None:
    sink = opened(target)
    expected = stalled(sink, target)
    for serial in range(500):
        sink.write(line(serial))
        expected += line(serial)
    assert sink.counters()["queued_bytes"] >= len(block(0, 500))
    assert read(target.out, len(expected)) == expected
    assert sink.flush(10)
    assert sink.counters()["written_records"] == expected.count(b"\n")
    sink.close(5)


def test_what_a_receiver_does_not_take_any_more_is_for_the_next(
    target: PipeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threaded, "RETRY_FIRST", 0.02)
    sink = opened(target)
    first = stalled(sink, target)
    waiting = [line(1), line(2, size=LARGE), memoryview(line(3)), line(4, size=LARGE), line(5)]
    for data in waiting:
        sink.write(data)
    assert sink.counters()["queued_bytes"] == len(first) + sum(map(len, waiting))
    os.close(target.out)  # EPIPE
    until(sink, lambda: sink.counters()["errors"])
    sink.write(line(6))
    written = sink.counters()["written_bytes"]
    assert written == PIPE  # of the first block
    sink.reopen()
    until(sink, lambda: target.reopened)
    rest = (first + b"".join(waiting) + line(6))[written:]
    assert read(target.out, len(rest)) == rest
    assert sink.flush(10)
    assert sink.counters()["queued_bytes"] == sink.counters()["dropped_records"] == 0
    sink.close(5)


def test_close_counts_what_a_writer_that_hangs_was_given(target: PipeTarget) -> None:
    sink = opened(target)
    first = stalled(sink, target)
    sink.write(line(1))
    sink.write(line(2, size=LARGE))
    records = first.count(b"\n") + 2
    sink.close(0.05)
    counters = sink.counters()
    assert (counters["dropped_records"], counters["queued_bytes"]) == (records, 0)
    # the write comes back after all: what was told as dropped stays so
    assert read(target.out, len(first)).startswith(first)
    sink._thread.join(20)
    assert not sink._thread.is_alive()
    assert sink.counters() == counters
    assert not sink.broken


def test_no_block_is_held_longer_than_the_next_needs(target: PipeTarget) -> None:
    sink = opened(target)
    large = memoryview(line(1, size=LARGE))
    held = weakref.ref(large)
    sink.write(large)
    del large
    assert read(target.out, LARGE) == line(1, size=LARGE)
    time.sleep(0.02)
    sink.write(line(2))
    assert held() is None
    assert read(target.out, len(line(2))) == line(2)
    sink.close(5)


def test_small_blocks_need_no_interpreter_in_the_thread(target: PipeTarget) -> None:
    sink = opened(target)
    for serial in range(100):
        sink.write(line(serial))
        assert read(target.out, len(line(serial))) == line(serial)
    assert target.slow == 0
    until(sink, lambda: sink.counters()["written_records"] == 100)
    sink.close(5)
