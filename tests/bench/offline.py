"""Recorded audit text, enriched offline: ours, LAUREL, auparse from Python, and a C getline loop as the limit.

Every program reads the text from a file in memory and writes its output to one. CPU seconds are user and system of the
whole process, its start and the reading of the journal included.
"""

import os
import pwd
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

from . import report
from .enrich import journal
from .enrich.corpus import ENRICHED, NASTY, RAW, corpus, count, folder

HERE: Final = Path(__file__).parent / "enrich"
ROOT: Final = HERE.parents[2]
PROCESSES: Final = 10_000
CONTAINERS: Final = 200
LAUREL: Final = """\
directory = "{out}"
user = "{user}"
statusreport-period = 0
[auditlog]
file = "audit.log"
size = 9000000000
generations = 1
[transform]
execve-argv = [ "array" ]
[translate]
universal = false
user-db = false
[enrich]
pid = true
execve-env = [ "LD_PRELOAD", "LD_LIBRARY_PATH" ]
container = true
script = true
"""
PLUGIN: Final = """\
control = "{work}/control"
lifecycle = false
[output.file]
path = "{work}/plugin.log"
max_size = 0
queue = "1G"
"""
_MEANING: Final = "To start means for ours also to take the journal in; once started is the ratio without that."
ENRICH: Final = "auditns enrich, raw"
LAUREL_NAME: Final = "LAUREL"


class Program(NamedTuple):
    """How one program is run: on the log as ``stdin`` ("file" or "socket"), or with its name among the arguments."""

    command: list[str]
    stdin: str = ""
    #: its output, where that is not stdout
    out: Path | None = None


class Result(NamedTuple):
    """One run of one program."""

    cpu: float
    wall: float
    rss: float


