"""``auditns ns``: the namespaces of this host as they are now, or those of one process."""

import argparse
from typing import TYPE_CHECKING, Final

from auditns_connector.cli.arguments import process_id
from auditns_connector.cli.options import add_contid, add_control, add_name
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary.namespaces import ALL_ORDER
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.control.snapshot import Snapshot

_HEAD: Final = ("SERIAL", "TYPE", "INODE", "PROCS", "PID", "CONTAINER", "POD", "CREATOR", "AGE", "COMMAND")
#: what is said of a container
_NAMED: Final = ("contid", "runtime", "id", "name", "pod", "namespace")
_RIGHT: Final = frozenset(("SERIAL", "INODE", "PROCS", "PID", "AGE"))


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Show the namespaces of this host by serial, or those that one process is in. The running listener "
        "or plugin answers; where none is running, /proc is read, which knows no creators and no age.",
    )  # fmt: skip
    parser.add_argument(
        "pid", nargs="?", type=process_id, metavar="PID", help="show the namespaces of this process alone"
    )
    parser.add_argument(
        "--type", action="append", choices=ALL_ORDER, default=[],
        help="show these types alone; may be given several times",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_contid(
        parser, "those that these containers, or containers inside them, are in; also: unset (the host), unknown"
    )
    add_name(parser)
    add_control(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.control.snapshot import only
    from auditns_connector.control.snapshot_service import Snapshots
    from auditns_connector.pipeline.filters import join_contids

    terms = join_contids(args.contid)
    snapshot = only(Snapshots(args.control).take(), terms, args.name)
    found = rows(snapshot, args.pid, frozenset(args.type), inhabited=bool(terms or args.name))
    if args.json:
        import json

        print(json.dumps({"v": 1, **({"pid": args.pid} if args.pid else {}), "namespaces": found}, indent=2))
        return 0
    from auditns_connector.daemon.terminal import show

    show(table(found))
    return 0


def rows(
    snapshot: "Snapshot",
    pid: int | None = None,
    types: frozenset[str] = frozenset(),
    *,
    inhabited: bool = False,
) -> list[JsonObject]:
    """One object for each namespace, those of process ``pid`` alone where it is given, by type and age. ``inhabited``:
    those that one of the snapshot's processes is in.

    Raises :class:`AuditnsError` where there is no such process.
    """
    namespaces, containers, sets = snapshot["namespaces"], snapshot["containers"], snapshot["sets"]
    first: dict[int, list[Json]] = {}
    inside: dict[int, dict[int, None]] = {}
    wanted: set[int] | None = None if pid is None else set()
    for process in snapshot["processes"]:
        for at in (process[4], *process[5]):
            if at is None:
                continue
            for n in sets[at]:
                if n is None:
                    continue
                first.setdefault(n, process)
                inside.setdefault(n, {})[process[3]] = None
                if wanted is not None and process[0] == pid:
                    wanted.add(n)
    if pid is not None and all(process[0] != pid for process in snapshot["processes"]):
        raise AuditnsError(f"there is no process {pid}")
    out = []
    for n, space in enumerate(namespaces):
        if (wanted is not None and n not in wanted) or (types and space["type"] not in types):
            continue
        process = first.get(n)
        if process is None and inhabited:
            continue
        out.append(
            {
                **{name: space[name] for name in ("type", "serial", "dev", "ino", "initial", "held", "processes")},
                "pid": process[0] if process is not None else None,
                "comm": process[2] if process is not None else None,
                "containers": [] if space["initial"] else [_named(containers, c) for c in inside.get(n, {}) if c != -1],
                "creator": space["creator"],
                "age_s": space["born"],
            }
        )
    out.sort(key=lambda row: (ALL_ORDER.index(row["type"]), not row["initial"], -(row["age_s"] or 0), row["pid"] or 0))
    return out


def _named(containers: list[JsonObject], at: int) -> JsonObject:
    if at < 0:
        return {"contid": "?"}
    container = containers[at]
    return {name: container[name] for name in _NAMED if container.get(name)}


def label(container: JsonObject) -> str:
    """What a container is called here: its name, else runtime and short id, else the contid."""
    from auditns_connector.daemon.terminal import NOT_KNOWN, clean, named

    if container["contid"] == NOT_KNOWN:
        return NOT_KNOWN
    if container.get("name"):
        return named(str(container["name"]))
    ino, at, _ = str(container.get("id", "")).partition("@")
    if at and str(container.get("runtime", "")).endswith("ns"):
        return clean(f"{container['runtime']}:[{ino}]", 40)  # a sandbox: called as /proc calls its namespace
    if container.get("id") and container.get("runtime"):
        return named(f"{container['runtime']}/{str(container['id'])[:12]}")
    return clean(str(container["contid"]), 40)


def pod_of(container: JsonObject) -> str:
    """The pod a container is in, ``namespace/name``; empty where it is in none."""
    from auditns_connector.daemon.terminal import clean

    words = [str(container[name]) for name in ("namespace", "pod") if container.get(name)]
    return clean("/".join(words), 60) if container.get("pod") else ""


def age(seconds: float | None) -> str:
    """A span for people: ``5s``, ``3m20s``, ``2h5m``, ``4d3h``; ``-`` where it is not known."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    for big, small, unit, part in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if whole >= big:
            rest = whole % big // small
            return f"{whole // big}{unit}" + (f"{rest}{part}" if rest else "")
    return f"{whole}s"


def table(found: list[JsonObject]) -> list[str]:
    """Lines for people, the heads first."""
    from auditns_connector.daemon.terminal import clean

    cells = [list(_HEAD)]
    for row in found:
        creator = row["creator"]
        made = "kernel" if row["initial"] else "-"
        if creator is not None:
            made = f"{creator['pid']}" + (f" {clean(creator['comm'], 16)}" if creator["comm"] else "")
        cells.append(
            [
                row["serial"] or "-",
                row["type"],
                str(row["ino"]),
                "held" if row["held"] else str(row["processes"]),
                str(row["pid"] or "-"),
                ",".join(label(container) for container in row["containers"][:3]) or "-",
                ",".join(dict.fromkeys(pod for container in row["containers"] if (pod := pod_of(container)))) or "-",
                made,
                age(row["age_s"]),
                clean(row["comm"] or "-", 40),
            ]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEAD))]
    return [
        " ".join(
            word.rjust(width) if head in _RIGHT else word.ljust(width)
            for word, width, head in zip(line, widths, _HEAD, strict=True)
        ).rstrip()
        for line in cells
    ]
