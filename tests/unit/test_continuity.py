"""What of the kernel's events is missing: told once, and never of what has come."""

from collections.abc import Iterable

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.pipeline.continuity import Continuity

BASE = 1_700_000_000_000


class Came:
    """What a continuity has been shown."""

    def __init__(self) -> None:
        self.events = Continuity(track=True)
        #: first and last serials of what is missing
        self.missing: list[tuple[int, int]] = []
        self._stream = TextStream()

    def all(self, serials: Iterable[int], ms: int = 0, node: str = "") -> None:
        """These events have come, each in a block of its own."""
        for serial in serials:
            self.block(f"{node}type=SYSCALL msg=audit({(BASE + ms) // 1000}.{ms % 1000:03d}:{serial}): pid=7\n")

    def block(self, text: str) -> None:
        for ready in (lambda: self._stream.push(text.encode()), self._stream.flush):
            points = ready()
            if points.n:
                self.events.saw(points, b"")
                self._tell()

    def end(self) -> None:
        """Nothing comes any more."""
        self.events.finish()
        self._tell()

    def _tell(self) -> None:
        self.missing += [gap[:2] for gap in self.events.missing]
        self.events.missing = []


def test_what_comes_after_it_was_given_up_for_lost_makes_nothing_else_missing() -> None:
    """As when auditd starts: the kernel sends what it had kept behind what is new."""
    came = Came()
    came.all(range(1, 11))
    came.all(range(30, 40))
    came.all([40], ms=3000)
    assert came.missing == [(11, 29)]
    came.all(range(11, 25))
    came.all(range(41, 44), ms=6000)
    came.end()
    assert came.missing == [(11, 29)]


def test_another_host_s_event_of_that_number_fills_no_hole() -> None:
    came = Came()
    came.all([1, 2])
    text = "".join(
        f"{node}type=SYSCALL msg=audit(1700000000.000:{serial}): pid=7\n"
        for node, serial in (("", 3), ("node=b ", 4), ("", 5))
    )
    came.block(text)
    came.end()
    assert came.missing == [(4, 4)]
