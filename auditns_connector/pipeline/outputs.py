"""The outputs of a program: for each format the sinks that take it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from selectors import EVENT_READ
from typing import Final

from auditns_connector.pipeline.container_records import Heads, give_headers
from auditns_connector.pipeline.selector import Selector
from auditns_connector.sinks.base import Sink
from auditns_connector.sinks.loss import Block
from auditns_connector.sinks.native import MOST, NativeOutput
from auditns_connector.vocabulary.values import JsonObject

_CLOSE: Final = 2.0
#: takes a notice for people
Say = Callable[[str], None]


class Outputs:
    """Sinks by the name of the format that they take."""

    def __init__(self, by_format: Mapping[str, Sequence[Sink]], selector: Selector, heads: Heads | None = None) -> None:
        """``heads`` makes what log files begin with."""
        self._selector = selector
        self._heads = heads
        self.by_format: Mapping[str, Sequence[Sink]] = {}
        self.sinks: tuple[Sink, ...] = ()
        self._put(by_format)

    def _put(self, by_format: Mapping[str, Sequence[Sink]]) -> None:
        self.by_format = by_format
        give_headers(by_format, self._heads)
        self.sinks = tuple(sink for sinks in by_format.values() for sink in sinks)

    def register(self) -> None:
        """Have the selector wait for what they wait for."""
        for sink in self.sinks:
            self._selector.register(sink.fileno(), EVENT_READ, sink.on_ready)

    def replace(self, by_format: Mapping[str, Sequence[Sink]]) -> None:
        """Go on with others; those that do not stay are closed."""
        former = self.sinks
        self._put(by_format)
        for sink in former:
            self._selector.unregister(sink.fileno())
            if sink not in self.sinks:
                sink.close(_CLOSE)
        self.register()

    # -- text

    def write(self, blocks: Mapping[str, Block]) -> None:
        """Give each format's block to its sinks."""
        for name, block in blocks.items():
            if block:
                for sink in self.by_format[name]:
                    sink.write(block)

    def write_all(self, several: Iterable[Mapping[str, Block]]) -> None:
        """Blocks of several times, in their order."""
        for blocks in several:
            self.write(blocks)

    def give(self, block: Block) -> None:
        """Give the only format's block to its sinks."""
        for sink in self.sinks:
            sink.write(block)

    def natives(self) -> list[NativeOutput] | None:
        """What the loop in C may write to by itself; ``None``: :meth:`give` is to be called."""
        found: list[NativeOutput] = []
        for sink in self.sinks:
            some = sink.natives()
            if some is None or len(found) + len(some) > MOST:
                return None
            found += some
        return found

    @property
    def prompt(self) -> bool:
        """Somebody waits for each event."""
        return any(sink.prompt for sink in self.sinks)

    def needs_python_loop(self) -> bool:
        """Whether one of them is to be looked after at a certain time, or has come to its end."""
        return any(sink.broken or sink.deadline() is not None for sink in self.sinks)

    # -- what else there is to do for them

    def serve(self, now: float) -> bool:
        """Let those go on whose time has come; True where one is broken."""
        broken = False
        for sink in self.sinks:
            due = sink.deadline()
            if due is not None and due <= now:
                sink.on_ready()
            broken |= sink.broken
        return broken

    def due(self, latest: float) -> float:
        """When :meth:`serve` is to be called again, at the ``latest`` (time.monotonic seconds)."""
        return min((when for sink in self.sinks if (when := sink.deadline()) is not None), default=latest)

    def reopen(self) -> None:
        """A HUP has come."""
        for sink in self.sinks:
            sink.reopen()

    def say_notices(self, say: Say) -> None:
        """Hand on what they have to say to people."""
        for sink in self.sinks:
            while sink.notices:
                say(sink.notices.pop(0))

    def close(self, say: Say) -> None:
        """Deliver what can be delivered soon, and let go."""
        end = time.monotonic() + _CLOSE
        for sink in self.sinks:
            sink.flush(max(0.0, end - time.monotonic()))
            while sink.notices:
                say(sink.notices.pop(0))
            sink.close(0.1)

    def status(self) -> JsonObject:
        """The counters of each by its name."""
        return {sink.name: sink.counters() for sink in self.sinks}

    @property
    def waits(self) -> bool:
        """Whether anything waits to be written."""
        return any(sink.counters()["queued_bytes"] for sink in self.sinks)

    @property
    def lost(self) -> int:
        """Lines that were dropped."""
        return sum(sink.counters().get("dropped_records", 0) for sink in self.sinks)
