"""Under a real auditd, at fixed rates of exec: CPU of ours and of LAUREL, what arrives, and how much later.

One program at a time is the plugin, with the same rule, the same load and the same second plugin beside it, which notes
when auditd hands over the end of each event. Ours is read from its socket; the difference is what it adds.
"""

import contextlib
import os
import pwd
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

from tests import peers

from .. import report
from ..offline import LAUREL

RATES: Final = (0, 20, 100, 333, 1000, 1667)
_KEY: Final = "auditns-bench-live"
_CONF: Final = """\
control = "{work}/control"
coalesce_ms = {coalesce}
lifecycle = false
{general}
[output.file]
path = "{work}/ours.log"
max_size = 0
[output.socket]
enabled = {socket}
path = "{work}/ours.sock"
queue = "256M"
{more}
"""
_LAUNCH: Final = (
    "#!/bin/sh\nPYTHONPATH={root} exec {python} -m auditns_connector.cli.plugin --config {work}/auditns.toml\n"
)
_WHAT: Final = (
    "Rule: execve. CPU of the plugin's process (ours: reading the kernel's events included). Delay: from the moment a "
    "second plugin is handed the end of an event to the moment a reader of our socket has it. Ours writes to a file "
    "and to the socket; with the file alone, as LAUREL, there is no reader and no delay to be had."
)


class Ours(NamedTuple):
    """One of ours: its coalesce_ms, whether its socket is read, and what else its configuration says: among the options
    without a section, and behind all."""

    coalesce: str = '"adaptive"'
    socket: bool = False
    general: str = ""
    more: str = ""


#: or LAUREL's program
Subject = Ours | Path
OURS: Final[dict[str, Subject]] = {
    "ours, file and socket": Ours(socket=True),
    "ours, file": Ours(),
    "ours, file and socket, at once": Ours("0", socket=True),
    "ours, file, at once": Ours("0"),
}
#: what the rounds in C are left for, or do more in; at this rate alone
PATHS: Final[dict[str, Subject]] = {
    "ours, NS_INFO": Ours(general='ns = "all"'),
    "ours, CONTAINER_INFO": Ours(general="info = true"),
    "ours, a filter": Ours(more='[filter.include]\nrecord = ["EXECVE"]'),
    "ours, a journal": Ours(more='[journal]\npath = "{work}/journal"'),
    "ours, a stream": Ours(more='[stream.docker]\nruntime = ["docker"]'),
}
_PATHS_RATE: Final = 333


class Figures(NamedTuple):
    """One run: ``cpu`` is that of the plugin in per cent of a core, ``delays`` in ms."""

    execs: int
    cpu: float
    events: int
    missing: int
    delays: list[float]


def cpu_of(pid: int) -> int:
    """CPU time of a process so far, all threads (ns)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def _stamps(path: Path) -> dict[int, int]:
    found = {}
    for line in path.read_text().splitlines()[1:]:
        serial, _, at = line.partition(" ")
        found.setdefault(int(serial), int(at))
    return found


def _script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o750)
    return str(path)


@contextlib.contextmanager
def _plugin(work: Path, subject: Subject, stamp: Path) -> Iterator[int]:
    """The real auditd with that plugin; gives the plugin's process id."""
    from tests.kernel.auditd import Auditd
    from tests.kernel.support import audit_state, auditctl, until

    with audit_state():
        auditd = Auditd(work)
        note = _script(work / "note.sh", f"#!/bin/sh\nexec {stamp} {work}/given\n")
        auditd.add_plugin("note", note)
        ours = subject if isinstance(subject, Ours) else None
        if isinstance(subject, Path):
            (work / "laurel").mkdir()
            user = pwd.getpwuid(os.geteuid()).pw_name
            (work / "laurel.toml").write_text(LAUREL.format(out=work / "laurel", user=user))
            auditd.add_plugin("subject", str(subject), "--config", f"{work}/laurel.toml")
        else:
            conf = work / "auditns.toml"
            text = _CONF.replace("{general}", subject.general).replace("{more}", subject.more)
            conf.write_text(text.format(work=work, coalesce=subject.coalesce, socket=str(subject.socket).lower()))
            conf.chmod(0o640)
            root = Path(__file__).parents[3]
            text = _LAUNCH.format(root=root, python=sys.executable, work=work)
            auditd.add_plugin("subject", _script(work / "subject.sh", text))
        with auditd.serving():
            reader = None
            try:
                until((work / "given").exists, "the second plugin")
                if ours is not None:
                    until((work / "control").exists, "our control socket")
                if ours is not None and ours.socket:
                    reader = subprocess.Popen([stamp, str(work / "got"), str(work / "ours.sock")])
                    until((work / "got").exists, "the reader of our socket")
                time.sleep(0.7)
                auditctl("-b", "65536")
                auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-F", f"key={_KEY}")
                yield next(
                    pid for pid in auditd.children() if b"stamp" not in Path(f"/proc/{pid}/cmdline").read_bytes()
                )
                time.sleep(0.5)
            finally:
                auditctl("-D", "-k", _KEY)
        if reader is not None:
            reader.wait(10)


