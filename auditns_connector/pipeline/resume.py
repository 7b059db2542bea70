"""Going on where a former run of this boot ended: what came in between is told as lost, once."""

from typing import TYPE_CHECKING, Final

from auditns_connector.sinks.tail import read_tail, tells_restart
from auditns_connector.state.position import Position

if TYPE_CHECKING:
    from auditns_connector.pipeline.loop import Pipeline
    from auditns_connector.sinks.tail import Tail

_HALF: Final = 1 << 31
_MODULUS: Final = 1 << 32
#: the end of the log and what was handed to the outputs are no further apart, or they are not of one boot
_NEAR: Final = 1 << 20


def resume(pipeline: "Pipeline", directory: str, name: str, log: str = "") -> None:
    """Have ``pipeline``, the program ``name``, tell what is missing since the former run, and note its own position.

    ``directory``, where the control socket is, keeps the position. ``log`` is the file that all events are written to:
    its end is what was written last, and what waited in the queue of a program that was killed is missing. Without one
    that is what was handed to the outputs last.
    """
    standalone = pipeline.text.standalone
    if standalone is None:
        return
    position = Position(name, pipeline.observer.model.containers.boot_id, directory)
    for notice in position.notices:
        pipeline.log.warning(notice)
    if position.former is not None:
        tail = read_tail(log) if log else None
        standalone.resume(
            *written_last(position.former, tail),
            () if tail is None else tail.present,
            {} if tail is None else tail.halves,
        )
        absent = position.absent
        if absent is not None and not (log and tells_restart(log, absent.first, absent.last)):
            standalone.recall(absent)
    pipeline.each_tick.append(lambda: _settle(pipeline, position))
    pipeline.text.position = position
    pipeline.at_end.append(position.close)


def _settle(pipeline: "Pipeline", position: Position) -> None:
    """What is missing is told, and that is written: the next run need not know."""
    standalone = pipeline.text.standalone
    if standalone is not None and standalone.absence is None and not pipeline.outputs.waits:
        position.note_absent(None)


def written_last(handed: tuple[int, int], tail: "Tail | None") -> tuple[int, int]:
    """Serial and time (ms since 1970) of the last event up to which all were written whole. ``handed`` is what the
    outputs were given last, ``tail`` the end of the log."""
    if tail is None or abs((tail.serial - handed[0] + _HALF) % _MODULUS - _HALF) > _NEAR:
        return handed
    if tail.cut is not None:
        return (tail.cut[0] - 1) % _MODULUS, tail.cut[1]
    return tail.serial if tail.whole else (tail.serial - 1) % _MODULUS, tail.ms
