"""The multicast group on this kernel: what auditd would write, hostile USER messages, overflow, foreign namespace."""

import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditns_connector.auditrules.netlink import AuditControl
from auditns_connector.audittext.serials import SerialTracker, parse_stamp
from auditns_connector.sources.readlog import ReadlogSource
from tests.kernel.support import AuditState, auditctl, need, need_tool, until

pytestmark = pytest.mark.kernel

USER_LOGIN = 1112
HOSTILE = (
    b"plain",
    b"one\ntype=SYSCALL msg=audit(1.000:1): arch=c000003e syscall=59 pid=1",
    b"\n\n\n",
    b"bytes \x01\x02\x1d\x1b[31m\x7f\x80\xff\r\t",
    b"nul\0 behind",
    b"contid=1 pid=1' msg='",
    b"A" * 8560,
)


@pytest.fixture
def enabled(audit_state: AuditState) -> AuditState:
    """Auditing on, and the queue long enough for a test."""
    auditctl("-e", "1")
    auditctl("-b", "8192")
    return audit_state


def say(*texts: bytes) -> None:
    """Send USER_LOGIN messages the way a program with CAP_AUDIT_WRITE does."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as sock:
        for text in texts:
            payload = text + b"\0"
            head = struct.pack("=IHHII", 16 + len(payload), USER_LOGIN, 5, 1, 0)
            sock.sendto(head + payload, (0, 0))
            answer = sock.recv(16384)
            assert struct.unpack_from("=i", answer, 16) == (0,)


def read_until(source: ReadlogSource, marker: bytes) -> bytes:
    """What the source gives up to a record that holds ``marker``."""
    text = b""
    while marker not in text:
        assert select.select([source], [], [], 60)[0], f"{marker!r} never came"
        text += source.drain()
    return text


def test_an_event_arrives_whole_with_its_end(enabled: AuditState, token: str) -> None:
    key = f"auditns-{token}"
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", f"pid={os.getpid()}", "-k", key)
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", "exe=/usr/bin/env", "-k", key)
    with ReadlogSource() as source:
        subprocess.run(["/usr/bin/env", "/bin/true", token], check=True)
        say(token.encode())
        lines = read_until(source, f"msg='{token}'".encode()).splitlines()
        assert source.counters()["lost"] == 0
    (serial,) = {line.split(b"msg=audit(")[1].split(b")")[0] for line in lines if b"type=EXECVE" in line}
    kinds = [line.split(b" ")[0][5:] for line in lines if b"msg=audit(" + serial + b"):" in line]
    assert kinds[0] == b"SYSCALL"
    assert kinds[-2:] == [b"PROCTITLE", b"EOE"]
    assert {b"EXECVE", b"CWD", b"PATH"} <= set(kinds)


def test_hostile_user_messages_are_one_line_each(enabled: AuditState, token: str) -> None:
    with ReadlogSource() as source:
        say(*HOSTILE, token.encode())
        text = read_until(source, f"msg='{token}'".encode())
        assert source.counters()["mended"] == 2
    lines = [line for line in text.split(b"\n") if line.startswith(b"type=USER_LOGIN")]
    assert len(lines) == len(HOSTILE) + 1
    assert all(line.startswith(b"type=") for line in text.split(b"\n")[:-1])
    bodies = [line.partition(b" msg='")[2][:-1] for line in lines]
    assert bodies == [text.partition(b"\0")[0].replace(b"\n", b" ") for text in HOSTILE] + [token.encode()]


AUDITD_CONF = """
local_events = yes
write_logs = yes
log_file = {0}/audit.log
log_format = RAW
flush = NONE
max_log_file_action = IGNORE
space_left = 5
space_left_action = IGNORE
admin_space_left = 4
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
plugin_dir = {0}/plugins
"""


def test_lines_are_those_of_auditd(enabled: AuditState, token: str, tmp_path: Path) -> None:
    need_tool("auditd")
    need("\npid 0\n" in auditctl("-s"), "no other auditd at work")
    (tmp_path / "plugins").mkdir(mode=0o750)
    conf = tmp_path / "auditd.conf"
    conf.write_text(AUDITD_CONF.format(tmp_path))
    conf.chmod(0o640)
    daemon = subprocess.Popen(
        ["auditd", "-n", "-c", str(tmp_path), "-s", "nochange"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with ReadlogSource() as source:
            log = tmp_path / "audit.log"
            say(token.encode())
            text = read_until(source, token.encode())
            while f"pid {daemon.pid}\n" not in auditctl("-s"):
                assert daemon.poll() is None, "auditd ended"
            say(*HOSTILE, f"end{token}".encode())
            subprocess.run(["auditctl", "-m", f"behind{token}"], check=True)
            text += read_until(source, f"behind{token}".encode())
            # at its end auditd leaves unread what the kernel has for it
            until(lambda: f"behind{token}".encode() in log.read_bytes(), "auditd to write the last record")
    finally:
        daemon.terminate()
        daemon.wait()
    ours = [line for line in text.splitlines() if b"type=USER" in line and b"msg='" in line]
    theirs = [line for line in log.read_bytes().splitlines() if b"type=USER" in line and b"msg='" in line]
    assert f"behind{token}".encode() in theirs[-1]
    assert theirs[-len(HOSTILE) - 2 :] == ours[-len(HOSTILE) - 2 :]


def test_overflow_is_counted_and_shows_in_the_serials(enabled: AuditState, token: str) -> None:
    with ReadlogSource(rcvbuf=16 << 10) as source:
        say(token.encode())
        whole = read_until(source, token.encode())
        say(*[b"x" * 1000] * 200)
        with AuditControl() as control:
            while control.status().backlog:  # the kernel's audit thread delivers on its own time
                time.sleep(0.01)
        text = b"x"
        while text:
            text = source.drain()
            whole += text
        say(f"end{token}".encode())
        whole += read_until(source, f"end{token}".encode())
        counters = source.counters()
    tracker = SerialTracker()
    stamps = [parse_stamp(stamp) for stamp in re.findall(rb"msg=audit\(([0-9.:]+)\)", whole)]
    gaps = [gap for ms, serial in filter(None, stamps) for gap in tracker.feed(serial, ms)] + tracker.flush()
    lost = sum(gap.events for gap in gaps)
    assert counters["overruns"] >= 1
    # every message is an event of one record here, so the two counts agree
    assert lost == counters["dropped"] > 0


SILENT = """
import json
from auditns_connector.sources.readlog import ReadlogSource
with ReadlogSource() as source:
    print(json.dumps([source.silent, source.notices]))
"""


def test_another_network_namespace_is_told(kernel_lock: None) -> None:
    need_tool("unshare")
    root = Path(__file__).parents[2]
    told = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SILENT], cwd=root, capture_output=True, text=True, check=True
    )
    silent, notices = json.loads(told.stdout)
    assert silent is True
    assert "network namespace" in notices[-1]
    here = subprocess.run([sys.executable, "-c", SILENT], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(here.stdout) == [False, []]


def test_control_and_multicast_do_not_disturb_each_other(enabled: AuditState) -> None:
    with ReadlogSource(), AuditControl() as control:
        for _ in range(50):
            assert control.status().enabled == 1
