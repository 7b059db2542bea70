"""Datagrams of the multicast group as lines."""

import random
import socket
import struct

import pytest

from auditns_connector.errors import AuditnsError
from auditns_connector.sources.readlog import MAX_LINE, ReadlogSource

STAMP = b"audit(1700000000.123:%d): "


class Script(socket.socket):
    """A socket that has these datagrams to read."""

    def __init__(self, *steps: bytes) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(fileno=ours.detach())
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for step in steps:
            self._theirs.send(step)

    def close(self) -> None:
        self._theirs.close()
        super().close()


def datagram(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("=IHHII", 16 + len(body) if length is None else length, kind, 0, 0, 0) + body


def lines(*steps: bytes) -> bytes:
    with ReadlogSource(sock=Script(*steps)) as source:
        return source.drain()


@pytest.mark.parametrize(
    ("kind", "body", "line"),
    [
        (1300, b"arch=c000003e", b"type=SYSCALL msg=" + STAMP % 7 + b"arch=c000003e\n"),
        (1320, b"", b"type=EOE msg=" + (STAMP % 7).rstrip() + b"\n"),
        (2999, b"x", b"type=UNKNOWN[2999] msg=" + STAMP % 7 + b"x\n"),
        (1340, b"x", b"type=UNKNOWN[1340] msg=" + STAMP % 7 + b"x\n"),
        (1112, b"msg='a\nb'", b"type=USER_LOGIN msg=" + STAMP % 7 + b"msg='a b'\n"),
        (1112, b"msg='a\0b'", b"type=USER_LOGIN msg=" + STAMP % 7 + b"msg='a\n"),
        (1112, b"msg='\x01\x1d\x7f\xff\r\t'", b"type=USER_LOGIN msg=" + STAMP % 7 + b"msg='\x01\x1d\x7f\xff\r\t'\n"),
        (1302, b"item=0  ", b"type=PATH msg=" + STAMP % 7 + b"item=0 \n"),
    ],
)
def test_lines_as_auditd_writes_them(kind: int, body: bytes, line: bytes) -> None:
    assert lines(datagram(kind, STAMP % 7 + body)) == line


def test_forged_record_inside_a_user_message_stays_inside() -> None:
    forged = b"msg='\ntype=SYSCALL msg=audit(1.000:1): pid=1\n'"
    assert lines(datagram(1112, STAMP % 7 + forged)).count(b"\n") == 1


def test_length_in_the_header_is_not_believed() -> None:
    for length in (0, 16, 1 << 31):
        assert lines(datagram(1300, STAMP % 7 + b"a=1", length)).endswith(b"a=1\n")


def test_oversized_records_are_cut() -> None:
    with ReadlogSource(sock=Script(datagram(1300, STAMP % 7 + b"a" * 9000), datagram(1300, b"b" * 70000))) as source:
        text = source.drain()
        assert [len(line) for line in text.splitlines()] == [MAX_LINE, MAX_LINE]
        assert source.counters()["truncated"] == 2


def test_short_datagrams_are_counted() -> None:
    with ReadlogSource(sock=Script(b"x" * 15, datagram(2, bytes(20)), datagram(1000, b""))) as source:
        assert (source.drain(), source.counters()["malformed"]) == (b"", 3)


def test_what_another_process_sends_is_counted_and_left_out() -> None:
    usersock = 2  # NETLINK_USERSOCK: for whoever likes, by port id
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, usersock) as ours,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, usersock) as theirs,
    ):
        ours.bind((0, 0))
        theirs.bind((0, 0))
        theirs.sendto(datagram(1300, STAMP % 7 + b"a"), (ours.getsockname()[0], 0))
        source = ReadlogSource(sock=ours)
        assert (source.drain(), source.counters()["foreign"]) == (b"", 1)
        source.close()


def test_errors_are_raised() -> None:
    with (
        ReadlogSource(sock=socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as source,
        pytest.raises(AuditnsError),
    ):
        source.drain()


def test_a_batch_at_a_time_as_far_as_there_is_room() -> None:
    with ReadlogSource(sock=Script(*[datagram(1300, STAMP % n + b"a" * 100) for n in range(500)])) as source:
        text = b""
        while more := source.drain():
            text += more
        assert text.count(b"\n") == 500
        assert source.counters()["received"] == 500


def test_every_datagram_is_one_line_or_counted() -> None:
    dice = random.Random(7)
    for _ in range(300):
        steps = [dice.randbytes(dice.randrange(1, 60)) for _ in range(10)]
        steps += [datagram(dice.randrange(1000, 3000), STAMP % 3 + dice.randbytes(40)) for _ in range(10)]
        dice.shuffle(steps)
        with ReadlogSource(sock=Script(*steps)) as source:
            text = source.drain()
            counters = source.counters()
        assert text.count(b"\n") == counters["received"]
        assert all(line.startswith(b"type=") for line in text.split(b"\n")[:-1])
        assert counters["received"] + sum(1 for s in steps if len(s) < 16 or not s[5] * 256 + s[4] >= 1005) == 20
