"""Events that follow one another are taken together; what is missing is what shows where each is taken by itself."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.audittext.serials import FARTHEST, SerialGap
from auditns_connector.pipeline import continuity
from auditns_connector.pipeline.continuity import Continuity
from tests.examples import examples

STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 1, 1, 2, 3, -1, -2, 0, 5000, 1 << 25]),
        st.sampled_from([0, 0, 4, -4, 3000]),
        st.sampled_from(["", "", "", "", "node=b "]),
        st.sampled_from(["SYSCALL", "SYSCALL", "SYSCALL", "DAEMON_ROTATE"]),
    ),
    max_size=30,
)


def read(blocks: list[list[Any]], serial: int) -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
    """The text of each block, and serial and time of the events in it that this host's kernel has numbered: none twice.
    auditd numbers its own apart, another host may have the same numbers."""
    ms, used = 1_700_000_000_000, set[int]()
    for steps in blocks:
        text, events = "", []
        for step, later, node, kind in [*steps, (1, 0, "", "SYSCALL")]:  # the last one is of this host's kernel
            serial, ms = max(serial + step, 1), ms + later
            number = serial % 2**32 ^ (1 << 30 if kind == "DAEMON_ROTATE" else 0)
            if not node and kind == "SYSCALL":
                while number in used:
                    serial += 1
                    number = serial % 2**32
                used.add(number)
                events.append((number, ms))
            text += f"{node}type={kind} msg=audit({ms // 1000}.{ms % 1000:03d}:{number}): pid=7\n"
        yield text.encode(), events


def show(found: Continuity, stream: TextStream, text: bytes) -> None:
    """Have it see all of the text."""
    for ready in (lambda: stream.push(text), stream.flush):
        points = ready()
        if points.n:
            found.saw(points, b"")


def told(blocks: list[list[Any]], serial: int) -> list[tuple[list[SerialGap], bool, int, tuple[int, int] | None]]:
    """What is known behind each block, and at the end."""
    stream, found, known = TextStream(), Continuity(track=True), []
    for text, _ in read(blocks, serial):
        show(found, stream, text)
        known.append((list(found.missing), found.incomplete, found.next, found.newest))
    found.finish()
    return [*known, (found.missing, found.incomplete, found.next, found.newest)]


@examples(300)
@given(st.lists(STEPS, min_size=1, max_size=4), st.sampled_from([100, (1 << 32) - 5]))
def test_events_that_follow_one_another_are_taken_together(blocks: list[list[Any]], serial: int) -> None:
    with mock.patch.object(continuity, "sequence_end", lambda points, first, *_: first + 1):
        wanted = told(blocks, serial)
    assert told(blocks, serial) == wanted


@examples(300)
@given(st.lists(STEPS, min_size=1, max_size=12), st.sampled_from([200_000, (1 << 32) - 5]))
def test_each_event_has_come_or_is_told_once_and_none_that_had_come(blocks: list[list[Any]], serial: int) -> None:
    """Up to the newest: what is not known to have come is told, in the end."""
    near = [[(1 if step > FARTHEST else step, later, "", kind) for step, later, _, kind in steps] for steps in blocks]
    base = serial - 100_000  # no serial is below
    stream, found = TextStream(), Continuity(track=True)
    come, told, first = set[int](), list[int](), None
    for text, events in [*read(near, serial), (b"", [])]:
        if events:
            show(found, stream, text)
        else:
            found.finish()
        gaps = [range(plain(gap.first, base), plain(gap.last, base) + 1) for gap in found.missing]
        found.missing = []
        new = [number for gap in gaps for number in gap]
        assert come.isdisjoint(new)
        told += new
        came = [plain(number, base) for number, _ in events]
        first = came[0] if first is None else first
        come.update(came)
    assert first is not None
    assert len(told) == len(set(told))
    assert come.union(told) >= set(range(first, max(come) + 1))


def plain(number: int, base: int) -> int:
    """A serial as it would be if the counter had more bits."""
    return base + (number - base) % 2**32
