"""A private real auditd with our plugins under test, our rules beside it, and everything put back afterwards."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.kernel.support import AuditState, auditctl

from .truth import read_actions

AUDITD: Final = "auditd"
BACKLOG_LIMIT: Final = 65536
START_TIMEOUT: Final = 15.0

_CONF: Final = """\
local_events = yes
write_logs = yes
log_file = {log}
log_group = root
log_format = RAW
flush = NONE
max_log_file = 4000
max_log_file_action = IGNORE
space_left = 75
space_left_action = IGNORE
admin_space_left = 50
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
priority_boost = 4
name_format = NONE
q_depth = 99999
overflow_action = IGNORE
max_restarts = 10
plugin_dir = {plugins}
end_of_event_timeout = 2
"""


class NotPossibleError(Exception):
    """The bench cannot run here; the message says why."""


def wait_for(done: Callable[[], bool], what: str, timeout: float) -> None:
    """Poll ``done`` until it is true; TimeoutError naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.02)


def audit_counter(name: str) -> int:
    """One number of ``auditctl -s``: pid, lost, backlog …"""
    for line in auditctl("-s").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value.split()[0])
    raise NotPossibleError(f"auditctl -s tells no {name}")


class Auditd:
    """One run of auditd below ``directory``. Plugins are those whose conf is in :attr:`plugins` before the start."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "audit"
        self.plugins = self.config / "plugins.d"
        self.plugins.mkdir(parents=True, mode=0o750)
        self.log = directory / "raw.log"
        self.lost = 0
        self._process: subprocess.Popen[bytes] | None = None

    def add_plugin(self, name: str, path: str, *args: str) -> None:
        """Write ``name``.conf as auditd 3 and 4 want it."""
        lines = ["active = yes", "direction = out", "type = always", "format = string", f"path = {path}"]
        if args:
            lines.append("args = " + " ".join(args))
        conf = self.plugins / f"{name}.conf"
        conf.write_text("\n".join(lines) + "\n")
        conf.chmod(0o640)

    @contextlib.contextmanager
    def running(self, token: str, key: str) -> Iterator[None]:
        """Run auditd with the rules of run ``token`` under ``key``; stop it and put audit's state back."""
        before = AuditState.read()
        if audit_counter("pid"):
            raise NotPossibleError("an auditd is running already: stop it for the time of the bench")
        if before.settings["enabled"] == "2":
            raise NotPossibleError("the audit configuration is immutable (auditctl -e 2) until the next boot")
        lost = audit_counter("lost")
        try:
            self._start()
            auditctl("-b", str(BACKLOG_LIMIT))
            add = ("-a", "always,exit", "-F", "arch=b64")
            for arch in ("b64", "b32"):
                auditctl("-a", "always,exit", "-F", f"arch={arch}", "-S", "execve,execveat", "-F", f"key={key}")
            auditctl(*add, "-S", "getpriority", "-F", f"a0={int(token[:8], 16)}", "-F", f"key={key}")
            yield
            wait_for(lambda: audit_counter("backlog") == 0, "the kernel's audit backlog to drain", 60)
            self.lost = audit_counter("lost") - lost
        finally:
            auditctl("-D", "-k", key)
            self._stop()
            before.restore()

    def children(self) -> list[int]:
        """The plugins' process ids."""
        assert self._process is not None
        found = []
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return found

    def wait_logged(self, token: str, workload: int, timeout: float) -> None:
        """Until an exec action of ``workload`` is in auditd's own log."""

        def logged() -> bool:
            with self.log.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - (1 << 16)))
                return any(action.workload == workload for action in read_actions(log.read(), token).values())

        wait_for(logged, "the last event in auditd's log", timeout)

    def _start(self) -> None:
        conf = self.config / "auditd.conf"
        conf.write_text(_CONF.format(log=self.log, plugins=self.plugins))
        conf.chmod(0o640)
        output = (self.config / "output").open("wb")
        with output:
            self._process = subprocess.Popen(
                [AUDITD, "-c", str(self.config), "-n"], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        process = self._process

        def ready() -> bool:
            if process.poll() is not None:
                text = (self.config / "output").read_text(errors="replace")
                raise NotPossibleError(f"auditd ended with {process.returncode}: {text}")
            return audit_counter("pid") == process.pid

        wait_for(ready, "auditd to register with the kernel", START_TIMEOUT)

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        plugins = self.children()
        for pid in plugins:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # a plugin gets SIGTERM and the end of its input; what it has still to write is part of its answer
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in plugins), "the plugins to end", 30)
