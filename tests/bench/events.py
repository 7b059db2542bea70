"""Kernel events: decoded, and decoded and taken into the table; a storm of forks through the default buffers."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from auditns_connector._native import ffi, lib
from auditns_connector.model.apply.dispatch import Model
from tests.decoders import c_layout
from tests.perfrecords import LAYOUT, comm, namespaces, raw_exec, raw_exit, sample, task

from . import report
from .enrich import journal
from .sources.__main__ import connector_in_c, perf_in_c

_BATCH = 500


def rates(work: Callable[[int], int], events: int, repeat: int) -> list[float]:
    """Million events per CPU second of ``work``, which is given how many to do and returns how many it did."""
    found = []
    for _ in range(repeat):
        start = time.process_time()
        done = work(events)
        found.append(done / (time.process_time() - start) / 1e6)
    return found


def life(pid: int, now: int) -> bytes:
    """The six perf records of a fork, exec and exit, made by the first process of one of 200 containers."""
    init = journal.FIRST_PID + pid % 200
    return b"".join(
        (
            task(7, now, pid, pid, init, init),
            namespaces(now, pid, pid, journal.inodes(pid % 200), journal.NS_DEV),
            comm(now + 1, pid, pid, b"true", by_exec=True),
            sample(raw_exec(pid, pid, b"/usr/bin/true"), now + 2, pid, pid, cgroup=1000 + pid % 200),
            sample(raw_exit(pid), now + 3, pid, pid, cgroup=1000 + pid % 200),
            task(4, now + 4, pid, pid, init, init),
        )
    )


def into_table(events: int) -> int:
    """perf records of processes from fork to exit, decoded in C and taken into a table of 10,000."""
    model, began = Model(), journal.UPTIME
    model.apply(journal.hello(0, began) + b"".join(journal.population(10_000, 200, began)))
    blocks = []
    for first in range(0, events // 6, _BATCH):
        pids = range(2000 + first % 30_000, 2000 + first % 30_000 + _BATCH)
        blocks.append(b"".join(life(pid, began + 10_000_000 + 1000 * (first + i)) for i, pid in enumerate(pids)))
    layout, counters = c_layout(LAYOUT), ffi.new("struct perf_counters *")
    last, out, used = ffi.new("uint64_t *"), ffi.new("uint8_t **"), ffi.new("size_t *")
    start = time.process_time()
    for number, block in enumerate(blocks):
        size = lib.perf_decode(layout, counters, block, len(block), 0, 2**64 - 1, last, out, used)
        model.apply(bytes(ffi.buffer(out[0], size)))
        lib.perf_free(out[0])
        if number % 20 == 19:
            model.expire(last[0] - 1_000_000)
    into_table.seconds = time.process_time() - start  # type: ignore[attr-defined]
    return int(counters.received)


def table_rates(events: int, repeat: int) -> list[float]:
    """As :func:`rates`, without the time that making the records takes."""
    return [into_table(events) / into_table.seconds / 1e6 for _ in range(repeat)]  # type: ignore[attr-defined]


STORM = """
import os, sys, time
end, n = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    n += 1
print(n)
"""


def storm(seconds: float) -> str:
    """Every CPU forks as fast as it can while the listener's sources and table keep up, or tell what they lost."""
    import sys

    from auditns_connector.host.open_sources import host_observer
    from tests.kernel.support import kernel_lock

    with kernel_lock():
        observer, _ = host_observer()
        try:
            observer.start()
            makers = [
                subprocess.Popen([sys.executable, "-c", STORM, str(seconds)], stdout=subprocess.PIPE, text=True)
                for _ in range(os.cpu_count() or 1)
            ]
            used = time.process_time()
            while any(maker.poll() is None for maker in makers):
                observer.mark(observer.sync(), [], expire=time.monotonic_ns() - 20_000_000_000)
                time.sleep(0.05)
            observer.sync()
            used = time.process_time() - used
            forks = sum(int(maker.communicate()[0]) for maker in makers)
            counted: dict[str, Any] = observer.perf.counters() if observer.perf else observer.connector.counters()
        finally:
            observer.close()
    return (
        f"A storm of {forks:,} forks and exits in {seconds:.0f} s ({forks / seconds:,.0f} a second) with the default "
        f"buffers: {counted['received']:,} events received, {counted['lost']} lost, {used / forks * 1e6:.1f} µs CPU of "
        "ours for each."
    )


def bench(quick: bool) -> str:
    """The section of BENCHMARKS.md."""
    events, repeat = (300_000, 1) if quick else (1_200_000, 5)
    figures = {
        "proc connector, decoded": rates(connector_in_c, events, repeat),
        "perf, decoded": rates(perf_in_c, events, repeat),
        "perf, decoded and in the table": table_rates(events // 3, repeat),
    }
    rows = [[name, report.spread(values)] for name, values in figures.items()]
    parts = ["## Kernel events", report.table(["work", "million events/CPU s, median (spread)"], rows)]
    parts.append(
        "The table's events are lives of processes (fork with namespaces, comm, exec, exit): "
        f"{6 / statistics.median(figures['perf, decoded and in the table']):.1f} µs a life."
    )
    if os.geteuid() == 0:
        parts.append(storm(3 if quick else 30))
    return "\n\n".join(parts)
