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
from auditns_connector.pipeline.continuity import Continuity
from auditns_connector.pipeline.resume import Settling, go_on
from auditns_connector.sinks.loss import Loss
from auditns_connector.sinks.tail import Tail, read_tail, tail_of
from auditns_connector.sinks.threaded import Progress
from auditns_connector.state.position import Position, Settled
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
    missing = sorted(set(range(1, max(came))) - set(came))
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
    for serial in (100 + step, 101, 102):
        absence.feed(serial, 1001)
    assert not absence.over  # records of others may follow whose first ones went to the former run
    absence.feed(103, 3001)
    assert absence.over
    assert absence.loss is None


def test_it_may_have_been_long() -> None:
    absence = Absence(100, 1000)
    absence.feed(100 + FARTHEST + 50, 9000)
    absence.feed(100 + FARTHEST + 51, 12000)
    assert absence.over
    assert absence.loss == SerialGap(101, 100 + FARTHEST + 49, FARTHEST + 49, 9000, 9000)


def test_it_is_one_record_and_holes_elsewhere_are_another() -> None:
    n = standalone(World(), track=True)
    n.events.resume(Tail(100, 1000))
    assert n.needs_python_loop()
    n.saw(seen([105, 106], ms=2000))
    n.saw(seen([*range(107, 180), 183], ms=2001))
    assert n.absent() == []
    n.saw(seen([184], ms=9000))
    restart = joined(n.absent())["raw"]
    assert re.sub(rb":\d+\)", b":S)", restart) == (
        b"type=CONTAINER_LOST msg=audit(2.000:S): source=restart cpu=? count=4 from=101 to=104\n"
    )
    audit = joined(n.gaps())["raw"]
    assert audit.endswith(b"source=audit cpu=? count=3 from=180 to=182\n")
    assert (n.absent(), n.events.next, n.needs_python_loop()) == ([], 185, False)


def test_what_is_open_at_the_end_is_missing() -> None:
    n = standalone(World(), track=True)
    n.events.resume(Tail(100, 1000))
    n.saw(seen([105, 103], ms=2000))
    n.events.finish()
    assert joined(n.absent())["raw"].endswith(b"source=restart cpu=? count=3 from=101 to=104\n")


# -- how far it was


def came(serial: int, ms: int) -> Continuity:
    """Events up to this one came, and nothing is missing."""
    events = Continuity(track=True)
    events.passed(serial, ms)
    return events


def former(directory: Path, name: str = "plugin", boot: str = BOOT) -> tuple[int, int] | None:
    return Position(name, boot, str(directory)).former


def test_a_position_outlives_its_program_and_no_boot(tmp_path: Path) -> None:
    first = Position("plugin", BOOT, str(tmp_path))
    assert first.former is None
    events = came(7, 1000)
    first.note(events)
    events.passed(900_000_000, 2000)
    first.note(events)
    again = Position("plugin", BOOT, str(tmp_path))  # the first was not closed: it was killed
    assert again.former == (900_000_000, 2000)
    assert again.settled == (6, 1000, False)  # until more is written for sure
    assert former(tmp_path, "listen") is None
    again.close()
    again.note(came(5, 5))
    assert former(tmp_path, boot=OTHER) is None
    assert former(tmp_path) is None


def test_what_was_not_told_yet_is_known_to_the_next_run(tmp_path: Path) -> None:
    first = Position("plugin", BOOT, str(tmp_path))
    first.note(came(7, 1000))
    first.note_absent(SerialGap(3, 5, 2, 900, 950))
    first.note_broken([3, 5])
    again = Position("plugin", BOOT, str(tmp_path))
    assert (again.absent, again.broken) == (SerialGap(3, 5, 2, 950, 950), {3, 5})
    again.note_absent(SerialGap(8, 9, 2, 960, 970))  # beside the other
    assert Position("plugin", BOOT, str(tmp_path)).absent == SerialGap(3, 9, 4, 970, 970)
    again.note_absent(None)
    assert Position("plugin", BOOT, str(tmp_path)).absent == SerialGap(3, 5, 2, 950, 950)
    again.settle(9, 980)
    last = Position("plugin", BOOT, str(tmp_path))
    assert (last.absent, last.broken, last.settled) == (None, set(), (9, 980, True))
    again.note_absent(SerialGap(3, 5, 2, 900, 950))
    assert Position("plugin", OTHER, str(tmp_path)).absent is None


