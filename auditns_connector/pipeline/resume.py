"""Going on where a former run of this boot ended: what came in between is reported as lost, once.

Where all events are written to a log, the log says what is missing (sinks/tail.py): of what is behind the event up to
which all is settled, that which is neither there nor reported. That event is moved on only when what came before it,
and what was reported of it, is in the file: a run that is killed before it has reported, or before that is written,
leaves it to the next one, and one that is killed after that leaves nothing. A run that begins moves it to where the log
says that something is missing. Without a log what was handed to the outputs counts.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.sinks.file import FileSink
from auditns_connector.sinks.tail import NEAR, Tail, read_tail
from auditns_connector.sinks.threaded import Progress
from auditns_connector.state.position import Position

if TYPE_CHECKING:
    from auditns_connector.pipeline.continuity import Continuity
    from auditns_connector.pipeline.loop import Pipeline

_HALF: Final = 1 << 31
_MODULUS: Final = 1 << 32


def resume(pipeline: "Pipeline", directory: str, name: str, log: str = "") -> None:
    """Have ``pipeline``, the program ``name``, tell what is missing since the former run, and note its own position.

    ``directory``, where the control socket is, keeps the position. ``log`` is the file that all events are written to.
    """
    standalone = pipeline.text.standalone
    if standalone is None:
        return
    position = Position(name, pipeline.observer.model.containers.boot_id, directory)
    for notice in position.notices:
        pipeline.log.warning(notice)
    go_on(standalone.events, position, log)
    settling = Settling(standalone.events, position)
    pipeline.each_tick.append(lambda: settling.look(_progress(pipeline, log)))
    pipeline.text.position = position
    pipeline.at_end.append(position.close)


def go_on(events: "Continuity", position: Position, log: str) -> None:
    """Have ``events`` know where a former run ended."""
    if position.former is None:
        return
    tail = read_tail(log, position.settled, position.broken) if log else None
    if tail is not None and position.settled is None and _distance(tail.serial, position.former[0]) > NEAR:
        tail = None  # of another boot
    if position.absent is not None and (tail is None or tail.leaves(position.absent)):
        events.recall(position.absent)
    else:
        position.absent = None
    tail = tail or Tail(*position.former)
    if tail.reaches and tail.sure is not None:
        position.move_settled(*tail.sure)  # a run that is killed at once leaves no more to read than its own part
    events.resume(tail)
    position.note_broken(events.broken)


def _distance(one: int, other: int) -> int:
    return abs((one - other + _HALF) % _MODULUS - _HALF)


def _progress(pipeline: "Pipeline", log: str) -> Progress | None:
    """Of the file ``log``, or where there is none of all outputs; ``None``: not known now."""
    if log:
        sink = next(
            (one for one in pipeline.outputs.sinks if isinstance(one, FileSink) and one.options.path == log), None
        )
        return None if sink is None else sink.progress()
    return Progress(0, 0, 0) if not pipeline.outputs.waits else None


class _Mark(NamedTuple):
    """An event that was handed over, and how much was before it."""

    event: tuple[int, int]
    progress: Progress


class Settling:
    """Moves the event up to which all is settled."""

    def __init__(self, events: "Continuity", position: Position) -> None:
        self._events, self._position = events, position
        self._mark: _Mark | None = None

    def look(self, now: Progress | None) -> None:
        """Outputs are as far as that."""
        mark = self._mark
        if now is None:
            self._mark = None
            return
        if mark is not None and now.dropped != mark.progress.dropped:
            mark = None  # what was handed over then may be among it
        if mark is not None and now.written < mark.progress.accepted:
            return
        if mark is not None:
            self._position.settle(*mark.event)
        event = self._events.settled
        self._mark = None if event is None else _Mark(event, now)
