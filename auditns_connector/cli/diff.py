"""``auditns diff``: what one container did that another one, or those of the same image, did not."""

import argparse

from auditns_connector.cli.query_options import add_config, add_output, add_times, show_page, texts_of, times_of
from auditns_connector.cli.subparsers import Subparsers


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Show what one container did that another one did not, and the other way round: programs, files, "
        "addresses, system calls, users, failures.",
        epilog="Example: auditns diff web --siblings; auditns diff web-1 web-2; auditns-search(8)",
    )  # fmt: skip
    parser.add_argument(
        "files", nargs="+", metavar="CONTAINER",
        help="two containers, by name, contid, or the beginning of an id (with --siblings one); FILEs may follow",
    )  # fmt: skip
    parser.add_argument("--siblings", action="store_true", help="against all others of the same image together")
    add_config(parser)
    add_times(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.cli.search import tell_objects
    from auditns_connector.errors import AuditnsError, ConfigError
    from auditns_connector.query.asked import Options
    from auditns_connector.query.choose import choose, siblings
    from auditns_connector.query.diff import Doings, page
    from auditns_connector.query.objects import Objects

    containers = args.files[: 1 if args.siblings else 2]
    if len(containers) < 2 and not args.siblings:
        raise ConfigError("diff wants two containers, or one and --siblings")
    args.files = args.files[len(containers) :]
    with texts_of(args) as text:
        objects = Objects(text)
        if not objects.again:
            raise AuditnsError("diff reads the text several times: put it into a file")
        one = choose(containers[0], objects.names)
        others = siblings(one, objects.names) if args.siblings else [choose(containers[1], objects.names)]
        if others == [one]:
            raise ConfigError(f"{containers[0]} and {containers[1]} are the same container")
        if not others:
            raise AuditnsError(f"{containers[0]}: no record tells of another container of its image")
        since, until = times_of(args)
        first, second = Doings(), Doings()
        objects.each(Options(contids=[one], since=since, until=until), first.take)
        objects.each(Options(contids=others, since=since, until=until), second.take)
    called = f"{len(others)} others of its image" if args.siblings else containers[1]
    show_page(page(first, second, (containers[0], called)), args)
    return tell_objects(objects)
