"""What ``auditns enrich`` takes for input: files and pipes, compressed or with what others put in front of records."""

import contextlib
import gzip
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditns_connector.audittext.insertion import RecordTexts, assemble
from auditns_connector.audittext.scanner import InsertionPoints, Scanner, TextStream
from auditns_connector.daemon.process import ended_by_signal
from auditns_connector.errors import AuditnsError
from auditns_connector.pipeline import text_input, text_side
from auditns_connector.pipeline.text_input import TextInput
from auditns_connector.query import search
from auditns_connector.vocabulary.audit_text import MODE_EOF, P_LATE

ONE = b"type=USER_CMD msg=audit(1700000000.100:1): pid=7 msg='x'\n"
TWO = b"type=SYSCALL msg=audit(1700000000.200:2): arch=c000003e syscall=1 pid=8\n"
OURS = b"\1type=CONTAINER_ID \0 contid=4\n"


class Nobody:
    """Who watches nothing, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.drained = 0
        self.on_drain: Callable[[], None] = lambda: None

    def filenos(self) -> list[int]:
        return []

    def drain(self) -> None:
        self.drained += 1
        self.on_drain()


class Feed:
    """A stream and what came out of it."""

    def __init__(self, whole: bool = False) -> None:
        self.stream = TextStream(whole=whole, patient=True)
        self.watched = Nobody()
        self.out = b""
        self.pids: list[int] = []
        self.late = 0
        self.on_out: Callable[[], None] = lambda: None

    def take(self, points: InsertionPoints) -> bool:
        self.pids += points.pid[: points.n].tolist()
        self.late += sum(bool(flags & P_LATE) for flags in points.flags[: points.n])
        block = assemble(points, [1] * points.n, RecordTexts([OURS]))
        self.out += block
        if block:
            self.on_out()
        return True

    def run(self, *paths: Path | str) -> "Feed":
        TextInput(self.stream, self.take, self.watched).run([str(path) for path in paths])
        return self


def files(tmp_path: Path, *texts: bytes) -> list[Path]:
    paths = [tmp_path / f"{i}.log" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    return paths


def test_a_missing_newline_stays_missing_at_the_end_and_glues_nothing_before(tmp_path: Path) -> None:
    out = Feed().run(*files(tmp_path, ONE[:-1], TWO[:-1])).out
    assert out == (
        ONE + b"type=CONTAINER_ID msg=audit(1700000000.100:1): contid=4\n"
        + TWO + b"type=CONTAINER_ID msg=audit(1700000000.200:2): contid=4"
    )  # fmt: skip


CALL = b"type=SYSCALL msg=audit(1700000000.200:2): arch=c000003e syscall=1 ppid=12 pid=1234"


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("text", "pid", "ppid"),
    [
        (CALL, -1, 12),
        (CALL[:-3], -1, 12),
        (CALL[:-4], -1, 12),
        (CALL[: CALL.index(b" pid")], -1, -1),
        (CALL + b"\n", 1234, 12),
        (CALL + b" ", 1234, 12),
        (CALL + b" a", 1234, 12),
        (CALL + b"\r", 1234, 12),
        (b'{"MESSAGE":"' + CALL + b'"}', 1234, 12),
        (CALL.replace(b" pid", b" spid"), -1, 12),
        (b"type=OBJ_PID msg=audit(1700000000.200:2): opid=12", -1, -1),
    ],
)
def test_a_pid_at_which_the_text_is_cut_is_nobodys(text: bytes, pid: int, ppid: int, whole: bool) -> None:
    """No record of the kernel ends with one: what stands there may be the beginning of another's, whose container the
    event had."""
    stream = TextStream(whole=whole)
    stream.push(text)
    points = stream.flush(eof=True)
    found = [(points.pid[i], points.ppid[i]) for i in range(points.n)]
    assert set(found) == {(pid, ppid)}
    assert points.line(points.line_n - 1) == text


def test_an_event_may_go_on_in_the_next_file(tmp_path: Path) -> None:
    end = b"type=EOE msg=audit(1700000000.200:2): \n"
    feed = Feed(whole=True).run(*files(tmp_path, ONE + TWO, end))
    assert feed.pids == [7, 8]
    assert feed.out.endswith(b"contid=4\n" + end)


@pytest.mark.parametrize("members", [1, 2])
def test_gzip_is_read_whatever_its_members(tmp_path: Path, members: int) -> None:
    text = b"".join(ONE.replace(b":1)", b":%d)" % i) for i in range(20_000))
    half = len(text) // 2 if members == 2 else len(text)
    rest = gzip.compress(text[half:]) if members == 2 else b""
    (tmp_path / "log.gz").write_bytes(gzip.compress(text[:half]) + rest)
    assert Feed().run(tmp_path / "log.gz").out.count(b"contid=4") == 20_000


def test_zstd_is_read_where_its_module_is(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "log.zst").write_bytes(zstandard.compress(ONE) + zstandard.compress(TWO))
    assert Feed().run(tmp_path / "log.zst").pids == [7, 8]


def test_zstd_without_its_module_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "log.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"x" * 100)
    with pytest.raises(AuditnsError, match=r"pip install 'auditns-connector\[zstd\]'"):
        Feed().run(tmp_path / "log.zst")


def test_what_is_left_of_a_cut_file_is_read_and_the_cut_told(tmp_path: Path) -> None:
    text = b"".join(ONE.replace(b":1)", b":%d)" % i) for i in range(100_000))
    packed = gzip.compress(text)
    (tmp_path / "log.gz").write_bytes(packed[: len(packed) * 9 // 10])
    feed = Feed()
    with pytest.raises(AuditnsError, match="damaged or cut"):
        feed.run(tmp_path / "log.gz")
    assert len(feed.pids) > 1000


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("damage", ["cut", "behind", "missing", "no file"])
def test_what_had_come_is_decided_where_an_input_cannot_be_read_on(tmp_path: Path, damage: str, whole: bool) -> None:
    text = b"".join(ONE.replace(b":1)", b":%d)" % i) for i in range(1, 101)) + TWO.replace(b":2)", b":500)")
    packed = gzip.compress(text)
    paths = {
        "cut": [tmp_path / "log.gz"], "behind": [tmp_path / "log.gz"], "missing": [tmp_path / "log", tmp_path / "no"],
        "no file": [tmp_path / "log", tmp_path],
    }[damage]  # fmt: skip
    (tmp_path / "log.gz").write_bytes(packed[:-8] if damage == "cut" else packed + b"junk")
    (tmp_path / "log").write_bytes(text)
    feed = Feed(whole)
    with pytest.raises(AuditnsError):
        feed.run(*paths)
    assert feed.pids == [7] * 100 + [8]
    assert feed.out.count(b"contid=4\n") == 101


def test_the_beginning_of_a_magic_number_alone_is_text(tmp_path: Path) -> None:
    feed = Feed().run(*files(tmp_path, b"\x28\xb5", b"\x1f"))
    assert (feed.out, feed.stream.foreign) == (b"\x28\xb5\n\x1f", 2)


@pytest.mark.parametrize(
    ("lead", "node"),
    [
        (b"Nov 29 12:00:00 host1 audisp-syslog[12]: ", b"host1"),
        (b"Nov  9 12:00:00 host1 audispd: node=web ", b"web"),
        (b'<13>1 2026-11-29T12:00:00.123Z host1 app 12 ID [x a="]b"] \xef\xbb\xbf', b"host1"),
        (b"2026-11-29T12:00:00.123456+00:00 host1 tag_audit_log: ", b"host1"),
        (b"tag_audit_log: ", b""),
        (b"audispd: ", b""),
        (b"<5>audit: ", b""),
        (b"node=web ", b"web"),
    ],
)
def test_what_stands_before_a_record_is_kept_and_repeated(lead: bytes, node: bytes) -> None:
    points = Scanner().feed(lead + ONE + lead + TWO, MODE_EOF)
    assert [points.node(0), points.lead(0), points.pid[0], points.pid[1]] == [node, lead, 7, 8]
    out = assemble(points, [1, 1], [OURS])
    ours = lead + b"type=CONTAINER_ID msg=audit(1700000000.100:1): contid=4\n"
    assert out.startswith(lead + ONE + ours)
    again = Scanner()
    again.feed(out, MODE_EOF)
    assert again.records == 4


def test_the_kernels_log_and_the_journal_are_read() -> None:
    printk = b"[   12.345678] audit: type=1300 audit(1700000000.200:2): arch=c000003e syscall=1 pid=8\n"
    message = b'{"_HOSTNAME":"h","MESSAGE":"type=USER_CMD msg=audit(1700000000.100:1): pid=7 exe=\\"/x\\"","P":"6"}\n'
    heard = (
        b'{"_AUDIT_TYPE":"1300","_AUDIT_ID":"3","_SOURCE_REALTIME_TIMESTAMP":"1700000000300000",'
        b'"MESSAGE":"SYSCALL arch=c000003e syscall=1 pid=9 comm=\\"x\\""}\n'
    )
    points = Scanner().feed(printk + message + heard, MODE_EOF)
    assert sorted(zip(points.pid[: points.n], points.serial[: points.n], strict=True)) == [(7, 1), (8, 2), (9, 3)]
    out = assemble(points, [1] * 3, [b'\1type=CONTAINER_INFO \0 runtime="docker"\n'])
    assert b'"MESSAGE":"type=CONTAINER_INFO msg=audit(1700000000.300:3): runtime=\\"docker\\""}\n' in out
    assert b"[   12.345678] audit: type=CONTAINER_INFO audit(1700000000.200:2): " in out


@pytest.mark.parametrize("colon", [b":", b": ", b" : "])
def test_json_is_read_however_its_members_are_spaced(colon: bytes) -> None:
    line = b'{ "X"%b"MESSAGE", "_HOSTNAME"%b"h1", "MESSAGE"%b"audispd: %b" }\n' % (colon, colon, colon, ONE.rstrip())
    points = Scanner().feed(line, MODE_EOF)
    assert (points.n, points.pid[0], points.node(0)) == (1, 7, b"h1")
    assert assemble(points, [1], [OURS]) == line + line.replace(
        ONE.rstrip(), b"type=CONTAINER_ID msg=audit(1700000000.100:1): contid=4"
    )


def test_what_a_program_says_behind_its_name_is_no_record() -> None:
    stream = TextStream()
    stream.push(b"Nov 29 12:00:00 host1 sshd[7]: Invalid user: " + ONE + b"Nov 29 12:00:00 host1 sshd[7]: user " + ONE)
    assert (stream.records, stream.foreign) == (0, 2)


def test_a_byte_order_mark_and_carriage_returns_lose_no_record() -> None:
    text = b"\xef\xbb\xbf" + (ONE + TWO.replace(b"syscall=1 pid=8", b"pid=8")).replace(b"\n", b"\r\n")
    points = Scanner().feed(text, MODE_EOF)
    assert points.pid[: points.n].tolist() == [7, 8]
    ours = b"type=CONTAINER_ID msg=audit(1700000000.100:1): contid=4\r\n"
    assert assemble(points, [1, 0], [OURS]).splitlines(keepends=True)[1] == ours


@contextlib.contextmanager
def fed_by_pipe(feed: Feed) -> Iterator[int]:
    """The pipe that ``feed`` reads as its stdin; it is closed, and the feed at its end, behind this."""
    reader, writer = os.pipe()
    saved = os.dup(0)
    os.dup2(reader, 0)
    try:
        thread = threading.Thread(target=feed.run, args=("-",))
        thread.start()
        yield writer
        os.close(writer)
        thread.join(60)
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(reader)


def test_an_idle_pipe_is_answered_and_what_happens_is_taken_in() -> None:
    """The pipe stays open until the event is out: were it waited for, the test would not end."""
    feed = Feed(whole=True)
    seen = threading.Event()
    feed.on_out = seen.set
    with fed_by_pipe(feed) as writer:
        os.write(writer, TWO)
        assert seen.wait(60)
    assert feed.pids == [8]
    assert feed.watched.drained


def test_an_event_is_decided_after_its_silence_though_others_never_cease(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is something to be read whenever it is looked: so an event without an end waited for 1024 lines, or for two
    seconds of the text."""
    monkeypatch.setattr(text_input, "HOLD", 0)
    read, write = os.pipe()
    rest = [TWO.replace(b":2)", b":%d)" % serial) for serial in range(3, 40)]
    open_ones: list[int] = []
    feed = Feed(whole=True)
    take = feed.take

    def next_comes(points: InsertionPoints) -> bool:
        if rest:
            os.write(write, rest.pop())
            open_ones.append(feed.stream.pending)
        return take(points)

    monkeypatch.setattr(feed, "take", next_comes)
    os.write(write, TWO)
    TextInput(feed.stream, feed.take, feed.watched, None, lambda: not rest).run([f"/proc/self/fd/{read}"])
    os.close(read)
    os.close(write)
    assert len(feed.pids) == 38
    assert max(open_ones) <= 2 * len(TWO + b"0")


