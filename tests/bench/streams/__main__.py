"""Isolation of streams, measured: ``python -m tests.bench.streams [SECONDS]`` (root, no auditd).

One container forks and execs as fast as it can, its reader never reads; another runs 100 programs a second, and each
must be in its stream. The latency is from just before the fork to the reader's having the record, both on this host.
"""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.kernel.programs import Program, auditns
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import audit_state, auditctl

FLOOD = "while :; do /bin/true; done"
_STAMP = re.compile(rb'a1="t(\d+)"')


def run(base: Path, seconds: float, flood: bool) -> None:
    control = base / "control"
    program = Program(base / "listen", ["listen", "--rules", "--format", "raw", "--control", control]).ready()
    try:
        for name, digit in (("flood", "aa11"), ("calm", "bb22")):
            limit = ["--backlog-limit", "2000"]
            auditns("stream", "create", name, "--name", f"{digit}*", *limit, "--control", control)
        with Runtimes(base / "rt") as runtimes:
            calm = runtimes.start("runc", ["sleep", "600"], cgroup="/docker/" + "bb22" * 16)
            if flood:
                runtimes.start("runc", ["sh", "-c", FLOOD], cgroup="/docker/" + "aa11" * 16)
            silent = socket.socket(socket.AF_UNIX)
            silent.connect(str(base / "streams/flood/sock"))
            reader = socket.socket(socket.AF_UNIX)
            reader.connect(str(base / "streams/calm/sock"))
            reader.settimeout(2.0)
            sent: list[int] = []
            delays: dict[int, float] = {}

            def read() -> None:
                rest = b""
                with contextlib.suppress(TimeoutError):
                    while data := reader.recv(1 << 20):
                        now = time.monotonic_ns()
                        *lines, rest = (rest + data).split(b"\n")
                        for found in _STAMP.findall(b"\n".join(lines)):
                            delays.setdefault(int(found), (now - int(found)) / 1e6)

            thread = threading.Thread(target=read)
            thread.start()
            inner = subprocess.Popen(
                ["nsenter", "-t", str(calm.pid), "-p", sys.executable, "-c", _CALM, str(seconds)],
                stdout=subprocess.PIPE,
            )
            out, _ = inner.communicate()
            sent = [int(line) for line in out.split()]
            thread.join()
            shown = auditns("stream", "list", "--control", control).stdout.decode().strip()
            events = auditns("status", "--control", control).stdout.decode()
            silent.close()
            reader.close()
    finally:
        program.stop()
    got = sorted(delays[t] for t in sent if t in delays)
    missing = len(sent) - len(got)
    print(f"{'with' if flood else 'without'} flood: {len(sent)} programs, {missing} missing, "
          f"p50 {got[len(got) // 2]:.2f} ms, p99 {got[len(got) * 99 // 100]:.2f} ms, max {got[-1]:.2f} ms")  # fmt: skip
    print("  " + "\n  ".join(shown.splitlines()))
    wanted = ("events.seen", "lost:", "sources.audit.lost", "streams.pids_hidden")
    print("  " + " ".join(line for line in events.splitlines() if line.startswith(wanted)))


_CALM = """
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
while (now := time.monotonic()) < end:
    t = time.monotonic_ns()
    print(t)
    pid = os.posix_spawn("/bin/true", ["/bin/true", f"t{t}"], {})
    os.waitpid(pid, 0)
    time.sleep(max(0, now + 0.01 - time.monotonic()))
"""


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    with audit_state():
        auditctl("-e", "0")
        for flood in (False, True):
            base = Path(tempfile.mkdtemp(prefix="auditns-bench-"))
            try:
                run(base, seconds, flood)
            finally:
                shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
