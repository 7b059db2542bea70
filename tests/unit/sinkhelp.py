"""What the sink tests share: numbered lines, and a lost line that shows its loss."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from auditns_connector.sinks.base import Sink
from auditns_connector.sinks.loss import Loss
from auditns_connector.sinks.spawner import Spawner


def line(serial: int, size: int = 0) -> bytes:
    head = b"type=SYSCALL msg=audit(1700000000.123:%d): " % serial
    return head + b"x" * max(size - len(head) - 1, 0) + b"\n"


def block(start: int, count: int, size: int = 0) -> bytes:
    return b"".join(line(serial, size) for serial in range(start, start + count))


def lost_line(loss: Loss) -> bytes:
    return b"LOST %s %d %d %s %s\n" % (
        loss.sink.encode(),
        loss.records,
        loss.size,
        loss.first.encode() or b"-",
        loss.last.encode() or b"-",
    )


def until(sink: Sink, done: Callable[[], object], seconds: float = 20.0) -> None:
    """Run the sink as the pipeline would until ``done()``; fails when that never comes."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"never happened; counters {sink.counters()}, notices {sink.notices}"
        time.sleep(0.002)
        sink.on_ready()


def read_all(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def drain(fd: int) -> bytes:
    """Everything a non-blocking descriptor has now."""
    pieces = []
    while True:
        try:
            piece = os.read(fd, 1 << 20)
        except BlockingIOError:
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)


_SPAWNERS: list[Spawner] = []


def spawner(argv: tuple[str, ...]) -> Spawner:
    """A spawner that ends with the test, see :func:`end_spawners`."""
    _SPAWNERS.append(Spawner(argv))
    return _SPAWNERS[-1]


def end_spawners() -> None:
    """End those that the test has made."""
    while _SPAWNERS:
        _SPAWNERS.pop().close()
