"""When text is left to gather."""

import pytest

from auditns_connector._native import lib
from auditns_connector.pipeline.coalescing import BUSY, LEAST, LONG, MOST, MUCH, Coalescer


def run(coalescer: Coalescer, rate: float, seconds: float = 1.0, start: float = 100.0) -> float:
    """The pause after ``seconds`` of ``rate`` events a second."""
    now = start
    while now < start + seconds:
        now += 1 / rate
        coalescer.note_batch(1, now)
    return coalescer.pause(now)


def waited_for(*, soon: bool = False) -> Coalescer:
    coalescer = Coalescer()
    coalescer.adapt(most=MOST, prompt=True, soon=soon)
    return coalescer


def not_waited_for(most: int = MOST) -> Coalescer:
    coalescer = Coalescer()
    coalescer.adapt(most=most, prompt=False, soon=False)
    return coalescer


def test_what_somebody_waits_for_is_read_at_once() -> None:
    assert run(waited_for(), BUSY / 2) == 0


def test_very_many_events_are_gathered_all_the_same() -> None:
    assert 0.001 <= run(waited_for(), BUSY * 2) <= 0.005
    assert run(waited_for(soon=True), BUSY * 2) == LEAST


@pytest.mark.parametrize(("rate", "gathers"), [(1, False), (10, False), (100, True), (333, True)])
def test_what_nobody_waits_for_is_gathered_where_there_is_something_to_gather(rate: float, gathers: bool) -> None:
    assert run(not_waited_for(), rate, 30 / rate) == (LONG if gathers else 0)


def test_no_more_is_gathered_than_there_is_room_for() -> None:
    assert 0.8 * MOST / 1000 < run(not_waited_for(), 1000) < 1.2 * MOST / 1000
    assert run(not_waited_for(most=1000), 1000) == LONG


def test_after_a_storm_it_is_quick_again() -> None:
    coalescer = not_waited_for()
    assert run(coalescer, 5_000) >= 0.001
    assert coalescer.pause(102.0) == 0


def test_in_a_storm_whoever_writes_hardly_waits() -> None:
    assert run(Coalescer(), 1_000_000) == run(Coalescer(50), 1_000_000) == run(not_waited_for(), 1_000_000) == LEAST


def test_a_full_socket_is_read_at_once() -> None:
    coalescer = Coalescer(50)
    coalescer.note_batch(100, 1.0, MUCH)
    assert coalescer.pause(1.0) == 0
    coalescer.note_batch(1, 1.0)
    assert coalescer.pause(1.0) > 0


def test_a_fixed_pause_is_always_that_unless_much_comes() -> None:
    assert (Coalescer(0).pause(1.0), Coalescer(7).pause(1.0), run(Coalescer(50), 100)) == (0, 0.007, 0.05)
    assert 0.5 * MOST / 2000 < run(Coalescer(50), 2000) < 2 * MOST / 2000
    assert run(Coalescer(0), 2000) == 0


def test_an_event_is_expected_where_that_many_come() -> None:
    """Then the loop sleeps at once, and is not woken by the first of them."""
    gathers, ns = not_waited_for(), 1_000_000_000
    run(gathers, 200)
    now = int(101 * ns)
    assert lib.coalescer_expects(gathers.c, now, ns // 50)
    assert not lib.coalescer_expects(gathers.c, now, ns // 1000)
    assert not lib.coalescer_expects(gathers.c, now + ns, ns // 50)
    assert not lib.coalescer_expects(Coalescer(50).c, now, ns // 20)
