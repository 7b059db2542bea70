"""Who struck the targets of a block of text: the record of a target does not say that, the one before it does.

It is evidence of the time: whoever signals or traces somebody else does so while he lives, and the stamp, which is
coarser, may mean other holders of the target's pid as well.
"""

from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.vocabulary import audit_text as pt


class Strikers:
    """Those of the points that are being answered."""

    def __init__(self) -> None:
        self._by_event: dict[int, int] | None = None

    def begin(self) -> None:
        """Other points are to be answered."""
        self._by_event = None

    def of(self, points: InsertionPoints, i: int) -> int:
        """The pid of the subject of the event of point ``i``, a target; 0: it is not among ``points``."""
        if self._by_event is None:
            flags, pids, events = points.flags, points.pid, points.event
            self._by_event = {events[j]: max(pids[j], 0) for j in range(points.n) if flags[j] & pt.P_HAS_TARGET}
        return self._by_event.get(points.event[i], 0)
