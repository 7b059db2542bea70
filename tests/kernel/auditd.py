"""A private real auditd: its own configuration, log and plugins, all below one folder.

Only one auditd can hold the kernel's audit socket, so whoever runs this holds the lock of ``support.kernel_lock``
and puts audit's settings back (``support.audit_state``).
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.kernel.support import auditctl, until

AUDITD: Final = "auditd"
#: where it writes how it is, by version
_STATES: Final = (Path("/run/auditd.state"), Path("/run/audit/auditd.state"))
#: seconds, for a busy machine
START_TIMEOUT: Final = 120.0
STOP_TIMEOUT: Final = 120.0

#: auditd.conf(5); log_file and plugin_dir are added
SETTINGS: Final = {
    "local_events": "yes",
    "write_logs": "yes",
    "log_group": "root",
    "log_format": "RAW",
    "flush": "NONE",
    "max_log_file": "4000",
    "max_log_file_action": "IGNORE",
    "space_left": "2",
    "space_left_action": "IGNORE",
    "admin_space_left": "1",
    "admin_space_left_action": "IGNORE",
    "disk_full_action": "IGNORE",
    "disk_error_action": "IGNORE",
    "priority_boost": "4",
    "name_format": "NONE",
    "q_depth": "99999",
    "overflow_action": "IGNORE",
    "max_restarts": "10",
    "end_of_event_timeout": "2",
}


class NotPossibleError(Exception):
    """auditd cannot run here; the message says why."""


def audit_counter(name: str) -> int:
    """One number of ``auditctl -s``: pid, lost, backlog …"""
    for line in auditctl("-s").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value.split()[0])
    raise NotPossibleError(f"auditctl -s tells no {name}")


class Auditd:
    """One run of auditd below ``directory``. Plugins are those whose conf is in :attr:`plugins` before the start;
    ``settings`` stand in for those of SETTINGS."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.config = directory / "audit"
        self.plugins = self.config / "plugins.d"
        self.plugins.mkdir(parents=True, mode=0o750)
        self.log = directory / "raw.log"
        self.settings = {**SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def told(self) -> str:
        """What it and its plugins have written to its stderr."""
        return (self.config / "output").read_text(errors="replace")

    def add_plugin(self, name: str, path: str, *args: str) -> None:
        """Write ``name``.conf as auditd 3 and 4 want it."""
        lines = ["active = yes", "direction = out", "type = always", "format = string", f"path = {path}"]
        if args:
            lines.append("args = " + " ".join(args))
        conf = self.plugins / f"{name}.conf"
        conf.write_text("\n".join(lines) + "\n")
        conf.chmod(0o640)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Start it, and stop it again."""
        try:
            self.start()
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Start it and wait until the kernel's records go to it. Raises :class:`NotPossibleError`."""
        conf = self.config / "auditd.conf"
        settings = {**self.settings, "log_file": str(self.log), "plugin_dir": str(self.plugins)}
        conf.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        conf.chmod(0o640)
        with (self.config / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [AUDITD, "-c", str(self.config), "-n"], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        process = self._process

        def ready() -> bool:
            if process.poll() is not None:
                raise NotPossibleError(f"auditd ended with {process.returncode}: {self.told}")
            return audit_counter("pid") == process.pid

        until(ready, "auditd to register with the kernel", START_TIMEOUT)

    def stop(self) -> None:
        """Stop it and wait for its plugins."""
        if self._process is None or self._process.poll() is not None:
            return
        plugins = self.children()
        for pid in plugins:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # a plugin gets SIGTERM and the end of its input; what it has still to write is part of its answer
        with contextlib.suppress(TimeoutError):
            until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in plugins), "the plugins to end", STOP_TIMEOUT)

    def hup(self) -> None:
        """Have it read its configuration again, and tell its plugins to do the same."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def queue(self) -> dict[str, str]:
        """What it says of the queue to its plugins, which it is asked for by SIGCONT (auditd(8)): its "current plugin
        queue depth" and whether a "plugin queue overflow" was "detected"."""
        for path in _STATES:
            path.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGCONT)
        found: dict[str, str] = {}

        def told() -> bool:
            for path in _STATES:
                if path.exists():
                    lines = (line.partition(" = ") for line in path.read_text().splitlines())
                    found.update({name: value for name, _, value in lines})
            return "plugin queueing suspended" in found

        until(told, "auditd's state")
        return found

    def children(self) -> list[int]:
        """The plugins' process ids."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread of it that has ended meanwhile
                found += [int(pid) for pid in (task / "children").read_text().split()]
        return found
