"""Plugin and listener end, or the listener goes on after a HUP, while they have much to do: all that had come by then
is written, or told."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.auditd import Auditd
from tests.kernel.programs import PLUGIN, Program, environment, until
from tests.kernel.support import AuditState, auditctl, need_tool
from tests.kills import untold

pytestmark = pytest.mark.kernel
ENDS = (signal.SIGTERM, signal.SIGINT)


@pytest.mark.parametrize("sign", [*ENDS, signal.SIGHUP])
@pytest.mark.parametrize("behind", [False, True], ids=["at once", "behind"])
def test_a_listener_under_load(
    quiet: AuditState, tmp_path: Path, token: str, sign: signal.Signals, behind: bool
) -> None:
    """Beside an auditd, to which the kernel sends each record after it has sent it to us. ``behind``: it has not run
    for a while, and much waits."""
    need_tool("auditd", "auditctl")
    auditd, log = Auditd(tmp_path), tmp_path / "listen.log"
    command = ["listen", "--format", "raw", "--record-names", "symbolic", "--no-lifecycle", "--output", log]
    program: Program | None = None
    with auditd.serving():
        auditctl("-e", "1")
        auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", f"key=auditns-{token}")
        load = subprocess.Popen(["sh", "-c", f"while :; do /bin/true {token}; done"], stdin=subprocess.DEVNULL)
        try:
            program = Program(tmp_path / "listen", [*command, "--control", tmp_path / "control"]).ready()
            until(lambda: log.exists() and log.stat().st_size > 100_000, "it writes", 60)
            if behind:
                program.process.send_signal(signal.SIGSTOP)
                time.sleep(0.5)
            arrived = auditd.log.read_bytes()
            program.process.send_signal(sign)
            program.process.send_signal(signal.SIGCONT)
            if sign == signal.SIGHUP:  # opens its log again, and goes on
                size = log.stat().st_size
                until(lambda: log.stat().st_size > size + 100_000, "it goes on", 60)
                arrived = auditd.log.read_bytes()
                program.process.send_signal(signal.SIGTERM)
            assert program.wait() == 0, program.err
        finally:
            load.kill()
            load.wait()
            if program is not None:
                program.kill()
    assert "Traceback" not in program.err
    text = log.read_bytes()
    assert text.endswith(b"\n")
    missing = untold(arrived[: arrived.rfind(b"\n") + 1], text)
    assert not missing, (len(missing), next(iter(missing.items())))


def events(first: int, count: int) -> list[bytes]:
    """Audit text as auditd hands it to its plugins, an event each; nobody has these pids."""
    stamp = int(time.time())
    return [
        b"".join(
            b"type=%b msg=audit(%d.%03d:%d): %b\n" % (kind, stamp, serial % 1000, serial, body)
            for kind, body in (
                (
                    b"SYSCALL",
                    b"arch=c000003e syscall=59 success=yes exit=0 items=1 pid=%d" % (4_000_000 + serial),
                ),
                (b"EXECVE", b'argc=1 a0="x"'),
                (b"CWD", b'cwd="/"'),
                (b"PATH", b'item=0 name="/x"'),
                (b"PROCTITLE", b"proctitle=78"),
                (b"EOE", b""),
            )
        )
        for serial in range(first, first + count)
    ]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end"])
def test_a_plugin_that_is_given_much_at_once(quiet: AuditState, tmp_path: Path, how: str) -> None:
    """Its input is full when the end comes."""
    log, toml = tmp_path / "log/audit.log", tmp_path / "auditns.toml"
    toml.write_text(f'control = "{tmp_path}/control"\nlifecycle = false\n[output.file]\npath = "{log}"\n')
    toml.chmod(0o640)
    given = b"".join(events(1000, 3000))
    with (tmp_path / "err").open("wb") as err:
        plugin = subprocess.Popen(
            [*PLUGIN, "--config", str(toml)], stdin=subprocess.PIPE, stdout=err, stderr=err, env=environment()
        )
    assert plugin.stdin is not None
    try:
        plugin.stdin.write(given)
        plugin.stdin.flush()
        if how == "end":
            plugin.stdin.close()
        else:
            plugin.send_signal(signal.Signals[how])
        assert plugin.wait(60) == 0
    finally:
        plugin.kill()
        plugin.wait()
    assert b"Traceback" not in (tmp_path / "err").read_bytes()
    text = log.read_bytes()
    assert text.endswith(b"\n")
    missing = untold(given, text)
    assert not missing, (len(missing), next(iter(missing.items())))
