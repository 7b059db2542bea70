"""``auditns show``: the life of one container, by the log."""

import argparse
from typing import TYPE_CHECKING

from auditns_connector.cli.query_options import add_output, add_texts, add_times, show_page, texts_of, times_of
from auditns_connector.cli.subparsers import Subparsers

if TYPE_CHECKING:
    from auditns_connector.query.life import Life
    from auditns_connector.query.objects import Objects


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Show what the log tells of one container: its processes as a tree, who came in from outside, what "
        "was run, read, changed and reached, its namespaces, failures, and what was lost in that time.",
        epilog="Example: auditns show web --since yesterday --html web.html; auditns-search(8)",
    )  # fmt: skip
    parser.add_argument("container", metavar="CONTAINER", help="its name, contid, or the beginning of its id")
    add_texts(parser)
    add_times(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.cli.search import tell_objects
    from auditns_connector.errors import AuditnsError
    from auditns_connector.query.choose import choose
    from auditns_connector.query.life import Life
    from auditns_connector.query.objects import Objects

    with texts_of(args) as text:
        objects = Objects(text)
        if not objects.again:
            raise AuditnsError("show reads the text several times: put it into a file")
        life = Life(choose(args.container, objects.names), objects.names)
        collect(objects, life, args)
    if not life.events and not objects.names.lives(life.contid):
        raise AuditnsError(f"{args.container}: nothing in the text is of such a container")
    show_page(life.page(), args)
    return tell_objects(objects)


def collect(objects: "Objects", life: "Life", args: argparse.Namespace) -> None:
    """Have ``life`` take all events of its container, and what was lost in that time."""
    from auditns_connector.query.asked import Options

    since, until = times_of(args)
    objects.each(Options(contids=[life.contid], since=since, until=until), life.take)
    if life.last >= life.first:
        first, last = life.first, life.last
        objects.each(Options(types=["CONTAINER_LOST"], since=first, until=last), life.take)
