"""Corpora: what auditd gives a plugin of an execve, openat, clone and connect mix on this kernel, and a nasty one.

One recording of each format (as root, when it is not there) is kept outside the project, in the user's cache folder. A
corpus of any size is made of it: copies, each in a time of its own and with serials of its own, so that no event id
comes twice, for a reader that keeps ids would have to complain about each. OTHER_BOOT is the same text from the day
before the journal's host was booted: all of it is unknown.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .recorder import auditd, discard

RULES: Final = (
    "-a always,exit -F arch=b64 -S execve -F key=exec",
    "-a always,exit -F arch=b64 -S openat -F success=1 -F key=open",
    "-a always,exit -F arch=b64 -S clone,clone3,vfork -F key=fork",
    "-a always,exit -F arch=b64 -S connect -F key=net",
)
#: a chain of short-lived processes: each opens and connects 20 times, runs one program, and hands over to the next
WORK: Final = r"""
use Socket;
my $to = sockaddr_in(9, inet_aton("127.0.0.1"));
for (my $n = 0; ; $n++) {
    my $worker = fork();
    if (!$worker) {
        for (1 .. 20) {
            open(my $f, "<", "/etc/hostname"); close($f);
            socket(my $s, PF_INET, SOCK_DGRAM, 0); connect($s, $to); close($s);
        }
        my $pid = fork();
        if (!$pid) { exec("/usr/bin/true", "of", "round $n"); }
        waitpid($pid, 0);
        exit(0);
    }
    waitpid($worker, 0);
}
"""
RAW: Final = "RAW"
ENRICHED: Final = "ENRICHED"
NASTY: Final = "nasty"
OTHER_BOOT: Final = "another boot"
#: made by ours (see offline.py)
READ_BACK: Final = "enriched already"
#: records of a recording
RECORDED: Final = 250_000
_STAMP: Final = re.compile(rb"audit\((\d+)\.(\d{3}):(\d+)\)")
_DAY: Final = 86_400
#: seconds and serials between two copies of a recording
_PAUSE: Final = 60
_SERIALS: Final = 1000
#: records of one format are about this long (bytes)
_LENGTH: Final = {RAW: 185, ENRICHED: 280}


def folder() -> Path:
    """Where corpora are kept."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auditns-bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


def count(log: Path) -> int:
    """Lines of a file, without taking it into memory (a child's peak RSS begins with ours)."""
    with open(log, "rb") as text:
        return sum(block.count(b"\n") for block in iter(lambda: text.read(1 << 20), b""))


def corpus_path(kind: str, records: int) -> Path:
    """Where the log of that kind is, or will be. What ours made of another one is made anew where that would be other
    text now."""
    made = "first" if kind == READ_BACK else "varied"
    return folder() / f"{kind.lower().replace(' ', '-')}-{records}-{made}.log"


def corpus(kind: str, records: int) -> Path:
    """The log of that kind with at least ``records`` records; recorded or made when there is none."""
    path = corpus_path(kind, records)
    if not path.exists():
        staged = path.with_suffix(".new")
        with staged.open("wb") as out:
            if kind == NASTY:
                out.writelines(nasty(corpus(RAW, records), records))
            elif kind == OTHER_BOOT:
                with corpus(RAW, records).open("rb") as text:
                    out.writelines(shifted(text, -_DAY, 0))
            else:
                out.writelines(varied(_recording(kind), records))
        path.with_suffix(".events").write_text(f"{len(set(stamps(staged)))}\n")
        staged.replace(path)
    return path


def _recording(log_format: str) -> Path:
    path = folder() / f"{log_format.lower()}-recorded.log"
    if not path.exists():
        staged = path.with_suffix(".new")
        _record(staged, log_format, RECORDED)
        staged.replace(path)
    return path


def stamps(log: Path) -> Iterator[tuple[int, int]]:
    """Seconds and serial of each record; both are the event's id, for a recording is shorter than a serial's life."""
    with open(log, "rb") as text:
        for line in text:
            if match := _STAMP.search(line):
                yield int(match[1]), int(match[3])


def varied(log: Path, records: int) -> Iterator[bytes]:
    """Copies of ``log`` one after the other, until there are ``records``; no event id of it comes twice."""
    seconds, serials = zip(*stamps(log), strict=True)
    span, step = max(seconds) - min(seconds) + _PAUSE, max(serials) - min(serials) + _SERIALS
    for copy in range(-(-records // len(serials))):
        with open(log, "rb") as text:
            yield from shifted(text, copy * span, copy * step)


def shifted(lines: Iterator[bytes], seconds: int, serials: int) -> Iterator[bytes]:
    """``lines`` at another time and with other serials."""
    for line in lines:
        yield _STAMP.sub(
            lambda match: b"audit(%d.%b:%d)" % (int(match[1]) + seconds, match[2], int(match[3]) + serials), line, 1
        )


def _record(path: Path, log_format: str, records: int) -> None:
    seconds = 60.0 + records / 15_000
    with auditd(log_format, None, RULES) as recording:
        workers = [subprocess.Popen(["nice", "perl", "-e", WORK], cwd="/", start_new_session=True) for _ in range(2)]
        try:
            end = time.monotonic() + seconds
            while recording.stream.stat().st_size < 1.05 * records * _LENGTH[log_format] and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            for worker in workers:
                os.killpg(worker.pid, 9)
                worker.wait()
    path.write_bytes(recording.stream.read_bytes())
    discard(recording)
    got = count(path)
    if got < records:
        raise SystemExit(f"only {got} of {records} records were recorded in {seconds:.0f} s")


# -- the nasty one


def nasty(log: Path, records: int) -> Iterator[bytes]:
    """Real events interleaved eight at a time; every 50th an execve of 300 arguments, every 30th with 40 PATHs."""
    made, ring = 0, []
    with open(log, "rb") as text:
        for number, event in enumerate(_events(text)):
            ring.append(_swollen(event, number))
            if len(ring) < 8:
                continue
            while ring:
                for lines in ring:
                    made += 1
                    yield lines.pop(0)
                ring = [lines for lines in ring if lines]
            if made >= records:
                return


def _events(text: Iterator[bytes]) -> Iterator[list[bytes]]:
    """The lines of each event, also where those of another stand between them."""
    open_: dict[bytes, list[bytes]] = {}
    for line in text:
        stamp = line.split(b" ", 2)[1]
        open_.setdefault(stamp, []).append(line)
        if line.startswith(b"type=EOE "):
            yield open_.pop(stamp)
    yield from open_.values()


def _swollen(event: list[bytes], number: int) -> list[bytes]:
    stamp = event[0].split(b" ", 2)[1]
    if number % 50 == 0 and event[0].startswith(b"type=SYSCALL"):
        words = b" ".join(b'a%d="argument-number-%d"' % (i, i) for i in range(300))
        event[1:1] = [b"type=EXECVE %s argc=300 %s\n" % (stamp, words)]
    elif number % 30 == 0:
        path = (
            b'type=PATH %s item=%d name="/usr/lib/x86_64-linux-gnu/some/long/path/to/a/file.so.%d" inode=5374 '
            b"dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0\n"
        )
        event[1:1] = [path % (stamp, i, i) for i in range(1, 41)]
    return event