def test_a_position_of_the_version_before_counts(tmp_path: Path) -> None:
    Position("plugin", BOOT, str(tmp_path)).note(came(7, 1000))
    place = tmp_path / "position.plugin"
    place.write_bytes(place.read_bytes()[:64])
    again = Position("plugin", BOOT, str(tmp_path))
    assert (again.former, again.settled) == ((7, 1000), None)


def test_what_is_settled_goes_on_when_it_is_written(tmp_path: Path) -> None:
    position = Position("plugin", BOOT, str(tmp_path))
    events = came(7, 1000)
    position.note(events)
    settling = Settling(events, position)
    for written, accepted, dropped, settled in (
        (10, 90, 0, 6),
        (89, 120, 0, 6),  # of what was handed over with event 7 the last byte is missing
        (90, 120, 0, 7),
        (120, 120, 1, 7),  # what was dropped may be of those before event 7
        (120, 120, 1, 7),
    ):
        settling.look(Progress(written, accepted, dropped))
        assert position.settled is not None
        assert position.settled[0] == settled
    events.passed(8, 1001)
    settling.look(Progress(130, 130, 1))
    settling.look(None)  # what was dropped is not told: nothing is known
    settling.look(Progress(140, 140, 1))
    assert position.settled == (7, 1000, True)
    settling.look(Progress(140, 140, 1))
    assert position.settled == (8, 1001, True)
    events.missing.append(SerialGap(9, 9, 1, 0, 0))
    events.passed(10, 1002)
    for _ in range(3):
        settling.look(Progress(150, 150, 1))
    assert position.settled == (8, 1001, True)


def test_what_is_settled_goes_on_while_an_event_is_on_its_way() -> None:
    """Where much is audited there is always one."""
    n, stream = standalone(World(), track=True), TextStream()
    for serials, settled in (((1,), 1), ((2, 3), 3), ((5,), 3), ((7, 4), 3), ((6,), 7), ((9,), 7), ((8, 11), 7)):
        n.saw(stream.push(b"".join(SYSCALL % serial + EOE % serial for serial in serials)))
        assert n.events.settled is not None
        assert n.events.settled[0] == settled


def test_it_is_told_at_once_and_apart_from_what_is_missing_now() -> None:
    n = standalone(World(), track=True)
    n.events.resume(Tail(100, 1000))
    n.events.recall(SerialGap(3, 5, 2, 950, 950))
    assert n.events.settled is None
    told = joined(n.absent())["raw"]
    assert told.endswith(b"source=restart cpu=? count=2 from=3 to=5\n")
    n.saw(seen([105], ms=2000))
    assert n.events.absence is not None
    assert n.events.absence.loss == SerialGap(101, 104, 4, 1000, 2000)
    assert n.absent() == []


def test_without_a_directory_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    alone = Position("plugin", BOOT, str(tmp_path / "file/none"))
    alone.note(came(1, 1))
    alone.note_broken([1])
    alone.settle(1, 1)
    assert alone.former is None
    assert alone.notices


def test_a_damaged_position_is_none(tmp_path: Path) -> None:
    Position("plugin", BOOT, str(tmp_path)).note(came(7, 1000))
    place = tmp_path / "position.plugin"
    good = place.read_bytes()
    for bad in (b"", good[:20], good[:16] + b"\xff" * 48, good + b"more"):
        place.write_bytes(bad)
        assert former(tmp_path) is None
    place.write_bytes(good[:64] + b"\xff" * (len(good) - 64))
    found = Position("plugin", BOOT, str(tmp_path))
    assert (found.former, found.settled, found.broken) == ((7, 1000), None, frozenset())


