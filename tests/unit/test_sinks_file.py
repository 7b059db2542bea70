"""The log file: rights, rotation, HUP, a full disk, and things put in its place."""

import errno
import grp
import os
import resource
import stat
import threading
import time
from array import array
from pathlib import Path

import pytest

from auditns_connector.audittext.insertion import RecordTexts, assemble, insert_records
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.config.options import FileOutput
from auditns_connector.sinks import threaded
from auditns_connector.sinks.file import FileSink, LogFile
from tests.unit.sinkhelp import block, line, lost_line, read_all, until

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files to other users")


def options(folder: Path, **more: object) -> FileOutput:
    given = FileOutput(path=str(folder / "audit.log"), group=grp.getgrgid(os.getegid()).gr_name)
    return given._replace(**more)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "auditns"


def test_directory_and_file_are_made(folder: Path) -> None:
    sink = FileSink(options(folder), lost_line)
    sink.write(block(1, 3))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(folder / "audit.log") == block(1, 3)
    assert stat.S_IMODE((folder / "audit.log").stat().st_mode) == 0o640
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    counters = sink.counters()
    assert (counters["written_records"], counters["written_bytes"]) == (3, len(block(1, 3)))
    assert counters["queued_bytes"] == counters["dropped_records"] == counters["errors"] == 0
    assert sink.notices == []


@pytest.mark.parametrize("events", [3, 100])
def test_assembled_text_lasts_until_it_is_written(folder: Path, events: int) -> None:
    sink = FileSink(options(folder), lost_line)
    stream, tails = TextStream(), RecordTexts([b"type=CONTAINER_ID \0 contid=1\n"])
    expected = []
    for number in range(200):
        points = stream.push(block(number * events, events, 200))
        chosen = array("I", [i % 2 for i in range(points.n)])
        expected.append(assemble(points, chosen, tails))
        sink.write(insert_records(points, chosen, tails, lasting=True))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(folder / "audit.log") == b"".join(expected)
    assert sink.counters()["written_records"] == b"".join(expected).count(b"\n")


@root_only
def test_group_is_given_and_mode_mended(folder: Path) -> None:
    folder.mkdir(0o750)
    log = folder / "audit.log"
    log.write_bytes(line(0))
    log.chmod(0o666)
    sink = FileSink(options(folder, group="adm"), lost_line)
    sink.write(line(1))
    assert sink.flush(10)
    sink.close(5)
    info = log.stat()
    assert (info.st_uid, grp.getgrgid(info.st_gid).gr_name, stat.S_IMODE(info.st_mode)) == (0, "adm", 0o640)
    assert read_all(log) == line(0) + line(1)


def test_a_missing_group_is_told(folder: Path) -> None:
    sink = FileSink(options(folder, group="no-such-group"), lost_line)
    sink.write(line(1))
    assert sink.flush(10)
    sink.close(5)
    assert "there is no group no-such-group here" in sink.notices[0]
    assert read_all(folder / "audit.log") == line(1)


def test_rotation_keeps_whole_lines_and_all_of_them(folder: Path) -> None:
    sink = FileSink(options(folder, max_size=1000, keep=100), lost_line)
    for start in range(0, 100, 5):
        sink.write(block(start, 5, size=90))
        assert sink.flush(10)
    sink.close(5)
    parts = [folder / f"audit.log.{number}" for number in range(99, 0, -1)] + [folder / "audit.log"]
    contents = [part.read_bytes() for part in parts if part.exists()]
    assert b"".join(contents) == block(0, 100, size=90)
    assert max(map(len, contents)) <= 1000
    assert sink.counters()["rotations"] == len(contents) - 1 == 9


def test_a_block_larger_than_the_file_is_cut_at_lines(folder: Path) -> None:
    sink = FileSink(options(folder, max_size=1000, keep=100), lost_line)
    sink.write(block(0, 30, size=90) + line(30, size=3000) + line(31))
    assert sink.flush(10)
    sink.close(5)
    parts = sorted(folder.glob("audit.log.*"), key=lambda path: -int(path.suffix[1:]))
    contents = [path.read_bytes() for path in [*parts, folder / "audit.log"]]
    assert b"".join(contents) == block(0, 30, size=90) + line(30, size=3000) + line(31)
    assert all(content.endswith(b"\n") for content in contents)
    assert [len(content) for content in contents if len(content) > 1000] == [3000]


def test_only_so_many_are_kept(folder: Path) -> None:
    for keep, names in ((2, ["audit.log", "audit.log.1", "audit.log.2"]), (0, ["audit.log"])):
        sink = FileSink(options(folder / str(keep), max_size=100, keep=keep), lost_line)
        (folder / str(keep)).mkdir(parents=True)
        for serial in range(9):
            sink.write(line(serial, size=90))
            assert sink.flush(10)
        sink.close(5)
        assert sorted(path.name for path in (folder / str(keep)).iterdir()) == names
        assert read_all(folder / str(keep) / "audit.log") == line(8, size=90)


