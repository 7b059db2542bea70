"""What is missing between the last event that a former run wrote and the first one that this run sees. Pure."""

from collections.abc import Iterable
from typing import Final

from auditns_connector.audittext.serials import FARTHEST, SerialGap, SerialTracker

_HALF: Final = 1 << 31
_MODULUS: Final = 1 << 32


class Absence:
    """Begins behind serial ``last``, of the time ``ms`` (since 1970), and ends before the first serial of this run. Of
    what lies between the former run has written ``present``, (serial, ms) each.

    Feed it every event of this host's kernel until it is :attr:`over`: events may come in another order than they are
    numbered in, so what is missing is certain only a while later. :attr:`loss` is it then, as one piece.
    """

    def __init__(self, last: int, ms: int, present: Iterable[tuple[int, int]] = ()) -> None:
        self._last = last
        self._tracker = SerialTracker()
        self._tracker.skip(last, ms)
        #: how many serials lie between; -1: nothing has come yet
        self._size = -1
        self._missing: list[SerialGap] = []
        for serial, stamp in present:
            self._missing += self._tracker.feed(serial, stamp)

    def feed(self, serial: int, ms: int) -> None:
        """An event has come."""
        if self._size < 0:
            self._begin(serial, ms)
        self._keep(self._tracker.feed(serial, ms))

    def complete(self, serial: int, ms: int) -> None:
        """An event is whole with what the former run has written of it."""
        self._keep(self._tracker.feed(serial, ms))

    def _begin(self, serial: int, ms: int) -> None:
        step = (serial - self._last + _HALF) % _MODULUS - _HALF
        self._size = max(step - 1, 0)
        if step > FARTHEST:  # for the tracker that is another sequence
            self._missing.append(SerialGap((self._last + 1) % _MODULUS, (serial - 1) % _MODULUS, self._size, ms, ms))
            self._tracker.skip(serial, ms)

    def _keep(self, gaps: list[SerialGap]) -> None:
        self._missing += [gap for gap in gaps if self._inside(gap)]

    def _inside(self, gap: SerialGap) -> bool:
        return (gap.first - self._last - 1) % _MODULUS < self._size

    @property
    def over(self) -> bool:
        """What is missing is certain."""
        return self._size >= 0 and not any(map(self._inside, self._tracker.holes))

    def finish(self) -> None:
        """Nothing more comes."""
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
