"""What is waited for, also where a call waits itself."""

import selectors
import socket

import pytest

from auditns_connector.pipeline.selector import Selector


@pytest.fixture
def pairs() -> list[tuple[socket.socket, socket.socket]]:
    made = [socket.socketpair() for _ in range(2)]
    for one, other in made:
        one.setblocking(False)
        other.send(b"x")
    return made


def test_what_was_read_while_a_call_waited_is_not_read_again(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    """A signal's byte that is taken in the middle of much work is gone when the batch goes on: reading it again would
    be an error that ends the program."""
    read: list[int] = []
    with Selector() as selector:

        def take(number: int) -> None:
            read.append(number)
            pairs[number][0].recv(1)
            if len(read) == 1:
                selector.poll_once(0.0)

        for number, (one, _) in enumerate(pairs):
            selector.register(one, selectors.EVENT_READ, lambda number=number: take(number))
        assert selector.poll_once(1.0)
        assert sorted(read) == [0, 1]
        pairs[0][1].send(b"x")
        assert selector.poll_once(1.0)
        assert read[2:] == [0]
    for pair in pairs:
        for one in pair:
            one.close()
