"""Events that follow one another are taken together; what is missing is what shows where each is taken by itself."""

from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.audittext.serials import SerialGap
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


def told(blocks: list[list[Any]], serial: int) -> list[tuple[list[SerialGap], bool, int, tuple[int, int] | None]]:
    """What is known behind each block, and at the end."""
    stream, found, known = TextStream(), Continuity(track=True), []
    ms = 1_700_000_000_000
    for steps in blocks:
        text = ""
        for step, later, node, kind in [*steps, (1, 0, "", "SYSCALL")]:  # the last one is of this host's kernel
            serial, ms = max(serial + step, 1), ms + later
            text += f"{node}type={kind} msg=audit({ms // 1000}.{ms % 1000:03d}:{serial}): pid=7\n"
        stream.push(text.encode())
        found.saw(stream.flush(), b"")
        known.append((list(found.missing), found.incomplete, found.next, found.newest))
    found.finish()
    return [*known, (found.missing, found.incomplete, found.next, found.newest)]


@examples(300)
@given(st.lists(STEPS, min_size=1, max_size=4), st.sampled_from([100, (1 << 32) - 5]))
def test_events_that_follow_one_another_are_taken_together(blocks: list[list[Any]], serial: int) -> None:
    with mock.patch.object(continuity, "sequence_end", lambda points, first, *_: first + 1):
        wanted = told(blocks, serial)
    assert told(blocks, serial) == wanted
