"""``auditns listen --events``: kernel process events alone, nothing of audit needed."""

import argparse
import sys
from typing import TYPE_CHECKING

from auditns_connector.daemon.terminal import complain
from auditns_connector.errors import ConfigError

if TYPE_CHECKING:
    from auditns_connector.daemon.process import Signals


def run_events(args: argparse.Namespace, signals: "Signals") -> int:
    """Show process events until a signal, the count or the duration is reached."""
    from auditns_connector.assembly import Parts, Program, build
    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.control.own_programs import may_be_one
    from auditns_connector.daemon.log import Log
    from auditns_connector.daemon.notify import notify
    from auditns_connector.daemon.privileges import keep_only
    from auditns_connector.daemon.process import boost_alone
    from auditns_connector.emit.events import EventWriter
    from auditns_connector.host.namespace_source import describe
    from auditns_connector.host.open_sources import host_observer
    from auditns_connector.journal.files import JournalWriter
    from auditns_connector.pipeline.text_stage import Enricher
    from auditns_connector.sinks.base import no_lost_line
    from auditns_connector.sinks.descriptor import open_descriptor
    from auditns_connector.sources.readlog import ReadlogSource

    kinds = _check(args)
    log = Log(args.quiet)
    journal = JournalWriter(args.journal) if args.journal else None
    boost_alone()
    keep_only()
    audit = ReadlogSource() if args.ns_source == "audit" else None
    observer, notices = host_observer(
        perf=args.perf, connector=args.connector, ns_source=args.ns_source, events=True, journal=journal,
        all_serials=True, audit=audit is not None, options={"lifecycle": True, "sandbox_types": sorted(args.sandbox)},
    )  # fmt: skip
    program: Program | None = None
    try:
        for notice in notices:
            complain(f"auditns: {notice}")
        if observer.ns_source == "perf" and not args.quiet:
            complain(f"auditns: {describe('perf', perf=True)}")
        nm = observer.ns_source == "nm"
        whole = observer.perf is not None and "exec_sample" in observer.perf.features
        events = EventWriter(
            observer.model, json=args.format == "json", times=args.timestamps, details=args.info,
            connector_first=observer.connector is not None and (nm or not whole), nm=nm,
            types=kinds, pids=args.pid, limit=args.count, may_be=may_be_one,
        )  # fmt: skip
        observer.tap = events.frames
        observer.start()
        correlator = Correlator(observer.model)
        sink = open_descriptor(sys.stdout.fileno(), 64 << 20, no_lost_line)
        program = build(
            Parts(
                observer, correlator, Enricher(correlator, []), {"events": [sink]}, log, args.control, audit,
                events=events, duration=args.duration, early=signals.came,
            )
        )  # fmt: skip
        pipeline = program.pipeline
        pipeline.at_end.append(signals.hold)
        notify("READY=1")
        pipeline.run()
        notify("STOPPING=1")
        lost = pipeline.lost()
    finally:
        observer.close()
        if audit is not None:
            audit.close()
        if program is not None:
            program.close()
    complain(f"auditns: {events.shown} of {events.seen} events shown, {lost} lost ({pipeline.stopping})")
    return 0


def _check(args: argparse.Namespace) -> list[str]:
    """The kinds of events wanted. Raises :class:`ConfigError` for options that speak of audit events."""
    from auditns_connector.emit.events import TYPES

    if args.format == "raw":
        raise ConfigError("--events: process events are no audit text: --format is pretty or json")
    for name in ("contid", "runtime", "name", "key", "rules"):
        if getattr(args, name):
            raise ConfigError(f"--{name} is about audit events and cannot be used with --events")
    kinds = [kind.lower() for kind in args.type]
    for kind in kinds:
        if kind not in TYPES:
            raise ConfigError(f"--type {kind}: with --events one of {' '.join(TYPES)}")
    if any(not 0 < pid < 1 << 31 for pid in args.pid):
        raise ConfigError("--pid: a process id is a number from 1 to 2147483647")
    return kinds
