"""Which exec does a record of an exec speak of? The kernel's event of each exec carries a snapshot of the process,
taken in the right instant; the record is matched to it.

The entry into the system call lies in ``[stamp, stamp + LATE]``, for the clock that stamps may stand still that long.
Who held the pid at some time of that may have made the record, unless the record names another one's parent, and nobody
else, however much later an exec of the same pid comes: the pid is another process's by then. The event comes behind the
entry, up to :data:`EXEC_TIME`, and not after ``until``, the moment at which the record was there. Of one process it is
the first after the entry: same file name, same comm, not consumed by another record. If what is left disagrees about
the container the answer is unknown.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from auditns_connector.attribution.lookup import NOBODY, agreed, doubtful, find, holders, may_be_child, named_then
from auditns_connector.model.process import Exec, Process, State
from auditns_connector.vocabulary.timing import EPSILON, EXEC_TIME, LATE, MS

if TYPE_CHECKING:
    from auditns_connector.audittext.points import InsertionPoints
    from auditns_connector.model.apply.dispatch import Model

_Match = tuple[Exec, Process]


def written_until(points: "InsertionPoints", i: int, now: int, model: "Model") -> int:
    """When the record of point ``i`` was written, at the latest; its text is older than ``now``, the time at which a
    run answered it: the next event in the text was written later, and is stamped soon after that."""
    serial, ms = points.serial[i], points.ms[i]
    for j in range(i + 1, points.n):
        if points.serial[j] != serial:
            next_ms = max(ms, points.ms[j])
            return min(now, next_ms * MS - (model.clock.offset or 0) + model.lag + LATE)
    return now


def find_exec(
    model: "Model", pid: int, ppid: int, times: Sequence[int], until: int, name: bytes | None, comm: bytes | None
) -> State:
    """The snapshot of the exec that an execve record of ``pid`` speaks of; consumes it.

    ``name`` is the PATH record's item 0, ``comm`` the SYSCALL record's; ``None`` where the record has none. ``times``,
    ``until`` and ``ppid`` are as for :func:`lookup.find`, which answers where there is no such exec.
    """
    candidates = _candidates(model, pid, ppid, times, until, name, comm)
    if not candidates:
        return find(model, pid, ppid, times, until)
    exec_, process = candidates[0]
    state = agreed(model, [exec_.state for exec_, _ in candidates])
    if state is NOBODY:
        return NOBODY
    taken = _taken(model, process, exec_, min(times) - EPSILON)
    if taken is not exec_.state:
        return taken
    entries = [exec_.time for exec_, _ in candidates]
    return named_then(state, min(entries), max(entries))


def find_only_exec(model: "Model", pid: int, times: Sequence[int], until: int) -> State | None:
    """What :func:`find_exec` gives where one time, one holder of ``pid`` and one exec of it come into question,
    whatever the record's names; ``None``, and nothing is consumed, where that is not so."""
    process = model.processes.get(pid)
    if process is None or process.prev is not None or len(times) != 1 or not process.execs or len(process.execs) > 1:
        return None
    matches = _execs(model, pid, times[0], until)
    if not matches:
        return None
    exec_ = matches[0][0]
    return named_then(_taken(model, process, exec_, times[0] - EPSILON), exec_.time, exec_.time)


def find_named(
    model: "Model", pid: int, times: Sequence[int], until: int, name: bytes, comm: bytes
) -> tuple[Exec, Process] | None:
    """The exec of ``pid`` that had this file name and left this comm, where one alone comes into question; ``None``
    where there are several, or none, or events of then are missing. Nothing is consumed."""
    file = model.table.hash(name)
    found = {
        (process.start, exec_.time): (exec_, process)
        for low in times
        for exec_, process in _execs(model, pid, low, until)
        if exec_.file == file and exec_.comm == comm
    }
    if len(found) != 1:
        return None
    (match,) = found.values()
    low = min(times) - EPSILON
    forgotten = low < model.horizon and match[1].start > low
    return None if forgotten or _in_doubt(model, match[1], match[0], low) else match


def _in_doubt(model: "Model", process: Process, exec_: Exec, low: int) -> bool:
    """Whether a record whose entry was at ``low`` or later may mean another exec than ``exec_``."""
    forgotten = process.execs_lost >= low
    return forgotten or doubtful(model, process, exec_.time) or model.losses.missing(low, exec_.time)


def _taken(model: "Model", process: Process, exec_: Exec, low: int) -> State:
    """The snapshot of ``exec_``, which a record consumes now; the record's entry was at ``low`` or later."""
    model.table.exec_consumed(process, exec_.time)
    if low < model.horizon and process.start > low:
        model.losses.forgotten(low)  # who held the pid before may be
        return NOBODY
    return NOBODY if _in_doubt(model, process, exec_, low) else exec_.state


def _candidates(
    model: "Model", pid: int, ppid: int, times: Sequence[int], until: int, name: bytes | None, comm: bytes | None
) -> list[_Match]:
    """The execs that the record may mean, at any of ``times``."""
    matches = []
    for low in times:
        found = _execs(model, pid, low, until)
        if len(found) > 1 and ppid >= 0:
            found = [item for item in found if _of_parent(model, item[1], ppid, until)] or found
        if found:
            matches.append(_narrowed(model, found, low, name, comm))
    return list({id(exec_): (exec_, process) for match in matches for exec_, process in match}.values())


def _execs(model: "Model", pid: int, low: int, until: int) -> list[_Match]:
    """The execs not yet consumed that a record stamped at ``low`` may mean, in order of time."""
    first, last = low - EPSILON, min(low + LATE, until)
    end = min(last + EXEC_TIME, until)
    found = [
        (exec_, process)
        for process in holders(model, pid, first, last)
        for exec_ in process.execs or ()
        if process.start <= last and first <= exec_.time <= end
    ]
    found.sort(key=lambda item: item[0].time)
    return found


def _of_parent(model: "Model", process: Process, ppid: int, until: int) -> bool:
    """Whether a record that ``process`` made of an exec, and that was there ``until``, can name ``ppid`` as its parent:
    it says who that was when the exec was over."""
    return may_be_child(model, process, ppid, until if process.end is None else min(process.end, until))


def _narrowed(model: "Model", found: list[_Match], low: int, name: bytes | None, comm: bytes | None) -> list[_Match]:
    """Those of ``found`` that the record may mean."""
    if len(found) == 1:
        return found
    file = model.table.hash(name) if name is not None else None
    named = [item for item in found if item[0].file == file] or found
    called = [item for item in named if item[0].comm == comm] or named
    if model.losses.execs_complete(called[0][0].time):
        return called[:1]  # every exec makes a record and records come in order: it is the first not yet consumed
    # the record means the first one after its entry: whatever follows the first one behind the window is a later exec
    return [item for item in called if item[0].time <= low + LATE] or called[:1]
