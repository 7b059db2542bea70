"""``auditns contid``: set, get, list and delegate container identifiers."""

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Iterator

from auditns_connector.api import EXIT_CODES
from auditns_connector.cli.arguments import process_id
from auditns_connector.cli.options import add_contid, add_control, add_name
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.vocabulary.values import JsonObject


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    codes = ", ".join(f"{code} {error}" for error, code in EXIT_CODES.items())
    parser = subparsers.add_parser(
        name, help=text,
        description="Container identifiers as an orchestrator sets them. They are inherited by every descendant and "
        "replace what is derived from the runtime. Served by the running listener or plugin.",
        epilog=f"Exit codes beside 0 to 3: {codes}.",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    one = actions.add_parser("set", help="give a process an identifier", epilog=f"Exit codes: {codes}.")
    one.add_argument("pid", type=process_id, metavar="PID", help="a process without children and threads")
    one.add_argument("id", metavar="ID", help="64 bits, decimal or 0x-hex")
    one.add_argument("--new", action="store_true", help="refuse an identifier that is alive anywhere on this host")
    for field, what in (
        ("runtime", "its runtime"), ("full-id", "the runtime's own identifier"), ("name", "a name for people"),
        ("image", "its image"), ("pod", "its pod"), ("namespace", "the pod's namespace"),
    ):  # fmt: skip
        one.add_argument(f"--{field}", default="", metavar="TEXT", help=f"{what}, for CONTAINER_INFO")
    one = actions.add_parser("get", help="the container of a process")
    one.add_argument("pid", type=process_id, metavar="PID")
    one.add_argument("--json", action="store_true", help="one JSON object")
    one = actions.add_parser("list", help="the living containers")
    one.add_argument("--json", action="store_true", help="one JSON object a line")
    add_contid(one, "these, or those inside them")
    add_name(one)
    one = actions.add_parser("delegate", help="let a process set identifiers inside its own container")
    one.add_argument("pid", type=process_id, metavar="PID")
    one.add_argument(
        "--socket", metavar="PATH",
        help="make a control socket of its own there, to be mounted into the container; the directory must be root's",
    )  # fmt: skip
    for one in actions.choices.values():
        add_control(one)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector import api

    if args.action == "set":
        given = {field: getattr(args, field) for field in ("runtime", "name", "image", "pod", "namespace")}
        given["id"] = args.full_id
        names = {field: value for field, value in given.items() if value}
        print(api.set_contid(args.pid, args.id, new=args.new, names=names, control=args.control))
    elif args.action == "get":
        found = api.get_contid(args.pid, control=args.control)
        print(json.dumps(found._asdict()) if args.json else found.contid)
    elif args.action == "list":
        containers = _wanted(_containers(args.control), args.contid, args.name)
        from auditns_connector.daemon.terminal import show

        if args.json:
            for about in containers:
                print(json.dumps(about))
        else:
            show(_table(list(containers)))
    else:
        api.delegate(args.pid, socket=args.socket, control=args.control)
        if args.socket:
            print(args.socket, file=sys.stdout)
    return 0


def _containers(control: str) -> Iterable[JsonObject]:
    """Those that the running program knows; where none is running, those of a scan, which says so: identifiers that
    were set, and containers that nothing but their registration tells of, are not in it."""
    from auditns_connector import api
    from auditns_connector.errors import NobodyServesError

    try:
        return list(api.list_containers(control=control))
    except NobodyServesError as error:
        from auditns_connector.control.snapshot_service import Snapshots
        from auditns_connector.daemon.terminal import complain

        complain(f"auditns: {error}; listed is what /proc shows, without identifiers that were set")
        return listed(Snapshots(control).scan())


def listed(snapshot: JsonObject) -> list[JsonObject]:
    """The containers of a snapshot, as the running program lists its own."""
    found = []
    for at, about in enumerate(snapshot["containers"]):
        live = sum(1 for process in snapshot["processes"] if process[3] == at)
        kept = {name: what for name, what in about.items() if what and name not in ("parent", "age")}
        found.append({"contid": about["contid"], "kind": about["kind"], "live": live, **kept})
    return found


def _wanted(containers: Iterable[JsonObject], texts: list[str], names: list[str]) -> Iterator[JsonObject]:
    from auditns_connector.pipeline.filters import join_contids, listed_wanted

    terms = join_contids(texts)
    everyone = list(containers)
    return itertools.compress(everyone, listed_wanted(everyone, terms, names))


def _table(containers: list[JsonObject]) -> list[str]:
    """Columns for people."""
    from auditns_connector.cli.ns import pod_of
    from auditns_connector.daemon.terminal import clean

    rows: list[tuple[str, ...]] = [("CONTID", "KIND", "RUNTIME", "LIVE", "ID", "POD", "NAME")]
    for about in containers:
        cells = (about["contid"], about["kind"], about.get("runtime", ""), about["live"], str(about.get("id", ""))[:16])
        rows.append(tuple(clean(str(cell)) for cell in (*cells, pod_of(about) or "-", about.get("name", ""))))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    form = "  ".join(f"{{:{width}}}" for width in widths) + "  {}"
    return [form.format(*row).rstrip() for row in rows]
