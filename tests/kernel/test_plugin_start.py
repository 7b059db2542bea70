"""The plugin started oddly: signals while it starts (auditd hands its own on, whatever it is doing), a wrong stdin."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.programs import PLUGIN, by_name, environment, until
from tests.kernel.programs import ours as is_ours

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]


#: as auditd starts a plugin; the first argument is a file that is made when its signals are ignored
IGNORING = ("/bin/sh", "-c", 'trap "" HUP TERM; : >"$1"; shift; exec "$@"', "sh")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_nothing_is_lost_by_a_signal_at_any_moment(number: signal.Signals, tmp_path: Path) -> None:
    log, toml = tmp_path / "log/audit.log", tmp_path / "auditns.toml"
    sources = '[sources]\ninput_queue = ["64M", 0]\n'  # it complains where it may not write to disk
    toml.write_text(f'control = "{tmp_path}/control"\nlifecycle = false\n[output.file]\npath = "{log}"\n{sources}')
    toml.chmod(0o640)
    now = time.time_ns() // 1_000_000
    record = (
        f"type=SYSCALL msg=audit({now // 1000}.{now % 1000:03d}:77): arch=c000003e syscall=59 success=yes "
        f"pid={os.getpid()} comm=\"x\" exe=\"/x\"\ntype=EOE msg=audit({now // 1000}.{now % 1000:03d}:77): \n"
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    with ours, theirs:
        plugin = subprocess.Popen(
            [*IGNORING, str(tmp_path / "ignoring"), *PLUGIN, "--config", str(toml)],
            stdin=theirs.fileno(), env=environment(), stderr=subprocess.PIPE,
        )  # fmt: skip
        theirs.close()
        ours.sendall(record.encode())
        # they are ignored only until Python has come so far
        until((tmp_path / "ignoring").exists, "the shell's trap", pause=0)
        for _ in range(1000):
            plugin.send_signal(number)
            time.sleep(0.003)
            if plugin.poll() is not None or (tmp_path / "control").exists():
                break
        ours.shutdown(socket.SHUT_WR)
        _, said = plugin.communicate(timeout=180)
    assert (plugin.returncode, said) == (0, b"")
    # of containers that there are on this host it tells as well
    assert b"".join(line for line in log.read_bytes().splitlines(keepends=True) if not is_ours(line)) == record.encode()


@pytest.mark.parametrize("path", ["/dev/null", __file__])
def test_stdin_that_nobody_can_wait_for(path: str, tmp_path: Path) -> None:
    """audisp-auditns < /var/log/audit/audit.log is no way to run it."""
    toml = tmp_path / "auditns.toml"
    toml.write_text(f'control = "{tmp_path}/control"\n[output.file]\npath = "{tmp_path}/log/audit.log"\n')
    toml.chmod(0o640)
    with open(path, "rb") as stdin:
        done = subprocess.run(
            [*PLUGIN, "--config", str(toml)],
            stdin=stdin,
            env=environment(),
            capture_output=True,
            timeout=180,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"auditns enrich reads files" in done.stderr
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("end", ["TERM", "INT", "EOF", "HUP"])
@pytest.mark.parametrize("queue", ['["64M", 0]', '["2M", 0]'])
def test_what_had_arrived_is_written_or_told_however_it_ends(end: str, queue: str, root: None, tmp_path: Path) -> None:
    """While the plugin is behind, with room for all that has come and without."""
    log, toml, many = tmp_path / "log/audit.log", tmp_path / "auditns.toml", 100_000
    toml.write_text(
        f'control = "{tmp_path}/control"\nlifecycle = false\n'
        f'[output.file]\npath = "{log}"\nmax_size = 0\nqueue = "256M"\n'
        f"[sources]\ninput_queue = {queue}\n"
    )
    toml.chmod(0o640)
    now = time.time_ns() // 1_000_000
    stamp, pid = f"{now // 1000}.{now % 1000:03d}", os.getpid()
    text = "".join(
        f'type=SYSCALL msg=audit({stamp}:{serial}): arch=c000003e syscall=59 success=yes pid={pid} comm="x" exe="/x"\n'
        f"type=EOE msg=audit({stamp}:{serial}): \n"
        for serial in range(1000, 1000 + many)
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    with ours, theirs:
        plugin = subprocess.Popen([*PLUGIN, "--config", str(toml)], stdin=theirs.fileno(), env=environment())
        theirs.close()
        until((tmp_path / "control").exists, "it serves")
        ours.sendall(text.encode())
        if end != "EOF":
            plugin.send_signal(getattr(signal, f"SIG{end}"))
        if end in ("EOF", "HUP"):
            ours.shutdown(socket.SHUT_WR)
        assert plugin.wait(180) == 0
    written = by_name(log.read_bytes())
    here = {int(serial) for serial in re.findall(rb"(?m)^type=SYSCALL msg=audit\([0-9.]+:(\d+)\)", written)}
    told: set[int] = set()
    for first, last in re.findall(rb"type=CONTAINER_LOST .*? from=(\d+) to=(\d+)$", written, re.M):
        told |= set(range(int(first), int(last) + 1))
    assert here | told >= set(range(1000, 1000 + many))
    assert written.endswith(b"\n")
