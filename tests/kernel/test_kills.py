"""A listener that is killed under load, and started again: see kills.py; the plugin's is in test_plugin.py."""

import contextlib
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.auditd import Auditd
from tests.kernel.programs import Program, until
from tests.kernel.support import AuditState, auditctl, need_tool
from tests.kills import SEVERAL, judge

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(("kills", "seed"), SEVERAL)
def test_a_listener_killed_under_load_tells_once_what_is_missing(
    quiet: AuditState, tmp_path: Path, token: str, kills: int, seed: int
) -> None:
    """By SIGKILL at random moments, beside an auditd whose log is the truth."""
    need_tool("auditd", "auditctl")
    auditd, log, chance = Auditd(tmp_path), tmp_path / "listen.log", random.Random(seed)
    command = ["listen", "--format", "raw", "--record-names", "symbolic", "--no-lifecycle", "--output", log]
    command += ["--control", tmp_path / "run/control"]
    started: list[Program] = []

    def listen() -> Program:
        started.append(Program(tmp_path / f"listen{len(started)}", command))  # type: ignore[arg-type]
        stack.callback(started[-1].kill)
        return started[-1].ready()

    def goes_on() -> None:
        size = log.stat().st_size if log.exists() else 0
        until(lambda: log.exists() and log.stat().st_size > size + 20_000, "it writes", 180)

    with auditd.serving(), contextlib.ExitStack() as stack:
        auditctl("-e", "1")
        auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", f"key=auditns-{token}")
        load = subprocess.Popen(["sh", "-c", f"while :; do /bin/true {token}; done"], stdin=subprocess.DEVNULL)
        try:
            for _ in range(kills):
                program = listen()
                goes_on()
                time.sleep(chance.random() / 5)
                program.kill()
            program = listen()
            goes_on()
        finally:
            load.kill()
            load.wait()
        subprocess.run(["/bin/true", f"last-{token}"], check=True)
        until(lambda: f"last-{token}".encode() in log.read_bytes(), "the last event is there")
        assert started[-1].stop() == 0
        until(lambda: f"last-{token}".encode() in auditd.log.read_bytes(), "auditd has it")
    assert not [program.err for program in started if "Traceback" in program.err]
    judge(auditd.log.read_bytes(), log.read_bytes(), kills)
