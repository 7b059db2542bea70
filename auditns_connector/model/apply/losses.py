"""What is missing from the inputs, and what is in doubt for it: losses with their epochs, and what audit rules tell.

A loss begins a new *epoch*: the state of a process from an earlier one is in doubt from ``doubt[epoch]`` on, until
/proc or an event of its own confirms it. :attr:`Model.epoch`, ``confirmed`` and ``gap_until`` are asked for with every
event and so stand in the model itself; they are changed here.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from auditns_connector.model.exits import CONNECTOR
from auditns_connector.model.outputs import Loss
from auditns_connector.vocabulary import frames as f

if TYPE_CHECKING:
    from auditns_connector.model.tables import Tables

_DOUBTS: Final = 256
_GAPS: Final = 1024
#: a loss that is of no CPU
NO_CPU: Final = 0xFFFF


class Losses:
    """Events that ``model`` has missed."""

    def __init__(self, model: "Tables") -> None:
        self._model = model
        #: there is no source of events: only scans of /proc tell anything
        self.polling = False
        #: what ended before this is not asked for any more, as far as text has come (CLOCK_MONOTONIC ns): who is
        #: forgotten though he ended later is so for want of memory. Only where that is known
        self.expected = 1 << 63
        #: (first, last, how many): records that would have asked for such ones, not reported yet
        self.missed: tuple[int, int, int] | None = None
        #: (from, to) of the newest times in which events are missing
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_GAPS)
        #: from when on every exec makes an audit record, as far as the rules say; None: it need not
        self._all_execs: int | None = None
        #: the same for unshare and setns
        self._all_calls: int | None = None
        #: up to when audit records are missing
        self._records_lost = 0

    def lost(self, time: int, source: int, cpu: int, number: int, since: int) -> None:
        """Events are missing since ``since`` (or since the newest frame): /proc must confirm what came after."""
        model = self._model
        since = min(since or model.now, time)
        model.tell(Loss(time, f.SOURCE_NAMES.get(source, str(source)), cpu, number, since))
        if source == f.S_AUDIT:
            self._records_lost = max(self._records_lost, time)
        if source == f.S_PERF or (source == f.S_CN and (not model.perf or model.exits.proof == CONNECTOR)):
            self._gaps.append((since, time))
            model.gap_until = max(model.gap_until, time)
            if model.confirmed:
                model.doubt(since)
                model.confirmed = False
            else:  # nobody has been confirmed since the last loss: it goes on
                model.doubted[-1] = min(model.doubted[-1], since)

    def forgotten(self, low: int) -> None:
        """A record stamped at ``low`` is answered with nobody, for who held its pid may be forgotten."""
        if low >= self.expected:
            first, last, count = self.missed or (low, low, 0)
            self.missed = (min(first, low), max(last, low), count + 1)

    def tell_forgotten(self) -> None:
        """Tell of the records that were answered so since the last time, if any."""
        if self.missed is not None:
            first, last, count = self.missed
            self.missed = None
            self._model.tell(Loss(last, "table", NO_CPU, count, first))

    def polled(self, time: int) -> None:
        """/proc was read after ``time``; there is no other source, so from then on nothing is sure."""
        self.polling = True
        self._model.doubt(time)
        if len(self._model.doubted) > _DOUBTS:
            self._model.doubted[-_DOUBTS - 1] = 0  # of processes that ended long ago

    def rules(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        """RULES frame: what makes a record for sure since ``cgroup``, or, where a journal is older, since then."""
        since = cgroup or time
        self._all_execs = since if arg & f.RULES_EXECS else None
        self._all_calls = since if arg & f.RULES_CALLS else None

    def missing(self, low: int, high: int) -> bool:
        """True where events between ``low`` and ``high`` (ns) are known to be missing."""
        if self.polling:
            return True
        if not self._gaps:
            return False
        return any(since <= high and until >= low for since, until in self._gaps)

    def execs_complete(self, time: int) -> bool:
        """True where an exec at ``time`` (ns) has made an audit record for sure."""
        return self._all_execs is not None and time >= max(self._all_execs, self._records_lost)

    def calls_complete(self, time: int) -> bool:
        """True where an unshare or setns at ``time`` (ns) makes an audit record for sure."""
        return self._all_calls is not None and time >= max(self._all_calls, self._records_lost)
