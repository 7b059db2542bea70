"""Datagrams of the multicast group as lines."""

import errno
import random
import struct

import pytest

from auditns_connector.errors import AuditnsError
from auditns_connector.sources.readlog import MAX_LINE, ReadlogSource

STAMP = b"audit(1700000000.123:%d): "


class Script:
    """A socket that gives what it was told to, then EAGAIN."""

    def __init__(self, *steps: bytes | OSError, sender: int = 0, drops: bytes = b"") -> None:
        self.steps, self.sender, self.drops = list(steps), sender, drops

    def fileno(self) -> int:
        return -1

    def recvfrom_into(self, buffer: bytearray, nbytes: int, flags: int, /) -> tuple[int, tuple[int, int]]:
        if not self.steps:
            raise BlockingIOError
        step = self.steps.pop(0)
        if isinstance(step, OSError):
            raise step
        buffer[: min(len(step), len(buffer))] = step[: len(buffer)]
        return len(step), (self.sender, 1)

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        if not self.drops:
            raise OSError(errno.ENOPROTOOPT, "")
        return self.drops

    def close(self) -> None:
        self.steps.clear()


def datagram(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("=IHHII", 16 + len(body) if length is None else length, kind, 0, 0, 0) + body


def lines(*steps: bytes | OSError) -> bytes:
    return ReadlogSource(sock=Script(*steps)).drain()


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
    source = ReadlogSource(sock=Script(datagram(1300, STAMP % 7 + b"a" * 9000), datagram(1300, b"b" * 70000)))
    text = source.drain()
    assert [len(line) for line in text.splitlines()] == [MAX_LINE, MAX_LINE]
    assert source.counters()["truncated"] == 3


def test_foreign_and_short_datagrams_are_counted() -> None:
    spoofed = ReadlogSource(sock=Script(datagram(1300, STAMP % 7 + b"a"), sender=99))
    assert (spoofed.drain(), spoofed.counters()["foreign"]) == (b"", 1)
    short = ReadlogSource(sock=Script(b"", b"x" * 15, datagram(2, bytes(20)), datagram(1000, b"")))
    assert (short.drain(), short.counters()["malformed"]) == (b"", 4)


def test_overflow_and_interruption_do_not_stop_the_stream() -> None:
    record = datagram(1300, STAMP % 7 + b"a")
    source = ReadlogSource(
        sock=Script(record, OSError(errno.ENOBUFS, ""), InterruptedError(), record, drops=struct.pack("=9I", *range(9)))
    )
    assert source.drain().count(b"\n") == 2
    counters = source.counters()
    assert (counters["overruns"], counters["dropped"], counters["received"]) == (1, 8, 2)


def test_other_errors_are_raised() -> None:
    with pytest.raises(AuditnsError):
        lines(OSError(errno.EBADF, "bad"))


def test_gap_in_the_serials_is_loss() -> None:
    source = ReadlogSource(sock=Script(*(datagram(1300, STAMP % n + b"a") for n in (1, 1, 2, 5, 4, 9))))
    source.drain()
    assert source.take_gaps() == []
    assert [(gap.first, gap.last, gap.events) for gap in source.take_gaps(final=True)] == [(3, 3, 1), (6, 8, 3)]
    assert (source.counters()["lost"], source.counters()["late"]) == (4, 1)


def test_drain_is_bounded() -> None:
    source = ReadlogSource(sock=Script(*[datagram(1300, STAMP % 1 + b"a" * 100)] * 50))
    assert source.drain(1000).count(b"\n") == 7
    assert source.drain().count(b"\n") == 43
    assert source.drain() == b""


def test_every_datagram_is_one_line_or_counted() -> None:
    dice = random.Random(7)
    for _ in range(300):
        steps = [dice.randbytes(dice.randrange(0, 60)) for _ in range(10)]
        steps += [datagram(dice.randrange(1000, 3000), STAMP % 3 + dice.randbytes(40)) for _ in range(10)]
        dice.shuffle(steps)
        source = ReadlogSource(sock=Script(*steps))
        text = source.drain()
        counters = source.counters()
        assert text.count(b"\n") == counters["received"]
        assert all(line.startswith(b"type=") for line in text.split(b"\n")[:-1])
        assert counters["received"] + sum(1 for s in steps if len(s) < 16 or not s[5] * 256 + s[4] >= 1005) == 20
