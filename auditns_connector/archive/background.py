"""Seal what was rotated beside the program that writes the log: in a process of its own, which gives way."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from auditns_connector.archive.text_files import rotated
from auditns_connector.vocabulary.values import JsonObject

#: seconds between two looks at the log's directory, and after a sealing that failed
PAUSE: Final = 5.0
AFTER_FAILURE: Final = 300.0
#: what it says before it fails is taken up to here (bytes)
_SAID: Final = 2000
_PROGRAM: Final = "import sys; sys.path[:] = {path!r}; from auditns_connector.cli.main import main; main()"
_SIGNALS: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class BackgroundSealer:
    """Seals rotated files of ``log`` into the archive at ``path`` by the configuration file ``config``; to be called by
    :meth:`tick` now and then with CLOCK_MONOTONIC in seconds. The newest of them stays: by it a program that starts
    again sees how far the last one came. ``say`` is called with failures."""

    def __init__(self, path: str, log: str, config: str, say: Callable[[str], None]) -> None:
        self._path, self._log, self._config, self._say = path, log, config, say
        self._next = 0.0
        self._pid = self._said = -1
        self.sealings = self.failures = 0

    def counters(self) -> JsonObject:
        """For ``auditns status``."""
        return {"path": self._path, "running": self.running, "sealings": self.sealings, "failures": self.failures}

    @property
    def running(self) -> bool:
        """A process is at it."""
        return self._pid > 0

    def tick(self, now: float) -> None:
        """Look whether there is something to do."""
        if self.running:
            self._reap(now)
        elif now >= self._next:
            self._next = now + PAUSE
            try:
                if len(rotated(self._log)) > 1:
                    self._start()
            except OSError as error:
                self._failed(now, f"{error.filename or sys.executable}: {error.strerror}")

    def _start(self) -> None:
        command = [sys.executable, "-I", "-c", _PROGRAM.format(path=sys.path), "archive", "seal", "--nice", "--no-wait"]
        command += ["--archive", self._path, "--config", self._config, "--rotated", self._log]
        self._said = os.memfd_create("auditns-seal")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._pid = os.posix_spawn(
                sys.executable, command, {"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1),
                    (os.POSIX_SPAWN_DUP2, self._said, 2),
                ],
                setsigdef=_SIGNALS, setsigmask=(),
            )  # fmt: skip
        finally:
            os.close(null)
            if not self.running:
                self._forget()

    def _reap(self, now: float) -> None:
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self._pid, 0  # somebody else has taken it
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        said = os.pread(self._said, _SAID, 0).decode("utf-8", "replace").strip()
        self._forget()
        if code:
            self._failed(now, said or f"it ended with {code}")
        else:
            self.sealings += 1

    def _forget(self) -> None:
        os.close(self._said)
        self._pid = self._said = -1

    def _failed(self, now: float, why: str) -> None:
        self.failures += 1
        self._next = now + AFTER_FAILURE
        self._say(f"rotated text is not sealed: {why}")

    def close(self) -> None:
        """End it: what is not sealed is sealed next time."""
        if self.running:
            os.kill(self._pid, signal.SIGTERM)
            os.waitpid(self._pid, 0)
            self._forget()
