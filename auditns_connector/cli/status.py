"""``auditns status``: the counters of the running listener or plugin."""

import argparse
import json
from typing import Final

from auditns_connector.cli.options import add_control
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary.values import JsonObject

#: seconds: the counters are wanted most while there is more to do than can be done, and then the answer comes late
_PATIENCE: Final = 60.0


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(name, help=text, description="Show what the running listener or plugin has counted.")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_control(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.control.server import ask

    answer = ask(args.control, {"v": 1, "op": "status"}, _PATIENCE)
    if not answer.get("ok"):
        raise AuditnsError(str(answer.get("message", "refused")))
    status = answer["status"]
    if args.json:
        print(json.dumps(status, indent=2))
        return 0
    from auditns_connector.daemon.terminal import show

    show(lines(status))
    return 0


def lines(status: JsonObject, prefix: str = "") -> list[str]:
    """``section.name: value`` for every counter."""
    out = []
    for name, value in status.items():
        if isinstance(value, dict):
            out += lines(value, f"{prefix}{name}.")
        else:
            out.append(f"{prefix}{name}: {value}")
    return out