def measure(subject: Subject, rate: int, seconds: float, stamp: Path, place: Path) -> Figures:
    """One subject at one rate (0: as fast as this host forks)."""
    work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    with _plugin(work, subject, stamp) as pid:
        before, start = cpu_of(pid), time.monotonic()
        made = subprocess.run([stamp, "-", str(rate), str(seconds)], capture_output=True, text=True, check=True)
        time.sleep(0.3)
        used, wall = cpu_of(pid) - before, time.monotonic() - start
        os.kill(pid, signal.SIGCONT)  # it is still there
    given = _stamps(work / "given")
    read = isinstance(subject, Ours) and subject.socket
    got = _stamps(work / "got") if read else given
    delays = [(got[serial] - at) / 1e6 for serial, at in given.items() if serial in got]
    first = min(got, default=0)  # what came before our reader had joined was not for it
    missing = sum(serial not in got for serial in given if serial > first)
    return Figures(int(made.stdout), used / wall / 1e7, len(given), missing, delays if read else [])


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


def bench(quick: bool) -> str:
    """The section of BENCHMARKS.md."""
    if os.geteuid() or not shutil.which("auditd"):
        return "## Live\n\nNot measured: it needs root and auditd."
    seconds, repeat, rates = (2.0, 1, (333, 1000)) if quick else (6.0, 3, RATES)
    peers.ensure()
    subjects = {**OURS, **{peer.title: peer.path for peer in peers.versions("laurel")}}
    rows = []
    with tempfile.TemporaryDirectory(prefix="auditns-live-", dir="/var/tmp") as place:
        stamp = Path(place) / "stamp"
        subprocess.run(["gcc", "-O2", "-o", stamp, Path(__file__).with_name("stamp.c")], check=True)
        for rate in rates:
            more = PATHS if rate == _PATHS_RATE else {}
            for name, subject in {**subjects, **more}.items():
                runs = [measure(subject, rate, seconds, stamp, Path(place)) for _ in range(repeat)]
                execs = statistics.median(run.execs for run in runs) / seconds
                delays = [delay for run in runs for delay in run.delays]
                rows.append(
                    [
                        f"{rate or 'max'}/s: {name}", f"{execs:.0f}", report.spread([run.cpu for run in runs], 1),
                        str(sum(run.events for run in runs)),
                        str(sum(run.missing for run in runs)) if delays else "–",
                        *(f"{_quantile(delays, part):.2f}" if delays else "–" for part in (0.5, 0.9, 0.99, 0.999)),
                    ]
                )  # fmt: skip
    header = ["rate: program", "exec/s", "CPU, % of a core", "events", "missing", "p50 ms", "p90", "p99", "p99.9"]
    return "\n\n".join(
        [
            "## Live, under auditd",
            _WHAT,
            report.table(header, rows),
        ]
    )
