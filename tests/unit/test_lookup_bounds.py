"""A pid is given away again: no record is answered by who held it, or execed there, after the record was written."""

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.attribution.exec_match import find_exec, find_only_exec
from auditns_connector.attribution.lookup import find, holders
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.process import Process, State, first_holder, valid_interval
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.timing import EXEC_TIME, FOREVER, LATE
from tests.unit.world import HEX, MS, REAL, World, contid

INSIDE = contid(HEX)
NAME, COMM = b"/bin/true", b"true"


def container(w: World) -> None:
    w.fork(1, 100, 1)
    w.attach(100, f"/docker/{HEX}", 2)


def life(w: World, pid: int, at: float, *, inside: bool, lasts: float = 2, name: str = "/bin/true") -> None:
    """A child of the container, or of the host's first process, that execs and ends."""
    w.fork(100 if inside else 1, pid, at)
    w.exec(pid, at + lasts / 2, name)
    w.exit(pid, at + lasts)


def answers(w: World, at: float, until: float, name: bytes = NAME) -> set[str | None]:
    """What the ways of looking up say of pid 500 for the record of an exec stamped ``at`` and there at ``until``."""
    times, end = [int(at * MS)], int(until * MS)
    process = w.model.processes.get(500)
    before = (process.execs, process.not_before) if process is not None else None
    found = [find(w.model, 500, -1, times, end)]
    only = find_only_exec(w.model, 500, times, end)
    if process is not None and before is not None:
        process.execs, process.not_before = before
    if only is not None:
        found.append(only)
    found.append(find_exec(w.model, 500, -1, times, end, name, name.rpartition(b"/")[2]))
    return {w._text(state) for state in found}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("later", [150, 2000, 28000])
def test_a_later_holder_of_the_pid_answers_for_nobody_before_it(inside: bool, forgotten: bool, later: int) -> None:
    w = World()
    container(w)
    life(w, 500, 1000, inside=inside)
    w.fork(1 if inside else 100, 500, 1000 + later)
    w.exec(500, 1001 + later, "/bin/true")
    if forgotten:
        w.model.expire(1100 * MS)
    right = INSIDE if inside else None
    assert answers(w, 1000, 40_000) == ({"?"} if forgotten else {right})


@pytest.mark.parametrize("inside", [False, True])
def test_who_is_forgotten_may_have_held_the_pid_before_its_holder(inside: bool) -> None:
    # the record is stamped when the former holder lived, and the next one began within what a stamp may mean
    w = World()
    container(w)
    life(w, 500, 1000, inside=inside)
    w.fork(1 if inside else 100, 500, 1004)
    w.exec(500, 1005, "/bin/true")
    w.model.expire(1003 * MS)
    assert answers(w, 1001, 40_000) == {"?"}


@pytest.mark.parametrize("complete", [False, True])
def test_two_holders_within_the_window_are_told_apart_only_where_every_exec_makes_a_record(complete: bool) -> None:
    w = World()
    container(w)
    if complete:
        w.put(f.K_RULES, 500, f.S_AUDIT, arg=f.RULES_EXECS)
    life(w, 500, 1000, inside=False)
    life(w, 500, 1030, inside=True)
    first, second = ([int(at * MS)] for at in (1000.4, 1000.9))  # the clock of the stamps stood still
    found = [w._text(find_exec(w.model, 500, -1, times, w.now, NAME, COMM)) for times in (first, second)]
    assert found == ([None, INSIDE] if complete else ["?", "?"])


@pytest.mark.parametrize("complete", [False, True])
def test_two_execs_of_a_process_that_enters_a_container_between_them(complete: bool) -> None:
    w = World()
    if complete:
        w.put(f.K_RULES, 500, f.S_AUDIT, arg=f.RULES_EXECS)
    w.fork(1, 500, 1000)
    w.exec(500, 1001, "/bin/true")
    w.attach(500, f"/docker/{HEX}", 1050)
    w.exec(500, 1060, "/bin/true")
    found = [w._text(find_exec(w.model, 500, -1, [int(at * MS)], w.now, NAME, COMM)) for at in (1000.4, 1055)]
    assert found == ([None, INSIDE] if complete else ["?", INSIDE])


