"""``auditns report``: a whole log in a few tables."""

import argparse

from auditns_connector.cli.query_options import add_conditions, add_output, add_texts, options_of, show_page, texts_of
from auditns_connector.cli.subparsers import Subparsers


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Sum the log up: containers with first and last, programs started most, failures by key, logins "
        "inside, signals and traces across containers, entries from outside, losses.",
        epilog="Example: auditns report --since today --html today.html; auditns-search(8)",
    )  # fmt: skip
    add_texts(parser)
    add_conditions(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.cli.search import notices, tell
    from auditns_connector.query.answers import LogAnswers
    from auditns_connector.query.asked import Asked
    from auditns_connector.query.names import Names
    from auditns_connector.query.report import Tally
    from auditns_connector.query.search import Search

    answers = LogAnswers(Names())
    asked = Asked(options_of(args), answers)
    found = Tally(answers, asked)
    search = Search(answers, asked, found.take)
    with texts_of(args) as text:
        ready = search.prepare(text, names=True, entries=True)
        counted = text.archive is not None and found.add_archive(text.archive)
        search.forwards(text, learn=not ready, sealed=not counted)
        notices(search, text)
    show_page(found.page(), args)
    return tell(search)
