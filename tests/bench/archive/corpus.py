"""``python -m tests.bench.archive.corpus FOLDER RECORDS``: a log of any size, as a host with many containers would have
written it, made of recorded workloads.

Some containers live all the time, each with workloads of its own and as busy as few are; thousands of others do one job
and end. In each round of a workload pids, folders, file numbers, inodes and addresses are others, so that few values
are everywhere and most are in few places. Events of all containers are mixed as their rates have it.
"""

import itertools
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .workloads import HOME, recordings

FILE: Final = 64 << 20
_CONTAINERS: Final = 300
#: how much of the events is of the host, of containers that live on, and of those that do one job
_SHARES: Final = (0.08, 0.72, 0.20)
#: jobs at work at a time
_JOBS: Final = 24
_EVENTS_A_SECOND: Final = 600
_STAMP: Final = re.compile(rb"audit\(\d+\.\d{3}:\d+\)")
_SLOT: Final = re.compile(
    rb"audit\(\d+\.\d{3}:\d+\)|(?<= )(?:ppid|pid|opid)=\d+|(?<= )inode=\d+|" + HOME.encode() + rb"(?:/[^ \"]*)?"
    rb"|(?<=saddr=0200....)[0-9A-F]{8}"
)
#: values of a round that are not pids
_STAMP_AT, _INODE_AT, _ADDRESS_AT, _FOLDER_AT, _FIRST_PID = range(5)


class Template:
    """An event with places left open: ``text % tuple(values[i] for i in slots)``."""

    __slots__ = ("records", "slots", "text")

    def __init__(self, lines: list[bytes], pids: dict[bytes, int]) -> None:
        self.records = len(lines)
        parts: list[bytes] = []
        slots: list[int] = []
        at, text = 0, b"".join(lines)
        for match in _SLOT.finditer(text):
            parts.append(text[at : match.start()].replace(b"%", b"%%"))
            found, at = match[0], match.end()
            if found.startswith(b"audit("):
                slots.append(_STAMP_AT)
                parts.append(b"audit(%b)")
            elif found.startswith(HOME.encode()):
                slots.append(_FOLDER_AT)
                parts.append(b"%b" + found.removeprefix(HOME.encode()).replace(b"%", b"%%"))
            elif found.startswith(b"inode="):
                slots.append(_INODE_AT)
                parts.append(found[:-3].replace(b"%", b"%%") + b"%b" if len(found) > 9 else b"inode=%b")
            elif b"pid=" in found:
                name, _, value = found.partition(b"=")
                slots.append(_FIRST_PID + pids.setdefault(value, len(pids)))
                parts.append(name + b"=%b")
            else:
                slots.append(_ADDRESS_AT)
                parts.append(b"%b")
        parts.append(text[at:].replace(b"%", b"%%"))
        self.text, self.slots = b"".join(parts), slots


