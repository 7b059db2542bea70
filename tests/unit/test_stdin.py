"""Audit text on a socket or a pipe, in pieces of any size."""

import os
import socket
from collections.abc import Iterator

import pytest

from auditns_connector.sources.stdin import StdinSource

LINE = b"type=EOE msg=audit(1700000000.123:7): \n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("count", [1, 7, 400, 2000])
def test_all_that_is_there_comes_at_once(pair: tuple[socket.socket, socket.socket], count: int) -> None:
    ours, theirs = pair
    source = StdinSource(theirs.fileno())
    for _ in range(3):  # the size of the last read decides how the next one begins
        ours.sendall(LINE * count)
        assert source.drain() == LINE * count
        assert source.drain() == b""
    assert source.counters() == {"received": 3 * count, "bytes": 3 * count * len(LINE), "lost": 0}


def test_the_limit_holds(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    source = StdinSource(theirs.fileno(), limit=20_000)
    ours.sendall(LINE * 2000)
    got = source.drain() or b""
    assert 20_000 <= len(got) <= 20_000 + 256 * 1024
    while part := source.drain():
        got += part
    assert got == LINE * 2000


def test_the_end_comes_behind_the_last_text(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    source = StdinSource(theirs.fileno())
    ours.sendall(LINE)
    ours.shutdown(socket.SHUT_WR)
    assert [source.drain(), source.drain(), source.drain()] == [LINE, None, None]


def test_a_pipe_is_left_as_it_was() -> None:
    reader, writer = os.pipe()
    source = StdinSource(reader)
    os.write(writer, LINE)
    assert source.drain() == LINE
    source.close()
    assert os.get_blocking(reader)
    os.close(reader)
    os.close(writer)
