"""The commands that ask the log, on a real terminal, over a log in which everything calls itself something hostile."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.queries import BASE, DB, WEB, call, entry, event, executed, info, opened
from tests.unit.test_terminal import harmless

EVIL = "\x1b[2J\x1b]0;x\x07\x9b31m\u202e\u2066\r\x08\nhost"
HEX = EVIL.encode().hex().upper()


def log() -> bytes:
    """Names of containers, images, pods, programs, files, keys and users; also as bytes that no program writes."""
    text = "".join((
        info(9001, 0, WEB, "web", "nginx:1"), info(9002, 0, DB, "db", "nginx:1"),
        entry(9004, 1, WEB, "web", "nginx:1", 70),
        executed(1, 2, 50, 49, "/bin/sh", "-c", EVIL, ours=WEB), executed(2, 2, 60, 59, "/bin/sh", ours=DB),
        opened(3, 3, 50, "shadow", ours=WEB), opened(4, 4, 61, "/etc/hostname", ppid=60, success="no", ours=DB),
        event(5, 5, call(59, 70, "bash", key="exec"), 'EXECVE argc=1 a0="bash"', ours=WEB),
    ))  # fmt: skip
    for name in (
        '"web"', '"webwebweb"', '"nginx:1"', '"p-web"', '"shop"', '"docker"', '"nsenter"', '"sh"', '"/bin/sh"', '"k"',
        '"exec"',
        '"shadow"', '"/etc"', '"bash"', '"/usr/bin/nsenter"',
    ):  # fmt: skip
        text = text.replace(name, HEX)
    raw = f'type=USER_CMD msg=audit({BASE + 6}.000:6): pid=7 uid=0 auid=1000 ses=3 msg="cmd='.encode()
    return text.encode() + raw + EVIL.replace("\n", "").encode() + b'\xc2\x9b\xff"\n' + b"\x1b[2J no record\n"


def on_a_terminal(*words: str | Path, program: tuple[str, ...] = ("-m", "auditns_connector.cli.main")) -> str:
    """What a command shows there, both its outputs."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.Popen(
            [sys.executable, *program, *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        theirs = -1
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the last one that had it has closed it
                break
            if not data:
                break
            shown += data
        done.wait()
    finally:
        for fd in (ours, theirs):
            if fd >= 0:
                os.close(fd)
    return shown.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


@pytest.mark.parametrize("words", [
    ("search", "--format", "pretty"), ("search", "--format", "raw"), ("search", "--format", "json"),
    ("search", "--format", "pretty", "--output-template", "{container} {comm} {key} {path}"),
    ("search", "--format", "raw", "--reverse"), ("containers",), ("containers", "--json"),
    ("show", WEB), ("show", "host"), ("show", WEB, "--json"),
    ("show", "no\x1b[2Jsuch"), ("diff", WEB, DB), ("diff", WEB, "--siblings"),
    ("report",),
    ("report", "--all"), ("report", "--json"),
], ids=" ".join)  # fmt: skip
def test_no_name_does_anything_to_a_terminal(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(log())
    shown = on_a_terminal(*words, path)
    assert shown
    harmless(shown)


def test_nor_does_what_is_in_an_archive_or_a_program_says(tmp_path: Path) -> None:
    path, archive = tmp_path / "audit\x1b[2J.log", tmp_path / "archive"
    path.write_bytes(log())
    shown = on_a_terminal("archive", "seal", "--archive", archive, path)
    assert "records" in shown
    harmless(shown)
    for action in ("info", "check", "cat"):
        harmless(shown := on_a_terminal("archive", action, "--archive", archive))
        assert shown
    assert "\\x1b[2J" in shown
    harmless(on_a_terminal("search", "--format", "pretty", "--archive", archive))
    (path := tmp_path / "toml").write_text("x = '\x1b[2J'\n")
    harmless(on_a_terminal("archive", "seal", "--config", path, "--rotated", path))
    harmless(on_a_terminal("metrics", "--control", f"{tmp_path}/no\x1b[2J"))


def test_nor_do_the_counters_of_a_stream(tmp_path: Path) -> None:
    from tests.unit.test_metrics import changed

    code = (
        "import json, sys; from auditns_connector.cli import main, metrics\n"
        "metrics._ask = lambda control: (json.loads(sys.argv.pop()), '')\nsys.exit(main.run(['metrics']))"
    )
    status = changed(streams={EVIL: {"events": 3}})
    shown = on_a_terminal(json.dumps(status), program=("-c", code))
    assert "auditns_stream_events_total" in shown
    harmless(shown)
