"""``auditns search``: events of the log, by container, time and what was done."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from auditns_connector.cli.arguments import NO_AUDIT_TEXT, were_cut, whole
from auditns_connector.cli.options import lines_for_people
from auditns_connector.cli.query_options import add_conditions, add_texts, options_of, texts_of
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.daemon.terminal import complain, for_people

if TYPE_CHECKING:
    from auditns_connector.query.answers import LogAnswers
    from auditns_connector.query.asked import Asked
    from auditns_connector.query.logs import Text
    from auditns_connector.query.objects import Objects
    from auditns_connector.query.search import Deliver, Search


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Search audit text that has container records: the log of the plugin or listener with all that it "
        "was rotated to, or FILEs. Nothing of this host is asked; who may read the text may search it.",
        epilog="Example: auditns search --name web --since 14:00 --until 14:05 | ausearch -i; auditns-search(8)",
    )  # fmt: skip
    add_texts(parser)
    add_conditions(parser)
    parser.add_argument(
        "--format", choices=("raw", "json", "pretty", "parquet"), default="raw",
        help="raw: audit text for ausearch; json: one object an event; pretty: for people; parquet: rows for DuckDB "
        "and the like (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--output-template", metavar="TEXT", help="lines for people with columns of your own")
    parser.add_argument("--limit", type=whole(1, what="number of events"), metavar="N", help="stop after N events")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--reverse", action="store_true", help="the newest events first")
    how.add_argument("--follow", action="store_true", help="go on with what comes to the log")
    parser.add_argument("--count", action="store_true", help="print how many events there are, and none of them")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.daemon.process import open_standard_streams
    from auditns_connector.query.answers import LogAnswers
    from auditns_connector.query.asked import Asked
    from auditns_connector.query.names import Names

    open_standard_streams()
    answers = LogAnswers(Names())
    asked = Asked(options_of(args), answers)
    if args.count:
        return _run(args, answers, asked, "", lambda block: True)
    if args.format == "parquet" and args.output_template is None:
        return _export(args, answers, asked)
    form = "pretty" if args.output_template is not None else str(args.format)
    output, shape = sys.stdout.fileno(), for_people(form, sys.stdout.isatty())

    def deliver(block: memoryview | bytes) -> bool:
        from auditns_connector.cli.enrich import write_all

        return write_all(output, block if shape is None else shape(bytes(block)))

    return _run(args, answers, asked, form, deliver)


def _run(args: argparse.Namespace, answers: "LogAnswers", asked: "Asked", form: str, deliver: "Deliver") -> int:
    """Search, and hand out text of the format ``form``; "" to count."""
    from auditns_connector.pipeline.text_stage import Enricher
    from auditns_connector.query.search import Search, Shown

    lines = lines_for_people(args, live=not args.files, namespaces=True) if form == "pretty" else None
    enricher = Enricher(
        answers, (form,) if form else (), wanted=asked, limit=args.limit, lines=lines, lasting=False,
        says_divided=False,
    )  # fmt: skip
    plain = deliver if form == "raw" and args.limit is None else None
    search = Search(answers, asked, Shown(answers, enricher, form, deliver).take, plain)
    with texts_of(args, copied=args.reverse) as text:
        ready = search.prepare(text, names=form not in ("", "raw"))
        if args.reverse:
            search.backwards(text)
        elif args.follow and text.files:
            search.follow(text, sys.stdout.fileno())
        else:
            search.forwards(text, learn=not ready)
        notices(search, text)
    if not form:
        os.write(sys.stdout.fileno(), b"%d\n" % enricher.shown)
    return tell(search)


def _export(args: argparse.Namespace, answers: "LogAnswers", asked: "Asked") -> int:
    """Parquet to stdout, which must be no terminal."""
    from auditns_connector.errors import ConfigError
    from auditns_connector.query.facts import read
    from auditns_connector.query.parquet import ParquetFile

    if sys.stdout.isatty():
        raise ConfigError("--format parquet is nothing for a terminal: send it to a file")
    with open(sys.stdout.fileno(), "wb", closefd=False) as file, ParquetFile(file) as rows:

        def deliver(block: memoryview | bytes) -> bool:
            for line in bytes(block).splitlines():
                rows.add(read(line))
            return True

        return _run(args, answers, asked, "json", deliver)


def notices(search: "Search", text: "Text") -> None:
    """Say what of the archive could not be read."""
    for notice in text.archive.notices if text.archive is not None else ():
        search.failed = True
        complain(f"auditns: {notice}")


def tell_objects(objects: "Objects") -> int:
    """The same of a text that was asked several times."""
    for notice in objects.notices:
        complain(f"auditns: {notice}")
    _tell_cut(objects.cut)
    return 1 if objects.failed else 0


def _tell_cut(number: int) -> None:
    if number:
        complain(f"auditns: {were_cut(number)}: their parts were searched one by one")


def tell(search: "Search") -> int:
    """Say what could not be searched, or not as a whole; the exit code."""
    _tell_cut(search.cut)
    if search.unread:
        complain(f"auditns: none of this is audit text ({NO_AUDIT_TEXT})")
        return 1
    return 1 if search.failed else 0
