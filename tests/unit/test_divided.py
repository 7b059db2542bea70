"""An event that a kill divides between two runs: told as missing unless it is whole in the end for sure."""

import pytest

from auditns_connector.audittext.divided import continues, half_of
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.sinks.tail import tail_of
from tests.unit.test_narrator import standalone
from tests.unit.world import World

STAMP = b"msg=audit(1700000000.123:%d):"
SYSCALL = b"type=SYSCALL " + STAMP + b" arch=c000003e syscall=59 success=yes exit=0 items=2 ppid=1 pid=7\n"
RECORDS = (
    SYSCALL, b"type=BPRM_FCAPS " + STAMP + b" fver=0\n", b"type=EXECVE " + STAMP + b' argc=2 a0="x" a1="y"\n',
    b"type=CWD " + STAMP + b' cwd="/"\n', b"type=PATH " + STAMP + b' item=0 name="/x"\n',
    b"type=PATH " + STAMP + b' item=1 name="/y"\n', b"type=PROCTITLE " + STAMP + b" proctitle=78\n",
    b"type=EOE " + STAMP + b" \n",
)  # fmt: skip
PLACES = range(1, len(RECORDS))


def event(serial: int) -> list[bytes]:
    return [record % serial for record in RECORDS]


@pytest.mark.parametrize("at", PLACES)
def test_where_nothing_can_stand_between_the_record_that_follows_is_known(at: int) -> None:
    lines = event(7)
    half = half_of(lines[:at])
    assert half is not None
    assert continues(half, lines[at])
    assert not any(continues(half, line) for i, line in enumerate(lines) if i != at)


def test_what_may_be_missing_is_not_taken_for_whole() -> None:
    lines = event(7)
    assert half_of(lines[1:]) is None
    assert half_of([]) is None
    for first, behind in (
        (lines[:1], lines[2]),  # without BPRM_FCAPS it may be so, or that is missing
        ([*lines[:2], b"type=EXECVE " + STAMP % 7 + b' argc=3 a0="x"\n'], lines[3]),  # arguments follow
        ([lines[0].replace(b"items=2", b"items=3"), *lines[1:6]], lines[6]),
        (lines[:3], b"type=SOCKADDR " + STAMP % 7 + b" saddr=00\n"),
        (lines[:3], b"no record"),
    ):
        half = half_of(first)
        assert half is not None
        assert not continues(half, behind)


def test_what_was_divided_before_may_lack_something_where_it_was() -> None:
    """Twice killed in the middle of event 7: the second run has written one record of it, behind one that was lost."""
    whole, lines = event(7), b"".join(event(6)) + b"%b"
    for records, known in ((whole[:4], True), ([whole[0], *whole[2:4]], False)):
        text = lines % b"".join(records)
        for broken in ((), (7,)):
            tail = tail_of(text, broken=broken)
            assert tail is not None
            assert tail.broken == {7}
            assert (7 in tail.halves) == (known or not broken)


def missing(at: int, left_out: int) -> int:
    """How many events are told as missing where the log ends behind ``at`` records of event 7, and the next run is
    given what is ``left_out`` further ones on, and others."""
    log = b"".join(event(6)) + b"".join(event(7)[:at])
    tail = tail_of(log)
    assert tail is not None
    n = standalone(World())
    n.events.resume(tail)
    stream = TextStream()
    n.saw(stream.push(b"".join(event(7)[at + left_out :]) + b"".join(b"".join(event(i)) for i in range(8, 300))))
    n.saw(stream.flush(eof=True))
    n.events.finish()
    (gap,) = n.events.absent() or [None]
    return 0 if gap is None else gap.events


@pytest.mark.parametrize("at", PLACES)
def test_an_event_that_the_next_run_completes_is_not_counted(at: int) -> None:
    assert missing(at, 0) == 0


@pytest.mark.parametrize("at", range(1, 6))
def test_an_event_that_lacks_a_record_is(at: int) -> None:
    assert missing(at, 1) == 1


def test_events_without_an_end_of_their_own_behind_it_are_there() -> None:
    user = b"type=USER_CMD msg=audit(1700000000.123:8): pid=1\n"
    tail = tail_of(b"".join(event(6)) + event(7)[0] + user)
    assert tail is not None
    assert tail.present == (SerialGap(8, 8, 1, 1_700_000_000_123, 1_700_000_000_123),)
