"""How far a long command is, on a terminal: one line that is written over, and is gone at the end.

Nothing is shown where stderr is no terminal, where the output goes to a terminal itself, where it is not known how much
there is to read, or where it takes no longer than a moment.
"""

import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, TextIO

#: seconds until something is shown, and between two lines
_FIRST: Final = 1.0
_EVERY: Final = 0.2
_UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Progress:
    """Writes to ``out`` how much of ``total`` bytes is read. ``clock`` counts seconds."""

    def __init__(self, total: int, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._out, self._clock = max(total, 1), out, clock
        self._began = clock()
        self._due = self._began + _FIRST
        self._fd = -1
        self._start = self._before = 0
        self._shown = ""

    def opened(self, fd: int) -> None:
        """The next input is read, by this descriptor."""
        self._fd, self._start = fd, os.lseek(fd, 0, os.SEEK_CUR)

    def closing(self) -> None:
        """That input has been read, as far as it is."""
        self._before, self._fd = self._read(), -1

    def step(self) -> None:
        """Something of it has been read: say so now and then."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + _EVERY
        part = min(self._read() / self._total, 1.0)
        left = (now - self._began) * (1 - part) / part if part else None
        self._show(
            f"auditns: {part:.0%} of {size(self._total)} read" + ("" if left is None else f", {span(left)} left")
        )

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            self._show("")
            self._out.write("\r")
            self._out.flush()

    def _read(self) -> int:
        return self._before + (os.lseek(self._fd, 0, os.SEEK_CUR) - self._start if self._fd >= 0 else 0)

    def _show(self, text: str) -> None:
        self._out.write("\r" + text.ljust(len(self._shown)))
        self._out.flush()
        self._shown = text


def size(number: int) -> str:
    """Bytes for people."""
    for unit, name in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} bytes"


def span(seconds: float) -> str:
    """A time for people."""
    whole = int(seconds) + 1
    return (
        f"{whole} s" if whole < 100 else f"{(whole + 59) // 60} min" if whole < 6000 else f"{(whole + 3599) // 3600} h"
    )


def total_of(paths: Sequence[str]) -> int | None:
    """How many bytes there are to read of ``paths`` (``-`` is stdin); None where that is not known."""
    total = 0
    for path in paths:
        try:
            found = os.fstat(0) if path == "-" else os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return None
            total += found.st_size - (os.lseek(0, 0, os.SEEK_CUR) if path == "-" else 0)
        except OSError:
            return None  # whoever opens it says why
    return total


def progress(paths: Sequence[str]) -> Progress | None:
    """What shows how reading ``paths`` goes, where there is somebody to see it."""
    if sys.stderr is None or not sys.stderr.isatty() or sys.stdout is None or sys.stdout.isatty():
        return None
    total = total_of(paths)
    return None if total is None else Progress(total, sys.stderr)
