"""The former states of a process: as many as are remembered, and what a loss leaves of them."""

from typing import Final

from auditns_connector.model.places import UNKNOWN, NsSet
from auditns_connector.model.process import NOT_KNOWN, State

#: former states remembered of one process; what is older is not answered
KEPT_STATES: Final = 64


def remembered(past: list[State] | None, state: State) -> list[State]:
    """``past`` with one state more. A process that changes all the time must not grow without end: of the oldest ones
    only what they have in common is remembered, and where they were in different containers, nothing."""
    if past is None:
        return [state]
    past.append(state)
    if len(past) > KEPT_STATES:
        oldest, next_ = past[0], past[1]
        same = oldest.container is next_.container and oldest.login == next_.login
        past[:2] = [_common(oldest, next_)] if same else [next_]
    return past


def _common(oldest: State, later: State) -> State:
    """One state for the time of two that differ in namespaces alone."""
    one, other = oldest.nsset, later.nsset
    if one is None or other is None or one is other:
        return oldest._replace(nsset=one if one is other else None)
    inst = tuple(a if a is b else None for a, b in zip(one.inst, other.inst, strict=True))
    return oldest._replace(nsset=one if inst == one.inst else NsSet(inst, None))


def unknown(state: State) -> State:
    """``state`` of a process that may have been anywhere."""
    return state._replace(container=UNKNOWN, origin=NOT_KNOWN)


def unknown_since(past: list[State] | None, state: State, began: int) -> tuple[list[State] | None, State]:
    """``past`` and the present ``state``, where what was from ``began`` (CLOCK_MONOTONIC ns) on is not known: a state
    that began before ends there."""
    states = [*(past or ()), state]
    before = [former for former in states if former.since < began]
    after = [former for former in states if former.since >= began]
    if before and (not after or after[0].since > began):
        after.insert(0, before[-1]._replace(since=began))
    kept: list[State] | None = None
    for former in [*before, *map(unknown, after[:-1])]:
        kept = remembered(kept, former)
    return kept, unknown(after[-1])
