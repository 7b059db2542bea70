"""How costs grow with the host: processes, containers; memory; how soon our programs are there."""

import contextlib
import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from auditns_connector.vocabulary import frames as f

from . import report
from .enrich import journal
from .enrich.corpus import folder
from .live import cpu_of
from .offline import Program, run

PROCESSES: Final = (100, 1_000, 10_000, 100_000)
CONTAINERS: Final = (1, 100, 1_000, 10_000)
EVENT: Final = (
    b"type=SYSCALL msg=audit(%(stamp)s): arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=7f a2=0 items=1 "
    b'ppid=1 pid=%(pid)d auid=0 uid=0 gid=0 tty=(none) ses=1 comm="cat" exe="/usr/bin/cat" key="open"\n'
    b'type=CWD msg=audit(%(stamp)s): cwd="/"\n'
    b'type=PATH msg=audit(%(stamp)s): item=0 name="/etc/hostname" inode=9 dev=fe:00 mode=0100644 nametype=NORMAL\n'
    b"type=PROCTITLE msg=audit(%(stamp)s): proctitle=636174002F6574632F686F73746E616D65\n"
    b"type=EOE msg=audit(%(stamp)s): \n"
)
#: processes of a host on which nothing goes on
HOST: Final = 200
#: lines of EVENT
RECORDS: Final = 5
_REAL: Final = 1_795_000_000
_MEMORY: Final = """
import os, sys
from auditns_connector.model.apply.dispatch import Model
from tests.bench.enrich import journal
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
n = int(sys.argv[1])
blocks = [b"".join(frames) for frames in [list(journal.population(n, 200, journal.UPTIME))]]
model = Model()
model.apply(journal.hello(0, journal.UPTIME))
before = resident()
model.apply(blocks[0])
print((resident() - before) / n)
"""
_START: Final = """
import time
from auditns_connector.host.open_sources import host_observer
start, cpu = time.perf_counter(), time.process_time()
observer, _ = host_observer()
observer.start()
print(time.perf_counter() - start, time.process_time() - cpu, observer.counters["scanned"])
observer.close()
"""


