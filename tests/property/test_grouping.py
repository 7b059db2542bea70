"""Points grouped by process (C) against the same in Python, and answers by process against answers one by one."""

from array import array
from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector._native import ffi
from auditns_connector.attribution import attributor as correlate
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.grouping import Groups, pick, pick_numbers
from auditns_connector.audittext.scanner import InsertionPoints, count_lines
from auditns_connector.model.process import State
from auditns_connector.vocabulary.audit_text import MAX_RANGE
from tests.examples import examples
from tests.property.test_enrich_identity import NOW, model, world

ALONE = 4
POINT = st.tuples(
    st.sampled_from([-1, 0, 1, 2, 7, 59, 100, 4711, 2**31 - 1]), st.sampled_from([1, 1, 1, 5]), st.integers(0, 9)
)


def points_of(rows: list[tuple[int, int, int]], first_ms: int = 0) -> InsertionPoints:
    """Points of these (pid, flags, ms)."""
    points = InsertionPoints()
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
    which = ffi.new("uint32_t[]", list(range(first, len(rows))))
    assert groups.find(points_of(rows), which, len(which), ALONE) == len(wanted)
    assert list(groups.rows()) == [(i + first, *rows[i + first][:2], *rest) for i, *rest in wanted]
    numbers, choice = array("I", range(10, 10 + len(wanted))), array("I", bytes(4 * len(rows)))
    groups.spread(numbers, cut - first, choice)
    assert choice.tolist() == [0] * first + [10 + at for at in of_points[: cut - first]] + [0] * (len(rows) - cut)
    assert pick_numbers(choice, array("I", range(5, 5 + 10 + len(rows)))).tolist() == [5 + one for one in choice]
    kinds = bytearray([0] * 10 + [1, 2, 0] * len(rows))
    assert list(pick(choice[first:cut], kinds)) == [kinds[number] for number in choice[first:cut]]


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**62), 2**62),
            st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1)),
        ),
        max_size=40,
    ),
    st.integers(0, 40),
)
def test_the_range_of_points_is_that_of_the_reference(rows: list[tuple[int, int]], first: int) -> None:
    points, first = points_of([(1, 1, 0)] * len(rows)), min(first, len(rows))
    for i, row in enumerate(rows):
        points.ms[i], points.serial[i] = row
    found, part = points.range(first), rows[first:]
    if not part:
        assert not found.complete
        return
    times, serials = (list(column) for column in zip(*part, strict=True))
    assert found[:2] == (min(times), max(times))
    assert found[2:4] == (min(serials), max(serials))
    assert found.complete == (len(set(serials)) == max(serials) - min(serials) + 1 <= MAX_RANGE)


@pytest.mark.parametrize("size", [MAX_RANGE, MAX_RANGE + 1])
def test_no_more_serials_are_looked_at_together_than_there_is_room_for(size: int) -> None:
    points = points_of([(1, 1, 0)] * size)
    for i in range(size):
        points.serial[i] = 7 + i
    assert points.range().complete == (size == MAX_RANGE)


@given(
    st.lists(st.sampled_from([b"\n", b"ab", b"\n" * 40, bytes(300)]), max_size=40),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_lines_are_counted(parts: list[bytes], before: int, behind: int) -> None:
    block = b"".join(parts)
    assert count_lines(block, before, len(block) - behind) == block.count(b"\n", before, max(len(block) - behind, 0))


def test_more_lines_are_counted_than_one_byte_can_hold() -> None:
    assert count_lines(b"\n" * 10_000) == 10_000


def described(state: State, ns: bool) -> tuple[object, ...]:
    """What a state says, in words that two models have in common; ``ns``: of its namespaces too."""
    inst = () if state.nsset is None else tuple(one and (one.index, one.ino, one.born) for one in state.nsset.inst)
    container = None if state.container is None else state.container.key
    return (state.since, container, inst if ns else None, state.origin, state.login)


@examples(200)
@example([(59, 1, 0), (100, 1, 9), (59, 1, 4), (7, 5, 1), (100, 1, 4)], 1, True, [])
@example([(7, 5, 1), (100, 1, 7), (-1, 1, 5), (2**31 - 1, 1, 2), (1, 1, 4)], 1, True, [])
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
    seen, closely = [], []
    for many, plain in ((1, Correlator._plain), (1 << 30, Correlator._plain), (1 << 30, lambda *_: None)):
        correlator = Correlator(model(), ns="all" if ns else "off")
        correlator.keep_states = True
        choice = correlator.begin(points)
        with mock.patch.object(correlate, "_MANY", many), mock.patch.object(Correlator, "_plain", plain):
            for first, end in pairwise(places):
                correlator.answer(points, NOW, choice, first, end)
        counts = (correlator.answered, correlator.attributed, correlator.unknown)
        states = list(correlator.states)
        texts = [correlator.tails[0].text(number) if number else b"" for number in choice]
        seen.append((texts, [described(state, ns=True) for state in states], counts))
        closely.append((texts, [described(state, ns)[1:3] for state in states]))
    assert seen[0] == seen[1]
    assert closely[1] == closely[2]  # where it is plain, looking closely tells the same
    assert seen[1][2] == seen[2][2]
