"""Answers about events whose end had not come when they were handed out.

What comes of such an event later is about the same process at the same moment, so it has the same answer: a look-up of
its own would know less, for an exec or a call is consumed by one record only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from auditns_connector.model.process import State
from auditns_connector.vocabulary import audit_text as pt

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints

#: so many are remembered; the oldest goes
_MOST: Final = 1024
Key = tuple[int, int, bytes, int]


class Unfinished:
    """The newest of them."""

    def __init__(self) -> None:
        self._states: dict[Key, State] = {}

    def remember(self, points: "InsertionPoints", states: Sequence[State]) -> None:
        """``points`` were answered with ``states``; their events have no end."""
        for i in range(min(points.n, len(states))):
            if points.flags[i] & pt.P_SUBJECT and not points.flags[i] & pt.P_LATE:
                self._states.pop(key := _key(points, i), None)
                self._states[key] = states[i]
                if len(self._states) > _MOST:
                    del self._states[next(iter(self._states))]

    def answer(self, points: "InsertionPoints", i: int) -> State | None:
        """The answer for what has come late, at point ``i``; ``None`` where its event is not remembered."""
        if not self._states or points.flags[i] & pt.P_TARGET:
            return None
        return self._states.get(_key(points, i))

    def clear(self) -> None:
        """What follows is of another run."""
        self._states.clear()


def _key(points: "InsertionPoints", i: int) -> Key:
    return points.serial[i], points.ms[i], points.node(i), points.pid[i]
