"""Logs for the tests of what asks them, and commands run over them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.cli import main as cli
from auditns_connector.vocabulary import record_types as rectypes

BASE = 1_700_000_000
WEB, DB, OTHER = "1001", "1002", "1003"
BOOT = "8d0e" * 8


def event(serial: int, second: int, *lines: str, node: str = "", ours: str = "") -> str:
    """The lines of an event, with the stamp put in behind their types; ``ours`` is its contid."""
    stamp = f"msg=audit({BASE + second}.{serial % 1000:03d}:{serial}):"
    texts = [f"{node}type={line.partition(' ')[0]} {stamp} {line.partition(' ')[2]}" for line in lines]
    if ours:
        texts.append(f"{node}type=CONTAINER_ID {stamp} contid={ours}")
    return "".join(f"{text}\n" for text in [*texts, f"{node}type=EOE {stamp} "])


def call(
    number: int, pid: int, comm: str = "sh", *, ppid: int = 1, success: str = "yes", exit: int = 0, key: str = "k",
    auid: int = 1000, a0: str = "0",
) -> str:  # fmt: skip
    return (
        f"SYSCALL arch=c000003e syscall={number} success={success} exit={exit} a0={a0} a1=0 a2=0 a3=0 items=1 "
        f"ppid={ppid} pid={pid} auid={auid} uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=3 "
        f'comm="{comm}" exe="/bin/{comm}" key="{key}"'
    )


def executed(serial: int, second: int, pid: int, ppid: int, *argv: str, ours: str = "") -> str:
    words = " ".join(f'a{i}="{word}"' if " " not in word else f"a{i}={word.encode().hex().upper()}"
                     for i, word in enumerate(argv))  # fmt: skip
    name = argv[0].rpartition("/")[2]
    return event(
        serial, second, call(59, pid, name, ppid=ppid, key="exec"), f"EXECVE argc={len(argv)} {words}", 'CWD cwd="/"',
        f'PATH item=0 name="{argv[0]}" nametype=NORMAL', ours=ours,
    )  # fmt: skip


def opened(serial: int, second: int, pid: int, path: str, *, ours: str = "", flags: str = "0", **more: Any) -> str:
    text = call(257, pid, "cat", key="open", **more).replace("a2=0", f"a2={flags}")
    return event(serial, second, text, 'CWD cwd="/etc"', f'PATH item=0 name="{path}" nametype=NORMAL', ours=ours)


def info(
    serial: int, second: int, contid: str, name: str, image: str = "img:1", *, reason: str = "seen", more: str = ""
) -> str:
    return (
        f"type=CONTAINER_INFO msg=audit({BASE + second}.{serial % 1000:03d}:{serial}): reason={reason} contid={contid} "
        f'kind=runtime runtime="docker" ctr-id="{name * 3}" ctr-name="{name}" image="{image}" pod="p-{name}" '
        f'pod-ns="shop"{more}\n'
    )


def entry(
    serial: int, second: int, contid: str, name: str, image: str, pid: int, start: int = 5, auid: int = 1000
) -> str:
    came = (
        f" entry={BOOT}:{pid}:{start} entry-how=setns entry-time={BASE + second}.000 entry-pid={pid} "
        f'entry-start={start} entry-comm="nsenter" entry-exe="/usr/bin/nsenter" entry-auid={auid} '
        "entry-ses=3 entry-from=session"
    )
    return info(serial, second, contid, name, image, reason="entry", more=came)


def sample() -> str:
    """Two containers of one image, one of another, the host, an entry, a loss, a signal across."""
    entered = f"CONTAINER_INFO contid={WEB} entry={BOOT}:70:5 entry-how=setns entry-auid=1000"
    return "".join((
        info(9001, 0, WEB, "web", "nginx:1"),
        info(9002, 0, DB, "db", "nginx:1"),
        info(9003, 0, OTHER, "other", "busy:1"),
        executed(1, 1, 50, 49, "/bin/sh", "-c", "run me", ours=WEB),
        opened(2, 2, 50, "shadow", ours=WEB),
        executed(3, 3, 60, 59, "/bin/sh", ours=DB),
        opened(4, 4, 61, "/etc/hostname", ppid=60, ours=DB),
        opened(5, 5, 99, "/etc/shadow", success="no", exit=-13),
        entry(9004, 6, WEB, "web", "nginx:1", 70),
        event(6, 7, call(59, 70, "bash", ppid=2, key="exec"), 'EXECVE argc=1 a0="bash"', entered, ours=WEB),
        event(7, 8, call(42, 50, "curl", key="net"), "SOCKADDR saddr=020001BB0A0000050000000000000000", ours=WEB),
        event(8, 9, call(62, 50, "kill", key="sig"), 'OBJ_PID opid=61 oauid=1000 ouid=0 oses=3 ocomm="cat"',
              f"CONTAINER_ID record=1 contid={WEB}", f"CONTAINER_ID record=2 contid={DB}"),
        f"type=CONTAINER_LOST msg=audit({BASE + 10}.000:9005): source=perf cpu=1 count=7 from={BASE}.0 to={BASE}.9\n",
        event(9, 11, "USER_LOGIN pid=77 uid=0 auid=1000 ses=3 msg='op=login acct=\"root\" exe=\"/usr/sbin/sshd\" "
              "hostname=? addr=10.9.8.7 terminal=ssh res=success'", ours=WEB),
        opened(10, 12, 50, "/tmp/x", success="no", exit=-2, ours=WEB, flags="241"),
    ))  # fmt: skip


def by_number(text: str) -> str:
    """The same log of an auditd that has no name for any type."""
    return re.sub(r"type=(\w+) msg=", lambda found: f"type=UNKNOWN[{rectypes.number(found[1])}] msg=", text)


@pytest.fixture
def asked(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> "Ask":
    return Ask(tmp_path, capfdbinary)


class Ask:
    """Runs commands over the sample, or over another text."""

    def __init__(self, folder: Path, captured: pytest.CaptureFixture[bytes]) -> None:
        self.folder, self._captured = folder, captured
        self.path = folder / "audit.log"
        self.path.write_text(sample())
        self.code, self.said = 0, ""

    def __call__(self, command: str, *words: str, files: tuple[Path, ...] | None = None) -> str:
        paths = (self.path,) if files is None else files
        self.code = cli.run([command, *words, *map(str, paths)])
        import sys

        sys.stdout.flush()
        out, err = self._captured.readouterr()
        self.said = err.decode()
        return out.decode()

    def serials(self, *words: str, **more: Any) -> list[int]:
        """Of the kernel's events that are found."""
        objects = [json.loads(line) for line in self("search", "--format", "json", *words, **more).splitlines()]
        return [one["serial"] for one in objects if one["serial"] < 9000]
