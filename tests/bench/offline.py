"""Recorded audit text, enriched offline: ours, LAUREL, auparse from Python, and a C getline loop as the limit.

Every program reads the text from a file in memory and writes its output to one. CPU seconds are user and system of the
whole process, its start and the reading of the journal included. LAUREL is there in each version that can be had; what
others are compared with is the newest of them.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests import peers

from . import report
from .enrich import journal
from .enrich.corpus import ENRICHED, NASTY, OTHER_BOOT, RAW, READ_BACK, corpus, corpus_path, count, folder

HERE: Final = Path(__file__).parent / "enrich"
ROOT: Final = HERE.parents[2]
PROCESSES: Final = 10_000
CONTAINERS: Final = 200
KINDS: Final = (RAW, ENRICHED, NASTY, OTHER_BOOT, READ_BACK)
#: how many records the input has; another number may be asked for
RECORDS: Final = 1_000_000
#: with more than so many ours run twice, LAUREL once and in its newest version alone, and auparse not at all
MANY: Final = 2_000_000
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
control = "{own}/control"
lifecycle = false
[output.file]
path = "{own}/plugin.log"
max_size = 0
queue = "1G"
"""
_MEANING: Final = "To start means for ours also to take the journal in; once started is the ratio without that."
#: the plugin is given no more than this ahead of its output (bytes)
AHEAD: Final = 32 << 20
#: what a CONTAINER_ID of ours takes (bytes)
_ADDED: Final = 84
#: a program that writes nothing for so long waits for more (seconds)
_IDLE: Final = 0.05
AUPARSE: Final = "auparse from Python (reads only)"
ENRICH: Final = "auditns enrich, raw"


class Program(NamedTuple):
    """How one program is run: on the log as ``stdin`` ("file" or "socket"), or with its name among the arguments."""

    command: list[str]
    stdin: str = ""
    #: its output, where that is not stdout
    out: Path | None = None
    #: how many lines its output has when it has done the work, one in a thousand more or less (an event that waits long
    #: for its end may be given in two parts); 0: that is not looked at
    lines: int = 0
    #: a folder that is emptied before each run: what a run leaves in it the next one would go on with
    own: Path | None = None
    #: it takes in whatever comes, and drops what is too much: it is given no more than this ahead of its output (bytes)
    ahead: int = 0
    #: how many of its lines are its own
    added: int = 0


class Result(NamedTuple):
    """One run of one program."""

    cpu: float
    wall: float
    rss: float


