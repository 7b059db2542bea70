"""Holes in the serials."""

import pytest

from auditns_connector.audittext.serials import SerialGap, SerialTracker, parse_stamp


def feed(tracker: SerialTracker, *serials: int, ms: int = 0) -> list[SerialGap]:
    return [gap for serial in serials for gap in tracker.feed(serial, ms)]


def test_no_hole_no_loss() -> None:
    tracker = SerialTracker()
    assert feed(tracker, 1, 2, 2, 3, 3, 3) + tracker.flush() == []


def test_hole_counts_when_time_has_gone_on() -> None:
    tracker = SerialTracker()
    assert feed(tracker, 10, 14) == []
    assert tracker.feed(15, 1999) == []
    assert tracker.feed(16, 2000) == [SerialGap(11, 13, 3, 0, 0)]
    assert tracker.flush() == []


def test_hole_counts_when_many_events_have_come() -> None:
    tracker = SerialTracker(window_serials=10)
    assert feed(tracker, 1, 3, *range(4, 12)) == []
    assert feed(tracker, 12) == [SerialGap(2, 2, 1, 0, 0)]


def test_late_events_fill_their_hole() -> None:
    tracker = SerialTracker()
    assert feed(tracker, 1, 7, 3, 6, 2, 4, 3) == []
    assert tracker.late == 4
    assert tracker.flush() == [SerialGap(5, 5, 1, 0, 0)]


def test_wrap_of_the_counter() -> None:
    top = (1 << 32) - 1
    tracker = SerialTracker()
    assert feed(tracker, top - 1, 2, top) == []
    assert tracker.flush() == [SerialGap(0, 1, 2, 0, 0)]


def test_another_sequence_is_no_loss() -> None:
    tracker = SerialTracker()
    assert feed(tracker, 5, 1 << 30, 5, 6) + tracker.flush() == []


def test_holes_are_bounded() -> None:
    tracker = SerialTracker(window_serials=1 << 30)
    lost = feed(tracker, *range(0, 6000, 2))
    assert len(lost) + len(tracker.flush()) == 2999
    assert len(lost) == 2999 - 1024


def test_stamps() -> None:
    assert parse_stamp(b"1700000000.123:456") == (1700000000123, 456)
    assert parse_stamp(b"0.000:4294967295") == (0, 4294967295)


@pytest.mark.parametrize(
    "stamp",
    [
        *(b"", b"1.123", b"1:1", b"1.12:3", b"1.1234:5", b"1.123:", b".123:4", b"1.123:4294967296", b"1.123:-1"),
        *(b"x.123:4", b"1.123:" + b"9" * 11, b"9" * 21 + b".123:4", "1.123:\u0664".encode(), b"1. 12:3", b"1.123:4 "),
    ],
)
def test_what_is_no_stamp(stamp: bytes) -> None:
    assert parse_stamp(stamp) is None
