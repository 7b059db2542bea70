"""How far kernel events have been taken in, and by which steps.

On most hosts all that has happened by now is drained at once. Where more happens than can be applied as fast, that
would take ever longer, and nobody be answered meanwhile: then a fifth of a second is taken in at a time, records that
need no more are answered in between, and whoever asks is answered that we are behind. Pure.
"""

from typing import Final

#: kernel events are many where they are more than this in a second (bytes), as seen in no less than a moment (ns)
_HEAVY: Final = 1 << 20
_MOMENT: Final = 5_000_000
_STEP: Final = 200_000_000
#: what happened no longer ago than this is as good as now (ns)
_FAR: Final = 100_000_000
#: after a request that has waited in vain others are refused at once for so long (ns)
_REFUSE: Final = 500_000_000


class Pacing:
    """Times are of CLOCK_MONOTONIC (ns)."""

    def __init__(self) -> None:
        #: up to when kernel events were drained, and whether these were many
        self.drained_to = 0
        self.heavy = False
        #: more has happened than the last step has taken in
        self.behind = False
        self._refuse_until = 0

    def note(self, cut: int, size: int) -> None:
        """What happened before ``cut`` was drained; it was ``size`` bytes."""
        taken = cut - self.drained_to
        if taken > _MOMENT:
            self.heavy = size * 1_000_000_000 > _HEAVY * taken
        self.drained_to = max(self.drained_to, cut)

    def step(self, now: int) -> int:
        """Up to when the next step goes; 0: up to now."""
        upto = self.drained_to + _STEP if self.heavy else now
        self.behind = upto < now
        return upto if self.behind else 0

    def far(self, now: int) -> bool:
        """Whether so much is left at ``now`` that an answer read now would have to wait."""
        return self.heavy and now - self.drained_to >= _FAR

    def refuse(self, now: int) -> None:
        """A request has waited in vain."""
        self._refuse_until = now + _REFUSE

    def refuses(self, now: int) -> bool:
        """Whether one that comes ``now`` need not even try."""
        return now < self._refuse_until