def run(program: Program, log: Path, work: Path) -> Result:
    """Run it and account for it."""
    if program.own is not None:
        shutil.rmtree(program.own, ignore_errors=True)
        program.own.mkdir()
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
        text = log if program.stdin == "socket" else Path(os.devnull)
        feeder = threading.Thread(target=_feed, args=(ours, text, program, child))
        feeder.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        feeder.join()
    if child.returncode:
        said = (work / "stderr").read_text(errors="replace")
        raise SystemExit(f"{' '.join(program.command)} failed ({child.returncode}): {said[-2000:]}")
    wrote = count(program.out) if program.lines and program.out is not None else 0
    if 1000 * abs(wrote - program.lines) > program.lines:
        raise SystemExit(f"{' '.join(program.command)} wrote {wrote} lines for {program.lines} events")
    for path in (work / "stdout", program.out):
        if path is not None:
            path.unlink(missing_ok=True)
    return Result(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def _feed(sock: socket.socket, log: Path, program: Program, child: "subprocess.Popen[bytes]") -> None:
    """As auditd does, but as fast as it is taken."""
    given, size = 0, max(1, log.stat().st_size)
    taken = size / (size + _ADDED * program.added)  # of each byte that it has written, so much it was given
    with open(log, "rb") as text:
        while block := text.read(1 << 16):
            written, since = -1, time.monotonic()
            while program.ahead and given > _size(program.out) * taken + program.ahead and child.returncode is None:
                if _size(program.out) != written:
                    written, since = _size(program.out), time.monotonic()
                elif time.monotonic() - since > _IDLE:  # it has nothing left to write
                    break
                time.sleep(0.001)
            sock.sendall(block)
            given += len(block)
    sock.shutdown(socket.SHUT_WR)


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.exists() else 0


def programs(kind: str, log: Path, frames: Path, work: Path, events: int, records: int) -> dict[str, Program]:
    """Name -> program, of those that are installed, for a log of so many ``events``, which are ``records``. auparse is
    left out where the input is nasty: interleaved events cost it minutes."""
    conf = work / "auditns.toml"
    own = work / "plugin"  # what it kept for a restart is no part of the next run
    conf.write_text(PLUGIN.format(own=own))
    conf.chmod(0o640)
    enrich = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--journal", str(frames), str(log)]
    found = {
        ENRICH: Program(enrich),
        "auditns enrich, raw, containers alone": Program([*enrich, "--contid", "!=unset"]),
        "auditns enrich, raw, one key": Program([*enrich, "--key", "open"]),
        "auditns enrich, JSON": Program([*enrich, "--format", "json"]),
        "auditns enrich, raw, --ns all --info": Program([*enrich, "--ns", "all", "--info"]),
        "audisp-auditns, raw": Program(
            [sys.executable, str(HERE / "plugin_run.py"), str(frames), str(conf)],
            "socket",
            own / "plugin.log",
            records if kind == READ_BACK else records + events,
            own,
            AHEAD,
            0 if kind == READ_BACK else events,
        ),
    }
    for peer in peers.versions("laurel"):
        out = work / peer.title
        theirs = work / f"{peer.title}.toml"
        theirs.write_text(LAUREL.format(out=out, user=pwd.getpwuid(os.geteuid()).pw_name))
        command = [str(peer.path), "--config", str(theirs)]
        found[peer.title] = Program(command, "socket", out / "audit.log", events, out)
    python = "/usr/bin/python3"
    if (
        kind != NASTY
        and Path(python).exists()
        and not subprocess.run([python, "-c", "import auparse"], capture_output=True).returncode
    ):
        found[AUPARSE] = Program([python, str(HERE / "auparse_loop.py"), str(log)])
    if shutil.which("gcc"):
        subprocess.run(["gcc", "-O2", "-o", work / "getline", HERE / "getline.c"], check=True)
        found["C getline loop (same text for all)"] = Program([str(work / "getline")], "file")
    return found


def inputs(records: int) -> dict[str, tuple[Path, Path]]:
    """Kind -> (log, journal); recorded and made where they are not there yet."""
    found = {}
    for kind in KINDS:
        if kind == READ_BACK:
            _read_back(records, found[RAW])
        log = corpus(kind, records)
        of = corpus(RAW, records) if kind in (OTHER_BOOT, READ_BACK) else log
        frames = of.with_suffix(".first.journal")
        if not frames.exists() or frames.stat().st_mtime < of.stat().st_mtime:
            journal.write(of, frames, PROCESSES, CONTAINERS)
        found[kind] = (log, frames)
    return found


def _read_back(records: int, raw: tuple[Path, Path]) -> None:
    """The RAW corpus with our records in it, which is read again."""
    path = corpus_path(READ_BACK, records)
    if path.exists():
        return
    log, frames = raw
    staged = path.with_suffix(".new")
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--journal", str(frames), str(log)]
    with staged.open("wb") as out:
        subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL, check=True, cwd=ROOT)
    path.with_suffix(".events").write_text(log.with_suffix(".events").read_text())
    staged.replace(path)


def prepared(records: int) -> dict[str, tuple[Path, Path]]:
    """The same, made by a process of its own: the peak memory of what is started later begins with ours."""
    subprocess.run([sys.executable, "-m", "tests.bench.offline", str(records)], check=True, cwd=ROOT)
    return inputs(records)


def prove(kind: str, log: Path, frames: Path, events: int) -> None:
    """The answers are what the table says of this input: a bench of something else would be of no use."""
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", "--journal", str(frames), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as child:
        assert child.stdout is not None
        told = unknown = 0
        for line in child.stdout:
            if line.startswith((b"type=UNKNOWN[1340] ", b"type=CONTAINER_ID ")):
                told += 1
                unknown += b" contid=?" in line
    right = unknown if kind == OTHER_BOOT else told - unknown
    if abs(right - events) * 1000 > events:
        raise SystemExit(f"{kind}: of {events} events {told} were answered, {unknown} of them by ?")


