"""``auditns metrics``: the counters of the running listener or plugin as OpenMetrics text."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from auditns_connector.cli.options import add_control
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.config.metrics import ALLOWED, endpoint
from auditns_connector.daemon.terminal import lines
from auditns_connector.errors import AuditnsError, ConfigError
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.config.metrics import Endpoint


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    from auditns_connector.config.options import DEFAULT_PATH

    parser = subparsers.add_parser(
        name, help=text,
        description="The counters of the running listener or plugin as OpenMetrics text: on stdout, into a file for a "
        "textfile collector, or over HTTP for whoever asks.",
        epilog="auditns-metrics(8)",
    )  # fmt: skip
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--textfile", metavar="FILE", help="replace FILE, which a collector reads (mode 0644)")
    where.add_argument(
        "--serve", nargs="?", const="", metavar="WHERE",
        help="answer HTTP requests at WHERE: a path of a unix socket, 127.0.0.1:PORT or [::1]:PORT "
        "(default: metrics.listen of the configuration)",
    )  # fmt: skip
    parser.add_argument("--config", default=DEFAULT_PATH, metavar="FILE", help="with --serve; default: %(default)s")
    add_control(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command: 1 where no program answers, and what is written says so by auditns_up."""
    from auditns_connector.metrics.exposition import exposition

    if args.serve is not None:
        return _serve(args)
    status, complaint = _ask(args.control)
    data = exposition(status)
    if args.textfile:
        _replace(args.textfile, data)
    else:
        sys.stdout.buffer.write(lines(data) if sys.stdout.isatty() else data)
        sys.stdout.buffer.flush()
    if complaint:
        raise AuditnsError(complaint)
    return 0


def _ask(control: str) -> tuple[JsonObject | None, str]:
    from auditns_connector.cli.status import fetch

    try:
        return fetch(control), ""
    except AuditnsError as error:
        return None, str(error)


def _replace(path: str, data: bytes) -> None:
    """In one step: a collector reads the old file or the new one."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, 0o644)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _serve(args: argparse.Namespace) -> int:
    from auditns_connector.metrics.exposition import exposition
    from auditns_connector.metrics.http import serve

    exposition(None)  # say now that the library is missing, not at the first request
    return serve(_where(args), lambda: exposition(_ask(args.control)[0]))


def _where(args: argparse.Namespace) -> "Endpoint":
    from auditns_connector.config.options import load

    if args.serve:
        try:
            return endpoint(args.serve)
        except ValueError:
            raise ConfigError(f"--serve: {args.serve!r} is not allowed; allowed: {ALLOWED}") from None
    listen = load(args.config).metrics.listen
    if listen is None:
        raise ConfigError(f"{args.config}: metrics.listen is not set, and --serve names no place")
    return listen