def _case(work: Path, processes: int, containers: int, events: int) -> tuple[Path, Path]:
    """A log about that many processes, each as often as the others, and its journal."""
    log, frames = work / "growth.log", work / "growth.journal"
    first = journal.UPTIME + 10_000_000_000
    with open(log, "wb") as out:
        for number in range(events):
            ms = number // 20
            stamp = b"%d.%03d:%d" % (_REAL + ms // 1000, ms % 1000, number + 1)
            pid = journal.FIRST_PID + number * 7919 % processes
            out.write(EVENT % {b"stamp": stamp, b"pid": pid})
    everything = (1).to_bytes(8, "little") + (events).to_bytes(8, "little")
    with open(frames, "wb") as out:
        out.write(journal.hello(_REAL * 1_000_000_000 - first, journal.UPTIME))
        out.writelines(journal.population(processes, containers, journal.UPTIME))
        out.write(f.pack(f.K_MARK, f.S_PIPELINE, first + events * 50_000 + 1_000_000_000, payload=everything))
    return log, frames


def _cost(work: Path, processes: int, containers: int, first: int, more: int, repeat: int) -> tuple[float, str, str]:
    """Microseconds of CPU for each record of ``first`` events, in which every process is asked about for the first
    time, without what starting and reading the journal takes; and for each of ``more`` that follow. The last comes
    first as a number."""
    log, frames = _case(work, processes, containers, first + more)
    half, empty = work / "half", work / "empty"
    with open(log, "rb") as whole:
        half.write_bytes(b"".join(itertools.islice(whole, RECORDS * first)))
    empty.write_bytes(b"")
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--journal", str(frames)]
    begun, going = [], []
    for _ in range(repeat):
        none, asked, all_ = (run(Program([*command, str(text)]), text, work).cpu for text in (empty, half, log))
        begun.append((asked - none) / (RECORDS * first) * 1e6)
        going.append((all_ - asked) / (RECORDS * more) * 1e6)
    return statistics.median(going), report.spread(begun), report.spread(going, 3)


def _growth(work: Path, quick: bool) -> list[str]:
    """The table of what a record costs, and what that comes to."""
    first, more, repeat = (4_000, 20_000, 1) if quick else (100_000, 2_000_000, 5)
    cases = [
        (f"{n:,} live processes in {min(n, 100)} containers", n, min(n, 100))
        for n in (PROCESSES[:2] if quick else PROCESSES)
    ]
    hosts = len(cases)
    cases += [
        (f"{n:,} containers, 10,000 live processes", 10_000, n) for n in (CONTAINERS[:2] if quick else CONTAINERS)
    ]
    costs = [_cost(work, living, around, first, more, repeat) for _, living, around in cases]
    rows = [[name, *told] for (name, _, _), (_, *told) in zip(cases, costs, strict=True)]
    header = ["host", f"µs CPU for each of {RECORDS * first:,} records", f"and of {RECORDS * more:,} more"]
    spread = [
        f"{max(part) / min(part):.2f} × over {what}"
        for part, what in (
            ([cost for cost, *_ in costs[:hosts]], "processes"),
            ([cost for cost, *_ in costs[hosts:]], "containers"),
        )
    ]
    about = (
        "Every process is about as often in the records, and is found out about at its first one. From the cheapest "
        f"host to the dearest, second pass: {', '.join(spread)}."
    )
    return [report.table(header, rows), about]


def _wall(command: list[str], repeat: int) -> float:
    """Milliseconds from start to end, median."""
    found = []
    for _ in range(repeat):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append((time.perf_counter() - start) * 1e3)
    return statistics.median(found)


def _ready(work: Path) -> tuple[float, float]:
    """Milliseconds from the plugin's start until its first event is in its output, and of CPU until then."""
    conf, log = work / "ready.toml", work / "ready.log"
    conf.write_text(f'control = "{work}/control"\nlifecycle = false\n[output.file]\npath = "{log}"\n')
    conf.chmod(0o640)
    log.unlink(missing_ok=True)
    ours, theirs = socket.socketpair()
    now = time.time_ns() // 1_000_000
    stamp = b"%d.%03d:7" % (now // 1000, now % 1000)
    with ours, theirs:
        ours.sendall(EVENT % {b"stamp": stamp, b"pid": os.getpid()})
        command = [str(Path(sys.executable).with_name("audisp-auditns")), "--config", str(conf)]
        start = time.perf_counter()
        with open(work / "ready.err", "wb") as errors:
            plugin = subprocess.Popen(command, stdin=theirs, stderr=errors)
        while not (log.exists() and b"type=EOE" in log.read_bytes()):
            if time.perf_counter() - start > 20 or plugin.poll() is not None:
                raise SystemExit(f"the plugin did not answer: {(work / 'ready.err').read_text()}")
            time.sleep(0.0005)
        found = (time.perf_counter() - start) * 1e3, cpu_of(plugin.pid) / 1e6
        plugin.send_signal(signal.SIGTERM)
        plugin.wait()
    return found


def _wait_for_quiet(seconds: float = 30.0) -> None:
    """Until the host has little else to do (the kernel goes on with a crowd for a while), or so long."""

    def cpu() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:
            times = [int(word) for word in file.readline().split()[1:]]
        return times[3] + times[4], sum(times[:8])

    end, (idle, total) = time.monotonic() + seconds, cpu()
    while time.monotonic() < end:
        time.sleep(0.5)
        before, (idle, total) = (idle, total), cpu()
        if idle - before[0] > 0.95 * (total - before[1]):
            return


def _crowd_program(work: Path) -> Path:
    """Makes processes that do nothing."""
    crowd = work / "crowd"
    subprocess.run(["gcc", "-O2", "-o", crowd, Path(__file__).with_name("crowd.c")], check=True)
    return crowd


def _enrich_start(work: Path) -> float:
    """Milliseconds of CPU that ``auditns enrich`` takes for nothing at all."""
    nothing = work / "nothing"
    nothing.write_bytes(b"")
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", str(nothing)]
    return run(Program(command), nothing, work).cpu * 1e3


def _soon_there(work: Path, repeat: int) -> list[str]:
    """How soon our programs are at work on a host of some 200 processes."""
    there = sum(name.isdecimal() for name in os.listdir("/proc"))
    with _crowd(_crowd_program(work), max(0, HOST - there)) as found:
        ready = [_ready(work) for _ in range(repeat)]
        wall, cpu = zip(*ready, strict=True)
        plugin = (
            f"`audisp-auditns` on a host with {found:,} processes: its first event is out "
            f"{report.spread(list(wall), 0)} ms after its start, {report.spread(list(cpu), 0)} ms of CPU."
        )
        nothing = [_enrich_start(work) for _ in range(repeat)]
    return [plugin, f"`auditns enrich` of nothing: {report.spread(nothing, 0)} ms of CPU."]


def _start_up(work: Path, processes: int, repeat: int) -> str:
    """Our start on a host with that many processes, which came about anew each time."""
    crowd = _crowd_program(work)
    runs = [_start_among(crowd, processes) for _ in range(repeat)]
    wall, cpu, scanned = zip(*runs, strict=True)
    if not min(scanned):
        return f"Start-up: {processes:,} processes are more than this host allows."
    return (
        f"Start-up on a host with {max(scanned):,.0f} processes: {report.spread(list(wall))} s, "
        f"{report.spread(list(cpu))} s CPU."
    )


@contextlib.contextmanager
def _crowd(program: Path, processes: int) -> Iterator[int]:
    """That many processes more; gives how many there are then, 0 where there cannot be so many."""
    crowd = subprocess.Popen(
        [program, str(processes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert crowd.stdout is not None
        there = b"there" in crowd.stdout.readline()
        _wait_for_quiet()
        yield sum(name.isdecimal() for name in os.listdir("/proc")) if there else 0
    finally:
        os.killpg(crowd.pid, signal.SIGKILL)
        crowd.wait()
        with contextlib.suppress(ProcessLookupError):
            while True:  # what is measured next is to have the host for itself
                os.killpg(crowd.pid, 0)
                time.sleep(0.05)
        _wait_for_quiet()


def _start_among(program: Path, processes: int) -> tuple[float, float, float]:
    """Wall and CPU seconds of our start among that many processes, and how many were seen: 0 where there cannot be so
    many."""
    with _crowd(program, processes) as there:
        if not there:
            return 0.0, 0.0, 0.0
        told = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True).stdout
    wall, cpu, scanned = map(float, told.split())
    return wall, cpu, scanned


def bench(quick: bool) -> str:
    """The section of BENCHMARKS.md."""
    with tempfile.TemporaryDirectory(prefix="auditns-bench-", dir=folder()) as place:
        work = Path(place)
        parts = ["## Growth", *_growth(work, quick)]
        n = 20_000 if quick else 100_000
        memory = subprocess.run([sys.executable, "-c", _MEMORY, str(n)], capture_output=True, text=True, check=True)
        parts.append(f"Memory: {float(memory.stdout):.0f} bytes for each of {n:,} live processes.")
        if os.geteuid() == 0:
            parts.append(_start_up(work, *((1_000, 1) if quick else (20_000, 5))))
            parts += _soon_there(work, 3 if quick else 9)
    help_ = _wall([str(Path(sys.executable).with_name("auditns")), "--help"], 3 if quick else 15)
    python = _wall([sys.executable, "-c", ""], 3 if quick else 15)
    parts.append(f"`auditns --help`: {help_:.0f} ms, of which Python's own start {python:.0f} ms.")
    return "\n\n".join(parts)
