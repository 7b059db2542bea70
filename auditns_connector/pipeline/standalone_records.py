"""Stand-alone records: what the model has to tell beside answers, as audit events of our own.

The pipeline hands :meth:`StandaloneRecords.format_outputs` the model's outputs; out come whole lines for each output
format. Each is an event of one record: its time is that of what happened, its serial comes from
:mod:`~auditns_connector.state.event_serials`. A kind of output is formatted by the function that
:attr:`StandaloneRecords.formatters` has for its class, so that other parts can add theirs.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from auditns_connector.audittext import own_records as text
from auditns_connector.audittext.serials import SerialGap, parse_stamp
from auditns_connector.emit.lifecycle import OUTPUTS, LifecycleRows
from auditns_connector.model.outputs import ContainerInfo, Loss
from auditns_connector.model.places import UNKNOWN
from auditns_connector.model.process import State
from auditns_connector.pipeline.about_outputs import KINDS, state_of
from auditns_connector.pipeline.container_records import ContainerRecords
from auditns_connector.pipeline.continuity import Continuity
from auditns_connector.pipeline.lifecycle_budget import Counted, LifecycleBudget, MakerOf
from auditns_connector.pipeline.text_stage import NUMERIC, RAW
from auditns_connector.pipeline.unread_events import UnreadEvents
from auditns_connector.sinks.base import LostLine
from auditns_connector.sinks.loss import Block, Lifecycle
from auditns_connector.sinks.loss import Loss as SinkLoss
from auditns_connector.state.event_serials import MODULUS, EventSerials
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.audit_text import P_NODE
from auditns_connector.vocabulary.timing import FOREVER

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.emit.render import Renderer
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.pipeline.filters import LiveFilter

#: milliseconds since 1970, the line in each spelling (None: it is a row's), and whose it is
Formatted = tuple[int, "dict[bool, bytes] | None", "State | None"]
#: makes the line of an output (see audittext/own_records.py) for either spelling; b"" tells nothing
Formatter = Callable[[Any, bool], bytes]
_NS: Final = 1_000_000


class StandaloneRecords:
    """Writes stand-alone records for ``formats`` (names of text_stage.py); JSON and lines for people need ``renderer``.

    What the filter ``wanted`` does not let through is not reported; losses always are. ``track`` looks for holes in
    the serials of what :meth:`saw` is shown, where the source of the audit records does not.
    """

    def __init__(
        self,
        model: "Model",
        serials: EventSerials,
        formats: Sequence[str],
        *,
        renderer: "Renderer | None" = None,
        wanted: "LiveFilter | None" = None,
        track: bool = False,
        joined: int = 0,
        budget: LifecycleBudget | None = None,
    ) -> None:
        self.serials = serials
        self.formats = tuple(formats)
        self.renderer = renderer
        self.written = 0
        self._model = model
        self.wanted = wanted if wanted else None
        self._node = b""
        self._last_ms = 0
        self._mutex = threading.Lock()
        self._sink_lines: dict[str, LostLine] = {}
        #: what came of the kernel's events, and what is missing
        self.events = Continuity(track=track, joined=joined)
        #: events that never arrived, as far as was reported
        self.lost = 0
        self.containers = ContainerRecords(model)
        self.formatters: dict[type, Formatter] = {
            Loss: self._loss,
            ContainerInfo: self.containers.line,
        }
        self._rows = LifecycleRows(model)
        self._maker = MakerOf(model)
        self._budget = budget or LifecycleBudget()
        self._unread = UnreadEvents(model, self._budget, self._maker)

    # -- what the kernel's events say about ours

    def saw(self, points: "InsertionPoints") -> None:
        """Note the newest kernel serial, and the ``node=`` prefix that records of this host have."""
        last = points.n - 1
        if last < 0:
            return
        serial, ms = points.serial[last], points.ms[last]
        if points.rtype[last] not in rectypes.DAEMON:
            self.serials.saw(serial % MODULUS)
        self._last_ms = ms
        self._node = points.lead(last) if points.flags[last] & P_NODE else b""
        self.events.saw(points, self._node)

    def needs_python_loop(self) -> bool:
        """Whether there is something to tell before the next event."""
        return self.events.is_unsettled

    def passed(self, serial: int, ms: int) -> None:
        """The next events up to ``serial`` have come, without a hole, of this host and by the kernel."""
        self.serials.saw(serial % MODULUS)
        self._last_ms, self._node = ms, b""
        self.events.passed(serial, ms)

    def dropped(self, gaps: Sequence[SerialGap]) -> list[dict[str, Block]]:
        """CONTAINER_LOST for events that we had no room for."""
        for gap in gaps:
            self.events.dropped(gap)
        return self._lost("intake", gaps)

    def absent(self) -> list[dict[str, Block]]:
        """CONTAINER_LOST for what came while nobody of ours was there, once that is certain."""
        return self._lost("restart", self.events.absent())

    # -- outputs

    def format_outputs(self, outputs: Iterable[Any], read: int = FOREVER) -> list[dict[str, Block]]:
        """One block of lines for each format, several times where lines that may be dropped first and others alternate;
        empty where there is nothing to tell."""
        rows, spellings = self._rows, dict.fromkeys(name == NUMERIC for name in self.formats)
        serial = self.serials.seen
        rows.clear()
        self._maker.forget()
        found: list[Formatted] = []
        for output in self.containers.ready(self._unread.read(outputs, serial, self.wanted is not None), read):
            if not self._passes(output) or self._exceeds(output, serial, found):
                continue
            if isinstance(output, OUTPUTS):
                ms = self._ms(output.time)
                rows.add(output, ms)
                found.append((ms, None, getattr(output, "state", None)))
            elif (formatter := self.formatters.get(type(output))) is not None:
                tails = {spelling: formatter(output, spelling) for spelling in spellings}
                if any(tails.values()):
                    found.append((self._ms(output.time), tails, state_of(output)))
        return self._write(found)

    def _exceeds(self, output: Any, serial: int, found: list[Formatted]) -> bool:
        """Whether ``output`` is one of those that are counted, and that its maker has had enough of this second."""
        budget, when = self._budget, output.time
        if isinstance(output, OUTPUTS):
            maker, comm = self._maker.of(output)
        elif (
            isinstance(output, ContainerInfo) and (own := self.containers.maker(output, self._maker.uid_of)) is not None
        ):
            maker, comm = own, b""
        else:
            return False
        if when >= budget.until:
            self._counted(budget.over(when), found)
        return not budget.admits(when, serial, maker, comm)

    def limit(self, each: int, total: int) -> None:
        """From now on so many lines of how namespaces come and go a second: of one maker, and in all (0: no limit)."""
        self._budget.each, self._budget.total = each, total

    def lifecycle(self) -> dict[str, int]:
        """Lines of how namespaces come and go: written; and counted instead."""
        return {"told": self._budget.admitted, "counted": self._budget.counted}

    def late(self, now: int) -> list[dict[str, Block]]:
        """It is ``now`` (CLOCK_MONOTONIC ns): what was left out of the seconds before."""
        found: list[Formatted] = []
        self._counted(self._budget.over(now), found)
        return self._write(found)

    def _counted(self, counted: "Counted | None", found: list[Formatted]) -> None:
        if counted is None:
            return
        first, last = (f"{self._time(mark.time)}:{'?' if mark.serial < 0 else mark.serial}" for mark in counted[1:3])
        tails = {
            numeric: text.container_lost(
                "lifecycle", None, counted.number, first, last, numeric, makers=counted.makers, most=counted.most,
                uid=counted.maker.uid, contid=counted.maker.contid, comm=counted.comm,
            )
            for numeric in (False, True)
        }  # fmt: skip
        found.append((self._ms(counted.last.time), tails, None))

    def _passes(self, output: Any) -> bool:
        kind, hidden = KINDS.get(type(output)), isinstance(output, OUTPUTS) and self._model.own.hides(output)
        if hidden or self.wanted is None or kind is None:
            return not hidden
        process = getattr(output, "process", None)
        state = getattr(output, "state", None) or (process.state if process is not None else None)
        container = state.container if state is not None else getattr(output, "container", UNKNOWN)
        pid = process.pid if process is not None else getattr(output, "opid", 0)
        return self.wanted.tells(self._model.containers, kind, pid, container)

    def gaps(self) -> list[dict[str, Block]]:
        """CONTAINER_LOST for audit events that never arrived, as :meth:`saw` found; ``from`` and ``to`` are their
        serials."""
        gaps, self.events.missing = self.events.missing, []
        self.lost += sum(gap.events for gap in gaps)
        return self._lost("audit", gaps)

    def _lost(self, source: str, gaps: Iterable[SerialGap]) -> list[dict[str, Block]]:
        self._rows.clear()
        found: list[Formatted] = []
        for gap in gaps:
            tails = {
                numeric: text.container_lost(source, None, gap.events, str(gap.first), str(gap.last), numeric)
                for numeric in (False, True)
            }
            found.append((gap.to_ms, tails, None))
        return self._write(found)

    def sink_lost(self, name: str) -> LostLine:
        """What tells the reader of a sink of format ``name`` that lines are missing there; one object for each name."""
        former = self._sink_lines.get(name)
        if former is not None:
            return former

        def line(loss: SinkLoss) -> bytes:
            stamp = parse_stamp(loss.last.replace("?", "0").encode())
            tail = text.container_lost(
                f"sink-{loss.sink}", None, loss.records, loss.first, loss.last, name == NUMERIC, audit=loss.audit
            )
            with self._mutex:
                ms = stamp[0] if stamp else self._last_ms
                return self._shown(name, text.stamp(tail, ms, self.serials.take(), self._node), None)

        self._sink_lines[name] = line
        return line

    def _write(self, found: "Sequence[Formatted]") -> list[dict[str, Block]]:
        if not found:
            return []
        self.written += len(found)
        first = self.serials.take(len(found))
        out: list[dict[str, Block]] = []
        row = 0
        for is_row, group in groupby(found, lambda one: one[1] is None):
            run = list(group)
            make = partial(self._rows_block, row) if is_row else self._block
            out.append({name: make(name, run, first) for name in self.formats})
            first, row = (first + len(run)) % MODULUS, row + len(run) * is_row
        return out

    def _rows_block(self, row: int, name: str, found: "Sequence[Formatted]", first: int) -> Block:
        """The lines of rows from ``row`` on."""
        lines = self._rows.text(name == NUMERIC, self._node, first, row, row + len(found))
        if name not in (RAW, NUMERIC) and self.renderer is not None:
            made = lines.split(b"\n")
            lines = b"".join(self._shown(name, made[i] + b"\n", one[2]) for i, one in enumerate(found))
        return Lifecycle(lines)

    def _block(self, name: str, found: "Sequence[Formatted]", first: int) -> Block:
        """What was found, as lines of format ``name``."""
        out = []
        for i, (ms, tails, state) in enumerate(found):
            assert tails is not None
            line = text.stamp(tails[name == NUMERIC], ms, (first + i) % MODULUS, self._node)
            out.append(self._shown(name, line, state))
        return b"".join(out)

    def _shown(self, name: str, line: bytes, state: "State | None") -> bytes:
        if name in (RAW, NUMERIC) or self.renderer is None:
            return line
        return self.renderer.line(name, line, state)

    def _ms(self, mono: int) -> int:
        return (mono + (self._model.clock.offset or 0)) // _NS

    def _time(self, mono: int) -> str:
        ms = self._ms(mono)
        return f"{ms // 1000}.{ms % 1000:03d}"

    # -- namespaces

    def emit_initial_namespaces(self, now: int) -> list[dict[str, Block]]:
        """NS_INIT of the initial namespaces, which were there before anybody could tell; ``now`` is CLOCK_MONOTONIC."""
        first, ms = self._model.initial, self._ms(now)
        self._rows.clear()
        found: list[Formatted] = []
        for inst in first.inst if first is not None else ():
            if inst is not None and not inst.reported:
                inst.reported = True
                self._rows.initial(inst, ms)
                found.append((ms, None, None))
        return self._write(found)

    # -- containers

    def header(self, name: str) -> Callable[[], bytes]:
        """Makes what a new log file of format ``name`` begins with: the containers that live then. May be called in any
        thread."""

        def lines() -> bytes:
            state, ms = State(0, None, None, ""), self._last_ms or self._ms(self._model.now)
            found = [
                (ms, {name == NUMERIC: line}, state._replace(container=container))
                for container, line in self.containers.present(name == NUMERIC)
                if self.wanted is None
                or self.wanted.tells(self._model.containers, rectypes.CONTAINER_INFO, 0, container)
            ]
            return bytes(self._block(name, found, self.serials.take(len(found)))) if found else b""

        return lines

    # -- losses

    def _loss(self, loss: Loss, numeric: bool) -> bytes:
        cpu = loss.cpu if loss.cpu != 0xFFFF else None
        return text.container_lost(
            loss.source, cpu, loss.number or None, self._time(loss.since), self._time(loss.time), numeric
        )
