"""The states that an answer found, one for each point."""

from array import array
from collections.abc import Callable, Sequence
from typing import Final, overload

from auditns_connector._native import ffi
from auditns_connector.model.process import State
from auditns_connector.vocabulary.values import CData

#: of whoever is in no container, and of whom nobody asked
HOST: Final = State(0, None, None, "")


class PointStates(Sequence[State]):
    """The state of each point of an answer. Most points share theirs with others: ``found`` has each about once, and
    ``which`` the place there for each point. Whoever was not asked about is :data:`HOST`. What rows have answered is
    said by :meth:`by_rows` alone, and what was remembered of records of ours in the text by :attr:`texts`."""

    __slots__ = ("_of_row", "_rows", "found", "said", "texts", "which")

    def __init__(self, points: int) -> None:
        self.found: list[State] = [HOST]
        self.which = array("I", bytes(4 * points))
        #: by point: its place in ``said``, 0 where that does not have it; ``None``: it has none
        self.texts: CData = None
        self.said: Sequence[State] = ()
        self._rows: CData = None
        self._of_row: Callable[[int], State] = _no_row

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, i: int) -> State: ...

    @overload
    def __getitem__(self, i: slice) -> list[State]: ...

    def __getitem__(self, i: int | slice) -> "State | list[State]":
        if isinstance(i, slice):
            return [self[at] for at in range(*i.indices(len(self)))]
        if i >= len(self.which):
            raise IndexError(i)
        row = self._rows[i] if self._rows is not None else 0
        return self._of_row(row) if row else self.of_no_row(i)

    def of_no_row(self, i: int) -> State:
        """The state of point ``i``, which no row has answered."""
        place = self.texts[i] if self.texts is not None else 0
        return self.said[place] if place else self.found[self.which[i]]

    def put(self, i: int, state: State) -> None:
        """Point ``i`` has ``state``."""
        self.which[i] = len(self.found)
        self.found.append(state)

    def by_rows(self, rows: CData, of_row: Callable[[int], State]) -> None:
        """The points for which ``rows`` has a number other than 0 have the state of that row, as long as no frame is
        applied."""
        self._rows, self._of_row = rows, of_row

    def by_texts(self, said: Sequence[State]) -> CData:
        """Have :attr:`texts`, which the C fills with places in ``said``."""
        if self.texts is None:
            self.texts = ffi.new("uint32_t[]", max(len(self.which), 1))
        self.said = said
        return self.texts

    @property
    def rows(self) -> CData:
        """By point: the row that answered it, 0 where none did; ``None``: none did any."""
        return self._rows


def _no_row(row: int) -> State:
    raise IndexError(row)
