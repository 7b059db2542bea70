"""``auditns containers``: all that ran, by the log."""

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from auditns_connector.cli.query_options import add_conditions, add_texts, options_of, texts_of
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.daemon.terminal import HOST, NOT_KNOWN, clean, named, show

if TYPE_CHECKING:
    from auditns_connector.query.containers import Row

_HEADS = (
    "CONTAINER",
    "CONTID",
    "RUNTIME",
    "IMAGE",
    "POD",
    "HOST",
    "FIRST",
    "LAST",
    "EVENTS",
    "EXECS",
    "FAILED",
    "ENTRIES",
)
_NUMBERS = 4


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="List the containers of the log with what they are called, when they were seen, and how many "
        "events, execs, failures and entries from outside there are. Conditions choose which events count.",
        epilog="Example: auditns containers --file /etc/shadow --since '7 days ago'; auditns-search(8)",
    )  # fmt: skip
    add_texts(parser)
    add_conditions(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each container")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.cli.search import notices, tell
    from auditns_connector.query.answers import LogAnswers
    from auditns_connector.query.asked import Asked
    from auditns_connector.query.containers import Containers
    from auditns_connector.query.names import Names
    from auditns_connector.query.search import Search

    answers = LogAnswers(Names())
    asked = Asked(options_of(args), answers)
    found = Containers(answers, asked)
    search = Search(answers, asked, found.take)
    with texts_of(args) as text:
        ready = search.prepare(text, names=True)
        counted = text.archive is not None and found.add_archive(text.archive)
        search.forwards(text, learn=not ready, sealed=not counted)
        notices(search, text)
    if args.json:
        for row in found.rows():
            sys.stdout.write(json.dumps(row.object(), separators=(",", ":")) + "\n")
    else:
        _table(list(found.rows()))
    return tell(search)


def _table(rows: "list[Row]") -> None:
    lines = [_HEADS, *map(_line, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [f"{cell:{width}}" for cell, width in zip(line[:-_NUMBERS], widths, strict=False)]
        cells += [f"{cell:>{width}}" for cell, width in zip(line[-_NUMBERS:], widths[-_NUMBERS:], strict=True)]
        show("  ".join(cells).rstrip())


def _line(row: "Row") -> tuple[str, ...]:
    about = row.about
    pod = "/".join(about[name] for name in ("namespace", "pod") if name in about)
    name = about.get("name")
    called = HOST if not row.contid else NOT_KNOWN if row.contid == NOT_KNOWN or name is None else named(name)
    words = [about.get("runtime"), about.get("image"), pod, row.host]
    return (
        called,
        clean(row.contid, 40) or "-",
        *(clean(word, 40) if word else "-" if not row.contid else NOT_KNOWN for word in words),
        _time(row.first),
        _time(row.last),
        *(str(count) for count in (row.events, row.execs, row.failures, row.came)),
    )


def _time(ms: int) -> str:
    if not 0 <= ms < 1 << 48:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms // 1000))