def rows(kind: str, records: int, full: dict[str, list[Result]], empty: dict[str, list[Result]]) -> list[list[str]]:
    """One line of the table for each program: its runs on the input, and with nothing to do."""

    def cpu(runs: list[Result]) -> float:
        return statistics.median(run.cpu for run in runs)

    out = []
    for name, runs in full.items():
        ratios = ["–", "–"]
        if laurels := peers.versions("laurel"):
            newest = laurels[-1].title
            theirs, begun = cpu(full[newest]), cpu(empty[newest])
            ratios = [f"{theirs / cpu(runs):.1f}", f"{(theirs - begun) / (cpu(runs) - cpu(empty[name])):.1f}"]
        wall = statistics.median(run.wall for run in runs)
        speed = [f"{records / cpu(runs) / 1e3:,.0f} k", f"{records / wall / 1e3:,.0f} k"]
        memory = f"{max(run.rss for run in runs):.0f}"
        spread = report.spread([run.cpu for run in runs])
        out.append([f"{kind}: {name}", spread, f"{cpu(empty[name]):.2f}", *speed, *ratios, memory])
    return out


def chosen(
    kind: str, found: dict[str, Program], words: Sequence[str], laurels: Sequence[str], *, many: bool
) -> dict[str, Program]:
    """Those of the programs whose row has one of ``words`` in it (none: all), and the newest of ``laurels``, which the
    others are compared with; with ``many`` records of several versions that one alone, and no auparse."""
    newest = laurels[-1:]
    wanted = {name for name in found if not words or any(word in f"{kind}: {name}" for word in words)}
    dropped = {*laurels[:-1], AUPARSE} if many else set()
    return {name: program for name, program in found.items() if wanted and name in {*wanted - dropped, *newest}}


def bench(quick: bool, records: int | None = None, words: Sequence[str] = ()) -> str:
    """The section of BENCHMARKS.md, or the rows with one of ``words`` in them."""
    peers.ensure()
    laurels = [peer.title for peer in peers.versions("laurel")]
    records = records or (200_000 if quick else RECORDS)
    many = records > MANY
    repeat = 1 if quick else 2 if many else 3
    header = [
        "input: program", "CPU s, median (spread)", "of it to start", "records/CPU s", "records/s",
        f"× {laurels[-1] if laurels else 'LAUREL'}", "once started", "RSS MB",
    ]  # fmt: skip
    lines, sizes = [], []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else folder()
    with tempfile.TemporaryDirectory(prefix="auditns-bench-", dir=memory) as place:
        work = Path(place)
        nothing = work / "empty"
        nothing.write_bytes(b"")
        for kind, (recorded, frames) in prepared(records).items():
            events = int(recorded.with_suffix(".events").read_text())
            log = work / recorded.name
            number = count(recorded)
            full = chosen(kind, programs(kind, log, frames, work, events, number), words, laurels, many=many)
            if not full:
                continue
            shutil.copy(recorded, log)
            prove(kind, log, frames, events)
            empty = programs(kind, nothing, frames, work, 0, 0)
            results: tuple[dict[str, list[Result]], ...] = ({name: [] for name in full}, {name: [] for name in full})
            for turn in range(repeat):
                for name in full:  # in turns: what disturbs one disturbs all
                    if turn and many and not name.startswith("aud"):
                        continue
                    results[0][name].append(run(full[name], log, work))
                    results[1][name].append(run(empty[name], nothing, work))
            lines += rows(kind, number, *results)
            sizes.append(f"{kind} {number:,} records, {log.stat().st_size / 1e6:.0f} MB")
            log.unlink()
    about = (
        f"Table of {PROCESSES:,} processes in {CONTAINERS} containers, every event attributed; of another boot: every "
        "event unknown. No event id comes twice"
    )
    once = ", one of those that are not ours" if many and repeat > 1 else ""
    return "\n\n".join(
        [
            "## Throughput, offline",
            f"{'; '.join(sizes)}. {about}. {repeat} runs in turns{once}. {_MEANING} {_started(9)}",
            report.table(header, lines),
        ]
    )


def _started(repeat: int) -> str:
    """What a start costs where there is no journal to take in."""
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", os.devnull]
    with tempfile.TemporaryDirectory(prefix="auditns-bench-") as place:
        runs = [run(Program(command), Path(os.devnull), Path(place)).cpu for _ in range(repeat)]
    return f"A start of `auditns enrich` without a journal: {report.spread(runs)} CPU s."


if __name__ == "__main__":
    inputs(int(sys.argv[1]))
