"""Plugin and listener end, or the listener goes on after a HUP, while they have much to do: all that had come by then
is written, or told."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.auditd import Auditd
from tests.kernel.programs import PLUGIN, Program, by_name, environment, until
from tests.kernel.support import AuditState, auditctl, need_tool
from tests.kills import kernel_lines, untold

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
            until(lambda: log.exists() and log.stat().st_size > 100_000, "it writes", 180)
            if behind:
                program.process.send_signal(signal.SIGSTOP)
                time.sleep(0.5)
            arrived = auditd.log.read_bytes()
            program.process.send_signal(sign)
            program.process.send_signal(signal.SIGCONT)
            if sign == signal.SIGHUP:  # opens its log again, and goes on
                size = log.stat().st_size
                until(lambda: log.stat().st_size > size + 100_000, "it goes on", 180)
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


def configure(top: Path, more: str = "") -> Path:
    """Write the plugin's configuration, with options of the file's beginning; gives its log."""
    log, toml = top / "log/audit.log", top / "auditns.toml"
    toml.write_text(f'control = "{top}/control"\nlifecycle = false\n{more}\n[output.file]\npath = "{log}"\n')
    toml.chmod(0o640)
    return log


def plugin_of(top: Path) -> "subprocess.Popen[bytes]":
    """The plugin, without an auditd: its input is a pipe."""
    with (top / "err").open("wb") as err:
        return subprocess.Popen(
            [*PLUGIN, "--config", str(top / "auditns.toml")],
            stdin=subprocess.PIPE, stdout=err, stderr=err, env=environment(),
        )  # fmt: skip


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end"])
def test_a_plugin_that_is_given_much_at_once(quiet: AuditState, tmp_path: Path, how: str) -> None:
    """Its input is full when the end comes."""
    log = configure(tmp_path)
    given = b"".join(events(1000, 3000))
    plugin = plugin_of(tmp_path)
    assert plugin.stdin is not None
    try:
        plugin.stdin.write(given)
        plugin.stdin.flush()
        if how == "end":
            plugin.stdin.close()
        else:
            plugin.send_signal(signal.Signals[how])
        assert plugin.wait(180) == 0
    finally:
        plugin.kill()
        plugin.wait()
    assert b"Traceback" not in (tmp_path / "err").read_bytes()
    text = log.read_bytes()
    assert text.endswith(b"\n")
    missing = untold(given, text)
    assert not missing, (len(missing), next(iter(missing.items())))


@pytest.mark.parametrize("moved", [False, True], ids=["its log is there", "its log was moved"])
@pytest.mark.parametrize("more", ["", 'record_names = "numeric"', "info = true", 'placement = "apart"'])
def test_a_plugin_goes_on_after_a_hup_with_much_to_do(
    quiet: AuditState, tmp_path: Path, more: str, moved: bool
) -> None:
    """It is told to read its configuration, the same or another, with its input full and an event half read: every
    record is written, once and in its order."""
    log = configure(tmp_path)
    given = b"".join(events(1000, 3000))
    half = given.rfind(b"type=CWD ", 0, len(given) // 2) + 20
    plugin = plugin_of(tmp_path)
    assert plugin.stdin is not None
    try:
        until((tmp_path / "control").exists, "it is there", 180)
        plugin.stdin.write(given[:half])
        plugin.stdin.flush()
        until(log.exists, "it writes", 180)
        configure(tmp_path, more)
        if moved:
            log.rename(f"{log}.moved")
        plugin.send_signal(signal.SIGHUP)
        plugin.stdin.write(given[half:])
        plugin.stdin.close()
        assert plugin.wait(180) == 0
    finally:
        plugin.kill()
        plugin.wait()
    assert b"Traceback" not in (tmp_path / "err").read_bytes()
    text = b"".join(path.read_bytes() for path in (Path(f"{log}.moved"), log) if path.exists())
    assert kernel_lines(text) == kernel_lines(given)
    assert b"type=CONTAINER_LOST " not in by_name(text)


@pytest.mark.parametrize("behind", [False, True], ids=["at once", "behind"])
def test_a_plugin_under_load_whose_auditd_is_told_to_read_its_configuration(
    quiet: AuditState, tmp_path: Path, launcher: Path, token: str, behind: bool
) -> None:
    """As logrotate does it: the log was moved away, and auditd hands the HUP on. ``behind``: the plugin has not run for
    a while, and much waits."""
    need_tool("auditd", "auditctl")
    log, auditd = configure(tmp_path), Auditd(tmp_path)
    auditd.add_plugin("auditns", str(launcher), "--config", str(tmp_path / "auditns.toml"))
    with auditd.serving():
        auditctl("-e", "1")
        auditctl("-b", "8192")
        auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", f"key=auditns-{token}")
        load = subprocess.Popen(["sh", "-c", f"while :; do /bin/true {token}; done"], stdin=subprocess.DEVNULL)
        try:
            until(lambda: log.exists() and log.stat().st_size > 100_000, "it writes", 180)
            (pid,) = auditd.children()
            try:
                if behind:
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(0.5)
                log.rename(f"{log}.moved")
                auditd.hup()
                time.sleep(0.2)
            finally:
                os.kill(pid, signal.SIGCONT)
            until(lambda: log.exists() and log.stat().st_size > 100_000, "it goes on", 180)
            arrived = auditd.log.read_bytes()
        finally:
            load.kill()
            load.wait()
        # an auditd that is stopped does not hand over what waits in its queue
        subprocess.run(["/bin/true", f"last-{token}"], check=True)
        until(lambda: f"last-{token}".encode() in log.read_bytes(), "all has come", 180)
        assert auditd.children() == [pid]
    assert "Traceback" not in auditd.told
    text = Path(f"{log}.moved").read_bytes() + log.read_bytes()
    missing = untold(arrived[: arrived.rfind(b"\n") + 1], text)
    assert not missing, (len(missing), next(iter(missing.items())))
    assert b"type=CONTAINER_LOST " not in by_name(text)
