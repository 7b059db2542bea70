"""The unix socket: readers join and leave, the slow one alone loses, and nothing of others is replaced."""

import errno
import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.config.options import SocketOutput
from auditns_connector.errors import AuditnsError, ConfigError
from auditns_connector.sinks.unixsocket import SocketSink
from tests.unit.sinkhelp import block, drain, line, lost_line, until

LIMIT = 64 * 1024


def options(folder: Path, **more: object) -> SocketOutput:
    group = grp.getgrgid(os.getegid()).gr_name
    return SocketOutput(True, str(folder / "audit.sock"), 0o660, group, LIMIT, 16)._replace(**more)  # type: ignore[arg-type]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SocketSink]:
    made = SocketSink(options(tmp_path), lost_line)
    yield made
    made.close(0.1)


def join(sink: SocketSink, path: Path) -> socket.socket:
    before = sink.counters()["reconnects"]
    reader = socket.socket(socket.AF_UNIX)
    reader.connect(str(path / "audit.sock"))
    reader.setblocking(False)
    until(sink, lambda: sink.counters()["reconnects"] > before)
    return reader


def test_readers_join_and_leave(sink: SocketSink, tmp_path: Path) -> None:
    sink.write(line(0))
    first = join(sink, tmp_path)
    sink.write(line(1))
    second = join(sink, tmp_path)
    sink.write(line(2))
    assert drain(first.fileno()) == line(1) + line(2)
    assert drain(second.fileno()) == line(2)
    first.close()
    until(sink, lambda: sink.counters()["readers"] == 1)
    sink.write(line(3))
    assert drain(second.fileno()) == line(3)
    second.close()
    sink.write(line(4))
    assert sink.counters()["readers"] == 0
    assert sink.counters()["written_records"] == 4
    assert sink.counters()["dropped_records"] == 0
    assert sink.notices == []


def test_slow_reader_alone_loses_and_is_told_in_place(sink: SocketSink, tmp_path: Path) -> None:
    slow, quick = join(sink, tmp_path), join(sink, tmp_path)
    seen = b""
    for start in range(0, 8000, 10):
        sink.write(block(start, 10, size=100))
        seen += drain(quick.fileno())
        assert sink.counters()["queued_bytes"] <= LIMIT
    assert seen == block(0, 8000, size=100)
    dropped = sink.counters()["dropped_records"]
    assert dropped > 0
    got: list[bytes] = []

    def more() -> bool:
        got.append(drain(slow.fileno()))
        return b"LOST" in b"".join(got)

    until(sink, more)
    sink.write(line(9999))
    text = b"".join(got) + drain(slow.fileno())
    first = 8000 - dropped
    told = b"LOST socket %d %d 1700000000.123:%d 1700000000.123:7999\n" % (dropped, dropped * 100, first)
    assert text == block(0, first, size=100) + told + line(9999)
    assert drain(quick.fileno()) == line(9999)


def test_half_closed_reader_still_reads(sink: SocketSink, tmp_path: Path) -> None:
    reader = join(sink, tmp_path)
    reader.shutdown(socket.SHUT_WR)
    sink.on_ready()
    sink.write(line(1))
    assert drain(reader.fileno()) == line(1)


def test_a_reader_that_talks_is_not_listened_to(sink: SocketSink, tmp_path: Path) -> None:
    reader = join(sink, tmp_path)
    forged = b"type=SYSCALL msg=audit(1.1:1): forged\n" * 100_000
    assert reader.send(forged) < len(forged)
    sink.on_ready()
    sink.write(line(1))
    assert drain(reader.fileno()) == line(1)


def test_too_many_readers_are_refused(tmp_path: Path) -> None:
    sink = SocketSink(options(tmp_path, readers=2), lost_line)
    kept = [join(sink, tmp_path), join(sink, tmp_path)]
    extra = socket.socket(socket.AF_UNIX)
    extra.connect(str(tmp_path / "audit.sock"))
    until(sink, lambda: sink.counters()["refused"] == 1)
    assert extra.recv(1) == b""
    assert "more than 2 readers" in sink.notices[0]
    kept.pop().close()
    until(sink, lambda: sink.counters()["readers"] == 1)
    join(sink, tmp_path)
    sink.close(0.1)


def test_rights_of_the_socket(tmp_path: Path) -> None:
    for mode in (0o600, 0o660):
        sink = SocketSink(options(tmp_path, mode=mode), lost_line)
        info = (tmp_path / "audit.sock").lstat()
        assert stat.S_ISSOCK(info.st_mode)
        assert stat.S_IMODE(info.st_mode) == mode
        sink.close(0.1)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives the socket to a group")
