"""``tail -F audit.log | auditns enrich``: how long after an event was written its reader has it.

The log is written record by record, as auditd does, without EOE; an event every so many milliseconds. The delay is from
the last write of an event to the moment at which its last line, or its object, was read.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

from . import report

INTERVALS: Final = (10, 100)
#: arguments, and what the last of an event's output is known by
_MODES: Final[dict[str, tuple[tuple[str, ...], bytes]]] = {
    "raw": (("--format", "raw"), rb":(\d+)\): proctitle"),
    "raw, a filter": (("--format", "raw", "--type", "PATH"), rb":(\d+)\): proctitle"),
    "JSON": (("--format", "json"), rb'"serial":(\d+),'),
    "pretty": (("--format", "pretty"), rb"/srv/(\d+)"),
}
_KINDS: Final = ("plain text", "text with our records")
_FIRST: Final = 1000
_WHAT: Final = (
    "`tail -F audit.log | auditns enrich` beside a log in which there is an event (SYSCALL, CWD, PATH, PROCTITLE, each "
    "a write of its own, no EOE) every so many milliseconds; from its last write to the moment at which a reader "
    "has its last line. Text with our records has a CONTAINER_ID in each event, and values behind 0x1D. An event with "
    "no EOE is over 20 ms after its last record; in raw text all but its PROCTITLE has been passed on by then."
)


class Delays(NamedTuple):
    """In milliseconds; ``missing`` are events that did not come."""

    p50: float
    p99: float
    most: float
    missing: int


def records(serial: int, pid: int, *, ours: bool) -> list[bytes]:
    """The lines of one event of now."""
    now = time.time()
    stamp = f"msg=audit({int(now)}.{int(now * 1000) % 1000:03d}:{serial}):"
    behind = '\x1dARCH=x86_64 SYSCALL=openat AUID="unset" UID="root"' if ours else ""
    call = (
        f"arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=0 a2=0 a3=0 items=1 ppid=1 pid={pid} auid=0 "
        'uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm="cat" exe="/bin/cat" key="k"'
    )
    lines = [
        f"type=SYSCALL {stamp} {call}{behind}",
        f'type=CWD {stamp} cwd="/"',
        f'type=PATH {stamp} item=0 name="/srv/{serial}" inode=1 dev=08:01 mode=0100644 ouid=0 ogid=0 nametype=NORMAL',
        *([f"type=UNKNOWN[1340] {stamp} contid=4711"] if ours else []),
        f"type=PROCTITLE {stamp} proctitle=636174",
    ]
    return [f"{line}\n".encode() for line in lines]


def measure(mode: str, kind: str, every: float, seconds: float, place: Path) -> Delays:
    """One run of ``seconds``, an event each ``every`` milliseconds."""
    args, last = _MODES[mode]
    log = place / "audit.log"
    log.write_bytes(b"")
    command = [sys.executable, "-m", "auditns_connector.cli.main", "enrich", *args]
    with (
        subprocess.Popen(["tail", "-n", "+1", "-F", log], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tail,
        subprocess.Popen(command, stdin=tail.stdout, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as enrich,
    ):
        assert tail.stdout is not None
        assert enrich.stdout is not None
        tail.stdout.close()
        came: dict[int, float] = {}
        reader = threading.Thread(target=_read, args=(enrich.stdout.fileno(), re.compile(last), came))
        reader.start()
        written: dict[int, float] = {}
        ours = kind != _KINDS[0]
        with open(log, "ab", buffering=0) as out:
            _write(out.fileno(), _FIRST, ours=ours)
            while _FIRST not in came:
                time.sleep(0.01)
            start = time.monotonic()
            for n in range(1, round(seconds * 1000 / every) + 1):
                time.sleep(max(0.0, start + n * every / 1000 - time.monotonic()))
                written[_FIRST + n] = _write(out.fileno(), _FIRST + n, ours=ours)
        time.sleep(0.5)
        tail.terminate()
        enrich.wait(10)
        reader.join(10)
    delays = sorted(1000 * (came[n] - at) for n, at in written.items() if n in came)
    if not delays:
        raise SystemExit(f"nothing came of {mode}, {kind}")
    p99 = delays[min(len(delays) - 1, len(delays) * 99 // 100)]
    return Delays(statistics.median(delays), p99, delays[-1], len(written) - len(delays))


def _write(fd: int, serial: int, *, ours: bool) -> float:
    """Write an event; when that was done."""
    for line in records(serial, os.getpid(), ours=ours):
        os.write(fd, line)
    return time.monotonic()


def _read(fd: int, last: "re.Pattern[bytes]", came: dict[int, float]) -> None:
    """Note when each event had come, until nothing more does."""
    rest = b""
    while data := os.read(fd, 1 << 16):
        now = time.monotonic()
        whole, newline, rest = (rest + data).rpartition(b"\n")
        for found in last.finditer(whole + newline):
            came.setdefault(int(found[1]), now)


def bench(quick: bool) -> str:
    """The table."""
    seconds = 1.0 if quick else 6.0
    rows = []
    with tempfile.TemporaryDirectory(prefix="auditns-follow-") as place:
        for every in INTERVALS:
            for kind in _KINDS:
                for mode in _MODES:
                    found = measure(mode, kind, every, seconds, Path(place))
                    times = [f"{value:.1f}" for value in found[:3]]
                    rows.append([f"{every} ms: {mode}, {kind}", *times, str(found.missing)])
    header = ("an event every: output, input", "p50 ms", "p99", "max", "missing")
    return f"## Following a log\n\n{_WHAT}\n\n{report.table(header, rows)}"
