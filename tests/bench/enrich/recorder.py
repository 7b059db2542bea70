"""Run the real auditd in a folder of its own and keep what it writes: its log, and what it gives a plugin."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernel import support
from tests.kernel.auditd import Auditd


@dataclass
class Recording:
    """Where a run keeps its files; ``log`` and ``stream`` may be read when the run has ended."""

    folder: Path
    log: Path

    @property
    def stream(self) -> Path:
        """What the plugin was given on its stdin."""
        return self.folder / "plugin.out"


@contextlib.contextmanager
def auditd(log_format: str = "RAW", node: str | None = None, rules: tuple[str, ...] = ()) -> Iterator[Recording]:
    """A real auditd for the length of the block; audit's state is put back behind it.

    The files of the recording are complete only once the block has ended; who has read them removes them with
    :func:`discard`.
    """
    with support.audit_state():
        folder = Path(tempfile.mkdtemp(prefix="auditns-record-", dir="/var/tmp"))
        names = {"name_format": "USER", "name": node} if node else {}
        daemon = Auditd(folder, log_format=log_format, max_log_file="8000", **names)
        recording = Recording(folder, daemon.log)
        tee = folder / "tee.sh"
        tee.write_text(f"#!/bin/sh\ntrap '' HUP TERM\nexec /bin/cat > {recording.stream}\n")
        tee.chmod(0o750)
        daemon.add_plugin("tee", str(tee))
        with daemon.serving():
            support.until(lambda: recording.stream.exists() and recording.stream.stat().st_size, "the plugin's input")
            support.auditctl("-e", "1")
            support.auditctl("-b", "65536")
            for rule in rules:
                support.auditctl(*rule.split())
            yield recording
            time.sleep(0.3)


def discard(recording: Recording) -> None:
    """Remove the files of a recording."""
    shutil.rmtree(recording.folder)
