"""Whoever writes audit text never waits for us: the thread beside the loop, what waits in memory and on disk, and what
is dropped where there is room for no more. Nothing here depends on how fast anything is."""

import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.sources.intake import STREAM, Intake, Limits
from auditns_connector.sources.stdin import StdinSource

MIB = 1 << 20
MEMORY = Limits(64 * MIB, 0, "")


def record(serial: int, number: int = 0, fill: int = 60) -> bytes:
    return b"type=PATH msg=audit(%d.%03d:%d): item=%d name=%s\n" % (
        1_700_000_000 + serial // 1000, serial % 1000, serial, number, b"x" * fill,
    )  # fmt: skip


def events(first: int, last: int, *, parts: int = 1, fill: int = 60) -> bytes:
    """Events of ``parts`` records, each two of which are mixed with one another."""
    out = []
    for serial in range(first, last, 2):
        out += [record(which, number, fill) for number in range(parts) for which in (serial, serial + 1)]
    return b"".join(out)


class Fed:
    """A source with its thread, whoever writes to it, and a loop that reads when it is told to."""

    def __init__(self, limits: Limits = MEMORY) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.source = StdinSource(self.ours.fileno(), limits)
        self.epoll = select.epoll()
        self.epoll.register(self.ours.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self.source.begin()
        self.taken: list[int] = []
        self.dropped: list[SerialGap] = []

    def until(self, **least: int) -> None:
        """Wait until these counters are as much at least."""
        while any(self.source.counters()[name] < value for name, value in least.items()):
            time.sleep(0.001)

    def send(self, text: bytes) -> None:
        """Write it all, however long that takes, while nobody reads."""
        self.theirs.sendall(text)

    def read(self, *, end: bool = False) -> bytes:
        """All that waits, up to the end where there is to be one."""
        text = b""
        while True:
            stream = TextStream(MIB)
            got = self.source.fill(stream)
            self.dropped += self.source.take_dropped()
            if got is None:
                return text
            if got:
                text += stream.held()
                self.taken.append(self.source.taken)
            elif not end and not self.source.news().apart:
                return text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self.epoll.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def fed() -> Iterator[Fed]:
    with Fed() as made:
        yield made


def test_whoever_writes_does_not_wait_for_a_loop_that_does_not_read(fed: Fed) -> None:
    text, before = events(0, 100_000), time.monotonic_ns()
    fed.send(text)  # many times what the socket holds
    fed.theirs.shutdown(socket.SHUT_WR)
    fed.until(bytes=len(text))
    after = time.monotonic_ns()
    assert fed.source.counters()["takeovers"] == 1
    assert before < fed.source.oldest < after
    assert fed.read(end=True) == text
    assert before < fed.taken[0]
    assert fed.taken == sorted(fed.taken)
    assert fed.taken[-1] < after
    assert fed.source.oldest == 0
    assert fed.dropped == []


def test_the_loop_reads_itself_again_when_all_is_worked_off(fed: Fed) -> None:
    sent = read = b""
    for first in range(0, 6000, 2000):
        text = events(first, first + 1000)
        sent += text
        fed.send(text)
        fed.until(takeovers=1 + first // 2000, waiting=len(text))
        read += fed.read()
        assert not fed.source.news().apart
        assert select.select(fed.source.filenos(), [], [], 0)[0] == []
        more = events(first + 1000, first + 1002)
        fed.send(more)
        sent += more
        taken = len(fed.taken)
        while read != sent:  # by the loop, or by the thread where this one was too slow
            read += fed.read()
        assert len(fed.taken) > taken
    assert read == sent


def test_what_is_decided_behind_text_that_waited_is_not_answered_as_of_then(fed: Fed) -> None:
    """An event without an end is decided when nothing more has come, of which there may be more by then."""
    text = events(0, 1000)
    fed.send(text)
    fed.until(takeovers=1, waiting=len(text))
    assert fed.read() == text
    assert fed.taken[-1] > 0
    assert fed.source.taken == 0


def test_nobody_takes_over_from_a_loop_that_waits(fed: Fed) -> None:
    stream = TextStream()
    fed.source.guard(False)
    fed.read()  # where the thread had taken over before
    before = fed.source.counters()["takeovers"]
    for serial in range(200):
        thread = threading.Thread(target=fed.send, args=(record(serial),))
        thread.start()
        assert fed.epoll.poll() != []
        thread.join()
        assert fed.source.fill(stream)
    assert fed.source.counters()["takeovers"] == before


def test_the_thread_takes_over_where_the_loop_goes_on_with_other_work(fed: Fed) -> None:
    fed.source.guard(False)
    fed.send(events(0, 100))
    fed.source.guard(True)
    fed.until(takeovers=1, bytes=len(events(0, 100)))
    assert fed.read() == events(0, 100)


def test_a_line_that_the_loop_has_read_half_of(fed: Fed) -> None:
    line = record(7)
    fed.send(line[:20])
    half = fed.read()
    while half != line[:20]:
        half += fed.read()
    fed.send(line[20:] + events(8, 1000)[:-5])
    fed.until(bytes=len(line) + len(events(8, 1000)) - 5)
    fed.send(events(8, 1000)[-5:])
    fed.theirs.shutdown(socket.SHUT_WR)
    assert half + fed.read(end=True) == line + events(8, 1000)


def test_what_does_not_fit_into_memory_goes_to_disk(tmp_path: Path) -> None:
    limits = Limits(256 << 10, 64 * MIB, str(tmp_path))
    with Fed(limits) as fed:
        read = b""
        for first in (0, 200_000):  # the second time round the file's space is used again
            text = events(first, first + 100_000)
            fed.send(text)
            fed.until(bytes=len(read) + len(text))
            assert fed.source.counters()["spooled"] > 8 * MIB
            assert list(tmp_path.iterdir()) == []  # it has no name
            sent = len(read) + len(text)
            while len(read) < sent:
                read += fed.read()
            assert fed.source.counters()["spooled"] == 0
        assert read == events(0, 100_000) + events(200_000, 300_000)
        assert (fed.dropped, fed.source.take_notices()) == ([], [])


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("disk", [0, 2 * MIB])
def test_above_the_limits_whole_events_are_dropped_and_told_by_serials(parts: int, disk: int, tmp_path: Path) -> None:
    with Fed(Limits(MIB, disk, str(tmp_path))) as fed:
        last = 60_000
        text = events(0, last, parts=parts)
        fed.send(text)
        fed.until(bytes=len(text))
        fed.theirs.shutdown(socket.SHUT_WR)
        kept = fed.read(end=True)
        counted = fed.source.counters()
    numbers = [int(number) for number in re.findall(rb":(\d+)\)", kept)]
    assert all(numbers.count(serial) == parts for serial in (numbers[0], numbers[-1]))
    assert len(numbers) == parts * len(set(numbers))  # each event whole
    gone = {serial for gap in fed.dropped for serial in range(gap.first, gap.last + 1)}
    assert len(gone) == sum(gap.events for gap in fed.dropped) == counted["dropped_events"] > 1000
    assert gone | set(numbers) == set(range(last))
    assert not gone & set(numbers)
    assert counted["dropped_records"] == parts * len(gone)
    assert counted["most_waiting"] <= MIB + disk + MIB


def test_after_room_was_made_text_is_kept_again() -> None:
    with Fed(Limits(MIB, 0, "")) as fed:
        text = events(0, 40_000, parts=3)
        fed.send(text)
        fed.until(bytes=len(text))
        kept = fed.read()
        more = events(100_000, 100_100, parts=3)
        fed.send(more)
        fed.theirs.shutdown(socket.SHUT_WR)
        kept += fed.read(end=True)
        assert kept.endswith(more)
        assert sum(gap.events for gap in fed.dropped) == 40_000 - kept.count(b"item=0") + 100


@pytest.mark.parametrize("directory", ["missing", "file"])
def test_without_a_directory_there_is_memory_alone(directory: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with Fed(Limits(MIB, 64 * MIB, str(tmp_path / directory))) as fed:
        (notice,) = fed.source.take_notices()
        assert "memory alone" in notice
        assert fed.source.take_notices() == []
        text = events(0, 100_000)
        fed.send(text)
        fed.until(bytes=len(text))
        assert fed.source.counters()["dropped_events"] == 0  # told when the reader comes there
        fed.theirs.shutdown(socket.SHUT_WR)
        kept = fed.read(end=True)
        assert sum(gap.events for gap in fed.dropped) == 100_000 - kept.count(b"\n") > 0


LIMITED = """
import resource, sys
from pathlib import Path
from tests.unit.test_intake import Fed, Limits, MIB, events
import socket
what, directory = sys.argv[1:]
with Fed(Limits(MIB, 64 * MIB, directory)) as fed:
    if what == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, 3 * MIB))
    text = events(0, 100_000)
    fed.send(text)
    fed.until(bytes=len(text))
    notices = fed.source.take_notices() + fed.source.take_notices()
    fed.theirs.shutdown(socket.SHUT_WR)
    kept = fed.read(end=True).count(b"\\n")
    print(kept, sum(gap.events for gap in fed.dropped), len(notices), *notices)
"""


def limited(what: str, directory: Path, *limits: tuple[int, int]) -> list[str]:
    def limit() -> None:
        for which, value in limits:
            resource.setrlimit(which, (value, value))

    root = Path(__file__).resolve().parents[2]

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, what, str(directory)],
        preexec_fn=limit,
        check=True,
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    return done.stdout.split(maxsplit=3)


def test_a_disk_that_takes_no_more_is_told_once(tmp_path: Path) -> None:
    kept, dropped, notices, text = limited("disk", tmp_path)
    assert int(kept) + int(dropped) == 100_000
    assert int(kept) > 30_000
    assert (notices, "memory alone from now on" in text) == ("1", True)


def test_few_descriptors_and_no_locked_memory_are_enough(tmp_path: Path) -> None:
    limits = ((resource.RLIMIT_NOFILE, 20), (resource.RLIMIT_MEMLOCK, 0))
    assert limited("small", tmp_path, *limits) == ["100000", "0", "0"]


def test_what_was_counted_can_be_asked_for_at_the_end(fed: Fed) -> None:
    text = events(0, 100)
    fed.send(text)
    fed.until(bytes=1)
    fed.read()
    fed.source.close()
    assert fed.source.counters()["bytes"] == len(text)
    fed.source.close()


def test_what_has_come_is_read_before_the_end(fed: Fed) -> None:
    text = events(0, 20_000)
    fed.send(text)
    fed.until(bytes=1)
    fed.source.finish()
    assert fed.read(end=True) == text  # the other side is open


def test_what_there_is_no_time_for_at_the_end_is_told(fed: Fed) -> None:
    text = events(0, 20_000)
    fed.send(text)
    fed.until(bytes=len(text))
    stream = TextStream(MIB)
    assert fed.source.fill(stream)
    while fed.source.within_line:
        assert fed.source.fill(stream) is not None
    fed.source.finish()
    (gap,) = fed.source.take_dropped(rest=True)
    read = stream.held().count(b"\n")
    assert gap.last == 19_999
    assert gap.first <= read
    assert gap.events >= 20_000 - read
    assert fed.source.fill(TextStream()) is None


def test_text_is_whole_while_loop_and_thread_take_turns(fed: Fed) -> None:
    text = events(0, 20_000)

    def write() -> None:
        for at in range(0, len(text), 3001):
            fed.send(text[at : at + 3001])
            time.sleep(0.0002 if at % 7 else 0.007)
        fed.theirs.shutdown(socket.SHUT_WR)

    fed.epoll.register(fed.source.filenos()[0], select.EPOLLIN)
    thread = threading.Thread(target=write)
    thread.start()
    read, rounds, got = b"", 0, 0
    while got is not None:
        fed.epoll.poll()
        rounds += 1
        if rounds % 7 == 0:
            time.sleep(0.008)
        stream = TextStream(MIB)
        got = fed.source.fill(stream)
        read += stream.held()
    thread.join()
    assert read == text


def test_it_ends_where_text_never_stops_coming() -> None:
    """The thread read on as long as there was something, and was waited for all that time."""
    with open("/dev/zero", "rb", buffering=0) as endless:
        source = Intake(endless.fileno(), STREAM, Limits(4 * MIB, 0, ""))
        source.begin()
        while not source.counters()["takeovers"]:
            time.sleep(0.001)
        source.close()
