"""What clone returned, as the host counts: an audit record's ``exit=`` is a number in the caller's pid namespace.

Every process remembers whom it made and when. The child a record speaks of is one that its process made at or behind
the record's stamp, and whose number inside is the one returned; where that number is not known, it must be the only one
that can be meant.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from auditns_connector.attribution.lookup import holders
from auditns_connector.audittext.grouping import find_calls
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.model.processes import KEPT_MADE as KEPT
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary.namespaces import PID
from auditns_connector.vocabulary.syscalls import CLONE_CALLS, by_arch
from auditns_connector.vocabulary.timing import EPSILON

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model

#: arch -> numbers of clone, fork, vfork and clone3
CALLS: Final = by_arch(CLONE_CALLS)
ANY_CALL: Final = frozenset().union(*CALLS.values())
#: a 1 at the number of each of these
_WANTED: Final = bytes(number in ANY_CALL for number in range(max(ANY_CALL) + 1))
#: a clone takes no longer than this from entry to fork event (ns)
_LONGEST: Final = 1_000_000_000


def child_of(model: "Model", pid: int, times: Sequence[int], now: int, number: int) -> int | None:
    """The host's number of the task that a clone by ``pid`` returned as ``number``; ``None`` where it is not sure.

    The record's stamp may mean any of ``times`` (CLOCK_MONOTONIC ns); it is asked for at ``now``.
    """
    found = {_at(model, pid, low - EPSILON, now, number) for low in times}
    return found.pop() if len(found) == 1 else None


def _at(model: "Model", pid: int, low: int, now: int, number: int) -> int | None:
    high = min(low + _LONGEST, now)
    creators = [process for process in holders(model, pid, low, high) if process.start <= high]
    if len(creators) != 1:
        return None
    creator = creators[0]
    spaces = {state.nsset.inst[PID] if state.nsset is not None else None for state in creator.states(low, high)}
    if len(spaces) != 1:
        return None
    space = spaces.pop()
    if space is None:
        return None
    if space.initial:
        return number
    made = model.table.made(creator)
    unknown = []
    for time, child, tid in made:
        if not low <= time <= high:
            continue
        called = None
        if child == tid:
            process = model.incarnation(child, time)
            called = model.inside.number(process, space) if process is not None else None
        if called == number:
            return tid
        if called is None:
            unknown.append(tid)
    whole = len(made) < KEPT or made[0][0] < low
    return unknown[0] if len(unknown) == 1 and whole and not model.losses.missing(low, high) else None


def children_of(points: InsertionPoints, model: "Model", first: int = 0, end: int | None = None) -> dict[int, int]:
    """By number of the point of a successful clone, fork or vfork: whom it made, as the host counts; 0: not known."""
    n = points.n if end is None else end
    found = {}
    for i in find_calls(points, first, n, _WANTED):
        if points.sysno[i] not in CALLS.get(points.arch[i], ()) or not points.flags[i] & pt.P_SUBJECT:
            continue
        if points.exit[i] > 0 and not points.flags[i] & pt.P_OWN:
            times = model.clock.candidates(points.ms[i] * 1_000_000, model.now)
            found[i] = child_of(model, points.pid[i], times, model.now, points.exit[i]) or 0
    return found
