"""Stand-alone records: what the model has to tell beside answers, as audit events of our own.

The pipeline hands :meth:`Narrator.tell` the model's outputs; out come whole lines for each output format. Each is an
event of one record: its time is that of what happened, its serial comes from :mod:`eventserial`. A kind of output is
told by the function that :attr:`Narrator.formatters` has for its class, so that other parts can add theirs.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from .decode.auditserial import SerialGap, SerialTracker, parse_stamp
from .decode.points import P_NODE
from .emit import text
from .enricher import NUMERIC, RAW
from .eventserial import MODULUS, RUN_DIR, EventSerials
from .model.outputs import Loss
from .sinks.base import Loss as SinkLoss
from .sinks.base import LostLine

if TYPE_CHECKING:
    from .correlate import Correlator
    from .emit.render import Renderer
    from .model.process import State
    from .model.table import Model
    from .observer import Observer
    from .reassemble import Points

#: makes the line of an output (see emit/text.py) for either spelling; b"" tells nothing
Formatter = Callable[[Any, bool], bytes]
_NS: Final = 1_000_000
#: AUDIT_FIRST_DAEMON to AUDIT_LAST_DAEMON of linux/audit.h
_DAEMON: Final = range(1200, 1300)


class Narrator:
    """Writes stand-alone records for ``formats`` (names of enricher.py); JSON and lines for people need ``renderer``.

    ``wanted`` decides by an output's state and class whether it is told (None: all are); losses always are. ``track``
    looks for holes in the serials of what :meth:`saw` is shown, where the source of the audit records does not.
    """

    def __init__(
        self,
        model: "Model",
        serials: EventSerials,
        formats: Sequence[str],
        *,
        renderer: "Renderer | None" = None,
        wanted: Callable[[Any], bool] | None = None,
        track: bool = False,
    ) -> None:
        self.serials = serials
        self.formats = tuple(formats)
        self.renderer = renderer
        self.told = 0
        self._model = model
        self._wanted = wanted
        self._node = b""
        self._last_ms = 0
        self._mutex = threading.Lock()
        self._sink_lines: dict[str, LostLine] = {}
        self._tracker = SerialTracker() if track else None
        #: holes found by :meth:`saw` and not told yet
        self.missing: list[SerialGap] = []
        self._next = -1
        self.formatters: dict[type, Formatter] = {Loss: self._loss}

    # -- what the kernel's events say about ours

    def saw(self, points: "Points") -> None:
        """Note the newest kernel serial, and the ``node=`` prefix that records of this host have."""
        last = points.n - 1
        if last < 0:
            return
        if points.rtype[last] not in _DAEMON:
            self.serials.saw(points.serial[last] % MODULUS)
        self._last_ms = points.ms[last]
        self._node = points.node(last) if points.flags[last] & P_NODE else b""
        if self._tracker is not None:
            self._track(self._tracker, points, points.serial[: last + 1].tolist(), points.ms[: last + 1].tolist())

    def _track(self, tracker: SerialTracker, points: "Points", serials: list[int], times: list[int]) -> None:
        first, last = serials[0], serials[-1]
        in_order = first == self._next and last - first + 1 == len(set(serials)) == max(serials) - first + 1
        if in_order and not tracker.open:
            tracker.skip(last, times[-1])  # nothing is missing
        else:
            for i, (serial, ms) in enumerate(zip(serials, times, strict=True)):
                # auditd counts its own DAEMON_* events by itself, another host's are another sequence
                if serial < MODULUS and points.rtype[i] not in _DAEMON and points.node(i) == self._node:
                    self.missing += tracker.feed(serial, ms)
                    last = serial
        self._next = last + 1

    # -- outputs

    def tell(self, outputs: Iterable[Any]) -> dict[str, bytes]:
        """One block of lines for each format; empty where there is nothing to tell."""
        numeric = [name == NUMERIC for name in self.formats]
        found: list[tuple[int, dict[bool, bytes], State | None]] = []
        for output in outputs:
            formatter = self.formatters.get(type(output))
            if formatter is None or not (self._wanted is None or isinstance(output, Loss) or self._wanted(output)):
                continue
            tails = {spelling: formatter(output, spelling) for spelling in dict.fromkeys(numeric)}
            if any(tails.values()):
                found.append((self._ms(output.time), tails, getattr(output, "state", None)))
        return self._write(found)

    def gaps(self, gaps: Iterable[SerialGap]) -> dict[str, bytes]:
        """CONTAINER_LOST for audit events that never arrived; ``from`` and ``to`` are their serials. What :meth:`saw`
        found is told with them."""
        own, self.missing = self.missing, []
        found = []
        for gap in (*gaps, *own):
            tails = {
                numeric: text.container_lost("audit", None, gap.events, str(gap.first), str(gap.last), numeric)
                for numeric in (False, True)
            }
            found.append((gap.to_ms, tails, None))
        return self._write(found)

    def sink_lost(self, name: str) -> LostLine:
        """What tells the reader of a sink of format ``name`` that lines are missing there; one object for each name."""
        known = self._sink_lines.get(name)
        if known is not None:
            return known

        def line(loss: SinkLoss) -> bytes:
            stamp = parse_stamp(loss.last.encode())
            tail = text.container_lost(
                f"sink-{loss.sink}", None, loss.records, loss.first, loss.last, numeric=name == NUMERIC
            )
            with self._mutex:
                return self._line(name, tail, stamp[0] if stamp else self._last_ms, self.serials.take(), None)

        self._sink_lines[name] = line
        return line

    def _write(self, found: "Sequence[tuple[int, dict[bool, bytes], State | None]]") -> dict[str, bytes]:
        if not found:
            return {}
        self.told += len(found)
        first = self.serials.take(len(found))
        out = {}
        for name in self.formats:
            lines = [
                self._line(name, tails[name == NUMERIC], ms, (first + i) % MODULUS, state)
                for i, (ms, tails, state) in enumerate(found)
            ]
            out[name] = b"".join(lines)
        return out

    def _line(self, name: str, tail: bytes, ms: int, serial: int, state: "State | None") -> bytes:
        line = text.stamp(tail, ms, serial, self._node)
        if name in (RAW, NUMERIC) or self.renderer is None:
            return line
        return self.renderer.line(name, line, state)

    def _ms(self, mono: int) -> int:
        return (mono + (self._model.clock.offset or 0)) // _NS

    def _time(self, mono: int) -> str:
        ms = self._ms(mono)
        return f"{ms // 1000}.{ms % 1000:03d}"

    # -- losses

    def _loss(self, loss: Loss, numeric: bool) -> bytes:
        cpu = loss.cpu if loss.cpu != 0xFFFF else None
        return text.container_lost(
            loss.source, cpu, loss.number or None, self._time(loss.since), self._time(loss.time), numeric
        )


def open_narrator(
    observer: "Observer", formats: Sequence[str], *, correlator: "Correlator | None" = None, colour: bool = False,
    wanted: Callable[[Any], bool] | None = None, track: bool = False, directory: str | None = RUN_DIR,
) -> Narrator:  # fmt: skip
    """The narrator of a run; ``correlator`` is needed for JSON and lines for people."""
    renderer = None
    if correlator is not None and not {RAW, NUMERIC}.issuperset(formats):
        from .emit.render import Renderer

        renderer = Renderer(correlator, colour)
    serials = EventSerials(directory, boot_id=observer.model.containers.boot_id)
    return Narrator(observer.model, serials, formats, renderer=renderer, wanted=wanted, track=track)