def test_no_rotation_when_the_limit_is_zero(folder: Path) -> None:
    sink = FileSink(options(folder, max_size=0), lost_line)
    sink.write(block(0, 1000))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(folder / "audit.log") == block(0, 1000)


def test_rotation_that_fails_loses_nothing(folder: Path) -> None:
    folder.mkdir()
    (folder / "audit.log.1").mkdir()  # rename over a directory fails
    sink = FileSink(options(folder, max_size=200, keep=1), lost_line)
    for serial in range(6):
        sink.write(line(serial, size=90))
        assert sink.flush(10)
    sink.close(5)
    assert read_all(folder / "audit.log") == block(0, 6, size=90)
    assert any("cannot rotate" in notice for notice in sink.notices)


def test_hup_opens_the_name_again(folder: Path) -> None:
    sink = FileSink(options(folder), lost_line)
    sink.write(line(1))
    assert sink.flush(10)
    (folder / "audit.log").rename(folder / "old")
    sink.write(line(2))
    assert sink.flush(10)
    sink.reopen()
    until(sink, lambda: sink.counters()["reconnects"] == 1)
    sink.write(line(3))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(folder / "old") == line(1) + line(2)
    assert read_all(folder / "audit.log") == line(3)


def test_a_line_torn_by_a_crash_is_cut_off(folder: Path) -> None:
    folder.mkdir()
    (folder / "audit.log").write_bytes(line(1) + b"type=SYSC")
    sink = FileSink(options(folder), lost_line)
    sink.write(line(2))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(folder / "audit.log") == line(1) + line(2)
    assert sink.counters()["torn"] == 1


@pytest.mark.parametrize("what", ["symlink", "hardlink", "fifo", "directory"])
def test_other_things_at_the_path_are_refused_until_removed(
    folder: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threaded, "RETRY_FIRST", 0.01)
    folder.mkdir()
    victim = folder / "victim"
    victim.write_bytes(b"precious\n")
    log = folder / "audit.log"
    if what == "symlink":
        log.symlink_to(victim)
    elif what == "hardlink":
        log.hardlink_to(victim)
    elif what == "fifo":
        os.mkfifo(log)
    else:
        log.mkdir()
    sink = FileSink(options(folder), lost_line)
    sink.write(line(1))
    until(sink, lambda: sink.notices)
    assert "cannot write" in sink.notices[0]
    assert victim.read_bytes() == b"precious\n"
    if what == "directory":
        log.rmdir()
    else:
        log.unlink()
    assert sink.flush(10)
    sink.close(5)
    assert read_all(log) == line(1)
    assert sink.notices[1].endswith("writing goes on")
    assert sink.counters()["errors"] >= 1


def test_a_link_for_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "auditns").symlink_to(tmp_path / "real")
    sink = FileSink(options(tmp_path / "auditns"), lost_line)
    sink.write(line(1))
    until(sink, lambda: sink.notices)
    sink.close(0.1)
    assert list((tmp_path / "real").iterdir()) == []
    assert sink.counters()["dropped_records"] == 1


def test_a_directory_open_to_all_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    sink = FileSink(options(folder), lost_line)
    sink.write(line(1))
    until(sink, lambda: sink.notices)
    assert "the directory can be changed by others" in sink.notices[0]
    sink.close(0.1)


