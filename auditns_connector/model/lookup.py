"""Who was it? (pid, time) → the state of the one incarnation of that pid alive then.

An audit stamp is no exact time: it is taken at syscall entry from the coarse clock and printed in milliseconds, so the
true entry lies in ``[stamp, stamp + Model.lag]``. Every state that held in that window is a candidate; if they disagree
about the container the answer is unknown. A successful exec is matched to its own kernel event instead, which carries a
snapshot taken in the right instant: same pid, not before the stamp, not yet consumed, same file name and comm.
"""

from typing import Final

from .containers import UNKNOWN
from .namespaces import NsSet
from .process import NOT_KNOWN, Exec, Process, State
from .table import Model

#: how much earlier than its stamp an event may be by the error of our clock offset (ns)
EPSILON: Final = 1_000_000
#: a process first seen this long after the window still answers, where nobody else held the pid (ns)
LATE: Final = 100_000_000
NOBODY: Final = State(0, UNKNOWN, None, NOT_KNOWN)


def find(model: Model, pid: int, low: int, now: int) -> State:
    """The state of ``pid`` at an audit stamp ``low`` (CLOCK_MONOTONIC ns), asked at ``now``."""
    newest = model.processes.get(pid)
    if newest is None:
        return NOBODY
    high = min(low + model.lag, now)
    low -= EPSILON
    states: list[State] = []
    process: Process | None = newest
    late: Process | None = None
    while process is not None:
        if process.end is not None and process.end < low:
            break
        if process.start > high:
            late = process
        elif _doubtful(model, process, high):
            return NOBODY
        else:
            states += _with_threads(model, process, process.states(low, high))
        process = process.prev
    if not states:
        if late is None or late.start > high + LATE or _doubtful(model, late, late.start):
            return NOBODY
        return (late.past or [late.state])[0]
    return _agreed(model, states)


def find_exec(model: Model, pid: int, low: int, now: int, name: bytes | None, comm: bytes | None) -> State:
    """The snapshot of the exec that an execve record of ``pid`` stamped ``low`` speaks of; consumes it.

    ``name`` is the PATH record's item 0, ``comm`` the SYSCALL record's; ``None`` where the record has none.
    """
    found: list[tuple[Exec, Process]] = []
    process = model.processes.get(pid)
    while process is not None:
        if process.end is not None and process.end < low - EPSILON:
            break
        if process.execs:
            found += [(e, process) for e in process.execs if e.time >= low - EPSILON]
        process = process.prev
    if not found:
        return find(model, pid, low, now)
    if len(found) > 1:
        found.sort(key=lambda item: item[0].time)
        named = [item for item in found if item[0].filename == name] or found
        called = [item for item in named if item[0].comm == comm] or named
        high = low + model.lag
        # whatever lies behind the first one after the window is a later exec for sure
        near = [item for item in called if item[0].time <= high]
        found = near or called[:1]
    exec_, process = found[0]
    if any(other.state.container is not exec_.state.container for other, _ in found[1:]):
        return NOBODY
    if process.execs is not None:
        process.execs = [e for e in process.execs if e.time > exec_.time] or None
    if _doubtful(model, process, exec_.time):
        return NOBODY
    return exec_.state


def _doubtful(model: Model, process: Process, high: int) -> bool:
    """True where events that touch the process may be missing before ``high``."""
    return process.epoch < model.epoch and high >= model.doubt[process.epoch]


def _with_threads(model: Model, process: Process, states: list[State]) -> list[State]:
    if process.threads is None or not states or process.same_namespaces():
        return states
    merged: NsSet | None = process.state.nsset
    for nsset in process.threads.values():
        merged = _common(model, merged, nsset)
    return [state._replace(nsset=merged) for state in states]


def _agreed(model: Model, states: list[State]) -> State:
    first = states[0]
    nsset = first.nsset
    for state in states[1:]:
        if state.container is not first.container:
            return NOBODY
        if state.nsset is not nsset:
            nsset = _common(model, nsset, state.nsset)
    return first if nsset is first.nsset else first._replace(nsset=nsset)


def _common(model: Model, one: NsSet | None, other: NsSet | None) -> NsSet | None:
    """What both sets have in common; ``None`` in the places where they differ."""
    if one is None or other is None:
        return None
    if one is other:
        return one
    pairs = zip(one.inst, other.inst, strict=True)
    return model.namespaces.intern(tuple(a if a is b else None for a, b in pairs))
