"""What is missing between the last event that a former run wrote and the first one that this run sees. Pure."""

from collections.abc import Iterable
from typing import Final

from auditns_connector.audittext.serials import FARTHEST, SerialGap, SerialTracker

_HALF: Final = 1 << 31
_MODULUS: Final = 1 << 32
#: an event comes no more than so many others late
_LATEST: Final = 4096
#: nor its records so much later than those of others (ms)
_INTERLEAVED: Final = 2000
#: nor does an event come before so many others that are numbered before it
_AHEAD: Final = 64


class Absence:
    """Begins behind serial ``last``, of the time ``ms`` (since 1970), and ends before the first serials of this run, or
    with the last of ``present``, which are runs of what lies between and is accounted for, or of ``broken``: events of
    which the former run has written a part.

    Feed it every event of this host's kernel until it is :attr:`over`: events may come in another order than they are
    numbered in, and records of one between those of others, so what is missing is certain only a while later.
    :attr:`loss` is it then, as one piece.
    """

    def __init__(self, last: int, ms: int, present: Iterable[SerialGap] = (), broken: Iterable[int] = ()) -> None:
        self._last = last
        self._tracker = SerialTracker()
        self._tracker.skip(last, ms)
        #: how many serials lie between at least
        self._size = 0
        #: an event has come that is behind them
        self.begun = False
        self._missing: list[SerialGap] = []
        #: serial and time of the first event, as long as others may come whose beginning went there
        self._first: tuple[int, int] | None = None
        for run in present:
            self._missing += self._tracker.skip_all(run)
            self._size = (run.last - last) % _MODULUS
        for serial in broken:
            self.lacks(serial)

    def feed(self, serial: int, ms: int) -> None:
        """An event has come."""
        if not self.begun:
            self._begin(serial, ms)
        elif self._first is not None:
            self._go_on(*self._first, serial, ms)
        self._keep(self._tracker.feed(serial, ms))

    def _go_on(self, first: int, since: int, serial: int, ms: int) -> None:
        late = (serial - first) % _MODULUS
        if ms - since >= _INTERLEAVED or _LATEST <= late < _HALF:
            self._first = None
        if late <= _AHEAD:  # one that is numbered before it may have come before the first
            self._size = max(self._size, (serial - self._last) % _MODULUS - 1)

    def lacks(self, serial: int) -> bool:
        """An event has come without its beginning. Returns whether that went to the former run."""
        step = (serial - self._last + _HALF) % _MODULUS - _HALF
        self._size = max(self._size, step)
        return step > 0

    @property
    def end(self) -> int:
        """The last serial that lies between."""
        return (self._last + self._size) % _MODULUS

    def complete(self, serial: int, ms: int) -> None:
        """An event is whole with what the former run has written of it."""
        self._keep(self._tracker.feed(serial, ms))

    def _begin(self, serial: int, ms: int) -> None:
        step = (serial - self._last + _HALF) % _MODULUS - _HALF
        if -_LATEST < step <= 0:
            return  # a late one, or what was given to the former run is given once more
        self.begun, self._first = True, (serial, ms)
        since = self.end
        self._size = max(step - 1, self._size)
        if (step := (serial - since + _HALF) % _MODULUS - _HALF) > FARTHEST:  # for the tracker that is another sequence
            self._missing.append(SerialGap((since + 1) % _MODULUS, (serial - 1) % _MODULUS, step - 1, ms, ms))
            self._missing += self._tracker.feed(serial, ms)

    def _keep(self, gaps: list[SerialGap]) -> None:
        self._missing += [gap for gap in gaps if self._inside(gap)]

    def _inside(self, gap: SerialGap) -> bool:
        return (gap.first - self._last - 1) % _MODULUS < self._size

    @property
    def over(self) -> bool:
        """What is missing is certain."""
        return self.begun and self._first is None and not any(map(self._inside, self._tracker.holes))

    def finish(self) -> None:
        """Nothing more comes."""
        self._first = None
        self._keep(self._tracker.flush())

    @property
    def loss(self) -> SerialGap | None:
        """What is missing, as far as is known; ``None``: nothing."""
        found = [*self._missing, *filter(self._inside, self._tracker.holes)]
        if not found:
            return None
        missing = sorted(found, key=lambda gap: (gap.first - self._last) % _MODULUS)
        events = sum(gap.events for gap in missing)
        return SerialGap(missing[0].first, missing[-1].last, events, missing[0].from_ms, missing[-1].to_ms)
