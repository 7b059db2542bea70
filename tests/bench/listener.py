"""``auditns listen --rules`` against auditd alone: the same rules, the same rate of execs, in turns.

Both write every event of the host's: auditd to its log without a plugin, ours to a file, to ``| ausearch -i`` or as
objects. What is compared is the CPU of their processes over the same load.
"""

import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from auditns_connector.auditrules.lease import RuleLease

from . import report
from .live import cpu_of

RATES: Final = (100, 333, 1000)
_AUDITD: Final = "auditd alone"
#: the arguments of ``auditns listen --rules`` beside those that all have, and whether ausearch reads it by a pipe
_OURS: Final[dict[str, tuple[tuple[str, ...], bool]]] = {
    "raw > file": (("--format", "raw"), False),
    "raw --output file": (("--format", "raw", "--output", "{work}/out"), False),
    "raw | ausearch -i": (("--format", "raw"), True),
    "JSON > file": (("--format", "json"), False),
    "pretty > file": (("--format", "pretty"), False),
    "raw --ns all > file": (("--format", "raw", "--ns", "all"), False),
    "raw --key auditns > file": (("--format", "raw", "--key", "auditns"), False),
    "raw --journal > file": (("--format", "raw", "--journal", "{work}/journal"), False),
}
#: an exec of the load, as each format writes it
_EXEC: Final = re.compile(rb'argc=1 a0="?true|"argv":\["true"\]| comm=true key')
_WHAT: Final = (
    "The rules of `--rules` (execve, execveat, unshare, setns), programs started at that rate; CPU of the process that "
    "takes the events. auditd writes its RAW log and has no plugin; ours runs without auditd, with all that it does by "
    "default. The ratio is of the CPU an exec to auditd's in the same turn."
)


class Figures(NamedTuple):
    """One run: ``cpu`` in microseconds for each exec, ``load`` in per cent of a core; ``missing`` are execs without an
    event in the output."""

    execs: int
    cpu: float
    load: float
    missing: int


@contextlib.contextmanager
def _auditd(work: Path) -> Iterator[int]:
    """auditd alone; its process id."""
    from tests.kernel.auditd import Auditd

    auditd = Auditd(work)
    lease = RuleLease(state_path=str(work / "rules.json"))
    with auditd.serving():
        lease.acquire()
        try:
            yield auditd.pid
        finally:
            lease.close()
    (work / "out").write_bytes(auditd.log.read_bytes())


@contextlib.contextmanager
def _ours(work: Path, args: tuple[str, ...], piped: bool) -> Iterator[int]:
    """The listener; its process id."""
    from tests.kernel.support import until

    words = [word.format(work=work) for word in args]
    command = [sys.executable, "-m", "auditns_connector.cli.main", "listen", "--rules", "--control", f"{work}/control"]
    with open(work / "out", "ab") as out, open(work / "said", "wb") as said:
        to = subprocess.PIPE if piped else out
        listener = subprocess.Popen([*command, *words], stdout=to, stderr=said)
        reader = None
        if piped:
            assert listener.stdout is not None
            reader = subprocess.Popen(["ausearch", "-i"], stdin=listener.stdout, stdout=out, stderr=subprocess.DEVNULL)
            listener.stdout.close()
        try:
            until((work / "control").exists, "our control socket")
            time.sleep(1.0)
            yield listener.pid
        finally:
            listener.send_signal(signal.SIGTERM)
            listener.wait(20)
            if reader is not None:
                reader.wait(60)
    if listener.returncode:
        raise SystemExit(f"the listener ended with {listener.returncode}: {(work / 'said').read_text()}")


def measure(name: str, rate: int, seconds: float, load: Path, place: Path) -> Figures:
    """One subject at one rate."""
    from tests.kernel.support import audit_state

    work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    with audit_state():
        running = _auditd(work) if name == _AUDITD else _ours(work, *_OURS[name])
        with running as pid:
            time.sleep(0.5)
            before, start = cpu_of(pid), time.monotonic()
            made = subprocess.run([load, "-", str(rate), str(seconds)], capture_output=True, text=True, check=True)
            time.sleep(0.3)
            used, wall = cpu_of(pid) - before, time.monotonic() - start
    execs = int(made.stdout)
    seen = len(_EXEC.findall((work / "out").read_bytes()))
    shutil.rmtree(work)
    return Figures(execs, used / 1e3 / max(execs, 1), used / wall / 1e7, max(0, execs - seen))


def rows_of(rate: int, turns: int, seconds: float, load: Path, place: Path) -> list[list[str]]:
    """The rows of one rate."""
    names = [_AUDITD, *_OURS]
    runs: dict[str, list[Figures]] = {name: [] for name in names}
    for _ in range(turns):
        for name in names:
            runs[name].append(measure(name, rate, seconds, load, place))
    rows = []
    for name, found in runs.items():
        ratios = [one.cpu / base.cpu for one, base in zip(found, runs[_AUDITD], strict=True)]
        rows.append(
            [
                f"{rate}/s: {name}",
                f"{statistics.median(one.execs for one in found) / seconds:.0f}",
                report.spread([one.load for one in found], 1),
                report.spread([one.cpu for one in found], 0),
                f"{statistics.median(ratios):.2f}",
                str(sum(one.missing for one in found)),
            ]
        )
    return rows


def section(rows: list[list[str]]) -> str:
    """The section of BENCHMARKS.md."""
    header = ["rate: program", "exec/s", "CPU, % of a core", "µs an exec", "× auditd", "missing"]
    return "\n\n".join(["## The listener, beside auditd alone", _WHAT, report.table(header, rows)])


def bench(quick: bool) -> str:
    """The section of BENCHMARKS.md."""
    if os.geteuid() or not shutil.which("auditd"):
        return "## The listener\n\nNot measured: it needs root and auditd."
    seconds, turns, rates = (2.0, 1, RATES[1:2]) if quick else (5.0, 3, RATES)
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="auditns-listener-", dir="/var/tmp") as place:
        load = Path(place) / "load"
        subprocess.run(["gcc", "-O2", "-o", load, Path(__file__).parent / "live" / "stamp.c"], check=True)
        for rate in rates:
            rows += rows_of(rate, turns, seconds, load, Path(place))
    return section(rows)
