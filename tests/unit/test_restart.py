"""What is missing after a restart: told once, with the first and last serial and how many."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.absence import Absence
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.audittext.serials import FARTHEST, SerialGap
from auditns_connector.emit.render import Renderer
from auditns_connector.pipeline.resume import written_last
from auditns_connector.sinks.tail import Tail, read_tail, tail_of, tells_restart
from auditns_connector.state.position import Position
from tests.unit.test_narrator import joined, seen, standalone
from tests.unit.world import World

BOOT, OTHER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"


@given(
    st.integers(0, (1 << 32) - 1),
    st.lists(st.integers(1, 40), min_size=1, max_size=30, unique=True),
    st.integers(0, 8),
    st.integers(0, 1 << 32),
)
def test_what_lies_between_is_told_as_one_and_nothing_else(last: int, came: list[int], mess: int, seed: int) -> None:
    """``came`` are steps behind ``last``, some of them out of order."""
    chance = random.Random(seed)
    came.sort()
    for _ in range(mess):
        i = chance.randrange(len(came))
        came.insert(max(i - 3, 0), came.pop(i))
    absence = Absence(last, 1000)
    assert not absence.over
    for step in came:
        absence.feed((last + step) % (1 << 32), 1001)
    absence.finish()
    assert absence.over
    missing = sorted(set(range(1, came[0])) - set(came))
    if not missing:
        assert absence.loss is None
        return
    assert absence.loss is not None
    first, end, events = absence.loss[:3]
    assert (first, end, events) == ((last + missing[0]) % (1 << 32), (last + missing[-1]) % (1 << 32), len(missing))


def test_it_is_certain_when_nothing_can_come_late_any_more() -> None:
    absence = Absence(100, 1000)
    absence.feed(105, 5000)
    absence.feed(103, 5000)
    absence.feed(106, 6999)
    assert not absence.over
    absence.feed(107, 7000)
    assert absence.over
    assert absence.loss == SerialGap(101, 104, 3, 1000, 5000)


@pytest.mark.parametrize("step", [1, 0, -1, -50])
def test_where_it_goes_on_nothing_is_missing(step: int) -> None:
    absence = Absence(100, 1000)
    absence.feed(100 + step, 1001)
    assert absence.over
    assert absence.loss is None


def test_it_may_have_been_long() -> None:
    absence = Absence(100, 1000)
    absence.feed(100 + FARTHEST + 50, 9000)
    assert absence.over
    assert absence.loss == SerialGap(101, 100 + FARTHEST + 49, FARTHEST + 49, 9000, 9000)


def test_it_is_one_record_and_holes_elsewhere_are_another() -> None:
    n = standalone(World(), track=True)
    n.resume(100, 1000)
    assert n.needs_python_loop()
    n.saw(seen([105, 106], ms=2000))
    n.saw(seen([109], ms=2001))
    assert n.absent() == []
    n.saw(seen([110], ms=9000))
    restart = joined(n.absent())["raw"]
    assert re.sub(rb":\d+\)", b":S)", restart) == (
        b"type=CONTAINER_LOST msg=audit(2.000:S): source=restart cpu=? count=4 from=101 to=104\n"
    )
    audit = joined(n.gaps())["raw"]
    assert audit.endswith(b"source=audit cpu=? count=2 from=107 to=108\n")
    assert (n.absent(), n.next, n.needs_python_loop()) == ([], 111, False)


def test_what_is_open_at_the_end_is_missing() -> None:
    n = standalone(World(), track=True)
    n.resume(100, 1000)
    n.saw(seen([105, 103], ms=2000))
    n.finish()
    assert joined(n.absent())["raw"].endswith(b"source=restart cpu=? count=3 from=101 to=104\n")


# -- how far it was


def test_a_position_outlives_its_program_and_no_boot(tmp_path: Path) -> None:
    first = Position("plugin", BOOT, str(tmp_path))
    assert first.former is None
    first.note(7, 1000)
    first.note(4_000_000_000, 2000)
    again = Position("plugin", BOOT, str(tmp_path))  # the first was not closed: it was killed
    assert again.former == (4_000_000_000, 2000)
    assert Position("listen", BOOT, str(tmp_path)).former is None
    again.close()
    again.note(5, 5)
    assert Position("plugin", OTHER, str(tmp_path)).former is None
    assert Position("plugin", BOOT, str(tmp_path)).former is None


def test_what_was_not_told_yet_is_known_to_the_next_run(tmp_path: Path) -> None:
    first = Position("plugin", BOOT, str(tmp_path))
    first.note(7, 1000)
    first.note_absent(SerialGap(3, 5, 2, 900, 950))
    assert Position("plugin", BOOT, str(tmp_path)).absent == SerialGap(3, 5, 2, 950, 950)
    first.note_absent(None)
    assert Position("plugin", BOOT, str(tmp_path)).absent is None
    first.note_absent(SerialGap(3, 5, 2, 900, 950))
    assert Position("plugin", OTHER, str(tmp_path)).absent is None


def test_it_is_told_at_once_and_apart_from_what_is_missing_now() -> None:
    n = standalone(World(), track=True)
    n.resume(100, 1000)
    n.recall(SerialGap(3, 5, 2, 950, 950))
    assert n.absence == SerialGap(3, 5, 2, 950, 950)
    told = joined(n.absent())["raw"]
    assert told.endswith(b"source=restart cpu=? count=2 from=3 to=5\n")
    n.saw(seen([105], ms=2000))
    assert n.absence == SerialGap(101, 104, 4, 1000, 2000)
    assert n.absent() == []


def test_without_a_directory_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    alone = Position("plugin", BOOT, str(tmp_path / "file/none"))
    alone.note(1, 1)
    assert alone.former is None
    assert alone.notices


def test_a_damaged_position_is_none(tmp_path: Path) -> None:
    Position("plugin", BOOT, str(tmp_path)).note(7, 1000)
    place = tmp_path / "position.plugin"
    good = place.read_bytes()
    for bad in (b"", good[:20], good[:16] + b"\xff" * 48, good + b"more"):
        place.write_bytes(bad)
        found = Position("plugin", BOOT, str(tmp_path)).former
        assert found is None


SYSCALL = b"type=SYSCALL msg=audit(1700000000.123:%d): arch=c000003e\n"
EOE = b"type=EOE msg=audit(1700000000.123:%d): \n"
CONTAINER_ID = b"type=CONTAINER_ID msg=audit(1700000000.123:%d): contid=1\n"
OWN = b"type=NS_INIT msg=audit(1700000009.123:2147483999): pid=1\n"


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        (b"", None),
        (OWN, None),
        (SYSCALL % 7 + EOE % 7 + OWN, (7, True)),
        (
            SYSCALL % 7 + EOE % 7 + SYSCALL % 8 + CONTAINER_ID % 8,
            (8, False),
        ),
        (SYSCALL % 8 + SYSCALL % 7 + EOE % 8 + EOE % 7, (8, True)),
        (b"type=USER_CMD msg=audit(1700000000.123:9): pid=1\n", (9, True)),
        (EOE % 7 + b"type=DAEMON_END msg=audit(1700000005.123:9999): op=terminate\n", (7, True)),
        (b'{"v":1,"time":"1700000000.123","serial":9,"contid":null,"records":[{"type":"SYSCALL"}]}\n', (9, True)),
    ],
)
def test_what_a_log_ends_with(text: bytes, tail: tuple[int, bool] | None) -> None:
    found = tail_of(text)
    assert (found and found[:2] + found[2:3]) == (None if tail is None else (tail[0], 1_700_000_000_123, tail[1]))


def test_the_end_of_a_log_is_read_and_of_the_one_rotated_last(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    assert read_tail(str(log)) is None
    log.write_bytes(b"".join(SYSCALL % i + EOE % i for i in range(10_000)) + b"type=SYSC")
    assert read_tail(str(log)) == Tail(9999, 1_700_000_000_123, True)
    log.rename(tmp_path / "audit.log.1")
    log.write_bytes(OWN)
    assert read_tail(str(log)) == Tail(9999, 1_700_000_000_123, True)
    log.unlink()
    log.mkdir()
    assert read_tail(str(log)) == Tail(9999, 1_700_000_000_123, True)


def test_the_end_of_the_log_counts_where_it_is_of_this_boot() -> None:
    handed = 5000, 1_700_000_001_000
    assert written_last(handed, None) == handed
    assert written_last(handed, Tail(4800, 1_700_000_000_000, True)) == (4800, 1_700_000_000_000)
    assert written_last(handed, Tail(4800, 1_700_000_000_000, False)) == (4799, 1_700_000_000_000)
    assert written_last(handed, Tail(900_000_000, 1_600_000_000_000, True)) == handed


def test_what_was_told_of_a_restart_is_found_again() -> None:
    w = World()
    for n in (standalone(w), standalone(w, "json", renderer=Renderer(Correlator(w.model)))):
        n.recall(SerialGap(7, 9, 3, 1000, 2000))
        (told,) = joined(n.absent()).values()
        found = tail_of(SYSCALL % 7 + told)
        assert found is not None
        assert found.restarts == {(7, 9)}


def test_an_older_event_that_was_cut_short_is_missing_too() -> None:
    """Records of events alternate: behind what was cut others may be whole."""
    text = SYSCALL % 6 + EOE % 6 + SYSCALL % 7 + SYSCALL % 8 + EOE % 8 + SYSCALL % 9
    tail = tail_of(text)
    assert tail is not None
    assert (tail.cut, tail.present) == ((7, 1_700_000_000_123), ((8, 1_700_000_000_123),))
    assert written_last((9, 1_700_000_000_123), tail) == (6, 1_700_000_000_123)
    absence = Absence(6, 1_700_000_000_123, tail.present)
    for serial in range(11, 200):
        absence.feed(serial, 1_700_000_000_200 + serial)
    absence.finish()
    assert absence.loss is not None
    assert absence.loss[:3] == (7, 10, 3)  # 7, 9, 10


def test_what_was_told_as_missing_is_not_told_again() -> None:
    told = b"type=CONTAINER_LOST msg=audit(1700000000.123:2147483655): source=restart cpu=? count=1 from=7 to=7\n"
    tail = tail_of(SYSCALL % 7 + SYSCALL % 8 + EOE % 8 + told)
    assert tail is not None
    assert (tail.cut, tail.whole) == (None, True)


def test_an_event_whose_head_went_to_the_former_run_is_missing() -> None:
    w = World()
    n = standalone(w)
    n.resume(6, 1_700_000_000_123)
    part = b'type=CWD msg=audit(1700000000.200:8): cwd="/"\n' + EOE % 8
    stream = TextStream()
    n.saw(stream.push(part + b"".join(SYSCALL % i + EOE % i for i in range(9, 300))))
    n.saw(stream.flush(eof=True))
    n.finish()
    assert n.absence is not None
    assert n.absence[:3] == (7, 8, 2)


@pytest.mark.parametrize("behind", [0, 300_000, (1 << 20) - 40, 5 << 20])
@pytest.mark.parametrize("rotated", [False, True])
def test_what_was_told_some_seconds_of_a_storm_ago_is_found_as_well(tmp_path: Path, behind: int, rotated: bool) -> None:
    told = b"type=CONTAINER_LOST msg=audit(1700000000.123:2147483655): source=restart cpu=? count=1 from=7 to=7\n"
    log = tmp_path / "log"
    (log.with_name("log.1") if rotated else log).write_bytes(SYSCALL % 6 + told + b"x" * behind)
    if rotated:
        log.write_bytes(SYSCALL % 7)
    assert tells_restart(str(log), 7, 7)
    assert not tells_restart(str(log), 7, 8)
    assert not tells_restart(str(tmp_path / "nothing"), 7, 7)
    assert not tells_restart(str(tmp_path), 7, 7)