def test_group_of_the_socket(tmp_path: Path) -> None:
    sink = SocketSink(options(tmp_path, group="adm"), lost_line)
    assert grp.getgrgid((tmp_path / "audit.sock").stat().st_gid).gr_name == "adm"
    sink.close(0.1)
    sink = SocketSink(options(tmp_path, group="no-such-group"), lost_line)
    assert "there is no group no-such-group" in sink.notices[0]
    sink.close(0.1)


def test_a_stale_socket_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "audit.sock"))
    stale.close()
    sink = SocketSink(options(tmp_path), lost_line)
    with pytest.raises(AuditnsError, match="another program serves it"):
        SocketSink(options(tmp_path), lost_line)
    reader = join(sink, tmp_path)
    sink.write(line(1))
    assert drain(reader.fileno()) == line(1)
    assert [path.name for path in tmp_path.iterdir()] == ["audit.sock"]
    sink.close(0.1)


@pytest.mark.parametrize("what", ["file", "symlink", "symlink to a socket", "directory"])
def test_other_things_at_the_path_stay(tmp_path: Path, what: str) -> None:
    path, victim = tmp_path / "audit.sock", tmp_path / "victim"
    if what == "symlink to a socket":
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(victim))
        path.symlink_to(victim)
    elif what == "symlink":
        victim.write_text("precious")
        path.symlink_to(victim)
    elif what == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    before = sorted((p.name, p.lstat().st_ino) for p in tmp_path.iterdir())
    with pytest.raises(ConfigError, match="something that is not a socket is there"):
        SocketSink(options(tmp_path), lost_line)
    assert sorted((p.name, p.lstat().st_ino) for p in tmp_path.iterdir()) == before


def test_unusable_directories(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="the directory can be changed by others"):
        SocketSink(options(tmp_path / "open"), lost_line)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    with pytest.raises(ConfigError, match=os.strerror(errno.ENOTDIR)):
        SocketSink(options(tmp_path / "link"), lost_line)
    with pytest.raises(ConfigError, match="No such file"):
        SocketSink(options(tmp_path / "a" / "b"), lost_line)


def test_hup_makes_a_removed_socket_again_and_keeps_readers(sink: SocketSink, tmp_path: Path) -> None:
    reader = join(sink, tmp_path)
    sink.reopen()
    inode = (tmp_path / "audit.sock").stat().st_ino
    (tmp_path / "audit.sock").unlink()
    sink.reopen()
    assert (tmp_path / "audit.sock").exists()
    other = join(sink, tmp_path)
    sink.write(line(1))
    assert drain(reader.fileno()) == drain(other.fileno()) == line(1)
    (tmp_path / "audit.sock").unlink()
    (tmp_path / "audit.sock").write_text("not ours")
    sink.reopen()
    assert "not a socket" in sink.notices[-1]
    assert inode


def test_close_leaves_what_another_program_has_put_there(tmp_path: Path) -> None:
    sink = SocketSink(options(tmp_path), lost_line)
    (tmp_path / "audit.sock").unlink()
    (tmp_path / "audit.sock").write_text("another's")
    sink.close(0.1)
    assert (tmp_path / "audit.sock").read_text() == "another's"


def test_close_delivers_what_waits(tmp_path: Path) -> None:
    import threading

    sink = SocketSink(options(tmp_path, queue=4 << 20), lost_line)
    reader = join(sink, tmp_path)
    sink.write(block(0, 10_000, size=100))
    assert sink.counters()["queued_bytes"] > 0
    reader.setblocking(True)
    got: list[bytes] = []

    def read() -> None:
        while piece := reader.recv(1 << 16):
            got.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    sink.close(20)
    thread.join(20)
    assert b"".join(got) == block(0, 10_000, size=100)
    assert sink.counters()["dropped_records"] == 0


def test_a_storm_of_connections(tmp_path: Path) -> None:
    sink = SocketSink(options(tmp_path, readers=4), lost_line)
    for _ in range(20):
        joined = []
        for _ in range(50):
            reader = socket.socket(socket.AF_UNIX)
            reader.setblocking(False)
            if reader.connect_ex(str(tmp_path / "audit.sock")) == 0:
                joined.append(reader)
        sink.on_ready()
        sink.write(block(0, 3))
        for reader in joined:
            reader.close()
        sink.on_ready()
    until(sink, lambda: sink.counters()["readers"] == 0)
    assert len(sink.notices) == 1
    reader = join(sink, tmp_path)
    sink.write(line(1))
    assert drain(reader.fileno()) == line(1)
    sink.close(0.1)