def test_an_exec_behind_the_moment_at_which_the_record_was_there_is_another_one() -> None:
    w = World()
    container(w)
    w.fork(1, 500, 1000)
    w.attach(500, f"/docker/{HEX}", 1050)
    w.exec(500, 1060, "/bin/true")
    assert answers(w, 1000, 1020) == {None}
    assert answers(w, 1000, 1070) == {None, INSIDE}  # at the stamp, and of the only exec that may be meant


def test_an_exec_takes_no_longer_than_a_second() -> None:
    w = World()
    container(w)
    w.fork(1, 500, 1000)
    w.attach(500, f"/docker/{HEX}", 2000)
    w.exec(500, 1000 + (LATE + EXEC_TIME) / MS + 1, "/bin/true")
    assert answers(w, 1000, 40_000) == {None}


def test_a_process_that_begins_behind_the_moment_at_which_the_record_was_there_did_not_make_it() -> None:
    w = World()
    container(w)
    w.fork(100, 500, 1040)
    assert w._text(find(w.model, 500, -1, [1000 * MS], 1039 * MS)) == "?"
    assert w._text(find(w.model, 500, -1, [1000 * MS], 1041 * MS)) == INSIDE


def test_the_parent_of_a_vfork_is_answered_as_it_was_at_its_entry() -> None:
    # its record comes behind those of the child, with an older stamp
    w = World()
    container(w)
    w.fork(100, 499, 900)
    life(w, 500, 1000, inside=True)
    w.exit(499, 1003)
    w.fork(1, 499, 1200)
    assert w._text(find(w.model, 499, -1, [int(999.5 * MS)], 1300 * MS)) == INSIDE


def test_execs_that_there_was_no_room_for_are_not_taken_for_others() -> None:
    w = World()
    container(w)
    w.fork(1, 500, 1000)
    for i in range(33):
        w.exec(500, 1001 + i / 10, "/bin/true")
    w.attach(500, f"/docker/{HEX}", 1010)
    w.exec(500, 1011, "/bin/true")
    assert w._text(find_exec(w.model, 500, -1, [1000 * MS], w.now, NAME, COMM)) == "?"
    w.exec(500, 1400, "/bin/true")
    assert w._text(find_exec(w.model, 500, -1, [int(1399.5 * MS)], w.now, NAME, COMM)) == INSIDE


