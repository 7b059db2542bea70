"""``auditns listen``: kernel events and the audit multicast group, no auditd needed."""

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from auditns_connector.cli.arguments import seconds, whole
from auditns_connector.cli.options import (
    add_control,
    add_filters,
    add_format,
    asks_namespaces,
    event_filter,
    formats,
    lines_for_people,
    milliseconds,
    runtimes,
)
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.config.streams import MAX_BACKLOG
from auditns_connector.config.users import MOST_STREAMS, UserOptions, quota
from auditns_connector.model.addresses import HOST_NETWORK
from auditns_connector.vocabulary.namespaces import ALL_ORDER, SANDBOX

#: NS_* records a second, of one maker and in all; see pipeline/lifecycle_budget.py
EACH, TOTAL = 500, 5000
#: bytes that may wait for the output
_QUEUE = 64 << 20

if TYPE_CHECKING:
    from auditns_connector.assembly import Program
    from auditns_connector.auditrules.lease import RuleLease
    from auditns_connector.auditrules.netlink import LoadedRules
    from auditns_connector.daemon.log import RateLimitedLog
    from auditns_connector.daemon.process import Signals
    from auditns_connector.errors import AuditnsError
    from auditns_connector.host.observer import Observer
    from auditns_connector.sinks.base import LostLine, Sink


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Show this host's audit events, each with the container of its process. Needs root, not auditd.",
        epilog="Example: auditns listen --rules --format raw --duration 60 | ausearch -i",
    )  # fmt: skip
    add_format(parser, "pretty")
    add_filters(parser)
    parser.add_argument("--rules", action="store_true", help="load the audit rules it needs, and take them away again")
    parser.add_argument(
        "--events", action="store_true",
        help="show kernel process events alone (fork, exec, exit, ns …) and nothing of audit; --format pretty or json, "
        "--type takes kinds of events, --info adds container, file and CPU",
    )  # fmt: skip
    parser.add_argument("--timestamps", action="store_true", help="with --events: begin each line with its time")
    parser.add_argument(
        "--no-lifecycle", action="store_true",
        help="leave out NS_INIT, NS_CHANGE and NS_DEL, the records of how namespaces come, go and are entered",
    )  # fmt: skip
    parser.add_argument(
        "--lifecycle-rate", type=_rates, default=(EACH, TOTAL), metavar="N[:ALL]",
        help="tell at most N of these records a second of what one user does in one container, and ALL in all; those "
        "beyond are counted in a CONTAINER_LOST; 0: no limit (default: 500:5000)",
    )  # fmt: skip
    parser.add_argument(
        "--sandbox", type=_sandbox, default=SANDBOX, metavar="TYPE[,TYPE…]",
        help="a process outside every container is in a container of its own when it is in a namespace of one of these "
        f"types other than the initial one ({', '.join(ALL_ORDER)}; none: in no case; default: pid)",
    )  # fmt: skip
    parser.add_argument(
        "--mark", action="append", type=_mark, default=[], metavar="MARK=ID",
        help="a packet with this netfilter mark is of this container, where its addresses do not tell; MARK=host: of "
        "all in the host's network namespace",
    )  # fmt: skip
    parser.add_argument(
        "--expect", type=runtimes, default=(), metavar="RUNTIME[,RUNTIME…]",
        help="a container of these runtimes that is not registered 5 s after its first exec is told by a CONTAINER_OP "
        "with error=ENOENT",
    )  # fmt: skip
    parser.add_argument("--duration", type=seconds, metavar="S", help="stop after S seconds")
    parser.add_argument("--journal", metavar="FILE", help="also record the kernel events, for auditns enrich --journal")
    parser.add_argument("--perf", choices=("auto", "on", "off"), default="auto", help="perf events (default: auto)")
    parser.add_argument(
        "--connector", choices=("auto", "on", "off"), default="auto",
        help="the proc connector; auto: where there are no perf events (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--ns-source", choices=("auto", "nm", "perf", "audit", "procfs"), default="auto",
        help="where changes of namespaces are seen; auto: the first that works of nm (PROC_EVENT_NM), perf, audit "
        "(audit records, then /proc), procfs (/proc alone); what is better than the one named stays unused",
    )  # fmt: skip
    parser.add_argument(
        "--coalesce", type=milliseconds, default="adaptive", metavar="MS",
        help="gather events for MS milliseconds, which takes less CPU; 0: at once; adaptive: only while they are many "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--other-users", action="store_true",
        help="streams and delegated sockets may belong to other users than root (keeps CAP_CHOWN and CAP_DAC_OVERRIDE)",
    )  # fmt: skip
    parser.add_argument(
        "--user-streams", type=_whole, default=UserOptions().streams, metavar="N",
        help="streams that an ordinary user may make for containers of his; 0: none (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--user-quota", action="append", type=_quota, default=[], metavar="USER=N",
        help="records that the streams of this user, a name or a number, may hold together (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FILE",
        help="append to FILE instead of stdout; it is opened again on SIGHUP, and when somebody moved or removed it; "
        "--format raw or json",
    )  # fmt: skip
    add_control(parser)
    parser.add_argument("--quiet", action="store_true", help="say only warnings on stderr")


