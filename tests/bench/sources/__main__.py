"""Events per CPU second of the kernel event sources: ``python -m tests.bench.sources [--events N] [--repeat N]``.

Decoding alone, from memory, in C and by the Python references; and, as root, a burst of fork and exit read from the
real socket and the real rings. CPU seconds are those of this process, user and system; medians.
"""

import argparse
import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable

from auditns_connector._native import ffi, lib
from tests.decoders import c_layout, cn_message, proc_event
from tests.perfrecords import LAYOUT, comm, namespaces, raw_exec, raw_exit, sample, task
from tests.reference.cnproc import CnDecoder
from tests.reference.perfring import PerfDecoder

BURST = """
import os
for _ in range({0}):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
"""


def rate(work: Callable[[], int], repeat: int) -> float:
    """Events per CPU second of ``work``, which returns how many it did."""
    figures = []
    for _ in range(repeat):
        start = time.process_time()
        done = work()
        figures.append(done / (time.process_time() - start))
    return statistics.median(figures)


def connector_in_c(events: int) -> int:
    """``events`` fork events in datagrams of the real size, one call each as for one recvmmsg slot, batched by 1000."""
    block = b"".join(cn_message(proc_event(1, struct.pack("<iiii", 1, 1, 2, 2), time=n), seq=n) for n in range(1000))
    out = ffi.new("uint8_t[]", 4 * len(block) + 64)
    state = ffi.new("struct cn_state *")
    state.filtered = 1
    for _ in range(events // 1000):
        lib.cn_decode(state, block, len(block), out)
    return int(state.received)


def connector_reference(events: int) -> int:
    """The same by the Python reference."""
    block = b"".join(cn_message(proc_event(1, struct.pack("<iiii", 1, 1, 2, 2), time=n), seq=n) for n in range(1000))
    decoder = CnDecoder(filtered=True)
    for _ in range(events // 1000):
        decoder.decode(block)
    return decoder.received


def process(pid: int, now: int) -> bytes:
    """The records of one fork, exec and exit."""
    return b"".join(
        (
            task(7, now, pid, pid, 1, 1),
            namespaces(now, pid, pid),
            comm(now + 1, pid, pid, b"true", by_exec=True),
            sample(raw_exec(pid, pid, b"/usr/bin/true"), now + 2, pid, pid),
            sample(raw_exit(pid), now + 3, pid, pid),
            task(4, now + 4, pid, pid, 1, 1),
        )
    )


def perf_in_c(events: int) -> int:
    """``events`` records of processes from fork to exit."""
    block = b"".join(process(pid, 10 * pid) for pid in range(1000, 2000))
    layout, counters = c_layout(LAYOUT), ffi.new("struct perf_counters *")
    last, out, used = ffi.new("uint64_t *"), ffi.new("uint8_t **"), ffi.new("size_t *")
    while counters.received < events:
        lib.perf_decode(layout, counters, block, len(block), 0, 2**64 - 1, last, out, used)
        lib.perf_free(out[0])
    return int(counters.received)


def perf_reference(events: int) -> int:
    """The same by the Python reference."""
    block = b"".join(process(pid, 10 * pid) for pid in range(1000, 2000))
    decoder = PerfDecoder(LAYOUT, 0)
    while decoder.received < events:
        decoder.decode(block, 2**64 - 1)
    return decoder.received


def live(repeat: int) -> None:
    """A burst of 10,000 fork and exit through the kernel."""
    from auditns_connector.sources.connector import ConnectorSource
    from auditns_connector.sources.perf import PerfSource

    figures: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repeat):
        with ConnectorSource() as connector, PerfSource() as rings:
            for source in (connector, rings):
                source.drain()
            subprocess.run([sys.executable, "-c", BURST.format(10_000)], check=True)
            for name, source in (("connector", connector), ("perf", rings)):
                before = source.counters()["received"]
                start = time.process_time()
                source.drain()
                used = time.process_time() - start
                got = source.counters()["received"] - before
                figures.setdefault(name, []).append((got / used, used / 10_000 * 1e6))
    for name, pairs in figures.items():
        speed, cost = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"{name:<12} kernel to frames      {speed / 1e6:7.2f} M/s   {cost:6.2f} µs per fork+exit")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sources", description="events per CPU second")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    for name, in_c, reference in (
        ("connector", connector_in_c, connector_reference),
        ("perf", perf_in_c, perf_reference),
    ):
        fast = rate(lambda work=in_c: work(args.events), args.repeat)  # type: ignore[misc]
        slow = rate(lambda work=reference: work(20_000), args.repeat)  # type: ignore[misc]
        print(f"{name:<12} decode in C           {fast / 1e6:7.2f} M/s")
        print(f"{name:<12} decode, reference     {slow / 1e6:7.2f} M/s")
    if os.geteuid() == 0:
        live(args.repeat)
    else:
        print("the kernel's own events: needs root")
    return 0


if __name__ == "__main__":
    sys.exit(main())
