"""What the end of a log of ours says of the kernel's events: which are there, and which are reported as missing.

A program that is killed loses what waited in its queue, and may leave events without their last records. The log alone
knows what was written, so the next run goes by the log: behind the event up to which all was settled (see
state/position.py), what is neither there as a whole nor reported is missing.
"""

import functools
import itertools
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from auditns_connector.audittext.divided import Half, half_of, is_unbroken
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.sinks.loss import own_lines
from auditns_connector.state.position import Settled
from auditns_connector.vocabulary import record_types as rectypes

#: so much in front of the event that all was settled up to is read as well: events around it may be cut short (bytes)
_BEFORE: Final = 256 << 10
#: no more of the end is read (bytes)
_MOST: Final = 16 << 20
_BLOCK: Final = 1 << 20
#: a stamp stands no further into its line (bytes)
_HEAD: Final = 512
#: records of an event come within this time of those of others (ms): the time after which auparse takes it for ended
_INTERLEAVED: Final = 2000
#: serials further apart are of another sequence: of another boot, or another host
NEAR: Final = 1 << 20
_HALF: Final = 1 << 31
_MODULUS: Final = 1 << 32

_SYSCALL: Final = rectypes.number("SYSCALL")
#: a PROCTITLE is the last record of its event but the EOE, which says nothing
_ENDS: Final = frozenset((rectypes.number("PROCTITLE"), rectypes.EOE))

#: node, type, time and serial of a record; the same of a JSON object, with the type of its first record
_LINE: Final = (
    rb"(?m)^(?:(node=[^ \n]+ )?type=([^ \n]{1,64}) msg=audit\((\d{1,16}\.\d{3}):(\d{1,10})\)"
    rb'|\{"v":\d+,"time":"(\d{1,16}\.\d{3})","serial":(\d{1,10}),(?:"node":("[^"\n]*"),)?'
    rb'(?:[^\n]*?"records":\[\{"type":"([^"\n]{1,64})")?)'
)
#: first and last serial of what a CONTAINER_LOST tells, as text or as JSON. How namespaces come and go is no event of
#: the kernel's.
_REPORTED: Final = (
    rb'[^\n]{0,40}?\bsource"?[=:]"?(?:audit|restart|intake|sink-[^" \n]{1,64})"?[ ,]'
    rb'[^\n]{0,80}?from"?[=:]"?(?:\d{1,16}\.\d{3}:)?(\d{1,10})"?[ ,]"?to"?[=:]"?(?:\d{1,16}\.\d{3}:)?(\d{1,10})'
    rb'(?=[" ,}\n])'
)


class Tail(NamedTuple):
    """The last event (``serial``, ``ms`` since 1970) up to which nothing is missing that is not reported.

    ``present`` are runs of events behind it, in their order, that are there as a whole, or reported as missing.
    ``broken`` are the serials of those of which a part is there and of which that is not reported; ``halves`` say what
    it is, where the rest may follow. ``reaches``: the event that all was settled up to was found; else nothing is said
    of what came before the earliest that was. ``sure`` is the last event (serial, ms) of the log that nothing is
    missing before; ``None`` where that is the one that all was settled up to.
    """

    serial: int
    ms: int
    present: tuple[SerialGap, ...] = ()
    broken: frozenset[int] = frozenset()
    halves: Mapping[int, Half] = MappingProxyType({})
    reaches: bool = False
    reported: frozenset[tuple[int, int]] = frozenset()
    sure: tuple[int, int] | None = None

    def leaves(self, gap: SerialGap) -> bool:
        """Whether nothing is said of ``gap``, which began before what was read, and which is not reported there."""
        if self.reaches or 0 < (gap.first - self.serial) % _MODULUS < _HALF:
            return False
        size = (gap.last - gap.first) % _MODULUS
        return all((gap.first - first) % _MODULUS + size > (last - first) % _MODULUS for first, last in self.reported)


class _Line(NamedTuple):
    """Which record of the kernel a line is."""

    lead: bytes
    kind: int
    ms: int
    serial: int
    at: int


class _Event:
    """What there is of an event: has it a record that may be its first, has its SYSCALL come, has its last record?"""

    __slots__ = ("begun", "ended", "head", "ms")

    def __init__(self, ms: int) -> None:
        self.ms = ms
        self.head = self.begun = self.ended = False


