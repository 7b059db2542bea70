"""Events of the process table among the outputs (model/apply/lives.py): read one by one, as long as they are reported.

Those of a maker that has had enough of this second are counted by the table, many at once, and no object is made of
them. What is reported, and what is counted, is what it would be if each were read.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from auditns_connector._native import ffi, lib
from auditns_connector.model.outputs import Output, Unread
from auditns_connector.pipeline.lifecycle_budget import LifecycleBudget, Maker, MakerOf
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model

#: makers whose events are counted by the table at a time
_MOST: Final = 64


class UnreadEvents:
    """Those of ``model``; ``maker`` knows whose they are."""

    def __init__(self, model: "Model", budget: LifecycleBudget, maker: MakerOf) -> None:
        self._model, self._budget, self._maker = model, budget, maker
        self._c: CData = model.table.c
        self._counted: CData = ffi.new("struct table_counted[]", _MOST)
        #: makers that have had enough until the budget's second is over, in the order of ``_counted``
        self._full: dict[tuple[int, int], Maker] = {}
        self._until = 0

    def read(self, outputs: "Iterable[Output | Unread]", serial: int, every: bool) -> Iterator[Output]:
        """``outputs``, without events that are counted (``every``: with these); ``serial`` is the kernel's newest."""
        self._full.clear()  # who somebody is may be known better now
        for output in self._model.read_outputs(outputs) if every else outputs:
            if not isinstance(output, Unread):
                yield output
                continue
            at, last = output
            while (at := self._count(at, last, serial)) < last:
                yield from self._model.read_events(at, at + 1)
                at += 1

    def _count(self, at: int, last: int, serial: int) -> int:
        """Count events from ``at`` on; returns the place of the first one that is to be read."""
        while at < last:
            time, until = self._c.event[at].time, self._budget.until
            if until != self._until:
                self._full.clear()
                self._until = until
            if time >= until:
                break
            who = self._model.lives.maker(at)
            if who not in self._full and not self._has_had_enough(who):
                break
            after = int(lib.table_events_count(self._c, at, last, until, self._counted, len(self._full)))
            if after == at:
                break
            self._take_counts(time, serial)
            at = after
        return at

    def _has_had_enough(self, who: tuple[int, int]) -> bool:
        process = self._model.incarnation(*who)
        if process is not None and self._model.own.did(process):
            return False
        # what a host process makes is in no container, or in one that has none around it
        maker = Maker(None if process is None else self._maker.uid_of(process), None)
        if not self._budget.full(maker):
            return False
        if len(self._full) == _MOST:
            self._full.clear()
        self._counted[len(self._full)] = {"pid": who[0], "start": who[1]}
        self._full[who] = maker
        return True

    def _take_counts(self, first: int, serial: int) -> None:
        """Have the budget know what was counted from the time ``first`` on."""
        makers = zip(list(self._counted[0 : len(self._full)]), self._full.values(), strict=True)
        found = sorted(((one.order, one, maker) for one, maker in makers if one.count), key=lambda item: item[0])
        for _, one, maker in found:
            self._budget.count(maker, int(one.count), (first, serial), (int(one.last), serial), ffi.string(one.comm))
            one.count = 0
