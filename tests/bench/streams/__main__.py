"""Isolation of streams, measured: ``python -m tests.bench.streams [--seconds S] [--write]`` (root, no auditd).

One container forks and execs as fast as it can, its reader never reads; another runs 100 programs a second, and each
must be in its stream. Its delay is from when the kernel hands its record to a second reader of the multicast group to
when the reader of the stream has it; both read at a high priority, for what they wait for a CPU is not ours. Beside it
stands the time from before the fork, with what the kernel takes. ``--write`` puts the table into BENCHMARKS.md.
"""

import argparse
import contextlib
import json
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
from typing import NamedTuple

from tests.bench import report
from tests.kernel.programs import Program, auditns
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import audit_state, auditctl

FLOOD = "while :; do /bin/true; done"
_STAMP = re.compile(rb'a1="t(\d+)"')


class Result(NamedTuple):
    """One run: the programs, how many of them the stream never had, delays (ms, sorted) from the kernel's record and
    from before the fork, records that the flooded stream dropped, and what the listener itself lost."""

    programs: int
    missing: int
    delays: list[float]
    from_fork: list[float]
    dropped: int
    lost: int


def run(base: Path, seconds: float, flood: bool) -> Result:
    """Measure once."""
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
            begun = _pairs(out.decode())
            thread.join()
            handed = _pairs(witness.communicate()[0])
            status = json.loads(auditns("status", "--json", "--control", control).stdout)
            silent.close()
            reader.close()
    finally:
        program.stop()
    return Result(
        len(begun),
        len(set(begun) - set(seen)),
        sorted((seen[t] - handed[t]) / 1e6 for t in begun if t in seen and t in handed),
        sorted((seen[t] - t) / 1e6 for t in begun if t in seen),
        status["streams"]["flood"]["lost_records"],
        status["lost"],
    )


def _pairs(text: str) -> dict[int, int]:
    return {int(one): int(other) for one, other in (line.split() for line in text.splitlines())}


def row(flood: bool, result: Result) -> list[str]:
    """One row of the table."""
    got, whole = result.delays, result.from_fork
    shown = [f"{got[len(got) * part // 1000]:.2f}" for part in (500, 900, 990)]
    return [
        "a flood, its reader never reads" if flood else "nothing",
        str(result.programs),
        str(result.missing),
        *shown,
        f"{got[-1]:.2f}",
        f"{whole[len(whole) * 99 // 100]:.2f}",
        str(result.dropped),
        str(result.lost),
    ]


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
    """Measure in turns, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rows = []
    with audit_state():
        auditctl("-e", "0")
        for flood in (False, True) * args.repeat:
            base = Path(tempfile.mkdtemp(prefix="auditns-bench-"))
            try:
                rows.append(row(flood, run(base, args.seconds, flood)))
            finally:
                shutil.rmtree(base, ignore_errors=True)
            print(" | ".join(rows[-1]), flush=True)
    if args.write:
        text = "## Streams of containers\n\n" + _TEXT + report.table(_HEADER, rows)
        text += f"\n\n`python -m tests.bench.streams --seconds {args.seconds:g} --write`; {report.machine()}."
        report.write_section("streams", text)


_HEADER = (
    "beside it", "programs", "missing", "p50 ms", "p90", "p99", "max", "p99 from before the fork",
    "records the other stream dropped", "lost by the listener",
)  # fmt: skip
_TEXT = """A container that runs 100 programs a second and whose stream is read, alone and beside one that forks and
execs as fast as it can. Delay: from when the kernel hands the record over to when the stream's reader has it.

"""


if __name__ == "__main__":
    main()