def read_tail(path: str, settled: Settled | None = None, broken: Collection[int] = ()) -> Tail | None:
    """The end of ``path`` and of the file rotated last, read back to ``settled``; without it the last
    event counts, and what is cut short there. ``broken`` are serials of events that a former run found cut short, and
    did not see completed. ``None`` where there is none of our logs, or it cannot be read: then it is not known how far
    a former run came."""
    if settled is None:
        return tail_of(_end(path, None)) or tail_of(_end(f"{path}.1", None))
    mark = _line_of(settled)
    data = _end(path, mark)
    if mark.search(data) is None and len(data) < _MOST // 2:
        data = _end(f"{path}.1", mark) + data
    return tail_of(data, settled, broken, whole=len(data) < _MOST // 2)


def _line_of(event: Settled) -> "re.Pattern[bytes]":
    """Finds lines of ``event``."""
    serial, time = event.serial, b"%d\\.%03d" % (event.ms // 1000, event.ms % 1000)
    return re.compile(
        rb"^(?:(?:node=[^ \n]+ )?type=[^ \n]{1,64} msg=audit\(%b:%d\)|\{\"v\":\d+,\"time\":\"%b\",\"serial\":%d,)"
        % (time, serial, time, serial),
        re.MULTILINE,
    )


def _end(path: str, mark: "re.Pattern[bytes] | None") -> bytes:
    """The whole lines at the end of a file, from some way before the last one that is a ``mark`` on."""
    fd, at = _open(path)
    if fd < 0:
        return b""
    least, step = (max(at - _MOST, 0), _BLOCK) if mark is not None else (max(at - _BEFORE, 0), _BEFORE)
    blocks: list[bytes] = []
    following = b""
    try:
        while at > least:
            start = max(at - step, least)
            block = os.pread(fd, at - start, start)
            if mark is not None and mark.search(block + following) is not None:
                mark, least = None, max(start - _BEFORE, 0)
            blocks.append(block)
            at, following = start, block[:_HEAD]
    except OSError:
        return b""
    finally:
        os.close(fd)
    data = b"".join(reversed(blocks))
    if at:
        data = data[data.find(b"\n") + 1 :]
    return data[: data.rfind(b"\n") + 1]


def _open(path: str) -> tuple[int, int]:
    """A descriptor and the size of a regular file; -1 where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return -1, 0
    try:
        info = os.fstat(fd)
    except OSError:
        info = None
    if info is None or not stat.S_ISREG(info.st_mode):
        os.close(fd)
        return -1, 0
    return fd, info.st_size


@functools.lru_cache(maxsize=1024)
def _number(name: bytes) -> int:
    return rectypes.number(name.decode("ascii", "replace"))


def _lines(data: bytes) -> Iterator[_Line]:
    """The records of ``data`` that are the kernel's, and our CONTAINER_LOST."""
    for found in re.finditer(_LINE, data):
        node, kind, time, serial = found.group(1, 2, 3, 4)
        if kind is None:
            time, serial, node, kind = found.group(5, 6, 7, 8)
        number = _number(kind or b"")
        if number not in rectypes.DAEMON and (number not in rectypes.OWN or number == rectypes.CONTAINER_LOST):
            yield _Line(node or b"", number, int(time.replace(b".", b"")), int(serial), found.end())


def tail_of(
    data: bytes, settled: Settled | None = None, broken: Collection[int] = (), *, whole: bool = True
) -> Tail | None:
    """As :func:`read_tail`, of whole lines; ``whole``: all of them from the log's beginning."""
    if settled is None and not data:
        return None
    lines = list(_lines(data))
    kernel = [line for line in lines if line.kind != rectypes.CONTAINER_LOST]
    mark = next((line for line in reversed(kernel) if settled and (line.serial, line.ms) == settled[:2]), None)
    earliest = settled[1] - _INTERLEAVED if settled is not None and mark is None else 0
    reported = frozenset(
        (int(found[1]), int(found[2]))
        for line in lines
        if line.kind == rectypes.CONTAINER_LOST
        and line.ms >= earliest
        and (found := re.compile(_REPORTED).match(data, line.at))
    )
    if kernel:
        lead = (mark or kernel[-1]).lead  # others are of another host
        kernel = [line for line in kernel if line.lead == lead]
        return _Found(data, kernel, reported, mark, settled, frozenset(broken), whole).tail()
    return None if settled is None else Tail(settled.serial, settled.ms, reported=reported, reaches=not settled.written)


class _Found:
    """What a log says, by serials counted from the event that all was settled up to."""

    def __init__(
        self, data: bytes, lines: list[_Line], reported: frozenset[tuple[int, int]], mark: _Line | None,
        settled: Settled | None, broken: frozenset[int], whole: bool,
    ) -> None:  # fmt: skip
        self.data, self.reported, self.mark, self.broken = data, reported, mark, broken
        self.reaches = mark is not None or (whole and settled is not None and not settled.written)
        self.whole = whole or self.reaches
        self.base, self.ms = settled[:2] if settled is not None else (lines[-1].serial, lines[-1].ms)
        #: in front of the mark, what is of another boot is known by its time
        self.earliest = self.ms - _INTERLEAVED
        self.events = self._events(lines)
        behind = [step for step, event in self.events.items() if step > 0 and event.head]
        if settled is None:
            self._move(max(behind, default=0))  # what is behind the last one has not come
        elif not self.reaches and behind:
            self._move(min(behind) - 1)

    def _move(self, step: int) -> None:
        """Count from ``step`` further on."""
        if step in self.events:
            self.ms = self.events[step].ms
        self.base = (self.base + step) % _MODULUS
        self.events = {at - step: event for at, event in self.events.items()}

    def _step(self, serial: int) -> int:
        return (serial - self.base + _HALF) % _MODULUS - _HALF

    def _events(self, lines: list[_Line]) -> dict[int, _Event]:
        """By how far behind the base they are."""
        first = self.mark.at if self.mark is not None else 0
        found: dict[int, _Event] = {}
        for line in lines:
            step, sure = self._step(line.serial), self.mark is not None and line.at >= first
            if not sure and (abs(step) > NEAR or line.ms < self.earliest):
                continue  # another boot's
            event = found.get(step)
            if event is None:
                event = found[step] = _Event(line.ms)
            event.head |= line.kind not in rectypes.FOLLOWERS
            event.begun |= line.kind == _SYSCALL
            event.ended |= line.kind in _ENDS
        return found

    def tail(self) -> Tail:
        newest = max(self.events, default=0)
        recent = self.events[newest].ms - _INTERLEAVED if self.events else 0
        cut = {
            step
            for step, event in self.events.items()
            if event.begun and not event.ended and event.ms >= recent and self._is_text
        }
        # where the beginning was not read, an event may have its first record there
        headless = {step for step, event in self.events.items() if step > 0 and not event.head and self.whole}
        former = set(map(self._step, self.broken))
        reported = [(self._step(first), self._step(first) + (last - first) % _MODULUS) for first, last in self.reported]
        bad = {step for step in cut | headless | former if not any(first <= step <= last for first, last in reported)}
        start = min([step - 1 for step in bad if step <= 0], default=0)
        there = [(step, step, event.ms) for step, event in self.events.items() if step > start and step not in bad]
        there += [(first, last, self.ms) for first, last in reported if last > start]
        edges = [start, *sorted(step for step in bad if start < step <= 0), 1]
        there += [(a + 1, b - 1, self.ms) for a, b in itertools.pairwise(edges) if b - a > 1]
        base = (self.base + start) % _MODULUS
        runs = tuple(_runs(self.base, start, there))
        return Tail(
            base, self.ms if not start else min(self.ms, recent + _INTERLEAVED),
            runs,
            frozenset((self.base + step) % _MODULUS for step in bad if step in self.events or step in former),
            self._halves(cut & bad), self.reaches, self.reported, self._sure(start, runs),
        )  # fmt: skip

    def _sure(self, start: int, runs: tuple[SerialGap, ...]) -> tuple[int, int] | None:
        """The last event of the first run, where that begins behind ``start``."""
        if not runs or self._step(runs[0].first) != start + 1:
            return None
        end = self._step(runs[0].last)
        last = max((step for step in self.events if start < step <= end), default=0)
        return ((self.base + last) % _MODULUS, self.events[last].ms) if last > 0 else None

    @property
    def _is_text(self) -> bool:
        """JSON has whole events."""
        return not self.data.startswith(b"{")

    def _halves(self, steps: Iterable[int]) -> dict[int, Half]:
        found = {}
        for step in steps:
            serial = (self.base + step) % _MODULUS
            records = _records(self.data, serial)
            half = half_of(records)
            # one that was divided before may lack something where it was
            if half is not None and (serial not in self.broken or is_unbroken(records)):
                found[serial] = half
        return found


def _runs(base: int, start: int, there: list[tuple[int, int, int]]) -> Iterator[SerialGap]:
    """Steps from ``base``, first, last and time each, as runs without a hole behind ``start``."""
    runs: list[list[int]] = []
    for first, last, ms in sorted(there):
        first = max(first, start + 1)
        if runs and first <= runs[-1][1] + 1:
            runs[-1][1], runs[-1][3] = max(runs[-1][1], last), max(runs[-1][3], ms)
        else:
            runs.append([first, last, ms, ms])
    for first, last, since, until in runs:
        yield SerialGap((base + first) % _MODULUS, (base + last) % _MODULUS, last - first + 1, since, until)


def _records(data: bytes, serial: int) -> list[bytes]:
    """The kernel's records of one event."""
    lines = re.findall(rb"(?m)^(?:node=[^ \n]+ )?type=[^ \n]+ msg=audit\([0-9.]+:%d\):[^\n]*" % serial, data)
    ours = own_lines()
    return [line for line in lines if ours.match(line) is None]
