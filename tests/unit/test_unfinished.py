"""What comes of an event after that was answered without its end has the same answer."""

from array import array

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import frames as f
from tests.unit.world import HEX, MS, REAL, World, contid

EXEC = (
    b'type=SYSCALL msg=audit(%s): arch=c000003e syscall=59 success=yes exit=0 items=1 ppid=1 pid=100 comm="x"\n'
    b'type=PATH msg=audit(%s): item=0 name="/bin/x"\n'
)


def stamp(ms: int, serial: int) -> bytes:
    real = REAL // MS + ms
    return b"%d.%03d:%d" % (real // 1000, real % 1000, serial)


class Live:
    """Events are handed out whole, and answered as a live program does."""

    def __init__(self) -> None:
        self.world = World()
        self.stream = TextStream(whole=True)
        self.correlator = Correlator(self.world.model)
        self.correlator.keep_states = True
        self.now = 0

    def answered(self, points: InsertionPoints, now: float) -> list[str | None]:
        """Whose the points are: None the host, "?" unknown."""
        choice: array[int] = self.correlator.answer(points, int(now * MS))
        return [self._text(number) for number in choice]

    def _text(self, number: int) -> str | None:
        tails = self.correlator.tails[0]
        text = bytes(tails._text[tails._off[number - 1] : tails._off[number]]) if number else b""
        return text.partition(b" contid=")[2].partition(b"\n")[0].decode() or None

    def idle(self, now: float) -> list[str | None]:
        points = self.stream.idle(int(now * MS))
        found = self.answered(points, now)
        self.correlator.unfinished.remember(points, self.correlator.states)
        return found


def live() -> Live:
    """Process 100 runs a program, is moved into a container, and runs the same one again: all within one tick."""
    run = Live()
    w = run.world
    w.fork(1, 100, 10)
    w.exec(100, 21)
    w.attach(100, f"/docker/{HEX}", 22)
    w.exec(100, 23)
    w.put(f.K_RULES, 24, f.S_AUDIT, cgroup=1, arg=f.RULES_EXECS)
    return run


def test_late_records_have_the_answer_of_their_event() -> None:
    run = live()
    run.stream.at(25 * MS)
    assert run.answered(run.stream.push(EXEC.replace(b"%s", stamp(20, 7))), 25) == []
    assert run.idle(46) == [None]
    late = run.stream.push(b"type=PROCTITLE msg=audit(%s): proctitle=78\n" % stamp(20, 7))
    late = late if late.n else run.stream.flush()
    assert [late.flags[i] & pt.P_LATE for i in range(late.n)] == [pt.P_LATE]
    assert run.answered(late, 60) == [None]
    run.stream.push(EXEC.replace(b"%s", stamp(20, 8)))
    assert run.idle(90) == [contid(HEX)]
    late = run.stream.push(b"type=PROCTITLE msg=audit(%s): proctitle=78\n" % stamp(20, 8))
    late = late if late.n else run.stream.flush()
    assert run.answered(late, 95) == [contid(HEX)]


def test_late_records_of_an_event_that_is_not_remembered_are_looked_up() -> None:
    run = live()
    run.stream.push(EXEC.replace(b"%s", stamp(20, 7)))
    assert run.answered(run.stream.flush(), 46) == [None]
    late = run.stream.push(b"type=PROCTITLE msg=audit(%s): proctitle=78\n" % stamp(20, 7))
    late = late if late.n else run.stream.flush()
    assert run.answered(late, 60) == ["?"]


def test_so_many_are_remembered_and_no_more() -> None:
    run = Live()
    run.world.fork(1, 100, 10)
    line = b'type=SYSCALL msg=audit(%s): arch=c000003e syscall=44 success=yes ppid=1 pid=100 comm="x"\n'
    for serial in range(3000):
        run.stream.push(line.replace(b"%s", stamp(20, serial)))
    run.idle(100)
    assert len(run.correlator.unfinished._states) == 1024
