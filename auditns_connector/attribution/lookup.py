"""Who was it? (pid, time) → the state of the one incarnation of that pid alive then.

An audit stamp is no exact time: it is taken at syscall entry from the coarse clock and printed in milliseconds, so the
true entry lies in ``[stamp, stamp + Model.lag]``. Every state that held in that window is a candidate; candidates that
the record's ppid rules out are dropped, and if those left disagree about the container the answer is unknown. A
successful exec is matched to its own kernel event instead, which carries a snapshot taken in the right instant: same
pid, not before the stamp, not yet consumed, same file name and comm.

Where the clock was set there are several times to try; one at which nobody can have held the pid is ruled out.
"""

from collections.abc import Sequence
from typing import Final

from auditns_connector.model import thread_namespaces as threadsets
from auditns_connector.model.containers import UNKNOWN
from auditns_connector.model.namespaces import NsSet
from auditns_connector.model.process import NOT_KNOWN, Exec, Process, State
from auditns_connector.model.table import Model
from auditns_connector.vocabulary import timing
from auditns_connector.vocabulary.namespaces import PID

#: how much earlier than its stamp an event may be by the error of our clock offset (ns)
EPSILON: Final = timing.EPSILON
#: a process first seen this long after the window still answers, where nobody else held the pid (ns)
LATE: Final = 100_000_000
#: an exec takes no longer than this from entry to event, where another reading of the clock is possible (ns)
EXEC_TIME: Final = 1_000_000_000
#: /proc tells a start in ticks, rounded down: a process seen there may have begun this much later (ns)
START_TICK: Final = 10_000_000
_ANCESTORS: Final = 64
NOBODY: Final = State(0, UNKNOWN, None, NOT_KNOWN)


def find(model: Model, pid: int, ppid: int, times: Sequence[int], now: int) -> State:
    """The state of ``pid`` at an audit stamp that may mean any of ``times`` (CLOCK_MONOTONIC ns), asked at ``now``.

    ``ppid`` is the record's, -1 where it has none.
    """
    found = [state for low in times if (state := _at(model, pid, ppid, low, now)) is not None]
    return _agreed(model, found) if found else NOBODY


def find_exec(
    model: Model, pid: int, ppid: int, times: Sequence[int], now: int, name: bytes | None, comm: bytes | None
) -> State:
    """The snapshot of the exec that an execve record of ``pid`` speaks of; consumes it.

    ``name`` is the PATH record's item 0, ``comm`` the SYSCALL record's; ``None`` where the record has none.
    """
    candidates = _candidates(model, pid, times, name, comm)
    if not candidates:
        return find(model, pid, ppid, times, now)
    exec_, process = candidates[0]
    if any(other.state.container is not exec_.state.container for other, _ in candidates[1:]):
        return NOBODY
    model.table.exec_told(process, exec_.time)
    if _doubtful(model, process, exec_.time) or model.losses.missing(min(times) - EPSILON, exec_.time):
        return NOBODY
    return exec_.state


def find_only_exec(model: Model, pid: int, times: Sequence[int]) -> State | None:
    """What :func:`find_exec` gives in the usual case, whatever the record's names: one time, one holder of ``pid``, one
    exec of it from then on; ``None``, and nothing is consumed, where it is not so plain."""
    process = model.processes.get(pid)
    if process is None or process.prev is not None or len(times) != 1 or not process.execs or len(process.execs) > 1:
        return None
    exec_, low = process.execs[0], times[0] - EPSILON
    if exec_.time < low or (process.end is not None and process.end < low):
        return None
    model.table.exec_told(process, exec_.time)
    if _doubtful(model, process, exec_.time) or model.losses.missing(low, exec_.time):
        return NOBODY
    return exec_.state


def execs_told(model: Model) -> None:
    """Records of some execs were answered from memory, without :func:`find_exec`: consume these as that does."""
    for pid, time in model.touched.told():
        process = model.processes.get(pid)
        if process is not None and process.execs is not None:
            model.table.exec_told(process, time)


def _candidates(
    model: Model, pid: int, times: Sequence[int], name: bytes | None, comm: bytes | None
) -> list[tuple[Exec, Process]]:
    """The execs that the record may mean, at any of ``times``."""
    several = len(times) > 1
    matches = []
    for low in times:
        found = _execs(model, pid, low)
        if several:
            found = [item for item in found if item[0].time <= low + EXEC_TIME]
        if found:
            matches.append(_narrowed(model, found, low, name, comm))
    return list({id(exec_): (exec_, process) for match in matches for exec_, process in match}.values())


def _execs(model: Model, pid: int, low: int) -> list[tuple[Exec, Process]]:
    """The exec events of every holder of ``pid`` from ``low`` on, in order of time."""
    found: list[tuple[Exec, Process]] = []
    process = model.processes.get(pid)
    while process is not None:
        if process.end is not None and process.end < low - EPSILON:
            break
        if process.execs:
            found += [(e, process) for e in process.execs if e.time >= low - EPSILON]
        process = process.prev
    found.sort(key=lambda item: item[0].time)
    return found


