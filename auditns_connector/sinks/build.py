"""The sinks that a configuration asks for."""

from ..config import Config
from .base import LostLine, Sink


def open_sinks(config: Config, lost: LostLine, lost_numeric: LostLine) -> tuple[list[Sink], list[Sink]]:
    """Open the outputs of ``config``; returns (those that take symbolic record names, those that take numeric).

    ``lost`` and ``lost_numeric`` make the CONTAINER_LOST line in the two spellings. Raises
    :class:`~auditns_connector.errors.AuditnsError` when the socket cannot be had; nothing stays open then.
    """
    symbolic: list[Sink] = []
    numeric: list[Sink] = []
    places = {"symbolic": (symbolic, lost), "numeric": (numeric, lost_numeric)}
    sinks, tell = places[config.record_names]
    if config.socket.enabled:  # first, because it alone can fail
        from .unixsocket import SocketSink

        sinks.append(SocketSink(config.socket, tell))
    if config.file.enabled:
        from .file import FileSink

        sinks.append(FileSink(config.file, tell))
    if config.child.enabled:
        from .child import ChildSink

        sinks, tell = places[config.child.record_names]
        sinks.append(ChildSink(config.child, tell))
    return symbolic, numeric
