"""Isolation of streams, measured: ``python -m tests.bench.streams [SECONDS]`` (root, no auditd).

One container forks and execs as fast as it can, its reader never reads; another runs 100 programs a second, and each
must be in its stream. Its delay is from when the kernel hands its record to a second reader of the multicast group to
when the reader of the stream has it; both read at a high priority, for what they wait for a CPU is not ours. Beside it
stand the times from the exec and from before the fork, with what the kernel takes.
"""

import contextlib
import os
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
            seen: dict[int, int] = {}

            def read() -> None:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -15)  # what it waits for a CPU is not ours
                rest = b""
                with contextlib.suppress(TimeoutError):
                    while data := reader.recv(1 << 20):
                        now = time.monotonic_ns()
                        *lines, rest = (rest + data).split(b"\n")
                        for found in _STAMP.findall(b"\n".join(lines)):
                            seen.setdefault(int(found), now)

            thread = threading.Thread(target=read)
            thread.start()
            witness = subprocess.Popen(
                [sys.executable, "-c", _WITNESS, str(seconds + 2)], stdout=subprocess.PIPE, text=True
            )
            assert witness.stdout is not None
            witness.stdout.readline()  # it listens
            inner = subprocess.Popen(
                ["nsenter", "-t", str(calm.pid), "-p", sys.executable, "-c", _CALM, str(seconds)],
                stdout=subprocess.PIPE,
            )
            out, _ = inner.communicate()
            begun = dict(map(int, line.split()) for line in out.splitlines())
            thread.join()
            handed = dict(map(int, line.split()) for line in witness.communicate()[0].splitlines())
            shown = auditns("stream", "list", "--control", control).stdout.decode().strip()
            events = auditns("status", "--control", control).stdout.decode()
            silent.close()
            reader.close()
    finally:
        program.stop()
    print(f"{'with' if flood else 'without'} flood: {len(begun)} programs, {len(begun) - len(seen)} missing")
    for name, since in (("kernel's record", handed), ("exec", begun), ("fork", {t: t for t in begun})):
        got = sorted((seen[t] - since[t]) / 1e6 for t in begun if t in seen and t in since)
        print(f"  from the {name} to the reader, ms: p50 {got[len(got) // 2]:.2f}, p90 {got[len(got) * 9 // 10]:.2f}, "
              f"p99 {got[len(got) * 99 // 100]:.2f}, max {got[-1]:.2f}")  # fmt: skip
    print("  " + "\n  ".join(shown.splitlines()))
    wanted = ("events.seen", "lost:", "sources.audit.lost", "streams.pids_hidden")
    print("  " + " ".join(line for line in events.splitlines() if line.startswith(wanted)))


_CALM = """
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
while (now := time.monotonic()) < end:
    t = time.monotonic_ns()
    pid = os.posix_spawn("/bin/true", ["/bin/true", f"t{t}"], {})  # like vfork: returns when the child has exec'd
    print(t, time.monotonic_ns())
    os.waitpid(pid, 0)
    time.sleep(max(0, now + 0.01 - time.monotonic()))
"""
_WITNESS = """
import os, re, socket, sys, time
os.setpriority(os.PRIO_PROCESS, 0, -15)
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)
sock.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
sock.bind((0, 1))
sock.settimeout(0.2)
print("ready", flush=True)
end, found, stamp = time.monotonic() + float(sys.argv[1]), [], re.compile(rb'a1="t(\\d+)"')
while time.monotonic() < end:
    try:
        data = sock.recv(16384)
    except TimeoutError:
        continue
    now = time.monotonic_ns()
    match = stamp.search(data)
    if match:
        found.append((int(match[1]), now))
for pair in found:
    print(*pair)
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