def _rates(text: str) -> tuple[int, int]:
    each, colon, total = text.partition(":")
    number = whole(0, 1_000_000, "number of records a second")
    return number(each), number(total) if colon else TOTAL


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= MOST_STREAMS):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MOST_STREAMS}")
    return int(text)


def _quota(text: str) -> tuple[str, int]:
    name, _, records = text.partition("=")
    try:
        return quota({name: int(records)})[0]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not USER=RECORDS, at most {MAX_BACKLOG}") from None


def _sandbox(text: str) -> tuple[str, ...]:
    types = () if text == "none" else tuple(text.split(","))
    if not set(types) <= set(ALL_ORDER):
        raise argparse.ArgumentTypeError(f"{text!r} is neither none nor types of namespaces: {', '.join(ALL_ORDER)}")
    return types


def _mark(text: str) -> tuple[int, int]:
    mark, _, contid = text.partition("=")
    try:
        found = int(mark, 0), 0 if contid == "host" else int(contid, 0)
    except ValueError:
        found = -1, -1
    if not 0 <= found[0] < 1 << 32 or not 0 <= found[1] < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not MARK=ID, two numbers, or MARK=host")
    return (found[0], HOST_NETWORK) if contid == "host" else found


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.daemon.process import Stopped, open_standard_streams, stoppable

    open_standard_streams()
    try:
        with stoppable() as signals:
            if args.events:
                from auditns_connector.cli.events import run_events

                return run_events(args, signals)
            return _listen(args, signals)
    except Stopped:
        print("auditns: stopped by a signal", file=sys.stderr)
        return 0


def _listen(args: argparse.Namespace, signals: "Signals") -> int:
    from auditns_connector.assembly import Parts, build
    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.auditrules.lease import RuleLease, take_back_leftovers
    from auditns_connector.daemon.log import Log
    from auditns_connector.daemon.notify import notify, watched
    from auditns_connector.daemon.privileges import OTHER_USERS, keep_only
    from auditns_connector.daemon.process import boost_alone
    from auditns_connector.emit import spelling as spellings
    from auditns_connector.emit.redaction import Redaction
    from auditns_connector.host.audit_tools import version
    from auditns_connector.host.bootstrap import boot_id
    from auditns_connector.host.open_sources import host_observer, own_nodes
    from auditns_connector.journal.files import JournalWriter
    from auditns_connector.pipeline.coalescing import Coalescer
    from auditns_connector.pipeline.open_standalone import open_standalone
    from auditns_connector.pipeline.text_stage import Enricher
    from auditns_connector.sources.intake import Limits
    from auditns_connector.sources.readlog import ReadlogSource
    from auditns_connector.state.namespace_serials import SerialStore

    log = Log(args.quiet)
    wanted = event_filter(args)
    spelling = spellings.choose(args.record_names, version())
    name = formats(args, spelling)
    if args.output:
        _refuse_output(args.output, name)
    audit = ReadlogSource(limits=Limits())
    lease: RuleLease | None = None
    program: Program | None = None
    try:
        # the journal may stand in somebody's own directory: it is opened with all of root's rights
        journal = JournalWriter(args.journal) if args.journal else None
        boost_alone()
        keep_only(OTHER_USERS if args.other_users else ())
        observer, notices = host_observer(
            perf=args.perf,
            connector=args.connector,
            ns_source=args.ns_source,
            journal=journal,
            all_serials=args.ns != "off" or not args.no_lifecycle,
            options={**spelling.recorded(), "sandbox_types": sorted(args.sandbox)},
        )
        observer.store = SerialStore(boot_id())
        observer.tell_lifecycle(not args.no_lifecycle)
        try:
            for notice in [*audit.take_notices(), *notices, *observer.store.notices]:
                log.warning(notice)
            observer.start()
            if args.rules:
                lease = RuleLease()
                lease.acquire()
            for notice in lease.notices if lease is not None else take_back_leftovers():
                log.warning(notice)
            correlator = Correlator(
                observer.model,
                spellings=(name == "numeric",),
                ns=args.ns,
                info=args.info,
                parents=args.parents,
                nodes=own_nodes(),
            )
            lines = lines_for_people(args, live=True, namespaces=asks_namespaces(args)) if name == "pretty" else None
            enricher = Enricher(
                correlator,
                [name],
                wanted=wanted,
                limit=args.count,
                redact=Redaction(args.redact),
                lines=lines,
                apart=args.placement == spellings.APART,
                at_end=spelling.at_end,
            )
            standalone = open_standalone(
                observer, [name], correlator=correlator, lines=lines, wanted=wanted, track=True,
                joined=0 if lease is not None and lease.found_off else os.getpid(),
                each=args.lifecycle_rate[0], total=args.lifecycle_rate[1],
            )  # fmt: skip
            sink = _open_output(args.output, name, standalone.sink_lost(name))
            program = build(
                Parts(
                    observer, correlator, enricher, {name: [sink]}, log, args.control, audit,
                    standalone=standalone, coalescer=Coalescer(args.coalesce), marks=args.mark, expect=args.expect,
                    users=UserOptions(args.user_streams, tuple(args.user_quota)),
                    lifecycle=not args.no_lifecycle,
                    duration=args.duration, on_hup=_opened_again if args.output else None, early=signals.came,
                    resumes=_resumes(args, whole=not wanted and not args.count),
                )
            )  # fmt: skip
            pipeline = program.pipeline
            pipeline.at_end.append(signals.hold)
            pipeline.more_status["records"] = lambda: spelling.status(args.placement)
            if lease is not None:
                observer.exec_rules.on_answer.append(partial(_again, lease, pipeline.rate_limited))
                pipeline.each_tick.append(partial(_again_where_unsure, lease, observer))
            notify("READY=1")
            if watched():
                pipeline.each_tick.append(lambda: notify("WATCHDOG=1"))
            pipeline.run()
            notify("STOPPING=1")
            status = pipeline.status()
        finally:
            signals.ignore()
            observer.close()
    finally:
        signals.ignore()
        audit.close()
        if program is not None:
            program.close()
        if lease is not None:
            for trouble in lease.close():
                log.warning(trouble)
    events = status["events"]
    print(
        f"auditns: {events['shown']} of {events['seen']} events shown, {events['attributed']} of containers, "
        f"{events['unknown']} unknown, {status['lost']} lost ({pipeline.stopping})",
        file=sys.stderr,
    )
    return 0


