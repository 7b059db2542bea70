"""Points grouped by process (C) against the same in Python, and answers by process against answers one by one."""

from array import array
from itertools import pairwise
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from auditns_connector import correlate
from auditns_connector.correlate import Correlator
from auditns_connector.grouping import Groups
from auditns_connector.reassemble import Points
from tests.property.test_enrich_identity import NOW, world

ALONE = 4
POINT = st.tuples(
    st.sampled_from([-1, 0, 1, 2, 7, 59, 100, 4711, 2**31 - 1]), st.sampled_from([1, 1, 1, 5]), st.integers(0, 9)
)


def points_of(rows: list[tuple[int, int, int]], first_ms: int = 0) -> Points:
    """Points of these (pid, flags, ms)."""
    points = Points()
    points.grow(max(len(rows), 1), 1)
    points.n = points.c.n = len(rows)
    for i, (pid, flags, ms) in enumerate(rows):
        points.pid[i], points.flags[i], points.ms[i] = pid, flags, first_ms + ms
        points.ppid[i] = points.sysno[i] = -1
    return points


def reference(rows: list[tuple[int, int, int]]) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    """(first point, how many, lowest and highest time) of each group, and the group of each point."""
    found: dict[object, int] = {}
    groups: list[tuple[int, int, int, int]] = []
    of_points = []
    for i, (pid, flags, ms) in enumerate(rows):
        who = object() if flags & ALONE or pid <= 0 else pid
        at = found.setdefault(who, len(groups))
        if at == len(groups):
            groups.append((i, 0, ms, ms))
        first, count, low, high = groups[at]
        groups[at] = first, count + 1, min(low, ms), max(high, ms)
        of_points.append(at)
    return groups, of_points


@given(st.lists(POINT, max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_groups_are_those_of_the_reference(rows: list[tuple[int, int, int]], first: int, cut: int) -> None:
    first, cut = sorted((min(first, len(rows)), min(cut, len(rows))))
    groups = Groups()
    wanted, of_points = reference(rows[first:])
    assert groups.find(points_of(rows), first, len(rows), ALONE) == len(wanted)
    assert list(groups.rows()) == [(i + first, *rest) for i, *rest in wanted]
    assert groups.of_points(len(of_points)) == of_points
    numbers, choice = array("I", range(10, 10 + len(wanted))), array("I", bytes(4 * len(rows)))
    uses = groups.spread(numbers, cut - first, choice, first)
    assert choice.tolist() == [0] * first + [10 + at for at in of_points[: cut - first]] + [0] * (len(rows) - cut)
    assert uses == [of_points[: cut - first].count(at) for at in range(len(wanted))] or cut == first


@settings(max_examples=200)
@given(
    st.lists(POINT, min_size=1, max_size=60),
    st.sampled_from([0, 1, 4, 8]),
    st.booleans(),
    st.lists(st.integers(0, 60), max_size=2),
)
def test_answers_by_process_are_those_given_one_by_one(
    rows: list[tuple[int, int, int]], spread: int, ns: bool, cuts: list[int]
) -> None:
    first_ms = (world().model.clock.offset or 0) // 1_000_000
    points = points_of([(pid, flags, ms * spread) for pid, flags, ms in rows], first_ms)
    places = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    seen = []
    for many in (1, 1 << 30):
        correlator = Correlator(world().model, ns="all" if ns else "off")
        correlator.keep_states = True
        choice = correlator.begin(points)
        with mock.patch.object(correlate, "_MANY", many):
            for first, end in pairwise(places):
                correlator.answer(points, NOW, choice, first, end)
        counts = (correlator.answered, correlator.attributed, correlator.unknown)
        seen.append((choice.tolist(), correlator.states, counts))
    assert seen[0] == seen[1]
