"""``auditns enrich``: audit text in, enriched audit text out; live against this host, or from a journal."""

import argparse
import os
import select
import sys
from typing import TYPE_CHECKING, Any

from auditns_connector.cli.arguments import NO_AUDIT_TEXT, count_of, were_cut
from auditns_connector.cli.options import (
    add_filters,
    add_format,
    asks_namespaces,
    event_filter,
    formats,
    lines_for_people,
)
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.daemon.terminal import complain, for_people

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Add container records to audit text, from files or stdin, by what this host knows now or by what "
        "a journal recorded. What is not known is contid=?.",
        epilog="Example: auditns enrich --journal j /var/log/audit/audit.log | ausearch -i",
    )  # fmt: skip
    parser.add_argument("files", nargs="*", metavar="FILE", help="audit text; - or none is stdin")
    add_format(parser, "raw")
    add_filters(parser)
    parser.add_argument(
        "--journal", action="append", default=[], metavar="FILE",
        help="decide by this recording of auditns listen or the plugin (several, of one boot, in any order)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.audittext.scanner import TextStream
    from auditns_connector.cli.progress import progress
    from auditns_connector.daemon.process import calm_collector, ended_by_signal, growing, open_standard_streams
    from auditns_connector.emit import spelling as spellings
    from auditns_connector.emit.redaction import Redaction
    from auditns_connector.host.audit_tools import version
    from auditns_connector.pipeline.file_loop import FileLoop
    from auditns_connector.pipeline.offline import LiveAnswers, ReplayAnswers
    from auditns_connector.pipeline.text_input import TextInput
    from auditns_connector.pipeline.text_stage import Enricher
    from auditns_connector.vocabulary.audit_text import AWAITS_HERE

    open_standard_streams()
    if "-" in (args.files or ["-"]) and sys.stdin is not None and sys.stdin.isatty():
        complain("auditns: audit text is read from this terminal; ^D ends it, and auditns enrich FILE reads a file")
    calm_collector()
    wanted = event_filter(args)
    with growing():
        answers = ReplayAnswers(args.journal) if args.journal else LiveAnswers(all_serials=args.ns != "off")
    spelling = spellings.recorded(answers.hello, args.record_names)
    if spelling is None:
        spelling = spellings.choose(args.record_names, version())
    name = formats(args, spelling)
    with answers:
        for notice in answers.notices:
            complain(f"auditns: {notice}")
        correlator = Correlator(
            answers.model,
            spellings=(name == "numeric",),
            ns=args.ns,
            info=args.info,
            parents=args.parents,
            nodes=answers.nodes,
        )
        enricher = Enricher(
            correlator,
            [name],
            wanted=wanted,
            limit=args.count,
            redact=Redaction(args.redact),
            lines=lines_for_people(args, live=not args.journal, namespaces=asks_namespaces(args))
            if name == "pretty"
            else None,
            lasting=False,
            apart=args.placement == spellings.APART,
            at_end=spelling.at_end,
        )
        stream = enricher.stream = TextStream(whole=enricher.whole, at_end=enricher.at_end, awaits=AWAITS_HERE)
        output = sys.stdout.fileno()
        shape = for_people(name, sys.stdout.isatty())

        def deliver(points: "InsertionPoints") -> bool:
            blocks = enricher.take(points, lambda p: answers.answer(correlator, p)).values()
            shown = blocks if shape is None else [shape(bytes(block)) for block in blocks]
            return all(write_all(output, block) for block in shown) and not enricher.done

        native = None
        if shape is None:
            native = FileLoop(stream, enricher, correlator, answers, output, lambda rest: write_all(output, rest))
        reading = progress(args.files or ["-"])
        try:
            with ended_by_signal() as ended:
                TextInput(stream, deliver, answers, reading, ended, native).run(args.files or ["-"])
        finally:
            if reading is not None:
                reading.close()
    if answers.foreign:
        complain(
            f"auditns: {answers.foreign} events are unknown: by serial and time they are not of the journal's host"
        )
    if correlator.contradicted:
        count = correlator.contradicted
        complain(
            f"auditns: {count} answers in the text contradict the evidence here, and stay; the first is of "
            f"{correlator.contradiction}"
        )
    complain(
        f"auditns: {enricher.shown} of {enricher.events} events, {correlator.attributed} of containers, "
        f"{correlator.unknown} unknown"
    )
    if stream.cut:
        complain(f"auditns: {were_cut(stream.cut)}: what came then is late, and filters look at each part by itself")
    if enricher.divided:
        complain(
            f"auditns: {count_of(enricher.divided, 'event')} had more records to come when it was decided not to pass "
            "them on: CONTAINER_LOST source=filter"
        )
    return _tell_foreign(stream)


def _tell_foreign(stream: Any) -> int:
    """Say how much was no audit text; the exit code, 1 where nothing was."""
    if not stream.foreign:
        return 0
    lines = "1 line is no audit record" if stream.foreign == 1 else f"{stream.foreign} lines are no audit records"
    hint = f" ({NO_AUDIT_TEXT})" if not stream.records else ""
    complain(f"auditns: {lines}{hint}")
    return 0 if stream.records else 1


def write_all(fd: int, data: bytes | memoryview) -> bool:
    """Write all of it, however long that takes; False when nobody reads any more."""
    from auditns_connector.errors import AuditnsError

    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # the descriptor came to us so
            select.select((), (fd,), ())
        except (BrokenPipeError, ConnectionResetError):
            return False
        except OSError as error:
            raise AuditnsError(f"cannot write to stdout: {error.strerror}") from error
    return True
