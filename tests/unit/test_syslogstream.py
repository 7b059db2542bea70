"""What a program without a stderr says arrives in syslog, one datagram a line, and never blocks it."""

import os
import re
import socket
from pathlib import Path

import pytest

from auditns_connector.daemon.syslog import LONGEST, PENDING, SyslogStream, is_null


def listener(path: Path) -> socket.socket:
    device = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    device.bind(str(path))
    device.settimeout(10)
    return device


def body(datagram: bytes) -> tuple[int, str]:
    """Priority and text; the form is checked."""
    match = re.fullmatch(rb"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d prog\[(\d+)\]: (.*)", datagram)
    assert match is not None, datagram
    assert int(match[2]) == os.getpid()
    return int(match[1]), match[3].decode()


def test_lines_and_their_severity(tmp_path: Path) -> None:
    with listener(tmp_path / "log") as device:
        stream = SyslogStream("prog", str(tmp_path / "log"))
        print("level=warning event='no perf events'", file=stream)
        print("level=info event=started", file=stream)
        print("two\nlines", file=stream)
        assert body(device.recv(4096)) == (28, "level=warning event='no perf events'")
        assert body(device.recv(4096)) == (30, "level=info event=started")
        assert body(device.recv(4096)) == (29, "two")
        assert body(device.recv(4096)) == (29, "lines")
        stream.write("half")
        stream.write(" a line\n\n")
        assert body(device.recv(4096)) == (29, "half a line")
        assert not stream.isatty()
        stream.write("the end")
        stream.close()
        assert body(device.recv(4096)) == (29, "the end")


def test_hostile_text_is_one_short_line(tmp_path: Path) -> None:
    with listener(tmp_path / "log") as device:
        stream = SyslogStream("prog", str(tmp_path / "log"))
        stream.write("a\x1b[31m\x00\udc80b\n" + "x" * 5000 + "\n")
        assert body(device.recv(8192)) == (29, "a?[31m??b")
        assert len(device.recv(8192)) == LONGEST
        stream.close()


def test_what_is_said_before_anyone_listens_arrives_later_and_is_bounded(tmp_path: Path) -> None:
    stream = SyslogStream("prog", str(tmp_path / "log"))
    for number in range(PENDING + 5):
        print(number, file=stream)
    assert stream.unsent == 5
    with listener(tmp_path / "log") as device:
        stream.flush()
        assert body(device.recv(4096)) == (29, "0")
    stream.close()


def test_a_restarted_daemon_is_found_again(tmp_path: Path) -> None:
    stream = SyslogStream("prog", str(tmp_path / "log"))
    with listener(tmp_path / "log") as device:
        print("one", file=stream)
        assert body(device.recv(4096)) == (29, "one")
    (tmp_path / "log").unlink()
    print("two", file=stream)
    with listener(tmp_path / "log") as device:
        print("three", file=stream)
        assert [body(device.recv(4096)) for _ in range(2)] == [(29, "two"), (29, "three")]
    stream.close()


def test_a_daemon_that_does_not_read_does_not_stop_us(tmp_path: Path) -> None:
    with listener(tmp_path / "log"):
        stream = SyslogStream("prog", str(tmp_path / "log"))
        for _ in range(10_000):
            print("x" * 1000, file=stream)
        assert stream.unsent > 0
        stream.close()


@pytest.mark.parametrize(("path", "null"), [("/dev/null", True), ("/dev/zero", False), ("/etc/passwd", False)])
def test_is_null(path: str, null: bool) -> None:
    with open(path) as file:
        assert is_null(file.fileno()) is null


def test_a_closed_descriptor_is_as_good_as_null() -> None:
    assert is_null(1 << 20)