def _narrowed(
    model: Model, found: list[tuple[Exec, Process]], low: int, name: bytes | None, comm: bytes | None
) -> list[tuple[Exec, Process]]:
    """Those of ``found`` that the record may mean."""
    if len(found) == 1:
        return found
    named = [item for item in found if item[0].filename == name] or found
    called = [item for item in named if item[0].comm == comm] or named
    if model.losses.execs_complete(called[0][0].time):
        return called[:1]  # every exec makes a record and records come in order: it is the first not yet told of
    # whatever lies behind the first one after the window is a later exec for sure
    return [item for item in called if item[0].time <= low + model.lag] or called[:1]


def _at(model: Model, pid: int, ppid: int, low: int, now: int) -> State | None:
    """The state at one time; ``None`` where it is certain that nobody held the pid then."""
    high = min(low + model.lag, now)
    low -= EPSILON
    found: list[tuple[Process, list[State]]] = []
    process = model.processes.get(pid)
    late: Process | None = None
    while process is not None:
        if process.end is not None and process.end < low:
            break
        if process.start > high:
            late = process
        elif _doubtful(model, process, high) or (process.scanned and low < process.start + START_TICK):
            return NOBODY  # the other holder of the pid may be one we never heard of
        else:
            found.append((process, _states(model, process, low, high)))
        process = process.prev
    if not found:
        if low < model.horizon or model.losses.missing(low, high + LATE):
            return NOBODY
        if late is None or late.start > high + LATE:
            return None
        return NOBODY if _doubtful(model, late, late.start) else (late.past or [late.state])[0]
    if model.losses.missing(low, high) and not _all_the_time(found, low, high):
        return NOBODY
    if len(found) > 1 and ppid >= 0:
        found = [item for item in found if _may_be_child(model, item[0], ppid, _last(item[0], high))] or found
    states = [state for process, held in found for state in _with_threads(model, process, held, low, high)]
    return _agreed(model, states)


def _all_the_time(found: list[tuple[Process, list[State]]], low: int, high: int) -> bool:
    """True where one process held the pid from ``low`` to ``high``, so that nobody can have been missed."""
    process = found[0][0]
    return len(found) == 1 and process.start <= low and (process.end is None or process.end >= high)


def _states(model: Model, process: Process, low: int, high: int) -> list[State]:
    """The states of ``process`` that a record stamped between ``low`` and ``high`` can mean, asked for now."""
    if process.floor > low:
        low, high = process.floor, max(high, process.floor)
    upcoming = model.calls.next(process.pid)
    if upcoming is not None and model.losses.calls_complete(upcoming) and upcoming >= process.start:
        high = max(low, min(high, upcoming))
    return process.states(low, high)


def _last(process: Process, high: int) -> int:
    """The last moment up to ``high`` at which ``process`` can have made a record."""
    return high + EPSILON if process.end is None else min(process.end, high + EPSILON)


def _may_be_child(model: Model, process: Process, ppid: int, until: int) -> bool:
    """Whether a record that ``process`` made before ``until`` can name ``ppid`` as its parent.

    That is its creator; or, made with CLONE_PARENT or left behind by its creator, somebody further up: whoever takes
    children over is an ancestor, or the first process of the pid namespace.
    """
    creator = model.incarnation(*process.creator) if process.creator is not None else None
    if creator is None or (creator.pid == ppid and not process.clone_parent):
        return True
    left = creator.end is not None and creator.end <= until
    if not left and not process.clone_parent and model.tells_clone_parent:
        return False
    pid_ns = process.state.nsset.inst[PID] if process.state.nsset is not None else None
    if ppid == 1 or pid_ns is None or (pid_ns.first is not None and pid_ns.first[0] == ppid):
        return True
    outside = creator.state.nsset.inst[PID] if creator.state.nsset is not None else None
    other = model.alive(ppid)
    if outside is not None and outside.initial and other is not None and other.start <= process.start:
        lives = other.state.nsset.inst[PID] if other.state.nsset is not None else None
        if lives is not None and not lives.initial:
            return False  # nobody inside a pid namespace is an ancestor of somebody outside
    link = creator
    for _ in range(_ANCESTORS):
        if link.creator is None:
            return link.pid != 1  # further up than we know
        above = model.incarnation(*link.creator)
        if above is None or above.pid == ppid:
            return True
        link = above
    return True


def _doubtful(model: Model, process: Process, high: int) -> bool:
    """True where events that touch the process may be missing before ``high``."""
    return process.epoch < model.epoch and high >= model.losses.doubt[process.epoch]


def _with_threads(model: Model, process: Process, states: list[State], low: int, high: int) -> list[State]:
    """``states`` with what all threads had in common between ``low`` and ``high``: any of them may be meant."""
    if process.apart is None or not states:
        return states
    merged: NsSet | None = states[0].nsset
    for nsset in threadsets.between(process, low, high):
        merged = _common(model, merged, nsset)
    if merged is states[0].nsset:
        return states
    return [state._replace(nsset=_common(model, merged, state.nsset)) for state in states]


def _agreed(model: Model, states: Sequence[State]) -> State:
    if not states:
        return NOBODY
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
