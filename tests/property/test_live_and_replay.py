"""Live text against the same text read from a file, of events with neither PROCTITLE nor EOE: those types are excluded.

Live, lines are passed on as they come, and that an event has ended shows by a silence alone, when lines of others may
have been passed on behind it; a file is all there. So a record of ours may stand further behind live. Which records
there are, of which event, and what they say is the same.
"""

from collections import defaultdict

from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.pipeline.text_stage import RAW, Enricher
from auditns_connector.vocabulary.audit_text import AWAITS_HERE
from auditns_connector.vocabulary.timing import HOLD
from tests.examples import examples
from tests.unit.world import HEX, World

#: of processes of a container, of the host, and of nobody that is known
PIDS = (7, 2, 71)
BODIES = {
    "SYSCALL": "arch=c000003e syscall=62 success=yes exit=0 ppid=1 pid={pid}",
    "LOGIN": "pid={pid} uid=0 old-auid=4294967295 auid=1000 old-ses=4294967295 ses=9 res=1",
    "USER_CMD": "pid={pid} uid=0 msg='op=x'",
    "AVC": "avc:  denied  {{ read }} for  pid={pid}",
    "PATH": "item=0",
    "OBJ_PID": "opid=7 ocomm=6C73",
}
#: where ours stand is told by the records alone; and where it depends on whether a SYSCALL follows in time
PLACED = ("SYSCALL PATH PATH", "SYSCALL", "SYSCALL OBJ_PID OBJ_PID", "AVC SYSCALL PATH", "LOGIN SYSCALL")
OTHERS = ("LOGIN", "USER_CMD", "USER_CMD SYSCALL PATH", "AVC")
EVENTS = st.lists(
    st.tuples(st.sampled_from(PLACED + OTHERS), st.sampled_from(PIDS), st.integers(0, 3)), min_size=1, max_size=8
)


def text_of(events: list[tuple[str, int, int]]) -> list[str]:
    """The lines of these events; each begins so many lines in front of the end of what is there."""
    lines: list[str] = []
    for serial, (kinds, pid, back) in enumerate(events, 1):
        stamp = f"msg=audit(1700000020.{serial:03d}:{serial}):"
        mine = [f"type={kind} {stamp} {BODIES[kind].format(pid=pid)}\n" for kind in kinds.split()]
        at = len(lines) - min(back, len(lines))
        lines[at:at] = mine[:1]
        lines += mine[1:]
    return lines


class Written:
    """What is written of text that comes live, or from a file."""

    def __init__(self, *, file: bool) -> None:
        world = World()
        world.proc(2, 1, at=1)
        world.proc(7, 1, at=1, cg=f"/docker/{HEX}")
        self._correlator = Correlator(world.model)
        self._enricher = Enricher(self._correlator, [RAW])
        self.stream = self._enricher.stream = TextStream(awaits=AWAITS_HERE if file else 0)
        if file:
            self.stream.hold(True)
            self.stream.await_ours(more=True)
        self.out = b""

    def take(self, points: InsertionPoints) -> None:
        for block in self._enricher.take(points, lambda p: self._correlator.answer(p, 40_000_000_000)).values():
            self.out += block

    def events(self) -> dict[str, list[str]]:
        """The lines of each event, in their order."""
        found = defaultdict(list)
        for line in self.out.decode().splitlines():
            found[line.partition("(")[2].partition(")")[0]].append(line)
        return found


@examples(200)
@example([("SYSCALL PATH PATH", 7, 0), ("SYSCALL", 71, 1)], 1, [])
@example([("USER_CMD SYSCALL PATH", 7, 0), ("SYSCALL", 71, 1)], 1, [])
@given(EVENTS, st.sampled_from([1, 2, 3, 50]), st.lists(st.integers(0, 30), max_size=3))
def test_an_event_without_an_end_has_the_same_records_live_and_from_a_file(
    events: list[tuple[str, int, int]], size: int, silences: list[int]
) -> None:
    lines = text_of(events)
    serials = [int(line.partition(":")[2].partition(")")[0].rpartition(":")[2]) for line in lines]
    file = Written(file=True)
    file.take(file.stream.push("".join(lines).encode()))
    file.take(file.stream.flush(eof=True))
    live, now = Written(file=False), HOLD
    for at in range(0, len(lines), size):
        live.stream.at(now)
        live.take(live.stream.push("".join(lines[at : at + size]).encode()))
        if at in silences and not set(serials[: at + size]) & set(serials[at + size :]):  # in none of the events
            now += HOLD + 1
            live.take(live.stream.idle(now - HOLD))
        now += 1
    live.take(live.stream.flush(eof=True))
    shown, wanted = live.events(), file.events()
    assert {stamp: sorted(of) for stamp, of in shown.items()} == {stamp: sorted(of) for stamp, of in wanted.items()}
    for serial, (kinds, _, _) in enumerate(events, 1):
        stamp = f"1700000020.{serial:03d}:{serial}"
        if kinds in PLACED:
            assert shown[stamp] == wanted[stamp]
    assert [line for line in live.out.decode().splitlines(keepends=True) if "contid=" not in line] == lines


def test_live_it_stands_behind_what_was_passed_on_before_the_end_showed() -> None:
    lines = text_of([("SYSCALL PATH", 7, 0), ("SYSCALL PATH", 71, 0)])
    found = []
    for run in (Written(file=False), Written(file=True)):
        run.take(run.stream.push("".join(lines).encode()))
        run.take(run.stream.idle(1 << 60))
        found.append([line.split()[0][5:] for line in run.out.decode().splitlines()])
    ours = "CONTAINER_ID"
    assert found[0] == ["SYSCALL", "PATH", "SYSCALL", "PATH", ours, ours]
    assert found[1] == ["SYSCALL", "PATH", ours, "SYSCALL", "PATH", ours]
