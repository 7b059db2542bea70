"""Opening the kernel event sources that a host allows, best first, and telling what is had."""

from typing import Any

from .errors import AuditnsError, NotSupportedError
from .model.table import Model
from .observer import Observer


def open_sources(
    *, perf: str = "auto", connector: str = "auto", perf_buffer: int = 16 << 20, connector_buffer: int = 64 << 20
) -> tuple[Any | None, Any | None, list[str]]:
    """(perf source, connector source, messages). Each of ``perf`` and ``connector`` is auto, on or off; "on" raises
    where the host refuses. With "auto" the connector is opened where perf is not to be had.

    Raises :class:`NotSupportedError` when neither is."""
    notices: list[str] = []
    events: Any | None = None
    proc: Any | None = None
    if perf != "off":
        from os import sysconf

        from .sources.perf import PerfSource

        try:
            events = PerfSource(pages=max(16, perf_buffer // sysconf("SC_PAGESIZE")))
            notices += events.notices
        except AuditnsError as error:
            if perf == "on":
                raise
            notices.append(f"no perf events: {error}")
    if connector == "on" or (connector == "auto" and events is None):
        from .sources.connector import ConnectorSource

        try:
            proc = ConnectorSource(rcvbuf=connector_buffer)
            notices += proc.notices
        except AuditnsError as error:
            if connector == "on" or events is None:
                if events is not None:
                    events.close()
                if connector == "on":
                    raise
                notices.append(f"no proc connector: {error}")
    if events is None and proc is None:
        raise NotSupportedError("no source of process events: " + "; ".join(notices or ["both are switched off"]))
    return events, proc, notices


def host_observer(
    *,
    perf: str = "auto",
    connector: str = "auto",
    perf_buffer: int = 16 << 20,
    connector_buffer: int = 64 << 20,
    journal: Any | None = None,
    all_serials: bool = False,
    options: dict[str, Any] | None = None,
) -> tuple[Observer, list[str]]:
    """An :class:`Observer` of this host that has subscribed and not yet scanned, and messages for people."""
    events, proc, notices = open_sources(
        perf=perf, connector=connector, perf_buffer=perf_buffer, connector_buffer=connector_buffer
    )
    observer = Observer(
        Model(), perf=events, connector=proc, journal=journal, all_serials=all_serials, options=options
    )
    return observer, notices


def own_nodes() -> set[bytes]:
    """The ``node=`` names that mean this host: what auditd's name_format may print."""
    import os
    import socket

    names = {os.uname().nodename, socket.gethostname()}
    names |= {name.partition(".")[0] for name in names}
    try:
        with open("/etc/audit/auditd.conf", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition("=")
                if key.strip().lower() == "name" and value.strip():
                    names.add(value.strip())
    except OSError:
        return {name.encode() for name in names}  # no auditd here, or not ours to read: the host's own names do
    return {name.encode() for name in names}
