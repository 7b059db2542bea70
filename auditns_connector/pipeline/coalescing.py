"""How long to let audit text gather before it is read.

A wake-up costs much the same whether it brings one event or five. While events are few each is read at once; while they
are many, on a host that is busy with them, the text of some milliseconds is. A pause never lasts until the socket is
full, for then whoever writes would wait.
"""

import math
from typing import Final

#: the rate of events is an average over about this long (seconds)
WINDOW: Final = 0.1
#: from this many events a second on, waiting pays: up to there each is worked on as it comes for little of a CPU
BUSY: Final = 2000.0
_GATHER: Final = 0.003
#: events that gather at most: a socket of the usual size holds some forty, in a record each write
MOST: Final = 20
#: in a storm, whose writer has filled the socket before this is over, it is worth it none the less (seconds)
LEAST: Final = 0.0005
#: after so much text at once the socket is full again before the last of it is worked on (bytes)
MUCH: Final = 128 * 1024


class Coalescer:
    """``fixed_ms`` is how long to wait always (milliseconds), unless much comes; ``None`` is adaptive. Times are
    seconds."""

    def __init__(self, fixed_ms: float | None = None) -> None:
        self.fixed = None if fixed_ms is None else fixed_ms / 1000
        self._rate = 0.0
        self._last = 0.0
        self._much = False

    def pause(self, now: float) -> float:
        """How long to wait at ``now``, when text has come, before it is read (seconds)."""
        if self._much or not self.gathers:
            return 0.0
        rate = self._rate * math.exp((self._last - now) / WINDOW)
        wanted = self.fixed
        if wanted is None:
            wanted = _GATHER if rate > BUSY else 0.0
        return min(wanted, max(MOST / rate, LEAST)) if rate else wanted

    @property
    def gathers(self) -> bool:
        """Whether there may be a pause."""
        return self.fixed != 0 and (self.fixed is not None or self._rate > BUSY)

    def note_batch(self, events: int, now: float, size: int = 0) -> None:
        """``events`` were read at ``now``, in ``size`` bytes where that may be much."""
        self._much = size >= MUCH
        self._rate = self._rate * math.exp((self._last - now) / WINDOW) + events / WINDOW
        self._last = now
