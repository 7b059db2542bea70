"""Which of the kernel's audit events came, and which are missing: holes in their serials, and what came between the end
of a former run and the beginning of this one. Pure.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from auditns_connector.audittext.absence import Absence
from auditns_connector.audittext.divided import Half, continues
from auditns_connector.audittext.grouping import sequence_end
from auditns_connector.audittext.serials import MAX_HOLES, SerialGap, SerialTracker
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.syscalls import NUMBERS

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.sinks.tail import Tail

_MODULUS: Final = 1 << 32
#: a 1 at each type that auditd numbers by itself
_DAEMON: Final = rectypes.marks(rectypes.DAEMON)
#: an event comes before no more than so many others that are numbered before it
_AHEAD: Final = 64
#: the event of the joining comes within this time of the first (ms), and so many others
_OPENING: Final = 2000
_MOST_OPENING: Final = 4096
#: above so many open holes those that are but late within a sequence may count as missing
_FEW_HOLES: Final = MAX_HOLES // 2
_WHOLE: Final = 1
_HEADLESS: Final = 2


def _none() -> list[tuple[int, int]]:
    return []


class Continuity:
    """Shown all points of this host's events. ``track``: holes are looked for here, not by the source.

    ``joined``: the events come by a multicast group, which the process of that pid has joined. It is audited when it
    does (kernel/audit.c, audit_multicast_bind), and is a member only a moment later (net/netlink/af_netlink.c,
    netlink_bind): what the kernel sends in that moment never arrives, the first record of that event above all. So
    holes are looked for from the serial of that event on, whatever comes first.
    """

    def __init__(self, *, track: bool, joined: int = 0) -> None:
        #: serial and time (ms since 1970) of the newest event of the kernel, and of the first that came
        self.newest: tuple[int, int] | None = None
        self.first: tuple[int, int] | None = None
        #: the serial that comes next where none is missing; -1: no holes are looked for
        self.next = -1
        #: holes that were found and are not reported yet
        self.missing: list[SerialGap] = []
        #: (pid, serial) of the system calls whose events have begun to come; ``None`` where those are too many
        self.open_calls: Callable[[], list[tuple[int, int]] | None] = _none
        #: what came since the former run, as long as what of that is missing is not reported
        self.absence: Absence | None = None
        #: serials of events that the former run has written in part, and this run has not completed
        self.broken: set[int] = set()
        self._halves: Mapping[int, Half] = {}
        #: the newest event before which nothing was missing when it had come
        self._clean: tuple[int, int] | None = None
        #: where the absence ended as far as the tracker knows; -1: it has not begun
        self._begun_behind = -1
        self._recalled: list[SerialGap] = []
        self._tracker = SerialTracker() if track else None
        self._joined = joined
        #: serials and times of what came until the event of the joining did; ``None``: it has, or will not
        self._opening: list[tuple[int, int]] | None = [] if joined else None

    def saw(self, points: "InsertionPoints", node: bytes) -> None:
        """Points have come, the last of them with the prefix ``node``, which this host's have."""
        self._saw(points, node)
        if self.missing:
            self._leave_out_open()
        if not self.is_unsettled:
            self._clean = self.newest

    def _saw(self, points: "InsertionPoints", node: bytes) -> None:
        last = points.n - 1
        serial, ms = points.serial[last], points.ms[last]
        if self.first is None:
            came = [(number, at) for _, number, at in self._of_kernel(points, node)]
            self.first = min(came, key=lambda one: (one[0] - serial - 1) % _MODULUS, default=None)
        if points.rtype[last] not in rectypes.DAEMON:
            self._newer(serial % _MODULUS, ms)
        if self.absence is not None:
            self._look_for_absent(self.absence, points, node)
        if self._opening is not None:
            self._look_for_joining(self._opening, points, node)
            return
        if self._tracker is None or (self.absence is not None and not self.absence.begun):
            return
        if last == 0 and serial == self.next and not self._tracker.open and points.rtype[0] not in rectypes.DAEMON:
            self._tracker.skip(serial, ms)
            self.next = serial + 1
        else:
            self._track(self._tracker, points, node)

    def _leave_out_open(self) -> None:
        """An event that has begun to come is not missing, however much comes before its end: who writes it may have
        been kept from its CPU."""
        for _, serial in self.open_calls() or ():
            self.missing = [part for gap in self.missing for part in gap.without(serial % _MODULUS)]

    def passed(self, serial: int, ms: int) -> None:
        """The next events up to ``serial`` have come, without a hole, of this host and by the kernel."""
        self.first = self.first or (serial % _MODULUS, ms)
        self._newer(serial % _MODULUS, ms)
        if self._tracker is not None:
            self._tracker.skip(serial, ms)
            self.next = serial + 1
        if not self.is_unsettled:
            self._clean = self.newest

    def _newer(self, serial: int, ms: int) -> None:
        """An event has come; they may come in another order than they are numbered in."""
        if self.newest is None or (serial - self.newest[0]) % _MODULUS < _MODULUS // 2:
            self.newest = serial, ms
        elif self.first is not None and (self.first[0] - serial) % _MODULUS <= _AHEAD:
            self.first = serial, ms

    def _look_for_absent(self, absence: Absence, points: "InsertionPoints", node: bytes) -> None:
        for i, serial, ms in self._of_kernel(points, node):
            if points.rtype[i] not in rectypes.FOLLOWERS and self._joining(points, i) != _HEADLESS:
                absence.feed(serial, ms)
            elif (half := self._halves.get(serial)) is not None and continues(half, points.record(i)):
                absence.complete(serial, ms)
                self.broken.discard(serial)
            elif absence.lacks(serial):
                self.broken.add(serial)
            if self._tracker is not None and self._opening is None and absence.begun:
                self._begin_behind(self._tracker, absence.end, ms)

    def _look_for_joining(self, opening: list[tuple[int, int]], points: "InsertionPoints", node: bytes) -> None:
        joining: tuple[int, int] | None = None
        for i, serial, ms in self._of_kernel(points, node):
            self._newer(serial, ms)
            opening.append((serial, ms))
            if self._joining(points, i):
                joining = serial, ms
        late = opening and opening[-1][1] - opening[0][1] >= _OPENING
        if joining is not None or late or len(opening) > _MOST_OPENING:
            self._open(opening, joining)

    def _joining(self, points: "InsertionPoints", i: int) -> int:
        """Whether point ``i`` is of the joining: _WHOLE, or _HEADLESS where the first record has not come; else 0."""
        if not self._joined or points.pid[i] != self._joined:
            return 0
        if points.sysno[i] != NUMBERS.get(points.arch[i], {}).get("bind"):
            return 0
        return _WHOLE if points.recno[i] > 1 else _HEADLESS

    def _open(self, opening: list[tuple[int, int]], joining: tuple[int, int] | None) -> None:
        """All that came before the event ``joining`` or, where there is none, for a while, is in ``opening``."""
        self._opening = None
        if self.absence is not None:
            if not self.absence.begun:
                return
            if self._tracker is not None:
                self._begin_behind(self._tracker, self.absence.end, opening[-1][1])
        elif joining is not None and self._tracker is not None:
            self._tracker.skip(*joining)
        if self._tracker is not None and opening:
            for serial, ms in opening:
                self.missing += self._tracker.feed(serial, ms)
            self.next = self._tracker.newest + 1

    def _begin_behind(self, tracker: SerialTracker, end: int, ms: int) -> None:
        """What is missing up to ``end`` is no hole of this run."""
        if self._begun_behind < 0:
            tracker.skip(end, ms)
        elif 0 < (size := (end - self._begun_behind) % _MODULUS) < _MODULUS // 2:
            tracker.skip_all(SerialGap((self._begun_behind + 1) % _MODULUS, end, size, ms, ms))
        self._begun_behind = end

    def _track(self, tracker: SerialTracker, points: "InsertionPoints", node: bytes) -> None:
        """Feed the points to ``tracker``."""
        i, n = 0, points.n
        while i < n:
            at, serial, ms = i, points.serial[i], points.ms[i]
            i += 1
            if not self._is_of_kernel(points, at, serial, node):
                continue
            if self.missing:  # found in what has come with it
                self.missing = [part for gap in self.missing for part in gap.without(serial)]
            self.missing += tracker.feed(serial, ms)
            self._newer(serial, ms)
            if tracker.newest == serial and self._is_behind_first(serial):
                end = sequence_end(points, at, _MODULUS, _DAEMON)  # these follow it, and nothing is missing
                if self._follow(tracker, points, i, end):
                    i = end
        # whoever comes late, and after it is given up for lost, does not turn back what comes next
        self.next = tracker.newest + 1

    def _follow(self, tracker: SerialTracker, points: "InsertionPoints", first: int, end: int) -> bool:
        """Take the points from ``first`` up to ``end``, of events that follow the newest one without a hole, together;
        False where that would not be as if each came by itself."""
        serial, ms = points.serial[end - 1], points.ms[end - 1]
        if not tracker.open:
            tracker.skip(serial, ms)
        elif len(tracker.holes) > _FEW_HOLES or ms < max(tracker.newest_ms, *points.ms[first - 1 : end].tolist()):
            return False
        else:
            self.missing += tracker.follow(serial, ms)
        self._newer(serial, ms)
        return True

    def _is_behind_first(self, serial: int) -> bool:
        """No event that follows ``serial`` comes before the first one."""
        return self.first is not None and (serial - self.first[0]) % _MODULUS < _MODULUS // 2

    def _of_kernel(self, points: "InsertionPoints", node: bytes) -> Iterator[tuple[int, int, int]]:
        """The points in events that this host's kernel numbers, their serials and times."""
        rows = zip(points.serial[: points.n].tolist(), points.ms[: points.n].tolist(), strict=True)
        for i, (serial, ms) in enumerate(rows):
            if self._is_of_kernel(points, i, serial, node):
                yield i, serial, ms

    @staticmethod
    def _is_of_kernel(points: "InsertionPoints", i: int, serial: int, node: bytes) -> bool:
        # auditd counts its own DAEMON_* events by itself, another host's are another sequence
        return serial < _MODULUS and points.rtype[i] not in rectypes.DAEMON and points.lead(i) == node

    @property
    def incomplete(self) -> bool:
        """Whether an event is missing that may still be on its way."""
        return self._tracker is not None and self._tracker.open

    @property
    def is_unsettled(self) -> bool:
        """Whether there is something to tell or to look for before the next event."""
        opens = self.absence is not None or self._opening is not None
        return opens or bool(self.missing) or self.incomplete

    def dropped(self, gap: SerialGap) -> None:
        """The events of ``gap`` have come, and are reported to be missing elsewhere."""
        if self._tracker is not None and gap.events:
            self.missing += self._tracker.skip_all(gap)

    # -- what a restart has cost

    def resume(self, tail: "Tail") -> None:
        """A former run of this boot has written what ``tail`` says."""
        self.absence, self._halves = Absence(tail.serial, tail.ms, tail.present, tail.broken), tail.halves
        self.broken = set(tail.broken)

    def recall(self, gap: SerialGap) -> None:
        """``gap`` was missing when the former run began, and that run may not have reported it."""
        self._recalled.append(gap)

    def absent(self) -> list[SerialGap]:
        """What came while nobody of ours was there, once that is certain; it is to be reported now."""
        found, self._recalled = self._recalled, []
        if self.absence is not None and self.absence.over:
            loss, self.absence = self.absence.loss, None
            found += [] if loss is None else [loss]
        return found

    @property
    def settled(self) -> tuple[int, int] | None:
        """Serial and time (ms since 1970) of the newest event up to which all that came was handed to the outputs, and
        what is missing is reported; ``None`` where there is none. Where much is audited there is hardly a moment in
        which no event is on its way that is numbered before others that have come."""
        if self._recalled or self.absence is not None or self._opening is not None:
            return None
        return self._clean

    def finish(self) -> None:
        """Nothing more comes: every hole that is still open is a loss."""
        if self._opening is not None:
            self._open(self._opening, None)
        if self._tracker is not None:
            self.missing += self._tracker.flush()
        if self.absence is not None:
            self.absence.finish()
