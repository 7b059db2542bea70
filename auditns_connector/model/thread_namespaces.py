"""The threads of a process that are not its leader, and those that live in other namespaces than it, with the times of
that: an audit record names the process, not the thread.

:attr:`Process.apart` is ``None`` for nearly every process. Else it lists those times at which a thread was apart from
what the leader's states say; whoever asks about a moment gets the sets of all of them.
"""

from typing import TYPE_CHECKING

from auditns_connector.model.places import NsSet
from auditns_connector.model.process import Process

if TYPE_CHECKING:
    from auditns_connector.model.tables import Tables


def add(model: "Tables", process: Process, tid: int, nsset: NsSet | None, time: int | None = None) -> None:
    """Thread ``tid`` of ``process`` lives, in ``nsset`` since ``time`` (None: now)."""
    model.table.thread(process, tid, nsset)
    if nsset is not process.state.nsset:
        model.table.moved(process, tid, nsset, model.now if time is None else time)
    if nsset is not None:
        model.enter(nsset, process, tid)


def put(model: "Tables", process: Process, tid: int, nsset: NsSet, time: int) -> None:
    """Thread ``tid`` of ``process`` is in ``nsset`` from ``time`` on."""
    former = process.nsset_of(tid)
    model.enter(nsset, process, tid)
    if process.threads is not None:
        model.table.thread(process, tid, nsset)
        model.table.moved(process, tid, nsset, time)
    if former is not None:
        model.namespaces.leave(former, tid, time)


def drop(model: "Tables", process: Process, tid: int, time: int) -> None:
    """Thread ``tid`` of ``process`` is gone."""
    nsset = model.table.thread_gone(process, tid)
    model.task_ended(process, tid)
    model.table.together(process, tid, time)
    if nsset is not None:
        model.leave(nsset, process, tid, time)


def between(process: Process, low: int, high: int) -> list[NsSet | None]:
    """The sets of threads apart at some time between ``low`` and ``high``."""
    return [
        entry.nsset
        for entry in process.thread_namespaces or ()
        if entry.since <= high and (entry.until is None or entry.until >= low)
    ]
