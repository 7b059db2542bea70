"""The soak: ``python -m tests.bench.soak`` (no root needed).

Fills the table with living processes, then feeds it millions of kernel events of short-lived ones (fork with
namespaces, comm, exec, exit; every tenth makes a pid namespace), forgetting what ended long ago as the pipeline does.
Prints resident memory and rate as it goes; exit status 1 when memory still grows in the second half.

    python -m tests.bench.soak --processes 100000 --events 5000000 --benchmarks BENCHMARKS.md
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.namespace_life import GONE
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618, PERF_ORDER
from tests.bench.report import write_section
from tests.unit.world import born

#: events a second of the simulated host
RATE: Final = 10_000
STEP: Final = 1_000_000_000 // RATE
KEEP: Final = 20_000_000_000
BATCH: Final = 10_000
#: how much the second half may add (bytes): a table that leaks adds far more
ALLOWANCE: Final = 8 << 20
_PER_PROCESS: Final = 5


def resident() -> int:
    """Resident memory of this process in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def namespaces(pid_inode: int | None = None) -> bytes:
    """A NAMESPACES payload: the initial ones, but for the pid namespace where its inode is given."""
    inodes = dict(INITIAL_INODES_618)
    if pid_inode is not None:
        inodes["pid"] = pid_inode
    return f.NAMESPACES_PAYLOAD.pack(4, *(inodes[name] for name in PERF_ORDER))


def short_lives(first_pid: int, start: int) -> Iterator[bytes]:
    """Endless events of processes that fork, exec and exit; pids are used again and again."""
    plain, now, number = namespaces(), start, 0
    while True:
        pid = first_pid + number % 20_000
        payload = namespaces(0xF0000000 + number % 7) if number % 10 == 0 else plain
        at = [now + i * STEP for i in range(_PER_PROCESS)]
        yield f.pack(f.K_FORK, f.S_PERF, at[0], pid=pid, tid=pid, ppid=1, ptid=1, payload=payload)
        yield f.pack(f.K_COMM, f.S_PERF, at[1], pid=pid, tid=pid, arg=1, payload=b"true\0")
        yield f.pack(f.K_EXEC, f.S_PERF, at[2], pid=pid, tid=pid, ppid=pid, cgroup=1, payload=b"/bin/true\0")
        yield f.pack(f.K_EXIT_SAMPLE, f.S_PERF, at[3], pid=pid, tid=pid, cgroup=1)
        yield f.pack(f.K_EXIT, f.S_PERF, at[4], pid=pid, tid=pid, ppid=1, ptid=1)
        now = at[4] + STEP
        number += 1


def filled(processes: int) -> Model:
    """A table with that many living processes."""
    import json

    features = ["newtask", "exec_sample", "exit_sample"]
    hello = {"boot_id": "soak", "ns_dev": 4, "initial": INITIAL_INODES_618, "v2_only": True, "features": features}
    model = Model()
    model.apply(f.pack(f.K_HELLO, f.S_PIPELINE, 0, payload=json.dumps(hello).encode()))
    model.apply(f.pack(f.K_CGROUP, f.S_PERF, 0, cgroup=1, payload=b"/\0"))
    init = {"pid": 1, "ppid": 0, "tids": [1], "start": 0, "comm": "init", "ns": INITIAL_INODES_618, "cg": {}}
    model.apply(f.pack(f.K_PROC, f.S_PROCFS, 0, pid=1, payload=json.dumps(init).encode()))
    payload = namespaces()
    for pid in range(2, processes + 1):
        model.apply(f.pack(f.K_FORK, f.S_PERF, pid, pid=pid, tid=pid, ppid=1, ptid=1, payload=payload))
    return model


def answers(model: Model) -> bytes:
    """What the kernel would say: namespaces that have ended already have no id any more, and are gone."""
    model.queries.clear()
    out = [f.pack(f.K_NSID, f.S_PROCFS, model.now, cgroup=inst.number) for inst in born(model)]
    out += [
        f.pack(f.K_NSGONE, f.S_PROCFS, model.now, cgroup=number, arg=GONE) for number in model.namespaces.unproven_ends
    ]
    return b"".join(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, and write the section when asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak")
    parser.add_argument("--processes", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--benchmarks", metavar="FILE")
    options = parser.parse_args(argv)

    base = resident()
    model = filled(options.processes)
    full = resident()
    events = short_lives(options.processes + 1, options.processes)
    rows, spent, done = [], 0.0, 0
    while done < options.events:
        block = b"".join(next(events) for _ in range(BATCH))
        begun = time.process_time()
        model.apply(block)
        model.apply(answers(model))
        model.expire(model.now - KEEP)
        model.outputs.clear()
        spent += time.process_time() - begun
        done += BATCH
        if done % (options.events // 10) < BATCH:
            rows.append((done, resident()))
            print(f"{done:>9} events  {rows[-1][1] / 2**20:7.1f} MiB  {done / spent:9.0f} events per CPU second")
    growth = rows[-1][1] - rows[len(rows) // 2][1]
    text = "\n".join(
        (
            (
                f"{options.processes} living processes take {(full - base) / 2**20:.1f} MiB, "
                f"{(full - base) // options.processes} bytes each. Over {done} kernel events of short-lived processes "
                f"({RATE} a second, kept for {KEEP // 10**9} s after their end) the table took "
                f"{done / spent:.0f} events per CPU second, and memory was:"
            ),
            "",
            "| events | resident MiB |",
            "|--:|--:|",
            *(f"| {count} | {size / 2**20:.1f} |" for count, size in rows),
            "",
            f"Python {platform.python_version()}, Linux {platform.release()}. Command: `python -m tests.bench.soak`",
        )
    )
    print(text)
    if options.benchmarks:
        write_section("soak", text, Path(options.benchmarks))
    print(f"growth in the second half: {growth / 2**20:.1f} MiB")
    return 1 if growth > ALLOWANCE else 0


if __name__ == "__main__":
    sys.exit(main())
