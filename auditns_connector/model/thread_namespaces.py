"""The threads of a process that are not its leader, and those that live in other namespaces than it, with the times of
that: an audit record names the process, not the thread.

:attr:`Process.apart` is ``None`` for nearly every process. Else it lists those times at which a thread was apart from
what the leader's states say; whoever asks about a moment gets the sets of all of them.
"""

from typing import TYPE_CHECKING, Final

from auditns_connector.model.namespaces import NsSet
from auditns_connector.model.process import Process

if TYPE_CHECKING:
    from auditns_connector.model.table import Model

#: times remembered for one process; what is older than the oldest is not known
_KEPT: Final = 64


class Apart:
    """Thread ``tid`` was in ``nsset`` from ``since`` until ``until`` (CLOCK_MONOTONIC ns; None: it is still)."""

    __slots__ = ("nsset", "since", "tid", "until")

    def __init__(self, tid: int, nsset: NsSet | None, since: int) -> None:
        self.tid = tid
        self.nsset = nsset
        self.since = since
        self.until: int | None = None


def add(model: "Model", process: Process, tid: int, nsset: NsSet | None, time: int | None = None) -> None:
    """Thread ``tid`` of ``process`` lives, in ``nsset`` since ``time`` (None: now)."""
    if process.threads is None:
        process.threads = {}
    process.threads[tid] = nsset
    model.threads[tid] = process
    if nsset is not process.state.nsset:
        moved(process, tid, nsset, model.now if time is None else time)
    if nsset is not None:
        model.enter(nsset, process, tid)


def put(model: "Model", process: Process, tid: int, nsset: NsSet, time: int) -> None:
    """Thread ``tid`` of ``process`` is in ``nsset`` from ``time`` on."""
    former = process.nsset_of(tid)
    model.enter(nsset, process, tid)
    if process.threads is not None:
        process.threads[tid] = nsset
        moved(process, tid, nsset, time)
    if former is not None:
        model.namespaces.leave(former, tid, time)


def drop(model: "Model", process: Process, tid: int, time: int) -> None:
    """Thread ``tid`` of ``process`` is gone."""
    nsset = process.threads.pop(tid, None) if process.threads is not None else None
    if model.threads.get(tid) is process:
        del model.threads[tid]
    model.timens.left(process, tid)
    left(process, tid, time)
    if nsset is not None:
        model.leave(nsset, process, tid, time)


def moved(process: Process, tid: int, nsset: NsSet | None, time: int) -> None:
    """Note that thread ``tid`` is in ``nsset`` from ``time`` on."""
    left(process, tid, time)
    if nsset is process.state.nsset:
        return
    if process.apart is None:
        process.apart = []
    process.apart.append(Apart(tid, nsset, time))
    if len(process.apart) > _KEPT:
        # what falls out may have been anywhere: nothing is known of that time any more
        del process.apart[0]
        process.apart[0].nsset, process.apart[0].since = None, 0


def left(process: Process, tid: int, time: int) -> None:
    """Note that thread ``tid`` is where it was no longer."""
    for apart in process.apart or ():
        if apart.tid == tid and apart.until is None:
            apart.until = time


def leader_moved(process: Process, time: int) -> None:
    """The leader has gone elsewhere; the other threads stay where they are."""
    apart = {entry.tid for entry in process.apart or () if entry.until is None}
    for tid, nsset in (process.threads or {}).items():
        if tid not in apart:
            moved(process, tid, nsset, time)


def between(process: Process, low: int, high: int) -> list[NsSet | None]:
    """The sets of threads apart at some time between ``low`` and ``high``."""
    return [
        entry.nsset
        for entry in process.apart or ()
        if entry.since <= high and (entry.until is None or entry.until >= low)
    ]