@root_only
def test_a_full_disk_loses_whole_lines_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real file system of 128 KiB."""
    import ctypes

    monkeypatch.setattr(threaded, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(threaded, "RETRY_LAST", 0.02)
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "small"
    folder.mkdir()
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=128k,mode=0750") != 0:
        pytest.skip(f"needs a mount: {os.strerror(ctypes.get_errno())}")
    try:
        sink = FileSink(options(folder, queue=64 * 1024), lost_line)
        ballast = folder / "ballast"
        ballast.write_bytes(b"x" * 112 * 1024)
        for start in range(0, 2000, 100):
            sink.write(block(start, 100, size=99))
        until(sink, lambda: sink.counters()["errors"] >= 2)
        written = read_all(folder / "audit.log")
        assert written.endswith(b"\n")
        assert block(0, 2000, size=99).startswith(written)
        assert "No space left on device" in sink.notices[0]
        ballast.unlink()
        until(sink, lambda: sink.counters()["queued_bytes"] == 0)
        assert sink.flush(10)
        sink.write(line(9999))
        assert sink.flush(10)
        sink.close(5)
        text = read_all(folder / "audit.log").splitlines(keepends=True)
        dropped = sink.counters()["dropped_records"]
        assert dropped > 0
        kept = 2000 - dropped
        assert text[:kept] == block(0, kept, size=99).splitlines(keepends=True)
        assert text[kept:] == [
            b"LOST file %d %d 1700000000.123:%d 1700000000.123:1999\n" % (dropped, dropped * 99, kept),
            line(9999),
        ]
        assert sink.counters()["torn"] == 0
    finally:
        libc.umount2(os.fsencode(folder), 2)


def test_a_line_that_cannot_be_cut_back_is_completed_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    shorts = [10]

    def short_writev(fd: int, views: list[memoryview]) -> int:
        return os.write(fd, b"".join(views)[: shorts.pop()]) if shorts else real(fd, views)

    def no_truncate(fd: int, size: int) -> None:
        raise OSError(errno.EPERM, "append only")

    monkeypatch.setattr(os, "writev", short_writev)
    monkeypatch.setattr(os, "ftruncate", no_truncate)
    sink = FileSink(options(folder), lost_line)
    sink.write(line(1) + line(2))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(folder / "audit.log") == line(1) + line(2)
    assert sink.counters()["torn"] == 1


def test_writing_never_waits_for_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs: write returns, the queue stays bounded, the loss is told when the disk is back."""
    hang = threading.Event()
    real = os.writev

    def slow(fd: int, views: list[memoryview]) -> int:
        assert hang.wait(30)
        return real(fd, views)

    monkeypatch.setattr(os, "writev", slow)
    sink = FileSink(options(folder, queue=64 * 1024), lost_line)
    for start in range(0, 3000, 10):
        sink.write(block(start, 10, size=100))
        assert sink.counters()["queued_bytes"] <= 64 * 1024
    dropped = sink.counters()["dropped_records"]
    assert dropped == 3000 - 64 * 1024 // 100
    assert not sink.flush(0.01)
    hang.set()
    assert sink.flush(10)
    sink.close(5)
    text = read_all(folder / "audit.log")
    assert text.startswith(block(0, 3000 - dropped, size=100))
    assert text.endswith(b"LOST file %d %d 1700000000.123:655 1700000000.123:2999\n" % (dropped, dropped * 100))


