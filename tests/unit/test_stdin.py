"""The plugin's input: read straight into the text stream."""

import os
import socket
import threading

import pytest

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.sources.stdin import StdinSource

LINE = b"type=EOE msg=audit(1700000000.010:1): \n"


def test_all_that_has_come_is_taken_in_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        source, stream = StdinSource(ours.fileno()), TextStream(capacity=64)
        assert source.fill(stream) == 0
        theirs.sendall(LINE * 1000)
        assert source.fill(stream) == 1000 * len(LINE)
        points = stream.filled(0)
        assert (points.consumed, points.line_n) == (1000 * len(LINE), 1000)
        theirs.sendall(LINE[:7])
        assert source.fill(stream) == 7
        assert stream.filled(0).consumed == 0
        theirs.sendall(LINE[7:])
        theirs.shutdown(socket.SHUT_WR)
        assert source.fill(stream) == len(LINE) - 7
        assert stream.filled(0).consumed == len(LINE)
        assert source.fill(stream) is None
        counters = source.counters()
        assert (counters["bytes"], counters["lost"], counters["takeovers"]) == (1001 * len(LINE), 0, 0)
        source.close()


@pytest.mark.parametrize("limit", [1 << 20, 3 << 20])
def test_what_comes_faster_than_it_is_worked_on_is_taken_in_bit_by_bit(limit: int) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        source, stream, taken, lines = StdinSource(ours.fileno(), most=limit), TextStream(3 << 19), [], 0

        def feed() -> None:
            with theirs:
                theirs.sendall(LINE * 200_000)

        feeder = threading.Thread(target=feed)
        feeder.start()
        while (size := source.fill(stream)) is not None:
            taken.append(size)
            if size:
                lines += stream.part().line_n
            while stream.left:
                lines += stream.part().line_n
        feeder.join()
        assert (sum(taken), lines) == (200_000 * len(LINE), 200_000)
        assert max(taken) <= limit + (3 << 19)  # beyond it goes what one read has room for
        source.close()


def test_no_more_is_taken_in_at_once_than_allowed() -> None:
    ours, theirs = os.pipe()
    source, stream = StdinSource(ours, most=1), TextStream()
    os.write(theirs, LINE)
    os.close(theirs)
    assert source.fill(stream) == len(LINE)
    assert source.fill(stream) is None
    os.close(ours)
