"""What clone returned, as the host counts: an audit record's ``exit=`` is a number in the caller's pid namespace.

Every process remembers whom it made and when. The child a record speaks of is one that its process made at or behind
the record's stamp, and whose number inside is the one returned; where that number is not known, it must be the only one
that can be meant.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.lookup import holders
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.model.processes import KEPT_MADE as KEPT
from auditns_connector.vocabulary.namespaces import PID
from auditns_connector.vocabulary.syscalls import CLONE_CALLS, by_arch
from auditns_connector.vocabulary.timing import EPSILON, FOREVER
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.profiles import Profile

#: arch -> numbers of clone, fork, vfork and clone3
CALLS: Final = by_arch(CLONE_CALLS)
ANY_CALL: Final = frozenset().union(*CALLS.values())
_NUMBERS: Final = max(ANY_CALL) + 1
_ARCHES: Final = ffi.new("uint32_t[]", list(CALLS))
#: for each arch a 1 at the number of each of these
_WANTED: Final = ffi.new(
    "uint8_t[]", b"".join(bytes(number in calls for number in range(_NUMBERS)) for calls in CALLS.values())
)
#: for the C that only finds the calls
CLONES: Final = ffi.new(
    "struct clone_calls *", {"arches": len(CALLS), "numbers": _NUMBERS, "arch": _ARCHES, "wanted": _WANTED}
)
_ASK: Final = int(lib.CLONE_ASK)
_READ: Final = int(lib.CLONE_READ)
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


def children_of(
    points: InsertionPoints, model: "Model", first: int = 0, end: int | None = None, rows: CData = None
) -> dict[int, int]:
    """By number of the point of a successful clone, fork or vfork: whom it made, as the host counts; 0: not known.
    ``rows`` are those that have answered the points (0 for others), from which no frame was applied since."""
    n = points.n if end is None else end
    room = max(n - first, 1)
    found, result = ffi.new("uint32_t[]", room), ffi.new("int32_t[]", room)
    count = _find(points, model, first, n, ffi.NULL if rows is None or model.clock.was_set else rows, found, result)
    if not count:
        return {}
    made: dict[int, int] = dict(zip(ffi.unpack(found, count), ffi.unpack(result, count), strict=True))
    if _ASK in made.values():
        for i, child in made.items():
            if child == _ASK:
                times = model.clock.candidates(points.ms[i] * 1_000_000, model.now)
                made[i] = child_of(model, points.pid[i], times, model.now, points.exit[i]) or 0
    return made


def _find(
    points: InsertionPoints, model: "Model", first: int, end: int, rows: CData, found: CData, result: CData
) -> int:
    """Have the C find the calls, and what rows say of them by themselves; how many there are."""
    profiles = model.table.profiles
    spaces = ffi.new("uint8_t[]", len(profiles))
    calls = ffi.new(
        "struct clone_calls *",
        {
            "table": model.table.c, "arches": len(CALLS), "numbers": _NUMBERS, "arch": _ARCHES, "wanted": _WANTED,
            "space": spaces, "profiles": len(profiles), "offset": model.clock.offset or 0,
            "now": min(model.now, FOREVER), "longest": _LONGEST,
        },
    )  # fmt: skip
    while True:
        count = int(lib.clone_results(calls, points.c, first, end, rows, found, result))
        unread = {_READ - number for number in ffi.unpack(result, count) if number <= _READ} if count else ()
        if not unread:
            return count
        for number in unread:
            spaces[number] = _space(profiles[number])


def _space(profile: "Profile | None") -> int:
    """What the C is to know of the pid namespace of a profile's processes."""
    own = profile.state.nsset.inst[PID] if profile is not None and profile.state.nsset is not None else None
    if own is None:
        return int(lib.CLONE_SPACE_UNKNOWN)
    return int(lib.CLONE_SPACE_INITIAL if own.initial else lib.CLONE_SPACE_OTHER)
