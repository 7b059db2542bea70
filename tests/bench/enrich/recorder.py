"""Run the real auditd in a folder of its own and keep what it writes: its log, and what it gives a plugin."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernel import support

CONF = """\
local_events = yes
write_logs = yes
log_file = {folder}/audit.log
log_group = root
log_format = {log_format}
name_format = {name_format}
name = {name}
flush = NONE
max_log_file = 8000
max_log_file_action = IGNORE
space_left = 1
space_left_action = IGNORE
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
plugin_dir = {folder}/plugins.d
q_depth = 20000
overflow_action = IGNORE
max_restarts = 10
end_of_event_timeout = 2
priority_boost = 0
"""
PLUGIN = "active = yes\ndirection = out\npath = {path}\ntype = always\nformat = string\n"


@dataclass
class Recording:
    """Where a run keeps its files; ``log`` and ``stream`` may be read when the run has ended."""

    folder: Path

    @property
    def log(self) -> Path:
        """audit.log as auditd wrote it."""
        return self.folder / "audit.log"

    @property
    def stream(self) -> Path:
        """What the plugin was given on its stdin."""
        return self.folder / "plugin.out"


@contextlib.contextmanager
def auditd(log_format: str = "RAW", node: str | None = None, rules: tuple[str, ...] = ()) -> Iterator[Recording]:
    """A real auditd for the length of the block; audit's state is put back and the folder removed behind it.

    The files of the recording are complete only once the block has ended, so the recording is kept until the
    *caller's* generator ends: use :func:`record`.
    """
    with support.audit_state():
        folder = Path(tempfile.mkdtemp(prefix="auditns-record-", dir="/var/tmp"))
        recording = Recording(folder)
        (folder / "plugins.d").mkdir(mode=0o750)
        tee = folder / "tee.sh"
        tee.write_text(f"#!/bin/sh\ntrap '' HUP TERM\nexec /bin/cat > {recording.stream}\n")
        tee.chmod(0o750)
        (folder / "plugins.d" / "tee.conf").write_text(PLUGIN.format(path=tee))
        conf = CONF.format(
            folder=folder, log_format=log_format, name_format="USER" if node else "NONE", name=node or "none"
        )
        (folder / "auditd.conf").write_text(conf)
        for path in (folder / "auditd.conf", folder / "plugins.d" / "tee.conf"):
            path.chmod(0o640)
        daemon = subprocess.Popen(
            ["auditd", "-n", "-s", "enable", "-c", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "auditd.err").open("wb"),
            stdin=subprocess.DEVNULL,
        )
        try:
            support.until(lambda: recording.stream.exists() and recording.stream.stat().st_size, "start of auditd")
            support.auditctl("-b", "65536")
            for rule in rules:
                support.auditctl(*rule.split())
            yield recording
            time.sleep(0.3)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
            for path in (recording.log, recording.stream):
                if path.exists():
                    os.sync()


def discard(recording: Recording) -> None:
    """Remove the files of a recording."""
    shutil.rmtree(recording.folder)
