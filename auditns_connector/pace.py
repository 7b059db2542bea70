"""How long to let audit text gather before it is read.

A wake-up costs the same whether it brings one record or a hundred, and auditd writes each record by itself. Where an
event is not whole when it is read, its rest is waited for a moment: that is less than another wake-up. Events of their
own are gathered only where they are many. In a storm there is nothing to wait for.
"""

import math
from typing import Final

#: the rate of events is an average over about this long (seconds)
_MEMORY: Final = 0.1
#: from this many events a second on, waiting pays
BUSY: Final = 1500.0
#: from this many on every read brings many anyway, and whoever writes must not be kept waiting
STORM: Final = 10_000.0
_GATHER: Final = 0.001
#: the records of one event follow each other within this time, as a rule (seconds, one wait after the other)
_RESTS: Final = (0.0001, 0.0002)


class Pace:
    """``fixed_ms`` is how long to wait always (milliseconds); ``None`` is adaptive. Times are seconds."""

    def __init__(self, fixed_ms: float | None = None) -> None:
        self.fixed = None if fixed_ms is None else fixed_ms / 1000
        #: how long to wait for the rest of an event, each time that it is not whole yet
        self.rests = _RESTS if fixed_ms is None else ()
        self._rate = 0.0
        self._last = 0.0

    def pause(self, now: float) -> float:
        """How long to wait at ``now``, when text has come, before it is read (seconds)."""
        if self.fixed is not None:
            return self.fixed
        if self._rate <= BUSY:
            return 0.0
        rate = self._rate * math.exp((self._last - now) / _MEMORY)
        return _GATHER if BUSY < rate <= STORM else 0.0

    def took(self, events: int, now: float) -> None:
        """``events`` were read at ``now``."""
        self._rate = self._rate * math.exp((self._last - now) / _MEMORY) + events / _MEMORY
        self._last = now
