"""From an audit stamp (CLOCK_REALTIME, milliseconds) to the kernel events' clock (CLOCK_MONOTONIC, nanoseconds).

The offset between the two is a history of *regimes*: each began when a sample showed that the wall clock had been set
(or had drifted visibly). A stamp is translated by the newest regime it fits; one that no regime fits has no answer.
"""

from typing import Final

from auditns_connector.vocabulary.timing import MISSED, RECENT, SLACK, STEP

_KEPT: Final = 256


class Clock:
    """Offsets of CLOCK_REALTIME against CLOCK_MONOTONIC, oldest first, as ``(seen from, seen until, offset)``."""

    def __init__(self) -> None:
        self._regimes: list[tuple[int, int, int]] = []
        #: until when nothing can be said; when the last step was noticed
        self._missed, self._stepped = 0, -RECENT

    @property
    def offset(self) -> int | None:
        """The offset now in force in ns, ``None`` before the first sample."""
        return self._regimes[-1][2] if self._regimes else None

    def sample(self, mono: int, offset: int, last: int = 0) -> None:
        """Take in that at ``mono`` (ns) CLOCK_REALTIME minus CLOCK_MONOTONIC was ``offset`` (ns); ``last`` is when it
        was looked at before."""
        if not self._regimes:
            self._regimes.append((0, mono, offset))
            return
        since, until, former = self._regimes[-1]
        if abs(offset - former) < STEP:
            # drift: the regime goes on with the newer value
            self._regimes[-1] = (since, mono, offset if abs(offset - former) > STEP // 8 else former)
            return
        # the step happened somewhere between the last sample and this one: the regimes overlap there
        self._regimes[-1] = (since, mono, former)
        self._regimes.append((max(until, last), mono, offset))
        self._stepped = mono
        del self._regimes[:-_KEPT]

    def missed(self, until: int) -> None:
        """The clock was set and set back between two samples, the last one at ``until``: nobody knows by how much."""
        self._missed = until + MISSED

    @property
    def was_set(self) -> bool:
        """Whether there is more than one offset, or one that is not known."""
        return len(self._regimes) != 1 or self._missed > 0

    def steady(self, real: int, now: int) -> bool:
        """True when only the present regime can have stamped ``real`` (ns), seen by an observer at ``now``."""
        if not self._regimes or now < self._missed or now < self._stepped + RECENT:
            return False
        since, _, offset = self._regimes[-1]
        return max(since, self._stepped) <= real - offset <= now + SLACK

    def clear_since(self, now: int) -> int | None:
        """The CLOCK_MONOTONIC time (ns) from which on a stamp of the last ten seconds can mean but one time, for
        whoever asks at ``now`` or later; ``None`` where that is not so."""
        if not self._regimes or now < self._missed or now < self._stepped + RECENT + SLACK:
            return None
        return max(self._regimes[-1][0], self._stepped)

    @property
    def first_real(self) -> int:
        """The earliest wall-clock time (ns) that is any :meth:`candidates`'; 0 where there is none."""
        return min((since - SLACK + offset for since, _, offset in self._regimes), default=0)

    def candidates(self, real: int, now: int) -> list[int]:
        """The CLOCK_MONOTONIC times (ns) that the wall-clock time ``real`` (ns) may have been, newest regime first.

        Several where the clock was set back. Records are asked for soon after they were written, so moments within
        the last ten seconds before ``now`` (monotonic ns) outrule older ones. Empty where no regime fits: such a
        stamp is of another boot, another host, or another time.
        """
        if now < self._missed:
            return []  # what was written in the meantime may be stamped with any time
        if len(self._regimes) == 1:
            since, until, offset = self._regimes[0]
            mono = real - offset
            return [mono] if since - SLACK <= mono <= now + SLACK else []
        found = []
        until_next = now
        for since, until, offset in reversed(self._regimes):
            mono = real - offset
            if since - SLACK <= mono <= max(until, until_next) + SLACK and mono <= now + SLACK:
                found.append(mono)
            until_next = 0
        recent = [mono for mono in found if mono > now - RECENT]
        return recent or found
