"""No maker of namespaces silences another, and every line is told or counted."""

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.pipeline.lifecycle_budget import CERTAIN, LifecycleBudget, Maker

SECOND = 1_000_000_000
EVENTS = st.lists(st.tuples(st.integers(0, 4 * SECOND), st.integers(0, 12)), max_size=400)


def run(budget: LifecycleBudget, events: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """What was told, as (second, maker), and the counts of the seconds in their order."""
    told, counts, second = [], [], 0
    for time, number in events:
        second = max(second, time // SECOND)
        over = budget.over(time)
        counts += [over.number] if over else []
        if budget.admits(time, 7, Maker(number, None), b"x"):
            told.append((second, number))
    rest = budget.over(100 * SECOND)
    return told, counts + ([rest.number] if rest else [])


@given(EVENTS, st.integers(0, 20), st.integers(0, 60))
def test_every_line_is_told_or_counted_and_a_second_has_one_count(
    events: list[tuple[int, int]], each: int, total: int
) -> None:
    budget = LifecycleBudget(each, total)
    told, counts = run(budget, events)
    assert len(told) + sum(counts) == len(events)
    assert (budget.admitted, budget.counted) == (len(told), sum(counts))
    assert len(counts) <= 5


@given(EVENTS, EVENTS, st.integers(CERTAIN, 20), st.integers(20, 60))
def test_a_maker_is_told_at_least_what_is_certain_whatever_others_do(
    mine: list[tuple[int, int]], others: list[tuple[int, int]], each: int, total: int
) -> None:
    """``mine`` are one maker's among all ``others``."""
    me = 99
    events = sorted([(time, me) for time, _ in mine] + others)
    told, _ = run(LifecycleBudget(each, total), events)
    for second in range(5):
        made = sum(number == me and time // SECOND == second for time, number in events)
        shown = sum(number == me and when == second for when, number in told)
        share = max(CERTAIN, min(each, total // 14))
        assert min(made, share) <= shown <= min(made, each)


@given(EVENTS, st.integers(1, 20), st.integers(1, 60))
def test_the_same_events_are_decided_the_same(events: list[tuple[int, int]], each: int, total: int) -> None:
    assert run(LifecycleBudget(each, total), events) == run(LifecycleBudget(each, total), events)


def test_makers_beyond_those_told_apart_count_as_one() -> None:
    budget = LifecycleBudget(500, 1)
    told = [budget.admits(1, -1, Maker(i // CERTAIN, None), b"x") for i in range(3000 * CERTAIN)]
    assert 1024 * CERTAIN <= sum(told) <= 1025 * CERTAIN
    over = budget.over(2 * SECOND)
    assert over is not None
    assert (over.number, over.makers) == (3000 * CERTAIN - sum(told), 1)
