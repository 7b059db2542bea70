"""What the model has to tell, in its order: outputs, and between them events of the process table in C.

The table tells of lives of namespaces by events (apply/lives.py), of which nobody makes objects before somebody reads
them. Where they stand among the others is kept by :class:`Unread`.
"""

from collections.abc import Callable, Iterable
from typing import cast

from auditns_connector.model.outputs import Output, Unread
from auditns_connector.model.rows import Rows
from auditns_connector.vocabulary.values import CData


def _none(first: int, last: int) -> list[Output]:
    """There are no events."""
    return []


def _nothing() -> None:
    """Nobody is to know."""


class Telling:
    """The outputs of a model whose processes are in ``rows``."""

    def __init__(self, rows: Rows) -> None:
        self._c: CData = rows.c
        self._outputs: list[Output | Unread] = []
        #: events of the table that have their place among these
        self._noted = 0
        #: reads events of the table, from one on until another; drops them once consumed: see apply/lives.py
        self.read_events: Callable[[int, int], list[Output]] = _none
        self.events_consumed: Callable[[], None] = _nothing

    @property
    def lifecycle(self) -> bool:
        """Whether the lifecycle of namespaces is reported."""
        return bool(self._c.lifecycle)

    @lifecycle.setter
    def lifecycle(self, enabled: bool) -> None:
        self._c.lifecycle = enabled

    def tell(self, output: Output) -> None:
        """Append ``output`` to those that wait."""
        self._note_events()
        self._outputs.append(output)

    def _note_events(self) -> None:
        """What the table has to tell stands where it was before what comes."""
        events = self._c.events
        if events > self._noted:
            self._outputs.append(Unread(self._noted, events))
            self._noted = events

    @property
    def outputs(self) -> list[Output]:
        """All outputs that wait; events of the table are read for it."""
        self._note_events()
        if self._noted:
            whole = len(self._outputs)
            found = self.read_outputs(self._outputs)
            self._outputs = [*found, *self._outputs[whole:]]
            self.outputs_consumed()
        return cast("list[Output]", self._outputs)

    @outputs.setter
    def outputs(self, outputs: list[Output]) -> None:
        self._outputs = list(outputs)
        self.outputs_consumed()

    @property
    def pending_outputs(self) -> int:
        """How many outputs wait, nearly."""
        return len(self._outputs) + int(self._c.events)

    def take_outputs(self) -> "list[Output | Unread]":
        """The outputs that wait, read before :meth:`outputs_consumed` is called; nothing is applied meanwhile."""
        self._note_events()
        outputs, self._outputs = self._outputs, []
        return outputs

    def read_outputs(self, outputs: "Iterable[Output | Unread]") -> list[Output]:
        """``outputs``, those of the table too."""
        found: list[Output] = []
        for output in outputs:
            if isinstance(output, Unread):
                found += self.read_events(*output)
            else:
                found.append(output)
        return found

    def outputs_consumed(self) -> None:
        """What was taken has been written."""
        self._noted = 0
        self.events_consumed()
