"""Options that several commands share."""

import argparse
from typing import TYPE_CHECKING

from auditns_connector.cli.arguments import as_configured, process_id, whole
from auditns_connector.errors import ConfigError
from auditns_connector.state.paths import CONTROL
from auditns_connector.vocabulary.values import MOST_PARENTS

if TYPE_CHECKING:
    from auditns_connector.emit.pretty import Pretty
    from auditns_connector.emit.spelling import Spelling
    from auditns_connector.pipeline.filters import LiveFilter


def add_format(parser: argparse.ArgumentParser, default: str) -> None:
    """--format, --output-template, --redact, --record-names, --placement, --ns, --info, --parents."""
    parser.add_argument(
        "--format", choices=("raw", "json", "pretty"), default=default,
        help="raw: audit text for ausearch; json: one object an event; pretty: for people (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output-template", metavar="TEXT",
        help="lines for people with columns of your own, as in '{time} {container:20} {call} {object} {user}'",
    )  # fmt: skip
    parser.add_argument(
        "--redact", action="append", default=[], metavar="REGEX",
        help="replace what REGEX finds in arguments and process titles of json and pretty by a mark",
    )  # fmt: skip
    parser.add_argument(
        "--record-names", choices=("auto", "symbolic", "numeric"), default="auto",
        help="numeric spells our record types UNKNOWN[n]; auto: symbolic where the audit tools are 4.0 or later "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--placement", choices=("event", "apart"), default="event",
        help="apart makes our record an event of its own where the event has no SYSCALL, so that csv and text of "
        "ausearch keep their words (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--ns", choices=("off", "containers", "all"), default="off",
        help="add NS_INFO, the namespaces of the process by serial number, to these events (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--info", action="store_true", help="add CONTAINER_INFO: runtime, full id, name, origin")
    parser.add_argument(
        "--parents", type=whole(0, MOST_PARENTS, "number of parents"), default=0, metavar="N",
        help="--info, and in it N parents of the process, up to the container's first one (JSON has them all)",
    )  # fmt: skip


def add_filters(parser: argparse.ArgumentParser) -> None:
    """--contid, --runtime, --name, --type, --key, --pid, --match, --count."""
    group = parser.add_argument_group("filters", "each may be given several times; all kinds given must hold")
    add_contid(group, "events of these containers or of containers inside them; also: unset (the host), unknown")
    group.add_argument("--runtime", action="append", default=[], metavar="NAME", help="docker, podman, lxc, …")
    group.add_argument("--name", action="append", default=[], metavar="PATTERN", help="container name or id, with * ?")
    group.add_argument("--type", action="append", default=[], metavar="TYPE", help="events with a record of this type")
    group.add_argument("--key", action="append", default=[], metavar="KEY", help="events that rules with this key made")
    group.add_argument(
        "--pid", action="append", default=[], type=process_id, metavar="PID", help="events of this process"
    )
    group.add_argument(
        "--match", action="append", default=[], metavar="FIELD=VALUE[,…]",
        help="events where FIELD has one of these values, or with != none: key, contid, name, runtime, pid, exe, comm, "
        "auid, syscall, success, record, sockaddr",
    )  # fmt: skip
    parser.add_argument("--count", type=whole(1, what="number of events"), metavar="N", help="stop after N events")


def add_contid(parser: argparse._ActionsContainer, text: str) -> None:
    """--contid."""
    parser.add_argument("--contid", action="append", default=[], metavar="[!=]ID[,ID…]", help=text)


def add_name(parser: argparse._ActionsContainer) -> None:
    """--name."""
    parser.add_argument(
        "--name", action="append", default=[], metavar="PATTERN",
        help="containers of this name or id, with * ?, or those inside them",
    )  # fmt: skip


def add_control(parser: argparse.ArgumentParser) -> None:
    """--control."""
    parser.add_argument("--control", default=CONTROL, metavar="PATH", help="control socket (default: %(default)s)")


def runtimes(text: str) -> tuple[str, ...]:
    """Names of runtimes with commas between; none: nothing."""
    from auditns_connector.errors import suggestion
    from auditns_connector.model.runtimes import BY_NAME

    words = () if text == "none" else tuple(text.split(","))
    for word in words:
        if word not in BY_NAME:
            raise argparse.ArgumentTypeError(f"no runtime is called {word!r}{suggestion(word, BY_NAME)}")
    return words


def milliseconds(text: str) -> float | None:
    """0 to 1000, or ``None`` for "adaptive"."""
    from auditns_connector.config.readers import coalesce

    number = text.replace(".", "", 1)
    value = as_configured(text, coalesce, float(text[:40]) if number.isascii() and number.isdecimal() else text)
    return None if value is None else float(value)


def event_filter(args: argparse.Namespace) -> "LiveFilter":
    """The filter that the options ask for. Raises :class:`ConfigError`."""
    from auditns_connector.daemon.terminal import complain
    from auditns_connector.errors import suggestion
    from auditns_connector.model.runtimes import BY_NAME
    from auditns_connector.pipeline.filters import EventFilter, join_contids

    if any(not 0 < pid < 1 << 31 for pid in args.pid):
        raise ConfigError("--pid: a process id is a number from 1 to 2147483647")
    for runtime in args.runtime:
        if runtime not in BY_NAME and (near := suggestion(runtime, BY_NAME)):
            complain(f"auditns: --runtime: no runtime is called {runtime!r}{near}")
    plain = EventFilter(
        contids=join_contids(args.contid),
        runtimes=args.runtime,
        names=args.name,
        types=args.type,
        keys=args.key,
        pids=args.pid,
    )
    if not args.match:
        return plain
    from auditns_connector.pipeline.rules import AllOf, EventMatch

    return AllOf([plain, EventMatch(_matches(args.match))])


def _matches(texts: list[str]) -> dict[str, list[str]]:
    from auditns_connector.config.rules import FIELDS

    found: dict[str, list[str]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        negated = field.endswith("!")
        field = field.removesuffix("!")
        if field not in FIELDS or not equals or not values:
            raise ConfigError(f"--match: {text!r} is not FIELD=VALUE with one of {', '.join(FIELDS)}")
        words = [values] if field in ("contid", "name", "exe", "comm", "key") else values.split(",")
        found.setdefault(field, []).extend(f"!={word}" if negated else word for word in words)
    return found


def formats(args: argparse.Namespace, spelling: "Spelling") -> str:
    """The enricher's name of the output format."""
    if args.output_template is not None:
        return "pretty"
    return "numeric" if args.format == "raw" and spelling.numeric else str(args.format)


def asks_namespaces(args: argparse.Namespace) -> bool:
    """Whether people who see all events want to be notified how namespaces of the host itself come and go."""
    return args.ns == "all" or any(name.startswith("NS_") for name in args.type)


def lines_for_people(args: argparse.Namespace, *, live: bool, namespaces: bool) -> "Pretty":
    """What makes lines for people on stdout, as wide as that is; ``live``: the ids in records are this host's;
    ``namespaces`` as :class:`~auditns_connector.emit.pretty.Pretty` has it."""
    import shutil
    import sys

    from auditns_connector.emit.pretty import Pretty, Template

    terminal = sys.stdout.isatty()
    return Pretty(
        colour=terminal,
        live=live,
        width=lambda: shutil.get_terminal_size().columns if terminal else None,
        template=None if args.output_template is None else Template(args.output_template),
        namespaces=namespaces,
    )
