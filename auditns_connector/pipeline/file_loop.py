"""A file enriched without the interpreter, as far as that goes: its text is read, scanned, answered by rows, and
written with ours in it, block by block, by one call of C (cdefs/loop/file_loop.c).

It comes back where a block is not that plain: somebody of it is to be looked at, its events are answered as of another
moment, or the output does not take it. What was read is then worked on as ever.
"""

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.attributor import NEEDS_LOOKUP, Correlator
from auditns_connector.attribution.lookup import NOBODY
from auditns_connector.attribution.record_numbers import NOT_CLEAR, OF_ONE
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.vocabulary.timing import MS
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from collections.abc import Callable

#: so much is read at once: what comes of it still is in the processor's cache (bytes)
BLOCK: Final = 128 * 1024
#: after so many blocks signals are looked at
_ROUNDS: Final = 64
#: events are far longer than a 64th of a block as a rule
_POINTS: Final = BLOCK // 64
_ROOM: Final = 8 * BLOCK


class Moment(NamedTuple):
    """The serials from ``low`` to ``high`` are answered as of ``now`` (CLOCK_MONOTONIC ns)."""

    low: int
    high: int
    now: int


class Answers(Protocol):
    """Who answers the events of the file."""

    @property
    def moment(self) -> Moment | None:
        """As of when those that come next are answered, as far as that is known; all that happened before is in the
        model."""


class FileLoop:
    """Rounds of ``enricher``, whose events ``answers`` answers by ``correlator``, from ``stream`` to the descriptor
    ``output``; ``write`` writes what that has not taken, and returns False where nobody reads any more."""

    def __init__(
        self,
        stream: TextStream,
        enricher: Enricher,
        correlator: Correlator,
        answers: Answers,
        output: int,
        write: "Callable[[memoryview], bool]",
    ) -> None:
        self._enricher, self._correlator, self._answers, self._write = enricher, correlator, answers, write
        text, scan, points = stream.c_parts
        self._out: CData = ffi.new("char[]", _ROOM)
        self._choice, self._missed = ffi.new("uint32_t[]", _POINTS), ffi.new("uint32_t[]", _POINTS)
        self._tails: CData = None
        self._c: CData = ffi.new(
            "struct file_loop *",
            {
                "stream": text, "scan": scan, "points": points, "to": output, "block": BLOCK, "rounds": _ROUNDS,
                "careful": NEEDS_LOOKUP, "choice": self._choice, "missed": self._missed, "most": _POINTS,
                "out": self._out, "room": _ROOM,
            },
        )  # fmt: skip

    @property
    def unended(self) -> bool:
        """What was read last has no newline at its end."""
        return bool(self._c.unended)

    def ready(self) -> bool:
        """Whether the next block may be one of the C; what it works on is put in its place."""
        c, correlator, enricher, moment = self._c, self._correlator, self._enricher, self._answers.moment
        if moment is None or correlator.info:
            return False
        tails = enricher.plain_tails
        rows = None if tails is None else correlator.ready(moment.now)
        if tails is None or rows is None:
            return False
        c.low, c.high, c.now = moment
        c.before, c.nobody = correlator.model.clock.first_real // MS, correlator.numbers.plain(NOBODY)
        c.nobody_kind = correlator.numbers.kinds[c.nobody]
        c.lookup = rows.c
        c.tails = self._tails = tails.c_struct()
        return True

    def run(self, fd: int, unended: bool) -> int:
        """Some blocks of the file ``fd``; how that ended, a FILE_* of the C. ``unended``: so is what came before."""
        c = self._c
        c.fd, c.unended = fd, unended
        how = int(lib.file_rounds(c))
        if c.answered or c.events:
            self._correlator.count(c.answered, c.counted[OF_ONE], c.counted[NOT_CLEAR])
            self._enricher.count(c.events)
            c.answered = c.events = 0
            c.counted[0 : len(c.counted)] = [0] * len(c.counted)
        return how

    def write_rest(self) -> bool:
        """Write what the output did not take; False where nobody reads any more."""
        c = self._c
        return self._write(memoryview(ffi.buffer(self._out, c.size))[c.done :])