SYSCALL = b"type=SYSCALL msg=audit(1700000000.123:%d): arch=c000003e\n"
EOE = b"type=EOE msg=audit(1700000000.123:%d): \n"
CONTAINER_ID = b"type=CONTAINER_ID msg=audit(1700000000.123:%d): contid=1\n"
OWN = b"type=NS_INIT msg=audit(1700000009.123:2147483999): pid=1\n"


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (b"", None),
        (OWN, None),
        (SYSCALL % 7 + EOE % 7 + OWN, 7),
        (SYSCALL % 7 + EOE % 7 + SYSCALL % 8 + CONTAINER_ID % 8, 7),
        (SYSCALL % 8 + SYSCALL % 7 + EOE % 8 + EOE % 7, 8),
        (b"type=USER_CMD msg=audit(1700000000.123:9): pid=1\n", 9),
        (EOE % 7 + b"type=DAEMON_END msg=audit(1700000005.123:9999): op=terminate\n", 7),
        (b'{"v":1,"time":"1700000000.123","serial":9,"contid":null,"records":[{"type":"SYSCALL"}]}\n', 9),
    ],
)
def test_what_a_log_ends_with(text: bytes, last: int | None) -> None:
    found = tail_of(text)
    assert (found and found[:2]) == (None if last is None else (last, 1_700_000_000_123))


MS = 1_700_000_000_123


def run(first: int, last: int) -> SerialGap:
    return SerialGap(first, last, last - first + 1, MS, MS)


