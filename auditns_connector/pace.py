"""How long to let audit text gather before it is read.

A wake-up costs the same whether it brings one record or a hundred, and auditd writes each record by itself. So while
events are rare each is read when its first record has come and the others had time to follow, and while they are many
the text of some milliseconds is read at once. In a storm there is nothing to wait for.
"""

import math
from typing import Final

#: the rate of events is an average over about this long (seconds)
_MEMORY: Final = 0.1
#: from this many events a second on, waiting pays
BUSY: Final = 250.0
#: from this many on every read brings many anyway, and whoever writes must not be kept waiting
STORM: Final = 10_000.0
_GATHER: Final = 0.004
#: the records of one event follow each other within this time, as a rule (seconds)
_EVENT: Final = 0.0002


class Pace:
    """``fixed_ms`` is how long to wait always (milliseconds); ``None`` is adaptive. Times are seconds."""

    def __init__(self, fixed_ms: float | None = None) -> None:
        self.fixed = None if fixed_ms is None else fixed_ms / 1000
        self._rate = 0.0
        self._last = 0.0

    def pause(self, now: float) -> float:
        """How long to wait at ``now``, when text has come, before it is read (seconds)."""
        if self.fixed is not None:
            return self.fixed
        rate = self._rate * math.exp((self._last - now) / _MEMORY)
        if rate > STORM:
            return 0.0
        return _GATHER if rate > BUSY else _EVENT

    def took(self, events: int, now: float) -> None:
        """``events`` were read at ``now``."""
        self._rate = self._rate * math.exp((self._last - now) / _MEMORY) + events / _MEMORY
        self._last = now