def test_the_holders_of_a_pid() -> None:
    w = World()
    for at in (1000, 2000, 3000):
        life(w, 500, at, inside=False, lasts=100)

    def starts(low: int, high: int, until: int = FOREVER) -> list[int]:
        return [process.start // MS for process in holders(w.model, 500, low * MS, high * MS, until * MS)]

    assert starts(0, 5000) == [3000, 2000, 1000]
    assert starts(1100, 2000) == [2000, 1000]
    assert starts(1101, 1999) == [2000]  # nobody held it then: the next one, soon after
    assert starts(1101, 1899) == []
    assert starts(1101, 1999, until=1999) == []
    assert starts(3101, 5000) == starts(5000, 9000) == []


def test_the_interval_for_which_the_present_state_is_the_answer() -> None:
    process = Process(500, 1000, State(1000, None, None, "observed"), None)
    assert valid_interval(process) == (1000, FOREVER)
    process.end = 5000
    Model().table.change(process, State(3000, None, None, "observed"))
    assert valid_interval(process) == (3000, 5000)
    assert not first_holder(process)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("before", [5, 200, 9000])
def test_what_is_cached_of_the_later_holder_answers_for_nobody_before_it(inside: bool, before: int) -> None:
    w = World(lag_ns=12 * MS)
    container(w)
    life(w, 500, 10_000 - before, inside=inside)
    w.fork(1 if inside else 100, 500, 10_000)
    w.put(f.K_COMM, 10_001, pid=1, tid=1)
    correlator = Correlator(w.model)

    def told(at: float, *, exec_: bool) -> str | None:
        parent = 100 if inside == (at < 10_000) else 1
        ms = REAL // MS + int(at)
        stamp = f"msg=audit({ms // 1000}.{ms % 1000:03}:{int(at) + exec_})"
        call = f'syscall=59 success=yes exit=0 items=1 ppid={parent} pid=500 comm="true" exe="/bin/true" key=(null)'
        text = f"type=SYSCALL {stamp}: arch=c000003e {call if exec_ else call.replace('=59', '=2')}\n"
        if exec_:
            text += f'type=PATH {stamp}: item=0 name="/bin/true" inode=1\n'
        stream = TextStream()
        stream.push(text.encode())
        points = stream.flush(eof=True)
        number = correlator.answer(points, w.now)[0]
        holder = correlator.holders[number]
        return None if holder is None else w.model.containers.text(holder)

    right, other = (INSIDE, None) if inside else (None, INSIDE)
    for _ in range(3):  # from the second time on it is known who holds the pid now
        assert told(10_001, exec_=False) == other
    w.exec(500, 10_002, "/bin/true")
    assert told(10_000 - before, exec_=True) in (right, "?")
    assert told(10_000 - before, exec_=False) in (right, "?")
    assert told(10_001, exec_=True) == other


def test_execs_of_one_pid_within_one_tick_are_told_apart_by_their_parents() -> None:
    """Two containers take turns at one pid and run the same program: their records differ in their parents alone."""
    for known in (True, False):
        w = World()
        for who, number in ((100, 1), (200, 2)):
            w.fork(1, who, number)
            w.attach(who, f"/docker/{number:016x}{'0' * 48}", number + 2)
        for parent, at in ((100, 1000), (200, 1001)):
            w.fork(parent, 500, at)
            w.exec(500, at + 0.3, "/bin/true")
            w.exit(500, at + 0.6)
        found = {}
        for parent in (200, 100):
            state = find_exec(w.model, 500, parent if known else -1, [1000 * MS], w.now, NAME, COMM)
            found[parent] = w._text(state)
        assert found == ({100: "1", 200: "2"} if known else {100: "?", 200: "?"})


@pytest.mark.parametrize("lag", [0, 40])
def test_a_target_is_who_had_the_number_while_its_striker_lived(lag: int) -> None:
    """The stamp, which may be late by more than a tick, could mean holders of before and of after as well."""
    w = World()
    container(w)
    for turn, at in enumerate((1000, 1008, 1016)):
        w.fork(1, 300 + turn, at)
        w.fork(100 if turn == 1 else 1, 500, at + 1)
        w.exit(500, at + 3)
        w.exit(300 + turn, at + 4)
    times = [(1011 - lag) * MS]
    assert w._text(find(w.model, 500, -1, times, w.now, 301)) == INSIDE
    assert w._text(find(w.model, 500, -1, times, w.now)) in ("?", None)
    text = (
        b"type=SYSCALL msg=audit(%d.%03d:7): arch=c000003e syscall=62 success=yes exit=0 ppid=1 pid=301\n"
        b"type=OBJ_PID msg=audit(%d.%03d:7): opid=500\n"
    ) % (*divmod(REAL // MS + 1011 - lag, 1000), *divmod(REAL // MS + 1011 - lag, 1000))
    stream = TextStream()
    stream.put(text)
    points = stream.flush(eof=True)
    correlator = Correlator(w.model)
    said = [bytes(correlator.tails[0].text(number)) for number in correlator.answer(points, w.now)]
    assert f" contid={INSIDE}".encode() in said[-1]


def test_who_is_not_known_to_have_begun_bounds_no_target() -> None:
    w = World()
    container(w)
    w.fork(100, 500, 1000)
    w.exit(500, 1002)
    w.fork(1, 500, 1004)
    w.unshare(301, 1005)  # first heard of: it may be older
    assert w.model.processes[301].placeholder
    assert w._text(find(w.model, 500, -1, [1003 * MS], w.now, 301)) == "?"
    w.fork(1, 302, 1005)
    assert w._text(find(w.model, 500, -1, [1003 * MS], w.now, 302)) is None
    w.put(f.K_LOST, 1006, arg=3)
    assert w._text(find(w.model, 500, -1, [1003 * MS], w.now, 302)) == "?"
