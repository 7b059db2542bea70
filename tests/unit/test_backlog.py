"""Text that was taken in while the loop had other work: the C works it off as it does what comes."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.pipeline.text_stage import RAW
from auditns_connector.sources.intake import Limits

from .test_native_loop import Quiet, event


class Late(Quiet):
    """A quiet host whose loop had other work while ``count`` events came: a thread has taken them in."""

    def __init__(self, count: int, limits: Limits) -> None:
        super().__init__(limits)
        self.rings.looked.clear()
        self.events = [event(1004 + number, self.now, 100) for number in range(count)]
        self.audit = self.pipeline.text.audit
        assert self.audit is not None
        self.audit.begin()
        sent = b"".join(self.events)
        came = self.audit.counters()["bytes"] + len(sent)
        self.theirs.sendall(sent)
        while self.audit.counters()["bytes"] < came:
            time.sleep(0.001)
        #: how often the interpreter was given text
        self.given_to_python = 0
        process = self.pipeline.text.process

        def counted(points: InsertionPoints, cut: int) -> None:
            self.given_to_python += 1
            process(points, cut)

        self.pipeline.text.process = counted  # type: ignore[method-assign]

    def work_off(self) -> bytes:
        """All that waits is worked on as the loop does it; the text that comes of it."""
        sink: Any = self.pipeline.outputs.by_format[RAW][0]
        assert self.audit is not None
        before = len(sink.text)
        while self.audit.oldest:
            self.pipeline._read()
        return sink.text[before:]

    def give_back(self) -> None:
        """The loop reads itself again."""
        assert self.audit is not None
        while self.audit.news().apart:  # type: ignore[attr-defined]
            self.pipeline.text.read()


@pytest.fixture
def late(request: pytest.FixtureRequest) -> Iterator[Late]:
    host = Late(*request.param)
    yield host
    assert host.audit is not None
    host.audit.close()
    host.close()


@pytest.mark.parametrize("late", [(3000, Limits(8 << 20, 0, ""))], indirect=True)
def test_what_was_taken_in_meanwhile_is_worked_off_by_the_c(late: Late) -> None:
    """As of when it was taken in: kernel events are drained up to then, and no further."""
    assert late.audit is not None
    before, now = late.audit.oldest, time.monotonic_ns()
    out = late.work_off()
    assert re.findall(rb"type=SYSCALL msg=audit\([\d.]+:(\d+)\)", out) == [b"%d" % n for n in range(1004, 4004)]
    assert out.count(b"type=CONTAINER_ID") == 3000
    assert late.given_to_python < len(late.rings.looked) / 2, "it is told of no more than a clock that was set"
    assert len(late.rings.looked) > 5
    assert all(before <= upto == cut <= now for upto, cut in late.rings.looked)
    assert late.observer.pacing.drained_to >= late.rings.looked[-1][1], "how far that is decides what comes next"
    late.rings.looked.clear()
    late.audit.guard(False)
    late.give_back()
    late.come(b"", event(4004, late.now, 100))
    assert [upto for upto, _ in late.rings.looked] == [0], "what the loop reads itself is read now"


@pytest.mark.parametrize("late", [(30_000, Limits(1 << 20, 0, ""))], indirect=True)
def test_what_was_dropped_before_it_is_told(late: Late) -> None:
    out = late.work_off()
    kept = {int(serial) for serial in re.findall(rb"type=SYSCALL msg=audit\([\d.]+:(\d+)\)", out)}
    late.give_back()
    late.pipeline.text.narrate(final=True)
    sink: Any = late.pipeline.outputs.by_format[RAW][0]
    lost = [
        set(range(int(first), int(last) + 1))
        for first, last in re.findall(rb"type=CONTAINER_LOST .* source=intake .* from=(\d+) to=(\d+)", sink.text)
    ]
    assert lost
    assert kept | set().union(*lost) == set(range(1004, 31_004))
    assert not kept & set().union(*lost)