@pytest.mark.parametrize("silence", [0, 1 << 60])
def test_the_listeners_silence_and_no_other_divides_an_event(silence: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes of it behind that is late, and of the process that has its answer already."""
    assert text_side.HOLD == text_input.HOLD == search.HOLD == 20_000_000
    monkeypatch.setattr(text_input, "HOLD", silence)
    decided, waited = threading.Event(), threading.Event()
    feed = Feed(whole=True)
    feed.watched.on_drain = waited.set
    feed.on_out = decided.set
    with fed_by_pipe(feed) as writer:
        os.write(writer, TWO)
        if silence:
            for _ in range(3):
                waited.clear()
                assert waited.wait(60)
            assert not decided.is_set()
        else:
            assert decided.wait(60)
        os.write(writer, b"type=CWD msg=audit(1700000000.200:2): cwd=x\n")
    assert feed.pids == ([8] if silence else [8, 8])
    assert feed.late == (0 if silence else 1)
    assert feed.out.count(b"contid=4") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_input_and_what_has_come_is_answered(number: int) -> None:
    read, write = os.pipe()
    os.write(write, TWO)
    feed = Feed()
    former = signal.signal(number, signal.SIG_DFL)  # a job that a shell has in the background ignores SIGINT
    try:
        with ended_by_signal() as ended:
            os.kill(os.getpid(), number)
            assert ended()
            TextInput(feed.stream, feed.take, feed.watched, None, ended).run([f"/proc/self/fd/{read}", "/not/there"])
    finally:
        signal.signal(number, former)
    os.close(write)
    os.close(read)
    assert feed.out == TWO + b"type=CONTAINER_ID msg=audit(1700000000.200:2): contid=4\n"


def test_a_second_signal_is_nobodys_to_hold_up() -> None:
    def mine(number: int, frame: object) -> None:
        came.append(number)

    came: list[int] = []
    former = signal.signal(signal.SIGTERM, mine)
    try:
        with ended_by_signal() as ended:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (ended(), came) == (True, [])
            os.kill(os.getpid(), signal.SIGTERM)
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, former)
