"""The sinks that a configuration asks for."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from auditns_connector.config.options import Config
from auditns_connector.sinks.base import LostLine, Sink

if TYPE_CHECKING:
    from auditns_connector.sinks.spawner import Spawner


def open_sinks(
    config: Config,
    lost: LostLine,
    lost_numeric: LostLine,
    former: Iterable[Sink] = (),
    spawner: "Spawner | None" = None,
) -> tuple[list[Sink], list[Sink]]:
    """Open the outputs of ``config``, whose record names are no longer "auto"; returns (those that take
    symbolic record names, those that take numeric).

    ``lost`` and ``lost_numeric`` make the CONTAINER_LOST line in the two spellings. After the configuration was read
    again, ``former`` are the sinks in use: those that need not change are returned again, the others are the caller's
    to close. ``spawner`` starts the child plugin; without it there is none.
    Raises :class:`~auditns_connector.errors.AuditnsError` when the socket cannot be had; nothing is opened
    then, and the former sinks are as they were.
    """
    in_use = list(former)
    symbolic: list[Sink] = []
    numeric: list[Sink] = []
    places = {"symbolic": (symbolic, lost), "numeric": (numeric, lost_numeric)}
    sinks, tell = places[config.record_names]
    if config.socket.enabled:  # first, because it alone can fail
        from auditns_connector.sinks.unixsocket import SocketSink

        old = next((sink for sink in in_use if isinstance(sink, SocketSink)), None)
        if old is not None and (old.options, old.lost) == (config.socket, tell):
            sinks.append(old)
        else:
            sinks.append(SocketSink(config.socket, tell, replaces=old))
    if config.file.enabled:
        from auditns_connector.sinks.file import FileSink

        file = next((sink for sink in in_use if isinstance(sink, FileSink) and sink.name == "file"), None)
        same = file is not None and (file.options, file.lost) == (config.file, tell)
        sinks.append(file if file is not None and same else FileSink(config.file, tell))
    if config.child.enabled and spawner is not None:
        from auditns_connector.sinks.child import ChildSink

        sinks, tell = places[config.child.record_names]
        child = next((sink for sink in in_use if isinstance(sink, ChildSink)), None)
        same = child is not None and (child.options, child.lost) == (config.child, tell)
        sinks.append(child if child is not None and same else ChildSink(config.child, tell, spawner))
    return symbolic, numeric


def open_rule_logs(config: Config, lost: LostLine, former: Iterable[Sink] = ()) -> dict[str, list[Sink]]:
    """The files of the rules that log, by the rule's name, as :func:`open_sinks` opens the others; sizes, mode and
    group are those of [output.file]."""
    from auditns_connector.sinks.file import FileSink

    in_use = {sink.name: sink for sink in former if isinstance(sink, FileSink)}
    found: dict[str, list[Sink]] = {}
    for rule in config.rules:
        if rule.path:
            options, name = config.file._replace(path=rule.path), f"rule {rule.name}"
            old = in_use.get(name)
            same = old is not None and (old.options, old.lost) == (options, lost)
            found[rule.name] = [old if old is not None and same else FileSink(options, lost, name)]
    return found
