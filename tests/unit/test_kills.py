"""A program that is killed at any step of its work, again and again: what it has not written it tells, once."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.pipeline.resume import Settling, go_on
from auditns_connector.sinks import tail
from auditns_connector.sinks.threaded import Progress
from auditns_connector.state.position import Position
from tests.examples import examples
from tests.kills import judge
from tests.unit.test_narrator import standalone
from tests.unit.world import World

BOOT = "11111111-2222-3333-4444-555555555555"
BEGAN = 1_700_000_000_000
#: milliseconds between two events
_EVERY: Final = 3


def exec_of(serial: int, ms: int) -> list[bytes]:
    """The records of one event as the kernel writes them, but for the EOE that auditd's log has not."""
    stamp = b"msg=audit(%d.%03d:%d):" % (ms // 1000, ms % 1000, serial)
    return [
        b"type=SYSCALL %b arch=c000003e syscall=59 success=yes exit=0 items=1 ppid=1 pid=7\n" % stamp,
        b"type=BPRM_FCAPS %b fver=0\n" % stamp,
        b'type=EXECVE %b argc=1 a0="x"\n' % stamp,
        b'type=CWD %b cwd="/"\n' % stamp,
        b'type=PATH %b item=0 name="/x"\n' % stamp,
        b"type=PROCTITLE %b proctitle=78\n" % stamp,
        b"type=EOE %b \n" % stamp,
    ]


def said_by_user(serial: int, ms: int) -> list[bytes]:
    """An event of one record, whose text would hide what is missing."""
    stamp = b"msg=audit(%d.%03d:%d):" % (ms // 1000, ms % 1000, serial)
    fake = b"type=CONTAINER_LOST msg=audit(1.000:1): source=restart cpu=? count=9 from=1 to=4000000000"
    return [b"type=USER_CMD %b pid=7 msg='%b'\n" % (stamp, fake)]


def host(events: int, chance: random.Random, first: int = 1000) -> list[bytes]:
    """What the kernel says, line by line: two processors write events, whose records alternate now and then; all is
    certain in the end."""
    lines = said_by_user(first - 1, BEGAN)  # the first run has seen something
    open_: list[list[bytes]] = []
    for number in range(events):
        ms = BEGAN + number * _EVERY
        kind = said_by_user if chance.random() < 0.2 else exec_of
        open_.append(kind((first + number) % (1 << 32), ms))
        while len(open_) > 1 or (open_ and chance.random() < 0.5):
            one = chance.choice(open_)
            count = len(one) if chance.random() < 0.7 else 1
            lines += one[:count]
            del one[:count]
            open_ = [one for one in open_ if one]
    return lines + [line for one in open_ for line in one]


def later(events: int, first: int = 1000) -> list[bytes]:
    """What it says some time after that."""
    end = BEGAN + events * _EVERY
    return [line for i in range(1, 6) for line in exec_of((first + events + i - 1) % (1 << 32), end + i * 3000)]


class Run:
    """One run of a program: what it reads it hands to a queue, from which a file is written."""

    def __init__(self, top: Path) -> None:
        self.log = top / "log"
        data = self.log.read_bytes() if self.log.exists() else b""
        self.log.write_bytes(data[: data.rfind(b"\n") + 1])
        self.standalone, self.stream = standalone(World(), track=True), TextStream()
        self.position = Position("plugin", BOOT, str(top))
        go_on(self.standalone.events, self.position, str(self.log))
        self.settling = Settling(self.standalone.events, self.position)
        self.queue = b""
        self.written = self.now = 0

    def narrate(self) -> None:
        for blocks in [*self.standalone.absent(), *self.standalone.gaps()]:
            self.queue += bytes(blocks["raw"])

    def read(self, lines: list[bytes]) -> None:
        self.now += 10_000_000
        self.stream.at(self.now)
        self.take(self.stream.push(b"".join(lines)), lines)
        self.take(self.stream.idle(self.now - 20_000_000))

    def take(self, points: InsertionPoints, lines: Sequence[bytes] = ()) -> None:
        self.narrate()
        if points.n:
            self.standalone.saw(points)
        self.queue += b"".join(lines)
        self.position.note(self.standalone.events)

    def write(self, count: int) -> None:
        with self.log.open("ab") as file:
            file.write(self.queue[:count])
        self.written += min(count, len(self.queue))
        self.queue = self.queue[count:]

    def tick(self) -> None:
        self.narrate()
        self.settling.look(Progress(self.written, self.written + len(self.queue), 0))

    def end(self) -> None:
        self.take(self.stream.flush(eof=True))
        self.standalone.events.finish()
        self.narrate()
        self.write(len(self.queue))

    def steps(self, lines: list[bytes], chance: random.Random) -> Iterator[int]:
        """Read ``lines`` and write them, now and then all, now and then some; yields how many are read, after each
        step."""
        at = 0
        while at < len(lines):
            size = chance.randrange(1, 9)
            self.read(lines[at : at + size])
            at += size
            yield at
            self.write(len(self.queue) if chance.random() < 0.5 else chance.randrange(len(self.queue) + 1))
            yield at
            if chance.random() < 0.3:
                self.tick()
                yield at
        self.end()


def live(
    top: Path, lines: list[bytes], late: list[bytes], kills: list[int], chance: random.Random, missed: int = 0
) -> None:
    """Runs that are killed after so many steps, or end before that, and at last one that sees ``late``, too. ``missed``
    lines come while nobody is there. What there was is judged."""
    at = 0
    for kill in [*kills, -1]:
        run, left = Run(top), lines[at:]
        at = len(lines)
        for step, read in enumerate(run.steps(left if kill >= 0 else left + late, chance)):
            if step == kill:
                at -= max(len(left) - read - missed, 0)
                break
        run.position.close()
    first = int(lines[0].partition(b"):")[0].rpartition(b":")[2])
    auditds = b"".join(line for line in lines + late if b"type=EOE " not in line)
    judge(auditds, run.log.read_bytes(), len(kills), (first - 1) % (1 << 32))


@pytest.mark.parametrize("second", range(0, 24, 3))
@pytest.mark.parametrize("first", range(1, 40, 3))
def test_killed_at_any_step_of_a_restart(first: int, second: int, tmp_path: Path) -> None:
    """Two kills soon one after the other: what the first restart was to tell, or has told, is told once."""
    for seed in range(3):
        chance = random.Random(seed)
        lines = host(60, chance)
        top = tmp_path / str(seed)
        top.mkdir(mode=0o755)  # nobody else may write there
        live(top, lines, later(60), [first, second], chance)


@pytest.mark.parametrize("seed", range(3))
def test_a_log_longer_than_what_is_read_of_it(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is killed before it has settled anything itself. What was told stands further and further behind: so
    each run notes at its start up to where the log has no hole."""
    for name, size in (("_MOST", 1 << 20), ("_BEFORE", 4 << 10), ("_BLOCK", 4 << 10)):
        monkeypatch.setattr(tail, name, size)
    chance = random.Random(seed)
    monkeypatch.setattr(Run, "tick", Run.narrate)
    lines = host(6000, chance)
    kills = [chance.randrange(80, 160) if turn % 3 else 3000 for turn in range(12)]
    live(tmp_path, lines, later(6000), kills, chance)
    assert (tmp_path / "log").stat().st_size > 2 * tail._MOST


@examples(150)
@given(
    st.lists(st.integers(0, 60), max_size=6), st.integers(0, 1 << 30), st.sampled_from([0, 7, 40]),
    st.sampled_from([1000, (1 << 32) - 30]),
)  # fmt: skip
@example([39, 39, 30, 42, 40, 25], 41, 0, 1000)
def test_killed_as_often_as_may_be(kills: list[int], seed: int, missed: int, first: int) -> None:
    """Events that alternate are a few milliseconds apart: one of whose records some come seconds later is told as
    missing, and its loss may be counted once too often."""
    import tempfile

    chance = random.Random(seed)
    lines = host(80, chance, first)
    with tempfile.TemporaryDirectory() as top:
        live(Path(top), lines, later(80, first), kills, chance, missed)
