"""``auditns status``: how the running listener or plugin does, and what it has counted."""

import argparse
import json
import sys
import time
from typing import Final

from auditns_connector.cli.arguments import interval
from auditns_connector.cli.options import add_control
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary.values import JsonObject

#: seconds: the counters are wanted most while there is more to do than can be done, and then the answer comes late
_PATIENCE: Final = 60.0


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text, description="Show how the running listener or plugin does, and what it has counted.",
        epilog="Example: auditns status --watch",
    )  # fmt: skip
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object")
    shape.add_argument(
        "--watch", nargs="?", type=interval(0.1), const=1.0, metavar="SECONDS",
        help="show it again and again, with what was counted in a second (every second)",
    )  # fmt: skip
    add_control(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.watch:
        return _watch(args.control, args.watch)
    status = fetch(args.control)
    if args.json:
        print(json.dumps(status, indent=2))
        return 0
    from auditns_connector.daemon.terminal import show

    show(lines(status))
    return 0


def fetch(control: str) -> JsonObject:
    """What the program behind the control socket says of itself; raises :class:`AuditnsError`."""
    from auditns_connector.control.server import ask

    answer = ask(control, {"v": 1, "op": "status"}, _PATIENCE)
    if not answer.get("ok"):
        raise AuditnsError(str(answer.get("message", "refused")))
    status: JsonObject = answer["status"]
    return status


def lines(status: JsonObject, before: JsonObject | None = None, seconds: float = 0.0) -> list[str]:
    """The verdict, then each section under its heading; ``before``: the status ``seconds`` ago, for what was counted
    in a second since."""
    from auditns_connector.metrics.verdict import verdict

    return [verdict(status).line(), "", *sections(status, before, seconds)]


def sections(status: JsonObject, before: JsonObject | None = None, seconds: float = 0.0) -> list[str]:
    """Each section under its heading, as :func:`lines` has them; also of what is not a whole program's status."""
    flat = flatten(status)
    old = {} if before is None else flatten(before)
    out: list[str] = []
    heading = ""
    width = max(len(name.rpartition(".")[2]) for name in flat)
    for name, value in sorted(flat.items(), key=lambda pair: pair[0].count(".") > 0):
        section, _, last = name.rpartition(".")
        if section != heading:
            out += ["", section]
            heading = section
        rate = ""
        was = old.get(name)
        if seconds and isinstance(value, (int, float)) and isinstance(was, (int, float)) and value != was:
            rate = f"  ({(value - was) / seconds:+.0f}/s)"
        out.append(f"{'  ' if section else ''}{last:{width}}  {value}{rate}")
    return out


def flatten(status: JsonObject, prefix: str = "") -> JsonObject:
    """``section.name`` -> value, in the order of ``status``."""
    flat: JsonObject = {}
    for name, value in status.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def _watch(control: str, pause: float) -> int:
    from auditns_connector.daemon.terminal import HOME, escape, fit, show

    before: JsonObject | None = None
    then = 0.0
    while True:
        status, now = fetch(control), time.monotonic()
        text = lines(status, before, now - then)
        if sys.stdout.isatty():
            print(HOME, end="")
            show(fit([escape(line) for line in text]), flush=True)
        else:
            show([*text, ""], flush=True)
        before, then = status, now
        time.sleep(pause)