def _refuse_output(path: str, name: str) -> None:
    """Raise :class:`ConfigError` where ``path`` cannot be the log of a run in the format ``name``."""
    from auditns_connector.config.log_file import objection
    from auditns_connector.errors import ConfigError

    if name == "pretty":
        raise ConfigError("--output is a log: --format raw or json")
    if why := objection(os.path.abspath(path)):
        raise ConfigError(f"--output {path} is not allowed: {why}")


def _open_output(path: str | None, name: str, lost: "LostLine") -> "Sink":
    """stdout, or the log ``path``, which is rotated by others."""
    from auditns_connector.config.options import FileOutput
    from auditns_connector.daemon.terminal import for_people
    from auditns_connector.sinks.descriptor import open_descriptor
    from auditns_connector.sinks.file import FileSink

    if not path:
        return open_descriptor(sys.stdout.fileno(), _QUEUE, lost, on_terminal=for_people(name, sys.stdout.isatty()))
    return FileSink(FileOutput(path=os.path.abspath(path), group="", max_size=0, queue=_QUEUE), lost)


def _resumes(args: argparse.Namespace, *, whole: bool) -> tuple[str, str] | None:
    """Only a log has a former run; where it is the ``whole`` of what came, its end says how far that was."""
    if not args.output:
        return None
    return "listen", os.path.abspath(args.output) if whole else ""


def _opened_again() -> None:
    """On SIGHUP: outputs are opened again by the pipeline, and there is nothing else to read."""


def _again(lease: "RuleLease", rate_limited: "RateLimitedLog", answer: "LoadedRules | AuditnsError") -> None:
    """The kernel has said which rules are loaded: they may have been changed by somebody."""
    from auditns_connector.errors import AuditnsError

    try:
        if isinstance(answer, AuditnsError):
            raise answer
        for message in lease.ensure(answer):
            rate_limited.warning(message, message)
    except AuditnsError as error:
        rate_limited.warning("rules", "our audit rules could not be checked", reason=str(error))


def _again_where_unsure(lease: "RuleLease", observer: "Observer") -> None:
    """They could not be looked at when they were changed."""
    if lease.unsure and not observer.exec_rules.asking:
        observer.exec_rules.read(0.0)
