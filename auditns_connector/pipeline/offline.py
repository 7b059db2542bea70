"""Answers for ``auditns enrich``: from a journal, or from this host as it is now."""

import json
import struct
from array import array
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.errors import DecodeError
from auditns_connector.journal.reader import JournalReader
from auditns_connector.model import container_names
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.places import Container
from auditns_connector.pipeline.file_loop import Moment
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.audit_text import P_LATE, P_NETFILTER, P_NODE, P_SUBJECT
from auditns_connector.vocabulary.values import JsonObject

#: ended processes are kept this long for text that is still on its way (ns): whoever writes it may be slow
_KEEP: Final = 60_000_000_000
_TICK: Final = 1_000_000_000
#: a run may be so far behind with its answers (ns)
_BEHIND: Final = 30_000_000_000
#: what frames that make no sense lead to in the model
_NO_SENSE: Final = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, struct.error,
)  # fmt: skip


class ReplayAnswers:
    """Each event is answered from the state of the model at which the recorded run answered it. Names apart: a run may
    have read a moment later what a container is called; that goes for all its events, in whatever blocks text comes."""

    def __init__(self, paths: list[str]) -> None:
        self.notices: list[str] = []
        self._paths = paths
        self._reader = JournalReader(paths)
        self.model = self._new_model()
        self.nodes: set[bytes] = set()
        #: events that cannot be of the host of the journal, as far as was answered
        self.foreign = 0
        #: as of when the events were answered that came last, where that was one moment
        self.moment: Moment | None = None
        #: what the first frame says of the run
        self.hello: JsonObject = {}
        first, *others = self._reader.upto(0)[0]
        self._apply([first, *others])
        hello = next((frame for frame in f.iter_frames(first) if frame.kind == f.K_HELLO), None)
        if hello is not None:
            self.hello = self._said(hello.payload)
            name = str(self.hello.get("node", ""))
            self.nodes = {part.encode() for part in (name, name.partition(".")[0]) if part}
        self.notices += self._reader.notices

    def _new_model(self) -> Model:
        """A model in which containers have their names from the beginning."""
        model, names = Model(), self._reader.names

        def on_news(_what: str, container: Container, _now: int) -> None:
            request = names.get(json.dumps(container.key))
            if request is not None:
                container_names.add(model.containers, request)

        if names:
            model.containers.on_news = on_news
        return model

    def _said(self, payload: bytes) -> JsonObject:
        """What the payload of a HELLO says."""
        try:
            return dict(json.loads(payload.rstrip(b"\0")))
        except (ValueError, TypeError, RecursionError) as error:
            raise DecodeError(f"{' '.join(self._paths)}: the journal is damaged ({error})") from error

    def answer(self, correlator: Correlator, points: InsertionPoints) -> "array[int]":
        """Advance the model mark by mark, answering runs of points on the way."""
        choice = correlator.begin(points)
        correlator.next_stamps = True
        first, self.moment = 0, None
        for mark, end in self._runs(points):
            blocks, now = self._reader.upto(mark)
            if any(blocks):
                self._apply(blocks)
                if correlator.model is not self.model:
                    correlator.use(self.model)
                self.model.outputs = []
                self.model.forget_questions()
            correlator.answer(points, now, choice, first, end)
            if not first and end == points.n and (span := self._reader.span_of(points.serial[0])) is not None:
                self.moment = Moment(*span[:2], now)
            first = end
        return choice

    def _apply(self, blocks: list[bytes]) -> None:
        """Give frames to the model, those of another run to a new one. What they say is our own writing: where it makes
        no sense the file is damaged."""
        try:
            self.model.apply(blocks[0])
            for block in blocks[1:]:
                self.model = self._new_model()
                self.model.apply(block)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
            struct.error,
        ) as error:
            raise DecodeError(f"{' '.join(self._paths)}: the journal is damaged ({error})") from error

    def _runs(self, points: InsertionPoints) -> Iterator[tuple[int, int]]:
        """(mark, end): up to point ``end`` the events were answered at that mark, one run after the other."""
        n, serials, stamps, everything = points.n, points.serial, points.ms, points.range()
        i = 0
        while i < n:
            span = self._reader.span_of(serials[i])
            if span is None:
                mark = self._settled(stamps[i])
                while i < n and self._reader.span_of(serials[i]) is None and self._settled(stamps[i]) == mark:
                    self._check(points, i)
                    i += 1
            else:
                first, last, mark = span
                if first <= everything.low and everything.high <= last:
                    i = n
                while i < n and first <= serials[i] <= last:
                    i += 1
            yield mark, i

    def _check(self, points: InsertionPoints, i: int) -> None:
        """An event that the run did not answer and that was stamped when events of quite other serials came is no event
        of that host: nobody there is asked for its process."""
        offset, between = self.model.clock.offset, self._reader.came_between(points.serial[i])
        if offset is None or between is None:
            return
        stamp = points.ms[i] * 1_000_000 - offset
        if not between[0] - _BEHIND <= stamp <= between[1] + _TICK:
            self.foreign += points.flags[i] & (P_SUBJECT | P_NETFILTER | P_LATE) in (P_SUBJECT, P_NETFILTER)
            points.flags[i] |= P_NODE

    def _settled(self, ms: int) -> int:
        offset = self.model.clock.offset
        return self._reader.settled(None if offset is None else ms * 1_000_000 - offset)

    def filenos(self) -> list[int]:
        """None: all is in the journal."""
        return []

    def drain(self) -> None:
        """There is nothing to take in."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """Nothing is held open."""


class LiveAnswers:
    """This host, from /proc and the kernel's events from now on; what happened before it cannot know."""

    #: each block is answered as of its own
    moment: Moment | None = None

    def __init__(self, *, all_serials: bool = False) -> None:
        from auditns_connector.host.open_sources import host_observer, own_nodes

        self._observer, self.notices = host_observer(all_serials=all_serials)
        self.model = self._observer.model
        self.nodes = own_nodes()
        self.hello: JsonObject = {}
        self.foreign = 0
        self._tick = 0
        self._observer.start()

    def answer(self, correlator: Correlator, points: InsertionPoints) -> "array[int]":
        """All points, by the model as it is now."""
        now = self._observer.sync()
        self._observer.take_programs(points, now, self.nodes)
        choice = correlator.answer(points, now)
        self._forget(now)
        self.model.outputs = []
        return choice

    def filenos(self) -> list[int]:
        """Where the kernel says that there are events."""
        return self._observer.perf.filenos() if self._observer.perf is not None else []

    def drain(self) -> None:
        """Take in what the kernel has to tell while no text comes."""
        self._forget(self._observer.sync())
        self.model.outputs = []

    def _forget(self, now: int) -> None:
        """Once in a while: look for losses, and drop what ended long ago."""
        if now >= self._tick:
            self._tick = now + _TICK
            self._observer.tick()
            self._observer.mark(now, [], expire=max(1, now - _KEEP))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._observer.close()
