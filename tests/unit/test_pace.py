"""When text is left to gather."""

from auditns_connector.pipeline.coalescing import BUSY, LEAST, MOST, MUCH, Coalescer


def run(pace: Coalescer, rate: float, seconds: float = 1.0, start: float = 100.0) -> float:
    """The pause after ``seconds`` of ``rate`` events a second."""
    now = start
    while now < start + seconds:
        now += 1 / rate
        pace.note_batch(1, now)
    return pace.pause(now)


def test_rare_events_are_read_at_once() -> None:
    assert run(Coalescer(), BUSY / 2) == 0


def test_many_events_are_gathered() -> None:
    assert 0.001 <= run(Coalescer(), BUSY * 2) <= 0.005


def test_after_a_storm_it_is_quick_again() -> None:
    pace = Coalescer()
    assert run(pace, 5_000) >= 0.001
    assert pace.pause(102.0) == 0


def test_in_a_storm_whoever_writes_hardly_waits() -> None:
    assert run(Coalescer(), 1_000_000) == run(Coalescer(50), 1_000_000) == LEAST


def test_a_full_socket_is_read_at_once() -> None:
    pace = Coalescer(50)
    pace.note_batch(100, 1.0, MUCH)
    assert pace.pause(1.0) == 0
    pace.note_batch(1, 1.0)
    assert pace.pause(1.0) > 0


def test_a_fixed_pause_is_always_that_unless_much_comes() -> None:
    assert (Coalescer(0).pause(1.0), Coalescer(7).pause(1.0), run(Coalescer(50), 100)) == (0, 0.007, 0.05)
    assert 0.5 * MOST / 2000 < run(Coalescer(50), 2000) < 2 * MOST / 2000
    assert run(Coalescer(0), 2000) == 0
