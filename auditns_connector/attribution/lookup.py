"""Who was it? (pid, time) → the state of the one incarnation of that pid alive then.

An audit stamp is no exact time: it is taken at syscall entry from the coarse clock and printed in milliseconds, so the
true entry lies in ``[stamp, stamp + Model.lag]``. Every state that held in that window is a candidate; candidates that
the record's ppid rules out are dropped, and if those left disagree about the container the answer is unknown. Records
of a successful exec are matched to the kernel's event of it instead (exec_match.py).

Every look-up is bounded above by ``until``: the moment at which the record was taken in, or, where that was not seen,
one at which it must have been written. What the kernel reported for later times is about somebody else.

Where the clock was set there are several times to try; one at which nobody can have held the pid is ruled out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from auditns_connector.model import thread_namespaces as threadsets
from auditns_connector.model.places import UNKNOWN, NsSet
from auditns_connector.model.process import NOT_KNOWN, Process, State
from auditns_connector.vocabulary.namespaces import PID
from auditns_connector.vocabulary.timing import EPSILON, FOREVER, LATE, START_TICK

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model

_ANCESTORS: Final = 64
NOBODY: Final = State(0, UNKNOWN, None, NOT_KNOWN)


def holders(model: "Model", pid: int, low: int, high: int, until: int = FOREVER) -> list[Process]:
    """Who held ``pid`` at some time from ``low`` to ``high`` (CLOCK_MONOTONIC ns), newest first. Where that is nobody,
    the first one to hold it up to :data:`LATE` behind ``high``, but not after ``until``; it has ``start > high``."""
    found: list[Process] = []
    late: Process | None = None
    process = model.processes.get(pid)
    while process is not None and (process.end is None or process.end >= low):
        if process.start > high:
            late = process
        else:
            found.append(process)
        process = process.prev
    if not found and late is not None and late.start <= min(high + LATE, until):
        found.append(late)
    return found


def unproven(model: "Model", found: Sequence[Process], low: int, high: int) -> bool:
    """Whether somebody we do not know of can have held the pid at some time from ``low`` to ``high``, beside ``found``:
    events are missing, or who ended by then may be forgotten."""
    forgotten = low < model.horizon
    if not forgotten and not model.losses.missing(low, high):
        return False
    one = found[0] if len(found) == 1 else None
    if one is not None and one.start <= low and (one.end is None or one.end >= high):
        return False
    if forgotten:
        model.losses.forgotten(low)
    return True


def find(model: "Model", pid: int, ppid: int, times: Sequence[int], until: int, by: int = 0) -> State:
    """The state of ``pid`` at an audit stamp that may mean any of ``times`` (CLOCK_MONOTONIC ns), of a record that was
    there ``until``.

    ``ppid`` is the record's, -1 where it has none; ``by`` the pid of who did it, where that is somebody else.
    """
    found = [state for low in times if (state := _at(model, pid, ppid, low, until, by)) is not None]
    return agreed(model, found) if found else NOBODY


def _doing(model: "Model", by: int, low: int, high: int, until: int) -> tuple[int, int]:
    """The part of ``low`` to ``high`` in which process ``by`` can have done something: that is when it lived, and if it
    began only behind ``high``, for the stamp is late, as long after that."""
    found = holders(model, by, low, high, until)
    if not found or unproven(model, found, low, high) or any(doubtful(model, process, high) for process in found):
        return low, high
    if any(process.placeholder for process in found):
        return low, high  # nobody knows when it began
    first = min(process.start for process in found)
    if first > high:
        high = min(first + model.lag, until)
    last = max(until if process.end is None else process.end for process in found)
    return max(low, first), max(min(high, last), first)


def _at(model: "Model", pid: int, ppid: int, low: int, until: int, by: int = 0) -> State | None:
    """The state at one time; ``None`` where it is certain that nobody held the pid then."""
    high = min(low + model.lag, until)
    low -= EPSILON
    if by:
        low, high = _doing(model, by, low, high, until)
    found = holders(model, pid, low, high, until)
    if not found or found[0].start > high:
        if unproven(model, (), low, high + LATE):
            return NOBODY
        if not found:
            return None
        late = found[0]
        if doubtful(model, late, late.start):
            return NOBODY
        return named_then((late.past or [late.state])[0], late.start, min(high + LATE, until))
    for process in found:
        if doubtful(model, process, high) or (process.scanned and low < process.start + START_TICK):
            return NOBODY  # the other holder of the pid may be one we never heard of
    if unproven(model, found, low, high):
        return NOBODY
    if len(found) > 1 and ppid >= 0:
        found = [process for process in found if may_be_child(model, process, ppid, _last(process, high))] or found
    states = [state for process in found for state in _states(model, process, low, high)]
    return named_then(agreed(model, states), low, high)


def named_then(state: State, low: int, high: int) -> State:
    """``state``, its container as it was called from ``low`` to ``high``; :data:`NOBODY` where that is not known."""
    container = state.container
    if container is None or (then := container.called(low, high)) is container:
        return state
    return NOBODY if then is UNKNOWN else state._replace(container=then)


def _states(model: "Model", process: Process, low: int, high: int) -> list[State]:
    """The states of ``process`` that a record stamped between ``low`` and ``high`` can mean, asked for now."""
    if process.not_before > low:
        low, high = process.not_before, max(high, process.not_before)
    upcoming, until = model.calls.next(process.pid), high
    if upcoming is not None and model.losses.calls_complete(upcoming) and upcoming >= process.start:
        until = max(low, min(high, upcoming))
    return _with_threads(model, process, process.states(low, until), low, high)


def _last(process: Process, high: int) -> int:
    """The last moment up to ``high`` at which ``process`` can have made a record."""
    return high + EPSILON if process.end is None else min(process.end, high + EPSILON)


def may_be_child(model: "Model", process: Process, ppid: int, until: int) -> bool:
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


def doubtful(model: "Model", process: Process, high: int) -> bool:
    """True where events that touch the process may be missing before ``high``."""
    return model.doubts(process) and high >= model.doubted[process.epoch]


def _with_threads(model: "Model", process: Process, states: list[State], low: int, high: int) -> list[State]:
    """``states`` with what all threads had in common between ``low`` and ``high``: any of them may be meant."""
    if process.thread_namespaces is None or not states:
        return states
    theirs = threadsets.between(process, low, high)
    return [
        state._replace(nsset=_common(model, nssets)) if any(nsset is not state.nsset for nsset in nssets) else state
        for state in states
        if (nssets := [state.nsset, *theirs])
    ]


def agreed(model: "Model", states: Sequence[State]) -> State:
    """What ``states`` have in common, any of which may be meant; :data:`NOBODY` where their containers differ."""
    if not states:
        return NOBODY
    first = states[0]
    container, entry, others = first.container, first.entry, False
    for state in states:
        if state.container is not container:
            return NOBODY
        if state.entry is not entry:
            entry = None
        others |= state.nsset is not first.nsset
    nsset = _common(model, [state.nsset for state in states]) if others else first.nsset
    same = nsset is first.nsset and entry is first.entry
    return first if same else first._replace(nsset=nsset, entry=entry)


def _common(model: "Model", nssets: Sequence[NsSet | None]) -> NsSet | None:
    """What all of the sets have in common, ``None`` in the places where they differ. A stamp of one that calls unshare
    in a loop may mean dozens."""
    insts = [nsset.inst for nsset in nssets if nsset is not None]
    if len(insts) < len(nssets):
        return None
    places = zip(*insts, strict=True)
    return model.namespaces.intern(tuple(place[0] if place.count(place[0]) == len(place) else None for place in places))
