"""A large real corpus: what auditd 3.0.9 logs of an execve, openat, clone and connect mix on this kernel.

Kept outside the project, in the user's cache folder, and recorded when it is not there.
"""

import os
import subprocess
import time
from pathlib import Path
from typing import Final

from .recorder import auditd, discard

RULES: Final = (
    "-a always,exit -F arch=b64 -S execve -F key=exec",
    "-a always,exit -F arch=b64 -S openat -F success=1 -F key=open",
    "-a always,exit -F arch=b64 -S clone,clone3,vfork -F key=fork",
    "-a always,exit -F arch=b64 -S connect -F key=net",
)
#: one process of the mix: most of its events are opens and connects, every 20th round forks and execs
WORK: Final = r"""
use Socket;
my $to = sockaddr_in(9, inet_aton("127.0.0.1"));
my $n = 0;
while (1) {
    open(my $f, "<", "/etc/hostname"); close($f);
    socket(my $s, PF_INET, SOCK_DGRAM, 0); connect($s, $to); close($s);
    if (++$n % 20 == 0) { my $pid = fork(); if (!$pid) { exec("/usr/bin/true", "of", "round $n"); } waitpid($pid, 0); }
}
"""


def folder() -> Path:
    """Where corpora are kept."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auditns-bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


def corpus(log_format: str = "RAW", records: int = 500_000, seconds: float = 50.0) -> Path:
    """The log of that format; recorded (as root) when there is none with at least half of ``records``."""
    path = folder() / f"{log_format.lower()}-{records}.log"
    if path.exists():
        return path
    with auditd(log_format, None, RULES) as recording:
        workers = [subprocess.Popen(["perl", "-e", WORK], cwd="/") for _ in range(os.cpu_count() or 2)]
        try:
            end = time.monotonic() + seconds
            # a record is about 150 bytes, in the enriched format 250
            while recording.log.stat().st_size < records * 150 and time.monotonic() < end:
                time.sleep(0.2)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    staged = path.with_suffix(".new")
    staged.write_bytes(recording.log.read_bytes())
    discard(recording)
    staged.replace(path)
    return path


def pids(path: Path) -> list[int]:
    """The thread groups that the corpus is about."""
    found = set()
    with open(path, "rb") as text:
        for line in text:
            if line.startswith(b"type=SYSCALL"):
                found.add(int(line.split(b" pid=", 1)[1].split(b" ", 1)[0]))
    return sorted(found)
