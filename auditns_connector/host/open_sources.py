"""Opening the kernel event sources that a host allows, best first, and telling what is had."""

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from auditns_connector.errors import AuditnsError, NotSupportedError
from auditns_connector.host.namespace_source import AUTO, choose, describe
from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.sources import initns
from auditns_connector.sources.parents import read_parents
from auditns_connector.vocabulary.namespaces import INITIAL_INODES, SANDBOX
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.journal.files import JournalWriter
    from auditns_connector.sources.connector import ConnectorSource
    from auditns_connector.sources.perf import PerfSource


class Opened(NamedTuple):
    """Event sources that listen already (``None``: not had), where namespaces are seen, messages for people."""

    perf: "PerfSource | None"
    connector: "ConnectorSource | None"
    ns_source: str
    notices: list[str]


def open_sources(
    *,
    perf: str = "auto",
    connector: str = "auto",
    ns_source: str = AUTO,
    calls: bool = True,
    events: bool = False,
    audit: bool = True,
    perf_buffer: int = 16 << 20,
    connector_buffer: int = 64 << 20,
) -> Opened:
    """Open what the host allows. Each of ``perf`` and ``connector`` is auto, on or off; "on" raises where the host
    refuses. ``ns_source`` forces one of :data:`namespace_source.SOURCES`, and what is better than it is left closed.

    ``calls`` asks perf for the system calls that change namespaces as well, ``events`` for all that the connector
    tells; ``audit`` says whether audit records are read. Raises :class:`AuditnsError` where what is forced is not had,
    and in a pid namespace of its own.
    """
    if os.stat("/proc/self/ns/pid").st_ino != INITIAL_INODES["pid"]:
        raise NotSupportedError(
            "this is not the host's pid namespace: its process numbers mean other processes than those of audit "
            f"(docker: --pid host). Run it {initns.here()}"
        )
    notices: list[str] = []
    rings: PerfSource | None = None
    proc: ConnectorSource | None = None
    try:
        if perf != "off" and ns_source in (AUTO, "perf"):
            rings = _open_perf(perf == "on" or ns_source == "perf", perf_buffer, calls, notices)
        usable = rings is not None and "namespaces" in rings.features
        nm = connector != "off" and ns_source in (AUTO, "nm") and _nm()
        ends = rings is not None and "exit_sample" in rings.features
        if connector == "on" or (connector == "auto" and (nm or events or not usable or not ends)):
            proc = _open_connector(connector == "on" or ns_source in ("nm", "audit"), connector_buffer, notices)
        chosen = choose(ns_source, perf=usable, connector=proc is not None, nm=nm, audit=audit)
        if rings is not None and not usable:
            notices.append("perf tells no namespaces here: it is not used")
            rings.close()
            rings = None
        if proc is None and rings is None:
            if events or os.geteuid() != 0:
                reasons = "; ".join(notices or ["both are switched off"])
                raise NotSupportedError(f"no source of process events: {reasons}")
            notices.append("no source of process events: /proc is polled, and what lives shorter is not seen")
    except BaseException:
        for source in (rings, proc):
            if source is not None:
                source.close()
        raise
    if chosen != "perf":
        notices.append(describe(chosen, rings is not None))
    if rings is not None and not ends and proc is None:
        notices.append(
            "neither tracepoints nor the proc connector: a process that runs a set-user-ID program is unknown until it "
            "acts or /proc tells that it lives"
        )
    return Opened(rings, proc, chosen, notices)


def _open_perf(forced: bool, size: int, calls: bool, notices: list[str]) -> "PerfSource | None":
    from auditns_connector.sources.perf import PerfSource

    try:
        rings = PerfSource(pages=max(16, size // os.sysconf("SC_PAGESIZE")), calls=calls)
    except AuditnsError as error:
        if forced:
            raise
        notices.append(f"no perf events: {error}")
        return None
    notices += rings.notices
    return rings


def _open_connector(forced: bool, size: int, notices: list[str]) -> "ConnectorSource | None":
    from auditns_connector.sources.connector import ConnectorSource

    try:
        proc = ConnectorSource(rcvbuf=size)
    except AuditnsError as error:
        if forced:
            raise
        notices.append(f"no proc connector: {error}")
        return None
    notices += proc.notices
    return proc


def _nm() -> bool:
    from auditns_connector.sources.connector import probe_nm

    try:
        return probe_nm()
    except AuditnsError:
        return False  # whoever opens the connector says why


def host_observer(
    *,
    perf: str = "auto",
    connector: str = "auto",
    ns_source: str = AUTO,
    events: bool = False,
    audit: bool = True,
    perf_buffer: int = 16 << 20,
    connector_buffer: int = 64 << 20,
    journal: "JournalWriter | None" = None,
    all_serials: bool = False,
    options: JsonObject | None = None,
) -> tuple[Observer, list[str]]:
    """An :class:`Observer` of this host that has subscribed and not yet scanned, and messages for people."""
    sandboxes: Collection[str] = (options or {}).get("sandbox_types", SANDBOX)
    parents = read_parents({"pid", *sandboxes})
    opened = open_sources(
        perf=perf, connector=connector, ns_source=ns_source, events=events, audit=audit,
        perf_buffer=perf_buffer, connector_buffer=connector_buffer,
    )  # fmt: skip
    observer = Observer(
        Model(), perf=opened.perf, connector=opened.connector, ns_source=opened.ns_source, journal=journal,
        all_serials=all_serials, options=options,
    )  # fmt: skip
    observer.bootstrap.parents = parents
    return observer, opened.notices


def own_nodes() -> set[bytes]:
    """The ``node=`` names that mean this host: what auditd's name_format may print."""
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
