"""Copies of events are answered wherever they are read, however far apart they are and whatever came between."""

from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.pipeline.filters import EventFilter
from auditns_connector.pipeline.text_stage import RAW, Enricher
from auditns_connector.query.answers import HOST_NUMBER, LogAnswers
from auditns_connector.query.names import Names
from auditns_connector.vocabulary.audit_text import AWAITS_MORE, CLOSED, CLOSED_WHOLE, P_SUBJECT
from tests.examples import examples
from tests.unit.world import HEX, World

#: numbers that a table of this size or that takes for one another
SERIALS = (1, 2, 1 + CLOSED, 1 + CLOSED_WHOLE, 1 + 4 * CLOSED_WHOLE)
BODIES = {
    "SYSCALL": "arch=c000003e syscall=62 success=yes exit=0 ppid=1 pid=7",
    "LOGIN": "pid=7 uid=0 old-auid=4294967295 auid=1000 old-ses=4294967295 ses=9 res=1",
    "USER_CMD": "pid=7 uid=0 msg='op=x'",
    "AVC": "avc:  denied  { read } for  pid=7",
    "PROCTITLE": "proctitle=00",
    "EOE": "",
}
EVENTS = ("SYSCALL PROCTITLE EOE", "SYSCALL EOE", "SYSCALL", "LOGIN", "LOGIN SYSCALL EOE", "USER_CMD", "AVC",
          "AVC SYSCALL PROCTITLE")  # fmt: skip
#: an event of this kind: its serial, its second, and whether its records stand among those of the next one
EVENT = st.tuples(st.sampled_from(EVENTS), st.sampled_from(SERIALS), st.integers(0, 3), st.booleans())


def lines_of(kinds: str, serial: int, second: int) -> list[str]:
    stamp = f"msg=audit({1_700_000_020 + second}.000:{serial}):"
    return [f"type={kind} {stamp} {BODIES[kind]}\n" for kind in kinds.split()]


def text_of(events: list[tuple[str, int, int, bool]], others: int) -> list[str]:
    """Lines of these events, and of as many others between the halves."""
    out: list[str] = []
    for at, (kinds, serial, second, among) in enumerate(events):
        if at == len(events) // 2:
            out += [one for n in range(others) for one in lines_of("SYSCALL EOE", 100_000 + n, 3)]
        mine = lines_of(kinds, serial, second)
        out[len(out) - among : len(out) - among] = mine[:1]
        out += mine[1:]
    return out


class Written:
    """What a writer makes of text, of which all is of one container."""

    def __init__(self, *, filtered: bool, awaits: int = 0) -> None:
        world = World()
        world.proc(7, 1, at=1, cg=f"/docker/{HEX}")
        self._correlator = Correlator(world.model)
        wanted = EventFilter(pids=[7]) if filtered else None
        self._enricher = Enricher(self._correlator, [RAW], wanted=wanted)
        self._stream = self._enricher.stream = TextStream(whole=self._enricher.whole, awaits=awaits)
        self.out = b""

    def _take(self, points: InsertionPoints) -> None:
        for block in self._enricher.take(points, lambda p: self._correlator.answer(p, 40_000_000_000)).values():
            self.out += block

    def push(self, lines: list[str], pieces: int) -> bytes:
        size = max(len(lines) // pieces, 1)
        for at in range(0, len(lines), size):
            self._take(self._stream.push("".join(lines[at : at + size]).encode()))
        self._take(self._stream.flush(eof=True))
        return self.out


def hosts(text: bytes) -> list[bytes]:
    """The events that a reader of the text takes for the host's."""
    answers, stream, found = LogAnswers(Names()), TextStream(whole=True, awaits=AWAITS_MORE), []
    for points in (stream.push(text), stream.flush(eof=True)):
        answers.answer(points)
        numbers: array[int] = answers.numbers_of
        found += [
            points.line(i)
            for i in range(points.n)
            if points.flags[i] & P_SUBJECT and numbers[i] == HOST_NUMBER
        ]  # fmt: skip
    return found


@pytest.mark.parametrize("filtered", [False, True])
@examples(100)
@example([("SYSCALL PROCTITLE EOE", 1, 0, False), *[("SYSCALL EOE", 1, n, False) for n in (1, 2, 3)],
          ("SYSCALL PROCTITLE EOE", 1, 0, False)], 0, 1)  # fmt: skip
@example([("SYSCALL", 1, 0, False), ("SYSCALL EOE", 1, 1, False), ("SYSCALL EOE", 2, 2, False),
          ("SYSCALL EOE", 2, 3, False), ("SYSCALL", 1, 0, False)], 0, 1)  # fmt: skip
@example([("AVC", 1, 0, False), ("SYSCALL EOE", 1, 1, False), ("SYSCALL EOE", 2, 2, False),
          ("SYSCALL EOE", 2, 3, False), ("AVC", 1, 0, False)], 0, 1)  # fmt: skip
@example([("SYSCALL", 1, 0, False), ("AVC", 1, 0, False)], CLOSED + 1, 1)
@example([("LOGIN", 1, 0, False), ("SYSCALL", 1, 0, False)], CLOSED - 3, 700)
@example([("USER_CMD", 1, 0, False), ("USER_CMD", 1, 0, False)], CLOSED_WHOLE + 1, 1)
@given(
    st.lists(EVENT, min_size=2, max_size=12),
    st.sampled_from([0, 0, 0, 3, CLOSED - 2, CLOSED + 1, CLOSED_WHOLE + 1]),
    st.sampled_from([1, 3, 9, 700]),
)
def test_no_event_of_a_container_reads_as_the_hosts(
    filtered: bool, events: list[tuple[str, int, int, bool]], others: int, pieces: int
) -> None:
    lines = text_of(events, others)
    out = Written(filtered=filtered).push(lines, pieces)
    assert sorted(line for line in out.decode().splitlines(keepends=True) if "contid=" not in line) == sorted(lines)
    assert hosts(out) == []


def test_a_copy_of_a_system_call_has_a_record_of_its_own() -> None:
    lines = lines_of("SYSCALL EOE", 1, 0) + lines_of("SYSCALL EOE", 2, 0)
    out = Written(filtered=False).push(lines * 2, 1)
    assert out.count(b"CONTAINER_ID") == 4
