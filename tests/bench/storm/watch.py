"""What is measured of one of our programs while it runs: memory, and how long questions wait for their answers."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ANONYMOUS: Final = re.compile(r"^(?:Anonymous|Swap): +(\d+) kB", re.M)
_QUESTION: Final = json.dumps({"v": 1, "op": "status"}).encode()
_PATIENCE: Final = 120.0
_EVERY: Final = 0.1
#: the command starts an interpreter each time: not more often than this (seconds)
_COMMAND_EVERY: Final = 2.0


def private_memory(pid: int) -> float:
    """MiB that are this process's alone: anonymous pages, in memory or swapped. Kernel rings are none of these."""
    return sum(map(int, _ANONYMOUS.findall(Path(f"/proc/{pid}/smaps_rollup").read_text()))) / 1024


class Watcher:
    """Samples of process ``pid``, which serves ``control``, in threads of their own. Seconds and MiB."""

    def __init__(self, pid: int, control: str) -> None:
        self.pid, self.control = pid, control
        self.peak = 0.0
        self.answers: list[float] = []
        self.commands: list[float] = []
        self._ended = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Sample during the block."""
        threads = [threading.Thread(target=work) for work in (self._memory, self._ask, self._command)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    @staticmethod
    def _come_first() -> None:
        """What is measured is how long the answer takes, not how long the asker waits for a CPU."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)

    def _memory(self) -> None:
        while not self._ended.wait(_EVERY):
            self.peak = max(self.peak, private_memory(self.pid))

    def _ask(self) -> None:
        """On one connection, which stays open."""
        self._come_first()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(self.control)
            while not self._ended.wait(_EVERY):
                begun = time.monotonic()
                sock.send(_QUESTION)
                sock.recv(1 << 20)
                self.answers.append(time.monotonic() - begun)

    def _command(self) -> None:
        command = [sys.executable, "-m", "auditns_connector.cli.main", "status", "--control", self.control]
        while not self._ended.wait(_COMMAND_EVERY):
            begun = time.monotonic()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_PATIENCE)
            self.commands.append(time.monotonic() - begun)


def end(pid: int) -> float:
    """SIGTERM to process ``pid``; seconds until it is gone."""
    held = os.pidfd_open(pid)
    try:
        begun = time.monotonic()
        signal.pidfd_send_signal(held, signal.SIGTERM)
        import select

        select.select([held], [], [], _PATIENCE)
        return time.monotonic() - begun
    finally:
        os.close(held)
