"""Options of the commands that ask the log."""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from auditns_connector.errors import AuditnsError, ConfigError

if TYPE_CHECKING:
    from auditns_connector.query.asked import Options
    from auditns_connector.query.logs import Text
    from auditns_connector.query.page import Page

_MANY = "append"
#: where audisp/auditns.service writes
SERVICE_LOG = "/var/log/auditns/listen.log"


def add_texts(parser: argparse.ArgumentParser) -> None:
    """FILE… and --config."""
    parser.add_argument(
        "files", nargs="*", default=[], metavar="FILE", help="audit text, also gzip and zstd; - is stdin"
    )
    add_config(parser)


def add_config(parser: argparse.ArgumentParser) -> None:
    """--archive and --config."""
    parser.add_argument("--archive", metavar="DIR", help="ask this archive as well (default: the configured one)")
    parser.add_argument(
        "--config", metavar="FILE", help="where the log to be asked is set (default: /etc/audit/auditns.toml)"
    )


def add_conditions(parser: argparse.ArgumentParser) -> None:
    """What an event must have."""
    group = parser.add_argument_group(
        "conditions",
        "Each may be given several times: any of its values will do. All that are given must hold. A value that begins "
        "with != must not be there. Where PATTERN stands, * ? and [...] stand for anything.",
    )

    def add(option: str, metavar: str, text: str) -> None:
        group.add_argument(f"--{option}", action=_MANY, default=[], metavar=metavar, help=text)

    add(
        "contid",
        "ID[,ID...]",
        "events of these containers or of containers inside them; also: unset (the host), unknown",
    )
    add("name", "PATTERN", "the container's name or id")
    add("image", "PATTERN", "the container's image")
    add("pod", "PATTERN", "the container's pod, by name or uid")
    add("runtime", "PATTERN", "the container's runtime: docker, podman, ...")
    add("entered-by", "PATTERN", "who came into the container from outside: user, program, session or id of the entry")
    add("host", "PATTERN", "the host that wrote the text")
    group.add_argument("--since", metavar="TIME", help="not older, as journalctl takes it: 14:00, -2h, yesterday, ...")
    group.add_argument("--until", metavar="TIME", help="not newer")
    add("pid", "PID[,PID...]", "subject or target")
    add("auid", "USER[,USER...]", "who logged in: number, name on this host, or unset")
    add("uid", "USER[,USER...]", "who it was then")
    add("exe", "PATTERN", "the program's file")
    add("comm", "PATTERN", "the program's name")
    add("key", "PATTERN", "the key of the rule")
    add("type", "TYPE[,TYPE...]", "a record of this type: a name as in the log, or a number")
    add("syscall", "CALL[,CALL...]", "a system call by name (with * ?) or number")
    group.add_argument("--success", action=_MANY, default=[], metavar="yes|no", help="how it ended")
    add("file", "PATTERN", "a file: with a slash its whole path, else the last component")
    add("argv", "PATTERN", "an argument of a program that was started, or all of them with spaces between")
    add("addr", "PATTERN", "an address, a network, ADDRESS:PORT, or unix:PATH")


def add_times(parser: argparse.ArgumentParser) -> None:
    """--since and --until."""
    parser.add_argument("--since", metavar="TIME", help="not older, as journalctl takes it: 14:00, -2h, yesterday, ...")
    parser.add_argument("--until", metavar="TIME", help="not newer")


def add_output(parser: argparse.ArgumentParser) -> None:
    """--all, --json and --html."""
    parser.add_argument("--all", action="store_true", help="every row of each table")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--json", action="store_true", help="one JSON object")
    other.add_argument("--html", metavar="FILE", help="one HTML file that asks for nothing, with a timeline")


def times_of(args: argparse.Namespace) -> tuple[int | None, int | None]:
    """Since and until, in ms since 1970. Raises :class:`ConfigError`."""
    from auditns_connector.query.times import milliseconds

    now = time.time()
    since, until = (None if text is None else milliseconds(text, now) for text in (args.since, args.until))
    if since is not None and until is not None and since > until:
        raise ConfigError(f"--since {args.since} is later than --until {args.until}: nothing can be between them")
    return since, until


def show_page(page: "Page", args: argparse.Namespace) -> None:
    """Print a page, or write it to the file that is wanted. Raises :class:`AuditnsError`."""
    import json

    from auditns_connector.daemon.terminal import show
    from auditns_connector.query.page import as_object, lines

    if args.json:
        print(json.dumps(as_object(page), separators=(",", ":")))
    elif args.html is not None:
        from auditns_connector.query.html import render

        text = render(page)
        try:
            with open(args.html, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            raise AuditnsError(f"{args.html}: {error.strerror}") from error
    else:
        show(lines(page, every=args.all))


def options_of(args: argparse.Namespace) -> "Options":
    """What the options ask for. Raises :class:`ConfigError`."""
    from auditns_connector.matching.conditions import OPTIONS
    from auditns_connector.query.asked import CALLED, Options

    since, until = times_of(args)
    return Options(
        contids=args.contid,
        called={name: getattr(args, name) for name in CALLED},
        entered_by=args.entered_by,
        hosts=args.host,
        since=since,
        until=until,
        pids=args.pid,
        types=args.type,
        values={name: getattr(args, name) for name in OPTIONS},
    )


@contextmanager
def texts_of(args: argparse.Namespace, *, copied: bool = False) -> "Iterator[Text]":
    """The text that is asked: FILEs, or the log that is configured, with its archive; stdin is ``copied`` where it is
    to be read from its end. Raises :class:`AuditnsError`."""
    from auditns_connector.query.logs import archived, files, log

    place = archive_path(args)
    with ExitStack() as stack:
        if args.files:
            text = stack.enter_context(files(args.files, copied=copied))
        else:
            found = log(log_path(args.config), os.uname().nodename, missing_ok=bool(place))
            text = stack.enter_context(found)
        if place:
            text = stack.enter_context(archived(text, place))
        yield text


def archive_path(args: argparse.Namespace) -> str:
    """The archive that is asked as well; "": none. Raises :class:`ConfigError`."""
    from auditns_connector.archive.files import is_archive
    from auditns_connector.config.options import DEFAULT_PATH, load

    if args.archive is not None:
        return str(args.archive)
    if args.files or (args.config is None and not os.access(DEFAULT_PATH, os.R_OK)):
        return ""
    place = load(args.config or DEFAULT_PATH).archive.path
    return place if place and is_archive(place) else ""


def log_path(config: str | None) -> str:
    """The log that the configuration names; who may not read that gets the default. Where that is not there, that of
    the service. Raises :class:`AuditnsError`."""
    found = _configured_log(config)
    by_service = config is None and not os.path.exists(found) and os.path.exists(SERVICE_LOG)
    return SERVICE_LOG if by_service else found


def _configured_log(config: str | None) -> str:
    from auditns_connector.config.options import DEFAULT_PATH, Config, load

    if config is None and not os.access(DEFAULT_PATH, os.R_OK):
        return Config.default().file.path
    found = load(config or DEFAULT_PATH).file
    if not found.enabled:
        raise AuditnsError(f"{config or DEFAULT_PATH}: output.file is not enabled, so there is no log; name files")
    return found.path
