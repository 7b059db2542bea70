"""An event in the midst of which thousands of others come is of whom its SYSCALL says, and has no second answer."""

from array import array

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.pipeline.text_stage import RAW, Enricher
from auditns_connector.vocabulary.audit_text import CLOSED, CLOSED_WHOLE
from tests.property.test_copies import hosts
from tests.reference.audittext import Reference
from tests.unit.world import HEX, World, contid

SECOND = 1_700_000_020


def stamp(serial: int, second: int = SECOND, node: str = "") -> str:
    return f"{node}type={{}} msg=audit({second}.000:{serial}): {{}}\n"


def event(serial: int, *, pid: int = 7, node: str = "") -> tuple[bytes, bytes]:
    """Its SYSCALL, and what comes behind that."""
    line = stamp(serial, node=node)
    call = line.format("SYSCALL", f"arch=c000003e syscall=2 success=yes exit=3 items=1 ppid=1 pid={pid}")
    parts = ("CWD", 'cwd="/"'), ("PATH", 'item=0 name="x"'), ("PROCTITLE", "proctitle=00"), ("EOE", "")
    return call.encode(), "".join(line.format(*part) for part in parts).encode()


def others(count: int, first: int = 1000) -> bytes:
    lines = (stamp(first + i, SECOND + 3).format("USER_CMD", "pid=7 uid=0 msg='op=x'") for i in range(count))
    return "".join(lines).encode()


class Writer:
    """Everybody is of one container."""

    def __init__(self) -> None:
        world = World()
        world.proc(7, 1, at=1, cg=f"/docker/{HEX}")
        self.correlator = Correlator(world.model, nodes=[b"a"])
        self.enricher, self.stream, self.written = Enricher(self.correlator, [RAW]), TextStream(), b""

    def write(self, *texts: bytes, end: bool = False) -> None:
        for text in texts:
            self._take(self.stream.push(text))
        if end:
            self._take(self.stream.flush(eof=True))

    def _take(self, points: object) -> None:
        def answer(found: object) -> "array[int]":
            return self.correlator.answer(found, 60_000_000_000)  # type: ignore[arg-type]

        self.written += bytes(self.enricher.take(points, answer).get(RAW, b""))  # type: ignore[arg-type]

    def answers(self, serial: int = 5) -> list[str]:
        own = [line for line in self.written.decode().splitlines() if "CONTAINER_ID" in line and f":{serial})" in line]
        return [line.rpartition("contid=")[2] for line in own]


@pytest.mark.parametrize("count", [3, CLOSED - 1, CLOSED + 1, CLOSED_WHOLE - 1])
def test_what_comes_of_an_event_after_so_many_others_has_no_answer_of_its_own(count: int) -> None:
    """It was said to be unknown, for the records behind the SYSCALL name no process: the event had two answers."""
    writer, (call, rest) = Writer(), event(5)
    writer.write(call, others(count), rest, others(1, 90_000), end=True)
    assert writer.answers() == [contid(HEX)]
    assert b"".join(line for line in writer.written.splitlines(True) if b"CONTAINER_ID" not in line) == (
        call + others(count) + rest + others(1, 90_000)
    )


@pytest.mark.parametrize("count", [CLOSED + 1, CLOSED_WHOLE - 1, CLOSED_WHOLE, CLOSED_WHOLE + 1, 2 * CLOSED_WHOLE])
def test_who_reads_that_does_not_take_the_rest_for_the_hosts(count: int) -> None:
    """Silence is the host: a reader must remember each event of which a writer has left out the second answer."""
    writer, (call, rest) = Writer(), event(5)
    writer.write(call, others(count), rest, others(1, 90_000), end=True)
    assert hosts(writer.written) == []


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (b"", 10),
        (event(5 + CLOSED_WHOLE)[0], CLOSED + 1),
        (event(5, node="node=b ")[0], CLOSED + 1),
        (event(5)[0].replace(b".000:", b".001:"), CLOSED + 1),
        (event(5)[0], CLOSED_WHOLE + 1),
    ],
)
def test_it_is_unknown_where_its_beginning_was_not_seen_or_is_forgotten(call: bytes, count: int) -> None:
    writer, (_, rest) = Writer(), event(5)
    writer.write(call, others(count), rest, others(1, 90_000), end=True)
    assert writer.answers()[-1] == "?"


@pytest.mark.parametrize("count", [CLOSED - 2, CLOSED, CLOSED_WHOLE - 2, CLOSED_WHOLE, CLOSED_WHOLE + 2])
def test_the_reference_says_the_same(count: int) -> None:
    call, rest = event(5)
    more = event(6)
    text = [call, *more, others(count), rest, more[1], event(5 + CLOSED_WHOLE)[0], others(3, 90_000)]
    scan, stream = Reference(), TextStream()
    found = []
    for piece in text:
        scan.push(piece)
        points = stream.push(piece)
        found += [(points.serial[i], points.pid[i], points.flags[i]) for i in range(points.n)]
    assert found == [(point.serial, point.pid, point.flags) for point in scan.points]
