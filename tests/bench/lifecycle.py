"""What the life of a namespace costs: CPU time of the table and of the lines, in microseconds a life.

``python -m tests.bench.lifecycle JOURNAL`` replays a journal that ``auditns listen --journal`` wrote beside a storm;
without JOURNAL a storm of user and pid namespaces runs on this host beside a listener (needs root and gcc). A life is
counted by the clone that made its pid namespace.
"""

import argparse
import gc
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.lifecycle_budget import LifecycleBudget
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWPID

STORM: Final = r"""
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    time_t end = time(0) + atoi(argv[argc > 1]);
    long made = 0, failed = 0;
    while (time(0) < end)
        for (int i = 0; i < 100; i++) {
            pid_t pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
            if (!pid)
                _exit(0);
            if (pid < 0)
                failed++;
            else
                made++, waitpid(pid, 0, 0);
        }
    printf("%ld %ld\n", made, failed);
}
"""
_BLOCK: Final = 64 << 10


def _blocks(data: bytes) -> Iterator[bytes]:
    """Whole frames, some 64 KiB at a time, as a busy listener drains them."""
    start = off = 0
    while off < len(data):
        size = int.from_bytes(data[off : off + 4], "little")
        if size < 48 or off + size > len(data):
            break
        off += size
        if off - start >= _BLOCK:
            yield data[start:off]
            start = off
    if off > start:
        yield data[start:off]


def replay(path: Path, *, unlimited: bool) -> None:
    """Table and lines of a recorded run."""
    model, spent = Model(), {"table": 0.0, "lines": 0.0}
    budget = LifecycleBudget(0, 0) if unlimited else None
    standalone = StandaloneRecords(model, EventSerials(None), ("raw",), budget=budget)
    gc.freeze()
    gc.disable()
    lives = size = lines = 0
    for block in _blocks(path.read_bytes()):
        began = time.process_time()
        model.apply(block)
        applied = time.process_time()
        outputs = model.take_outputs()
        text = b"".join(blocks["raw"] for blocks in standalone.format_outputs(outputs))
        model.outputs_consumed()
        told = time.process_time()
        spent["table"] += applied - began
        spent["lines"] += told - applied
        model.forget_questions()
        size, lines = size + len(text), lines + text.count(b"\n")
        lives += sum(one.kind == f.K_NEWTASK and bool(one.arg & CLONE_NEWPID) for one in f.iter_frames(block))
    lives = lives or 1
    each = ", ".join(f"{name} {took / lives * 1e6:.1f} us" for name, took in spent.items())
    print(f"{lives} lives, {lines} lines of {size} bytes: {each} a life")


def live(seconds: int, storms: int) -> None:
    """A storm by uid 1000 beside a listener that writes raw text into a file."""
    with tempfile.TemporaryDirectory(prefix="auditns-storm-") as folder:
        os.chmod(folder, 0o755)
        program = Path(folder, "storm")
        subprocess.run(["gcc", "-O2", "-xc", "-", "-o", str(program)], input=STORM, text=True, check=True)
        with open(Path(folder, "out"), "wb") as out:
            listener = subprocess.Popen(
                [sys.executable, "-m", "auditns_connector.cli.main", "listen", "--format", "raw", "--quiet"], stdout=out
            )
            time.sleep(2)
            before = _cpu(listener.pid)
            who = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", str(program), str(seconds)]
            running = [subprocess.Popen(who, stdout=subprocess.PIPE, text=True) for _ in range(storms)]
            counted = [tuple(map(int, one.communicate()[0].split())) for one in running]
            time.sleep(3)
            spent = _cpu(listener.pid) - before
            peak = _peak(listener.pid)
            listener.send_signal(signal.SIGTERM)
            listener.wait()
        made, failed = (sum(column) for column in zip(*counted, strict=True))
        text = Path(folder, "out").read_bytes()
        lines = text.count(b"\n")
        print(
            f"{made} lives ({failed} failed) in {seconds} s: {spent / made * 1e6:.1f} us of CPU a life, {lines} lines, "
            f"peak {peak >> 10} MiB, {text.count(b'type=CONTAINER_LOST')} CONTAINER_LOST"
        )


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lifecycle", description=__doc__)
    parser.add_argument("journal", nargs="?", type=Path)
    parser.add_argument("--unlimited", action="store_true", help="tell every line, whatever the rate")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--storms", type=int, default=2)
    args = parser.parse_args()
    if args.journal:
        replay(args.journal, unlimited=args.unlimited)
        print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")
    else:
        live(args.seconds, args.storms)


if __name__ == "__main__":
    main()
