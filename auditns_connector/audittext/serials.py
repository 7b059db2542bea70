"""Which audit events never arrived: the holes in the sequence of serial numbers. Pure.

The kernel numbers events one by one (kernel/audit.c, audit_serial) when an event's first record is begun, so a
number that never shows up is an event that was lost. Numbers may arrive out of order: two CPUs take theirs and
queue their records in either order, and a vfork's parent ends long after its child. A hole therefore counts as
loss only when event time has gone on by ``window_ms`` or ``window_serials`` later events have been seen. The
counter is 32 bits wide and wraps.
"""

from typing import Final, NamedTuple

_HALF: Final = 1 << 31
_MODULUS: Final = 1 << 32
#: a step further than this, in either direction, is another sequence (a reboot, another host), not a hole
FARTHEST: Final = 1 << 24
#: holes kept open at once; the oldest is given up for lost beyond that
MAX_HOLES: Final = 1024


class SerialGap(NamedTuple):
    """``events`` lost, serials ``first`` to ``last`` (inclusive, modulo 2^32), between two times of arrived
    events: ``from_ms`` before the gap and ``to_ms`` behind it, in ms since 1970."""

    first: int
    last: int
    events: int
    from_ms: int
    to_ms: int

    def without(self, serial: int) -> "list[SerialGap]":
        """What is left of it where ``serial`` has come."""
        at = (serial - self.first) % _MODULUS
        if at >= self.events:
            return [self]
        before = self._replace(last=(serial - 1) % _MODULUS, events=at)
        after = self._replace(first=(serial + 1) % _MODULUS, events=self.events - at - 1)
        return [part for part in (before, after) if part.events]


class SerialTracker:
    """Feed it every event's serial and time; it returns the gaps that have become certain."""

    def __init__(self, *, window_ms: int = 2000, window_serials: int = 4096) -> None:
        self._window_ms = window_ms
        self._window_serials = window_serials
        self._high = -1
        self._high_ms = 0
        self._holes: list[SerialGap] = []
        self.late = 0  # events that arrived after later ones

    def feed(self, serial: int, ms: int) -> list[SerialGap]:
        """Take in one event (``serial`` < 2^32, ``ms`` since 1970); repeated serials are fine."""
        if self._high < 0:
            self._high, self._high_ms = serial, ms
            return []
        step = (serial - self._high + _HALF) % _MODULUS - _HALF
        if step == 1 and not self._holes:
            self._high, self._high_ms = serial, ms
            return []
        if abs(step) > FARTHEST:
            lost, self._holes = self._holes, []
            self._high, self._high_ms = serial, ms
            return lost
        if step > 0:
            if step > 1:
                first, last = (self._high + 1) % _MODULUS, (serial - 1) % _MODULUS
                self._holes.append(SerialGap(first, last, step - 1, self._high_ms, ms))
            self._high, self._high_ms = serial, max(ms, self._high_ms)
            return self._expire()
        if step < 0:
            self._fill(serial)
        return []

    @property
    def holes(self) -> list[SerialGap]:
        """Those that are open."""
        return self._holes

    @property
    def newest(self) -> int:
        """The serial that is further than all others that have come; -1: none has."""
        return self._high

    @property
    def newest_ms(self) -> int:
        """The latest time of an event that has come, as long as holes are :attr:`open` (ms since 1970)."""
        return self._high_ms

    @property
    def open(self) -> bool:
        """Holes are open."""
        return bool(self._holes)

    def skip(self, serial: int, ms: int) -> None:
        """Every serial up to ``serial`` has come; only where no hole is :attr:`open`."""
        self._high, self._high_ms = serial, ms

    def follow(self, serial: int, ms: int) -> list[SerialGap]:
        """Every serial behind :attr:`newest` up to ``serial`` has come, the last of them at ``ms``, which is not before
        :attr:`newest_ms`; on the way none was so late that it would count as missing. Returns as :meth:`feed`."""
        self._high, self._high_ms = serial, ms
        return self._expire()

    def skip_all(self, gap: SerialGap) -> list[SerialGap]:
        """The events of ``gap`` have come as far as this: they are reported elsewhere. Returns as :meth:`feed`."""
        lost = self.feed(gap.first, gap.from_ms) + self.feed(gap.last, gap.to_ms)
        inside = (gap.last - gap.first) % _MODULUS
        self._holes = [hole for hole in self._holes if (hole.first - gap.first) % _MODULUS > inside]
        return lost

    def flush(self) -> list[SerialGap]:
        """Every hole still open, as lost: at the end of the input."""
        lost, self._holes = self._holes, []
        return lost

    def _expire(self) -> list[SerialGap]:
        lost = []
        while self._holes:
            hole = self._holes[0]
            behind = (self._high - hole.last) % _MODULUS
            if (
                self._high_ms - hole.to_ms < self._window_ms
                and behind < self._window_serials
                and len(self._holes) <= MAX_HOLES
            ):
                break
            lost.append(self._holes.pop(0))
        return lost

    def _fill(self, serial: int) -> None:
        """``serial`` came late: what it leaves of its hole stays open."""
        for i, hole in enumerate(self._holes):
            if (serial - hole.first) % _MODULUS < hole.events:
                self._holes[i : i + 1] = hole.without(serial)
                self.late += 1
                return


def parse_stamp(stamp: bytes) -> tuple[int, int] | None:
    """(ms since 1970, serial) of ``b"1700000000.123:456"``, or None when it is not one."""
    seconds, dot, rest = stamp.partition(b".")
    ms, colon, serial = rest.partition(b":")
    if not (dot and colon and len(ms) == 3 and len(seconds) <= 20 and len(serial) <= 10):
        return None
    if not (seconds.isdigit() and ms.isdigit() and serial.isdigit()):
        return None
    number = int(serial)
    return (int(seconds) * 1000 + int(ms), number) if number < _MODULUS else None