def test_the_end_of_a_log_is_read_and_of_the_one_rotated_last(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    assert read_tail(str(log)) is None
    log.write_bytes(b"".join(SYSCALL % i + EOE % i for i in range(10_000)) + b"type=SYSC")
    last = Tail(9999, MS)
    assert read_tail(str(log)) == last
    log.rename(tmp_path / "audit.log.1")
    log.write_bytes(OWN)
    assert read_tail(str(log)) == last
    log.unlink()
    log.mkdir()
    assert read_tail(str(log)) == last


def test_a_log_is_read_back_to_what_was_settled(tmp_path: Path) -> None:
    log, size = tmp_path / "audit.log", 40_000
    events = [SYSCALL % i + EOE % i for i in range(size) if i not in (39_000, 39_100)]
    log.write_bytes(b"".join(events))
    ends = run(38_001, 38_999), run(39_001, 39_099), run(39_101, size - 1)
    assert read_tail(str(log), Settled(38_000, MS)) == Tail(38_000, MS, ends, reaches=True, sure=(38_999, MS))
    log.rename(tmp_path / "audit.log.1")
    log.write_bytes(b"".join(SYSCALL % i + EOE % i for i in range(size, size + 10)))
    ends = *ends[:2], run(39_101, size + 9)
    assert read_tail(str(log), Settled(38_000, MS)) == Tail(38_000, MS, ends, reaches=True, sure=(38_999, MS))
    (tmp_path / "audit.log.1").unlink()  # sealed by the archive: what was there is not known to be missing
    assert read_tail(str(log), Settled(38_000, MS)) == Tail(size - 1, MS, (run(size, size + 9),), sure=(size + 9, MS))
    log.write_bytes(OWN)
    assert read_tail(str(log), Settled(38_000, MS)) == Tail(38_000, MS)


def test_events_of_another_boot_or_host_do_not_count() -> None:
    old = b"".join((SYSCALL % i + EOE % i).replace(b"1700000000", b"1600000000") for i in range(100))
    new = b"".join(SYSCALL % i + EOE % i for i in (1, 2, 4))
    there = b"".join(b"node=there " + (SYSCALL % i) for i in (3, 77))
    for settled, reaches in ((Settled(1, MS), True), (Settled(0, MS), False)):
        tail = tail_of(old + there + new, settled)
        runs = (run(2, 2), run(4, 4)) if reaches else (run(1, 2), run(4, 4))
        assert tail == Tail(settled.serial, MS, runs, reaches=reaches, sure=(2, MS))


def test_what_was_told_is_found_again() -> None:
    w = World()
    gap = SerialGap(8, 9, 2, 1000, 2000)
    for n in (standalone(w), standalone(w, "json", renderer=Renderer(Correlator(w.model)))):
        for told in (n._lost(source, [gap]) for source in ("restart", "audit", "intake", "perf")):
            (text,) = joined(told).values()
            tail = tail_of(SYSCALL % 7 + EOE % 7 + SYSCALL % 10 + EOE % 10 + text, Settled(7, MS))
            assert tail is not None
            if b"perf" in text:
                assert not tail.reported
                assert [run[:3] for run in tail.present] == [(10, 10, 1)]
            else:
                assert tail.reported == {(8, 9)}
                early = tail._replace(serial=9, reaches=False)
                assert not early.leaves(gap)
                assert early.leaves(gap._replace(last=10))
                assert not early.leaves(SerialGap(10, 10, 1, 0, 0))
                assert not tail.leaves(gap._replace(last=10))
                assert [run[:3] for run in tail.present] == [(8, 10, 3)]


def test_what_a_full_queue_cost_is_told_by_stamps() -> None:
    n = standalone(World())
    line = n.sink_lost("raw")(Loss("file", 3, 99, "1700000000.123:8", "1700000000.123:9", 2))
    tail = tail_of(SYSCALL % 7 + EOE % 7 + SYSCALL % 10 + EOE % 10 + line, Settled(7, MS))
    assert tail is not None
    assert tail.reported == {(8, 9)}


def test_text_of_others_tells_nothing() -> None:
    fake = b"type=CONTAINER_LOST msg=audit(1700000000.123:1): source=restart cpu=? count=9 from=1 to=4000"
    text = SYSCALL % 7 + EOE % 7 + b"type=USER_CMD msg=audit(1700000000.123:10): pid=1 msg='%b'\n" % fake
    tail = tail_of(text, Settled(7, MS))
    assert tail is not None
    assert (tail.reported, [run[:3] for run in tail.present]) == (frozenset(), [(10, 10, 1)])
    text += b"type=USER_CMD msg=audit(1700000000.123:10): msg='audit(1700000000.123:12)'\n"
    tail = tail_of(text, Settled(12, MS))
    assert tail is not None
    assert not tail.reaches


def test_an_older_event_that_was_cut_short_is_missing_too() -> None:
    """Records of events alternate: behind what was cut others may be whole."""
    text = SYSCALL % 6 + EOE % 6 + SYSCALL % 7 + SYSCALL % 8 + EOE % 8 + SYSCALL % 9
    for settled in (None, Settled(8, MS), Settled(6, MS)):
        tail = tail_of(text, settled)
        assert tail is not None
        assert (tail.serial, tail.present, tail.broken) == (6, (run(8, 8),), {7, 9})
        absence = Absence(tail.serial, tail.ms, tail.present)
        for serial in range(11, 200):
            absence.feed(serial, 1_700_000_000_200 + serial)
        absence.finish()
        assert absence.loss is not None
        assert absence.loss[:3] == (7, 10, 3)  # 7, 9, 10


def test_what_a_run_could_not_complete_is_missing_though_it_looks_whole() -> None:
    tail = tail_of(SYSCALL % 6 + EOE % 6 + SYSCALL % 7 + EOE % 7, Settled(5, MS), [7])
    assert tail is not None
    assert (tail.present, tail.broken) == ((run(6, 6),), {7})


def test_what_was_told_as_missing_is_not_told_again() -> None:
    told = b"type=CONTAINER_LOST msg=audit(1700000000.123:2147483655): source=restart cpu=? count=1 from=7 to=7\n"
    for text in (SYSCALL % 7 + SYSCALL % 8 + EOE % 8 + told, told + SYSCALL % 7 + SYSCALL % 8 + EOE % 8):
        tail = tail_of(text, Settled(6, MS), [7])
        assert tail is not None
        assert (tail.serial, tail.broken, tail.present) == (6, frozenset(), (run(7, 8),))


@pytest.mark.parametrize(("log", "recalled"), [(False, True), (True, False)])
def test_what_the_log_says_goes_before_what_was_noted(tmp_path: Path, log: bool, recalled: bool) -> None:
    """A run was killed after it had noted what is missing; whether it has told is in the log, where there is one."""
    position = Position("plugin", BOOT, str(tmp_path))
    position.note(came(7, MS))
    position.settle(6, MS)
    position.note_absent(run(7, 8))
    text = SYSCALL % 6 + EOE % 6 + SYSCALL % 9 + EOE % 9
    (tmp_path / "log").write_bytes(text)
    again, events = Position("plugin", BOOT, str(tmp_path)), Continuity(track=True)
    go_on(events, again, str(tmp_path / "log") if log else "")
    assert bool(events.absent()) == recalled
    assert events.absence is not None
    for serial in (12, 13):
        events.absence.feed(serial, MS + serial * 1000)
    gap = events.absence.loss
    assert gap is not None
    assert gap[:3] == ((7, 11, 4) if log else (8, 11, 4))


def test_an_event_whose_head_went_to_the_former_run_is_missing() -> None:
    w = World()
    n = standalone(w)
    n.events.resume(Tail(6, 1_700_000_000_123))
    part = b'type=CWD msg=audit(1700000000.200:8): cwd="/"\n' + EOE % 8
    stream = TextStream()
    n.saw(stream.push(part + b"".join(SYSCALL % i + EOE % i for i in range(9, 300))))
    n.saw(stream.flush(eof=True))
    n.events.finish()
    (gap,) = n.events.absent()
    assert gap[:3] == (7, 8, 2)


# -- how a listener begins

BIND = (
    b'type=EVENT_LISTENER msg=audit(1700000000.123:%d): pid=77 uid=0 comm="python" nl-mcgrp=1 op=connect res=1\n'
    b"type=SYSCALL msg=audit(1700000000.123:%d): arch=c000003e syscall=49 success=yes exit=0 items=0 ppid=1 pid=77\n"
    b"type=PROCTITLE msg=audit(1700000000.123:%d): proctitle=78\n"
)


def bind(serial: int, *, whole: bool) -> bytes:
    text = BIND % (serial, serial, serial)
    return text if whole else text[text.index(b"\n") + 1 :]


def begins_with(*texts: bytes, tail: Tail | None = None) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The holes that a listener finds which joins by the process 77, and what it tells of a restart."""
    n, stream = standalone(World(), track=True, joined=77), TextStream()
    if tail is not None:
        n.events.resume(tail)
    for text in texts:
        n.saw(stream.push(text + b"".join(EOE % int(i) for i in re.findall(rb"SYSCALL .*:(\d+)\):", text))))
        assert n.needs_python_loop() == (n.events.next < 0 or n.events.incomplete or tail is not None)
    n.saw(stream.flush(eof=True))
    n.events.finish()
    return [gap[:3] for gap in n.events.missing], [gap[:3] for gap in n.events.absent()]


@pytest.mark.parametrize("whole", [True, False])
def test_holes_are_looked_for_from_the_listeners_own_joining_on(whole: bool) -> None:
    """What is missing in front of it was sent before; what is missing behind it was sent before the kernel had made
    us a member."""
    behind = SYSCALL % 15 + SYSCALL % 16
    assert begins_with(SYSCALL % 5 + SYSCALL % 8, bind(10, whole=whole) + behind) == ([(11, 14, 4)], [])
    assert begins_with(behind, bind(10, whole=whole), SYSCALL % 17) == ([(11, 14, 4)], [])
    assert begins_with(SYSCALL % 11 + bind(10, whole=whole) + SYSCALL % 12) == ([], [])


def test_where_that_is_not_audited_they_are_from_the_first_event_on() -> None:
    late = (SYSCALL % 9).replace(b"1700000000", b"1700000003")
    assert begins_with(SYSCALL % 5, SYSCALL % 8, late) == ([(6, 7, 2)], [])
    assert begins_with(SYSCALL % 5 + SYSCALL % 8) == ([(6, 7, 2)], [])


@pytest.mark.parametrize("whole", [True, False])
def test_an_event_that_began_before_the_joining_is_missing_behind_a_restart(whole: bool) -> None:
    texts = bind(10, whole=whole), SYSCALL % 11, SYSCALL % 13
    assert begins_with(*texts, tail=Tail(5, MS)) == ([], [(6, 12, 5 if whole else 6)])


def test_an_event_without_its_beginning_is_missing_however_far_behind_it_is_numbered() -> None:
    n, stream = standalone(World(), track=True), TextStream()
    n.events.resume(Tail(5, MS))
    end = b"type=PROCTITLE msg=audit(1700000000.123:200): proctitle=78\n" + EOE % 200
    n.saw(stream.push(b"".join(SYSCALL % i + EOE % i for i in range(6, 200)) + end + SYSCALL % 201 + EOE % 201))
    n.saw(stream.flush(eof=True))
    assert n.events.broken == {200}
    n.events.finish()
    assert [gap[:3] for gap in n.events.absent()] == [(200, 200, 1)]
    assert n.events.missing == []
