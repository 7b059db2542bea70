"""The plain case of a look-up: one process, in one state for all the time that some stamps may mean.

What is answered is what :func:`lookup.find` would find for each of the stamps; cdefs/attribution/row_lookup.c has the
same for rows.
"""

from typing import TYPE_CHECKING

from auditns_connector.attribution.lookup import named_then
from auditns_connector.model.process import Process, first_holder, valid_interval
from auditns_connector.vocabulary.timing import EPSILON

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model


def plain_holder(model: "Model", pid: int, low: int, high: int, window: int, *, ns: bool) -> Process | None:
    """Whose present (or last) state all stamps from ``low`` to ``high`` have for an answer (CLOCK_MONOTONIC ns);
    ``None`` where that is not so plain. A stamp means a moment up to ``window`` ns after it; ``ns``: the namespaces of
    threads matter as well."""
    newest = model.processes.get(pid)
    if newest is None or newest.epoch != model.epoch or pid in model.calls.pending:
        return None
    process, early = _holder(newest, low - EPSILON, high + model.lag)
    if process is None or process.epoch != model.epoch or (process.thread_namespaces and ns):
        return None
    return process if _answers(model, process, low, high, window, early) else None


def _answers(model: "Model", process: Process, low: int, high: int, window: int, early: bool) -> bool:
    """Whether all stamps from ``low`` to ``high`` mean the present state of the one holder of a pid."""
    margin, (since, until) = low - EPSILON, valid_interval(process)
    remembered = margin >= model.horizon
    if high - EPSILON > until or (process.end is not None and not remembered):
        return False
    if model.gap_until and model.gap_until >= margin:  # what is missing may be another holder of the pid
        return False
    if named_then(process.state, margin, margin) is not process.state:
        return False
    return margin > since or (early and process.start <= low + window and remembered)


def _holder(process: Process, low: int, high: int) -> tuple[Process | None, bool]:
    """The one holder of a pid, whose newest is ``process``, from ``low`` to ``high``, or the oldest; ``None`` where it
    is several. True: it has been the same since it began, and nobody else held the pid at ``low``."""
    early = first_holder(process)
    while process.start > low and process.prev is not None:
        former = process.prev
        if process.start <= high:
            alone = former.end is not None and former.end < low
            return (process if alone else None), process.past is None and not process.scanned
        process, early = former, first_holder(former)
    return process, early