def run(program: Program, log: Path, work: Path) -> Result:
    """Run it and account for it."""
    ours, theirs = socket.socketpair()
    given = log if program.stdin == "file" else Path(os.devnull)
    with (
        ours,
        theirs,
        given.open("rb") as source,
        open(work / "stdout", "wb") as sink,
        open(work / "stderr", "wb") as errors,
    ):
        stdin = theirs if program.stdin == "socket" else source
        start = time.perf_counter()
        child = subprocess.Popen(program.command, stdin=stdin, stdout=sink, stderr=errors, cwd=ROOT)
        theirs.close()
        feeder = threading.Thread(target=_feed, args=(ours, log if program.stdin == "socket" else Path(os.devnull)))
        feeder.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        feeder.join()
    if child.returncode:
        said = (work / "stderr").read_text(errors="replace")
        raise SystemExit(f"{' '.join(program.command)} failed ({child.returncode}): {said[-2000:]}")
    for path in (work / "stdout", program.out):
        if path is not None:
            path.unlink(missing_ok=True)
    return Result(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def _feed(sock: socket.socket, log: Path) -> None:
    """As auditd does, but as fast as it is taken."""
    with open(log, "rb") as text:
        while block := text.read(1 << 16):
            sock.sendall(block)
    sock.shutdown(socket.SHUT_WR)


def programs(kind: str, log: Path, frames: Path, work: Path) -> dict[str, Program]:
    """Name -> program, of those that are installed. auparse is left out where the input is nasty: interleaved events
    cost it minutes."""
    conf = work / "auditns.toml"
    conf.write_text(PLUGIN.format(work=work))
    conf.chmod(0o640)
    enrich = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--journal", str(frames), str(log)]
    found = {
        ENRICH: Program(enrich),
        "auditns enrich, raw, containers alone": Program([*enrich, "--contid", "!=unset"]),
        "auditns enrich, raw, one key": Program([*enrich, "--key", "open"]),
        "auditns enrich, JSON": Program([*enrich, "--format", "json"]),
        "audisp-auditns, raw": Program(
            [sys.executable, str(HERE / "plugin_run.py"), str(frames), str(conf)], "socket", work / "plugin.log"
        ),
    }
    if laurel := shutil.which("laurel", path=os.environ.get("PATH", "") + ":/usr/sbin"):
        out = work / "laurel"
        out.mkdir(exist_ok=True)
        theirs = work / "laurel.toml"
        theirs.write_text(LAUREL.format(out=out, user=pwd.getpwuid(os.geteuid()).pw_name))
        found[LAUREL_NAME] = Program([laurel, "--config", str(theirs)], "socket", out / "audit.log")
    python = "/usr/bin/python3"
    if (
        kind != NASTY
        and Path(python).exists()
        and not subprocess.run([python, "-c", "import auparse"], capture_output=True).returncode
    ):
        found["auparse from Python (reads only)"] = Program([python, str(HERE / "auparse_loop.py"), str(log)])
    if shutil.which("gcc"):
        subprocess.run(["gcc", "-O2", "-o", work / "getline", HERE / "getline.c"], check=True)
        found["C getline loop (same text for all)"] = Program([str(work / "getline")], "file")
    return found


def inputs(records: int) -> dict[str, tuple[Path, Path]]:
    """Kind -> (log, journal); recorded and made where they are not there yet."""
    found = {}
    for kind in (RAW, ENRICHED, NASTY):
        log = corpus(kind, records)
        frames = log.with_suffix(".journal")
        if not frames.exists() or frames.stat().st_mtime < log.stat().st_mtime:
            journal.write(log, frames, PROCESSES, CONTAINERS)
        found[kind] = (log, frames)
    return found


def rows(kind: str, records: int, full: dict[str, list[Result]], empty: dict[str, list[Result]]) -> list[list[str]]:
    """One line of the table for each program: its runs on the input, and with nothing to do."""

    def cpu(runs: list[Result]) -> float:
        return statistics.median(run.cpu for run in runs)

    out = []
    for name, runs in full.items():
        ratios = ["–", "–"]
        if LAUREL_NAME in full:
            theirs, begun = cpu(full[LAUREL_NAME]), cpu(empty[LAUREL_NAME])
            ratios = [f"{theirs / cpu(runs):.1f}", f"{(theirs - begun) / (cpu(runs) - cpu(empty[name])):.1f}"]
        wall = statistics.median(run.wall for run in runs)
        speed = [f"{records / cpu(runs) / 1e3:,.0f} k", f"{records / wall / 1e3:,.0f} k"]
        memory = f"{max(run.rss for run in runs):.0f}"
        spread = report.spread([run.cpu for run in runs])
        out.append([f"{kind}: {name}", spread, f"{cpu(empty[name]):.2f}", *speed, *ratios, memory])
    return out


def bench(quick: bool) -> str:
    """The section of BENCHMARKS.md."""
    records, repeat = (200_000, 1) if quick else (2_000_000, 5)
    header = [
        "input: program", "CPU s, median (spread)", "of it to start", "records/CPU s", "records/s", "× LAUREL",
        "once started", "RSS MB",
    ]  # fmt: skip
    lines, sizes = [], []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else folder()
    with tempfile.TemporaryDirectory(prefix="auditns-bench-", dir=memory) as place:
        work = Path(place)
        nothing = work / "empty"
        nothing.write_bytes(b"")
        for kind, (recorded, frames) in inputs(records).items():
            log = Path(shutil.copy(recorded, work))
            full, empty = programs(kind, log, frames, work), programs(kind, nothing, frames, work)
            results: tuple[dict[str, list[Result]], ...] = ({name: [] for name in full}, {name: [] for name in full})
            for _ in range(repeat):
                for name in full:  # in turns: what disturbs one disturbs all
                    results[0][name].append(run(full[name], log, work))
                    results[1][name].append(run(empty[name], nothing, work))
            number = count(log)
            lines += rows(kind, number, *results)
            sizes.append(f"{kind} {number:,} records, {log.stat().st_size / 1e6:.0f} MB")
            log.unlink()
    about = f"Table of {PROCESSES:,} processes in {CONTAINERS} containers, every event attributed"
    return "\n\n".join(
        [
            "## Throughput, offline",
            f"{'; '.join(sizes)}. {about}. {repeat} runs in turns. {_MEANING}",
            report.table(header, lines),
        ]
    )
