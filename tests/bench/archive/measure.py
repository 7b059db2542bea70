"""A command measured: wall and CPU time, memory, size of its output."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Measured(NamedTuple):
    """Seconds, MiB, bytes."""

    wall: float
    cpu: float
    memory: float
    output: int


def measured(
    command: Sequence[str], *, runs: int = 1, env: Mapping[str, str] | None = None, good: Sequence[int] = (0,)
) -> Measured:
    """The last of some runs, its output to a file. Raises where it fails."""
    for _ in range(runs):
        with tempfile.TemporaryFile() as out:
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env={**os.environ, **(env or {})})
            assert process.stderr is not None
            said = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode not in good:
                raise RuntimeError(f"{command[:4]}: {process.returncode}: {said.decode()}")
            size = out.seek(0, os.SEEK_END)
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, size)
