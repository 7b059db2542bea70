"""From audit text to enriched bytes: the part of the pipeline that live and offline runs share. No I/O.

``take`` is given points that a :class:`TextStream` decided and a function that answers them; what comes out is one
block of bytes for each output format asked for.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.grouping import event_numbers
from auditns_connector.audittext.insertion import RecordTexts, insert_records
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.emit.divided_events import divided
from auditns_connector.emit.spelling import set_apart
from auditns_connector.pipeline.filters import Filter
from auditns_connector.vocabulary.audit_text import LINE_LATE, P_ANEW, P_LATE, P_TARGET
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.emit.json_native import OfRows
    from auditns_connector.emit.pretty import Pretty
    from auditns_connector.emit.redaction import Redaction

RAW: Final = "raw"
NUMERIC: Final = "numeric"
JSON: Final = "json"
PRETTY: Final = "pretty"

Answer = Callable[[InsertionPoints], "array[int]"]


class Enricher:
    """Formats answered points. ``formats`` are RAW, NUMERIC (raw with UNKNOWN[n] types), JSON, PRETTY."""

    def __init__(
        self,
        correlator: Correlator,
        formats: Sequence[str],
        *,
        wanted: Filter | None = None,
        limit: int | None = None,
        colour: bool = False,
        lines: "Pretty | None" = None,
        lasting: bool = True,
        apart: bool = False,
        at_end: bool = False,
        logs: "Mapping[str, bytearray] | None" = None,
        redact: "Redaction | None" = None,
        says_divided: bool = True,
    ) -> None:
        """``lasting`` False: what :meth:`take` gives of one format holds until its next call only. ``apart``: ours are
        events of their own where no place in the event is whole; ``at_end``: by name they stand at the end of the event
        (see emit/spelling.py). ``logs``: outputs of their own, which get those events alone for which ``wanted``
        has put a 1 there. ``says_divided``: where more comes of an event that was not wanted before it had ended, a
        record of ours says so."""
        self._apart = apart
        self._logs: Mapping[str, bytearray] = {} if logs is None else logs
        #: ours stand at the end of events: ``TextStream(at_end=…)``
        self.at_end = at_end and RAW in formats
        self._lasting = lasting or len(set(formats)) > 1
        self._correlator = correlator
        self._formats = tuple(dict.fromkeys(formats))
        self._filter = wanted if wanted else None
        self.limit = limit
        self._objects = any(name in (JSON, PRETTY) for name in self._formats)
        correlator.keep_states = self._objects
        if self._objects:
            from auditns_connector.emit.render import Renderer

            self._renderer = Renderer(correlator, colour, lines, redact)
        #: JSON of all events is wanted, as it is, and nothing else
        self._json_alone = self._formats == (JSON,) and not self._logs and self._filter is None and not redact
        #: which spelling of record types is wanted, where one text of all events is and nothing else
        self._spelling = -1
        if len(self._formats) == 1 and not self.whole and not self._objects and not apart:
            self._spelling = correlator.spellings.index(self._formats[0] == NUMERIC)
        #: where the points come from, which remembers what was kept
        self.stream: TextStream | None = None
        self._says_divided = says_divided
        self.events = 0
        self.shown = 0
        #: events of which more came when it was decided not to pass them on
        self.divided = 0

    def want_states(self, also: bool) -> None:
        """Have the correlator keep the state it finds for each point, ``also`` for somebody else's sake."""
        self._correlator.keep_states = self._objects or also

    @property
    def whole(self) -> bool:
        """Whether :meth:`take` must be given whole events: ``TextStream(whole=…)``."""
        return self._objects or self._filter is not None or self.limit is not None

    @property
    def done(self) -> bool:
        """The limit of events is reached."""
        return self.limit is not None and self.shown >= self.limit

    def take_ready(self, points: InsertionPoints, now: int) -> JsonObject | None:
        """:meth:`take` of what rows answer at ``now`` (CLOCK_MONOTONIC ns) without asking the model; ``None`` where
        that is not all, or more than one plain text is wanted."""
        if self._spelling < 0 or not points.some:
            return None
        block = self._correlator.join_ready(points, now, self._spelling)
        if block is None:
            return None
        self.count(points.c.subjects)
        return {self._formats[0]: block}

    def needs_python_loop(self) -> bool:
        """Whether the run ends with a certain event."""
        return self.limit is not None

    @property
    def plain_tails(self) -> RecordTexts | None:
        """The texts to put in, where one plain text of all events is wanted and nothing else."""
        return self._correlator.tails[self._spelling] if self._spelling >= 0 else None

    @property
    def plain_objects(self) -> "OfRows | None":
        """What makes them, where JSON of all events is wanted and nothing else."""
        return self._renderer.of_rows() if self._json_alone and self.limit is None else None

    def count(self, events: int) -> None:
        """So many events were shown by somebody else."""
        self.events += events
        self.shown += events

    def take(self, points: InsertionPoints, answer: Answer) -> JsonObject:
        """One block for each format: all that ``points`` decided, with our records, less what is filtered out. It is
        bytes or a memoryview."""
        if not points.some or self.done:
            return {}
        choice = answer(points)
        events = points.c.subjects
        self.events += events
        first, keep = 0, None
        lost: dict[str, list[int]] = {}
        if self._filter is not None or self.limit is not None:
            first, keep, events, lost = self._select(points, choice)
        self.shown += events
        out: JsonObject = {}
        if self._apart:
            choice = set_apart(points, choice, self._correlator)
        for name in self._formats:
            if name in (RAW, NUMERIC):
                index = self._correlator.spellings.index(name == NUMERIC)
                tails = self._correlator.tails[index]
                out[name] = insert_records(points, choice, tails, keep, first, lasting=self._lasting)
            else:
                out[name] = self._renderer.render(name, points, keep, first, lasting=self._lasting)
                self._renderer.shown()
        for name, logged in self._logs.items():
            if any(logged):
                out[name] = insert_records(points, choice, self._correlator.tails[0], logged, first, lasting=True)
        for name, which in lost.items():
            out[name] = b"".join([*(self._divided(name, points, i) for i in which), out.get(name, b"")])
        return out

    def _divided(self, name: str, points: InsertionPoints, i: int) -> bytes:
        """What says in the output ``name`` that the event of point ``i`` was divided."""
        spelling = self._correlator.spellings[0] if name in self._logs else name == NUMERIC
        line = divided(points, i, spelling)
        return self._renderer.line(name, line) if name in (JSON, PRETTY) else line

    def _select(
        self, points: InsertionPoints, choice: "array[int]"
    ) -> tuple[int, bytearray, int, dict[str, list[int]]]:
        """The first event's number, one byte for each event: 1 for those that pass filter and limit, how many these
        are, and for each output the points of events that it has no part of, or not all of, for they were divided."""
        first, count = event_numbers(points)
        if self._filter is not None:
            keep = self._filter.keep(points, choice, self._correlator, first, count)
        else:
            keep = bytearray(count)
            for number in points.l_event[: points.line_n]:
                if number < LINE_LATE:
                    keep[number - first] = 1
        late = self._late(points, first) if points.c.late else {}
        if late and self.stream is not None:
            self._keep_late(points, first, keep, late, self.stream)
            late = self._late(points, first)
        if self.limit is not None:
            left = self.limit - self.shown
            for i, wanted in enumerate(keep):
                if wanted and i not in late:
                    keep[i] = left > 0
                    left -= 1
        lost = {}
        if self.stream is not None:
            if points.c.rest and self._filter is not None:
                rest = self.stream.rest(first, self._marks(keep))
                self._keep_rest(points, first, keep, rest)
                lost = self._lost(rest)
            self.stream.kept(first, self._marks(keep))
        return first, keep, sum(keep) - sum(keep[i] for i in late), lost

    def _keep_rest(self, points: InsertionPoints, first: int, keep: bytearray, rest: Sequence[tuple[int, int]]) -> None:
        """What comes first of the rest of an event goes where that went, also where it says whose that was."""
        for bit, column in enumerate((keep, *self._logs.values())):
            for i, kept in rest:
                if column:
                    column[points.event[i] - first] |= kept >> bit & 1

    def _lost(self, rest: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
        """For each output the points among ``rest`` of events that did not go there as far as they had come."""
        self.divided += sum(not kept & 1 for _, kept in rest)
        if not self._says_divided:
            return {}
        names = [*((name, 0) for name in self._formats), *((name, bit) for bit, name in enumerate(self._logs, 1))]
        lost = {name: [i for i, kept in rest if not kept >> bit & 1] for name, bit in names}
        return {name: which for name, which in lost.items() if which}

    def _marks(self, keep: bytearray) -> "array[int]":
        """For each event a bit for the outputs that ``keep`` is for, and one for each output of its own."""
        marks = array("Q", iter(keep))
        for bit, logged in enumerate(self._logs.values(), 1):
            if any(logged):
                marks = array("Q", (mark | one << bit for mark, one in zip(marks, logged, strict=True)))
        return marks

    def _keep_late(
        self, points: InsertionPoints, first: int, keep: bytearray, late: dict[int, int], stream: TextStream
    ) -> None:
        """What is ``late`` goes where its event went; or, where that was not wanted before it was whole, the
        event begins with it, and has a record of ours there."""
        marks, begun = self._marks(keep), []
        stream.keep_late(first, marks)
        for bit, column in enumerate((keep, *self._logs.values())):
            wanted: set[int] = set()
            for i, point in late.items():
                kept = marks[i] >> bit & 1 or points.origin[point] in wanted
                if column[i] and not kept and points.flags[point] & P_ANEW:
                    wanted.add(points.origin[point])
                    begun.append(point)
                else:
                    column[i] = kept
        for point in begun:
            points.flags[point] &= ~P_LATE

    @staticmethod
    def _late(points: InsertionPoints, first: int) -> dict[int, int]:
        """The events, counted from number ``first``, of records that belong to one that was handed out before, and
        where their points are."""
        rows = enumerate(zip(points.event[: points.n], points.flags[: points.n], strict=True))
        return {number - first: i for i, (number, flags) in rows if flags & P_LATE and not flags & P_TARGET}