class Workload:
    """The events of a recording as templates, and how many pids there are in it."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem.removeprefix("workload-")
        pids: dict[bytes, int] = {}
        self.events = [Template(lines, pids) for lines in _events(path)]
        self.pids = len(pids)


def _events(path: Path) -> Iterator[list[bytes]]:
    """The lines of each event, without EOE, which a log has not."""
    open_: dict[bytes, list[bytes]] = {}
    with open(path, "rb") as text:
        for line in text:
            stamp = _STAMP.search(line)
            if stamp is None or b"type=DAEMON" in line[:16]:
                continue
            if line.startswith(b"type=EOE "):
                yield open_.pop(stamp[0], [])
            else:
                open_.setdefault(stamp[0], []).append(line)
                if len(open_) > 200:
                    yield open_.pop(next(iter(open_)))
    yield from open_.values()


class Container:
    """One that is at work: what it writes next, without the stamps."""

    def __init__(self, rng: random.Random, workloads: list[Workload], number: int, contid: int | None) -> None:
        self._rng, self._workloads, self.number = rng, workloads, number
        self._line = b"" if contid is None else b"type=CONTAINER_ID msg=audit(%%b): contid=%d\n" % contid
        self._folder = b"/srv/%b-%d/" % (workloads[0].name.encode(), number)
        self._rounds = 0
        self._events = self._round()

    def _round(self) -> Iterator[tuple[Template, list[bytes]]]:
        """The events of a part of one workload, with values of this round."""
        rng = self._rng
        while True:
            workload = rng.choice(self._workloads)
            self._rounds += 1
            base = rng.randrange(300, 4_000_000)
            values = [b"", b"", b"%08X" % (0x0A000000 | rng.getrandbits(24)), self._folder + b"%d" % self._rounds]
            values += [b"%d" % (base + i) for i in range(workload.pids)]
            start = rng.randrange(len(workload.events))
            for template in workload.events[start : start + rng.randrange(300, 3000)]:
                values[_INODE_AT] = b"%03d" % rng.randrange(1000)
                if template.records:
                    yield template, values

    def write(self, stamp: bytes) -> tuple[bytes, int]:
        """The next event, and how many records it has."""
        template, values = next(self._events)
        values[_STAMP_AT] = stamp
        text = template.text % tuple([values[i] for i in template.slots])
        if not self._line:
            return text, template.records
        line = self._line % stamp
        title = text.rfind(b"type=PROCTITLE ")  # where the plugin puts it
        return (text[:title] + line + text[title:] if title >= 0 else text + line), template.records


class Corpus:
    """``records`` of the kernel's records, ours not counted; the same for the same seed and recordings."""

    def __init__(self, paths: list[Path], records: int, seed: int = 1) -> None:
        self._workloads = [Workload(path) for path in paths]
        self._records = records
        self._rng = random.Random(seed)
        self.written = self.lines = self.events = 0
        self.contids: list[int] = []

    def _contid(self) -> int:
        contid = self._rng.getrandbits(64) | 1
        self.contids.append(contid)
        return contid

    def _container(self, number: int, contid: int | None) -> Container:
        rng = self._rng
        return Container(rng, rng.sample(self._workloads, rng.randrange(1, 4)), number, contid)

    def text(self) -> Iterator[bytes]:
        """The text, in pieces of some events."""
        rng = self._rng
        host = self._container(0, None)
        living = [self._container(i, self._contid()) for i in range(1, _CONTAINERS + 1)]
        weights = list(itertools.accumulate(1 / (i + 3) for i in range(_CONTAINERS)))
        jobs = [
            [self._container(_CONTAINERS + i, self._contid()), rng.randrange(200, 3000)] for i in range(1, _JOBS + 1)
        ]
        number, serial, micros = _CONTAINERS + _JOBS, 1000, 1_790_000_000_000_000
        while self.written < self._records:
            where = rng.random()
            if where < _SHARES[0]:
                who = host
            elif where < _SHARES[0] + _SHARES[1]:
                who = rng.choices(living, cum_weights=weights)[0]
            else:
                job = rng.choice(jobs)
                who, left = job[0], job[1]
                job[1] = left - 8
                if left <= 8:
                    number += 1
                    job[:] = [self._container(number, self._contid()), rng.randrange(200, 3000)]
            piece = []
            for _ in range(rng.randrange(1, 16)):
                serial += 1
                micros += rng.randrange(2_000_000 // _EVENTS_A_SECOND)
                stamp = b"%d.%03d:%d" % (micros // 1_000_000, micros // 1000 % 1000, serial)
                text, records = who.write(stamp)
                piece.append(text)
                self.written += records
                self.lines += records + (who is not host)
                self.events += 1
            yield b"".join(piece)

    def write(self, directory: Path) -> list[Path]:
        """Into files of FILE bytes, oldest first."""
        paths: list[Path] = []
        text = self.text()
        for first in text:
            paths.append(directory / f"audit.{len(paths) + 1:05d}.log")
            with open(paths[-1], "wb", buffering=1 << 20) as out:
                size = out.write(first)
                while size < FILE and (piece := next(text, b"")):
                    size += out.write(piece)
        return paths


def main() -> int:
    """Write it, and say as JSON what was written."""
    corpus = Corpus(list(recordings().values()), int(sys.argv[2]))
    files = corpus.write(Path(sys.argv[1]))
    about = {"records": corpus.written, "lines": corpus.lines, "events": corpus.events, "files": list(map(str, files))}
    print(json.dumps(about | {"containers": len(corpus.contids)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