def test_close_does_not_wait_for_a_dead_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    monkeypatch.setattr(os, "writev", lambda fd, views: sum(map(len, views)) if hang.wait(30) else 0)
    sink = FileSink(options(folder), lost_line)
    sink.write(line(1))
    sink.close(0.05)
    assert sink.counters()["dropped_records"] == 1
    sink.close(0.05)
    hang.set()
    sink._thread.join(30)
    # the write came back after the close: its line was told as dropped, and stays so
    assert (sink.broken, sink.counters()["dropped_records"], sink.counters()["queued_bytes"]) == (False, 1, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_the_thread_is_told_and_ends_the_sink(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(fd: int, views: list[memoryview]) -> int:
        raise TypeError("a defect")

    monkeypatch.setattr(os, "writev", defect)
    sink = FileSink(options(folder), lost_line)
    sink.write(line(1))
    until(sink, lambda: sink.broken)
    sink._thread.join(20)
    assert sink.notices == ["file: stopped by an error of its own: TypeError('a defect')"]
    sink.close(0.1)
    assert sink.counters()["dropped_records"] == 1


def parked(sink: FileSink) -> None:
    """Wait until everything is written, and give the thread the time to wait for more."""
    assert sink.flush(10)
    time.sleep(0.02)


def test_blocks_are_written_without_the_interpreter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[int] = []
    write = LogFile.write
    monkeypatch.setattr(LogFile, "write", lambda log, views: (slow.append(1), write(log, views))[1])
    sink = FileSink(options(folder), lost_line)
    for serial in range(100):
        sink.write(line(serial))
        until(sink, lambda count=serial + 1: sink.counters()["written_records"] == count)  # type: ignore[misc]
    assert 1 <= len(slow) < 50  # the first one opens the file
    sink.close(5)
    assert read_all(folder / "audit.log") == block(0, 100)


def test_what_comes_while_a_block_is_written_is_not_left_lying(folder: Path) -> None:
    sink = FileSink(options(folder), lost_line)
    for serial in range(0, 600, 3):
        for each in range(serial, serial + 3):
            sink.write(line(each))
        until(sink, lambda count=serial + 3: sink.counters()["written_records"] == count)  # type: ignore[misc]
    sink.close(5)
    assert read_all(folder / "audit.log") == block(0, 600)


def test_the_limit_of_size_holds_for_what_is_written_so(folder: Path) -> None:
    sink = FileSink(options(folder, max_size=10 * len(line(10)), keep=9), lost_line)
    for serial in range(10, 60):
        sink.write(line(serial))
        parked(sink)
    sink.close(5)
    assert [len(read_all(folder / name)) // len(line(10)) for name in sorted(os.listdir(folder))] == [10] * 5


def test_a_write_that_falls_short_ends_with_a_whole_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threaded, "RETRY_FIRST", 0.02)
    log = folder / "audit.log"
    sink = FileSink(options(folder), lost_line)
    sink.write(block(10, 2))
    parked(sink)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(3.5 * len(line(10))), hard))
    try:
        sink.write(block(12, 3))
        until(sink, lambda: sink.counters()["errors"])
        assert read_all(log) == block(10, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(log) == block(10, 5)
    assert (sink.counters()["written_records"], sink.counters()["torn"]) == (5, 0)


def test_what_comes_while_a_block_is_written_does_not_wait_for_the_next(folder: Path) -> None:
    sink = FileSink(options(folder), lost_line)
    for _ in range(300):
        for number in range(3):
            sink.write(line(number))
        until(sink, lambda: not sink.counters()["queued_bytes"])
    sink.close(5)
    assert sink.counters()["written_records"] == 900


# -- somebody does something with the file


def test_a_removed_log_is_there_again_with_all_that_came_since(folder: Path) -> None:
    sink = FileSink(options(folder), lost_line)
    log = folder / "audit.log"
    for i in range(1, 11):
        sink.write(line(i))
    assert sink.flush(10)
    log.unlink()
    for i in range(11, 31):
        sink.write(line(i))
        assert sink.flush(10)
    until(sink, log.exists)
    sink.write(line(31))
    until(sink, lambda: read_all(log).endswith(line(31)))
    sink.close(5)
    there = read_all(log)
    count = there.count(b"\n")
    assert there == block(32 - count, count)
    assert count >= 21
    assert any("was removed: opened again" in notice for notice in sink.notices)
    assert sink.counters()["rescued"] > 0


def test_a_moved_log_is_opened_again_and_the_moved_one_keeps_its_lines(folder: Path) -> None:
    sink = FileSink(options(folder), lost_line)
    log = folder / "audit.log"
    sink.write(line(1))
    assert sink.flush(10)
    log.rename(folder / "moved")
    sink.write(line(2))
    until(sink, log.exists)
    sink.write(line(3))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(folder / "moved") + read_all(log) == block(1, 3)
    assert sink.counters()["rescued"] == 0


def test_a_removed_directory_is_made_again(folder: Path) -> None:
    sink = FileSink(options(folder), lost_line)
    log = folder / "audit.log"
    sink.write(line(1))
    assert sink.flush(10)
    log.unlink()
    folder.rmdir()
    until(sink, log.exists)
    sink.write(line(2))
    assert sink.flush(10)
    sink.close(5)
    assert read_all(log).endswith(line(2))


def test_a_log_that_was_cut_short_goes_on_and_is_rotated_by_its_real_size(folder: Path) -> None:
    sink = FileSink(options(folder, max_size=len(line(1)) * 10), lost_line)
    log = folder / "audit.log"
    for i in range(8):
        sink.write(line(i))
    assert sink.flush(10)
    os.truncate(log, 0)
    until(sink, lambda: any("cut short" in notice for notice in sink.notices))
    for i in range(8):
        sink.write(line(i))
    assert sink.flush(10)
    sink.close(5)
    assert not (folder / "audit.log.1").exists()
    assert read_all(log) == block(0, 8)


@pytest.mark.parametrize("content", [b"root:x:0:0::/root:/bin/bash\n", b"\n", b"type=\n", b"{}\n", b"\x7fELF"])
def test_nothing_is_appended_to_a_file_of_something_else(folder: Path, content: bytes) -> None:
    folder.mkdir()
    log = folder / "audit.log"
    log.write_bytes(content)
    sink = FileSink(options(folder), lost_line)
    sink.write(line(1))
    until(sink, lambda: sink.notices)
    assert "holds something else than audit records" in sink.notices[0]
    sink.close(0.1)
    assert log.read_bytes() == content


@pytest.mark.parametrize("content", [b"", line(0), b"node=a.b " + line(0), b'{"v":1,"time":"1.000","serial":1}\n'])
def test_a_log_of_ours_goes_on(folder: Path, content: bytes) -> None:
    folder.mkdir()
    log = folder / "audit.log"
    log.write_bytes(content)
    sink = FileSink(options(folder), lost_line)
    sink.write(line(1))
    assert sink.flush(10)
    sink.close(5)
    assert log.read_bytes() == content + line(1)
