"""The states that an answer found, one for each point."""

from array import array
from collections.abc import Sequence
from typing import Final, overload

from auditns_connector.model.process import State

#: of whoever is in no container, and of whom nobody asked
HOST: Final = State(0, None, None, "")


class PointStates(Sequence[State]):
    """The state of each point of an answer. Most points share theirs with others: ``found`` has each about once, and
    ``which`` the place there for each point. Whoever was not asked about is :data:`HOST`."""

    __slots__ = ("found", "which")

    def __init__(self, points: int) -> None:
        self.found: list[State] = [HOST]
        self.which = array("I", bytes(4 * points))

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, i: int) -> State: ...

    @overload
    def __getitem__(self, i: slice) -> list[State]: ...

    def __getitem__(self, i: int | slice) -> "State | list[State]":
        if isinstance(i, slice):
            return [self.found[at] for at in self.which[i]]
        return self.found[self.which[i]]

    def put(self, i: int, state: State) -> None:
        """Point ``i`` has ``state``."""
        self.which[i] = len(self.found)
        self.found.append(state)
