"""``auditns tree``: containers, the namespaces in them, and the processes in those."""

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from auditns_connector.cli.arguments import interval
from auditns_connector.cli.ns import age, label
from auditns_connector.cli.options import add_contid, add_control, add_name
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.errors import ConfigError
from auditns_connector.vocabulary.namespaces import ALL_ORDER
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.control.snapshot import Snapshot

_HOST, _UNKNOWN = -1, -2
_CLEAR: Final = "\x1b[2J"
_BRANCHES: Final = (("├─ ", "│  "), ("└─ ", "   "))
_PLAIN: Final = (("|- ", "|  "), ("`- ", "   "))
#: JSON readers, ours included, nest no deeper than some hundred levels
_DEPTH: Final = 200
Node = JsonObject
#: what is said of a container
_NAMED: Final = ("contid", "kind", "runtime", "id", "name", "role", "pod", "namespace", "pod_uid", "image")


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Show the containers of this host as a tree: container, namespaces, processes. The running "
        "listener or plugin answers; where none is running, /proc is read.",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show the processes of the host itself as well")
    parser.add_argument("--follow", action="store_true", help="go on showing what changes, until stopped")
    parser.add_argument(
        "--interval",
        type=interval(0.05),
        default=1.0,
        metavar="S",
        help="with --follow: look every S seconds (default: 1)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object; with --follow one a line for each change")
    add_contid(parser, "these containers, or those inside them; also: unset (the host), unknown")
    add_name(parser)
    add_control(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from auditns_connector.control.snapshot import only
    from auditns_connector.control.snapshot_service import Snapshots
    from auditns_connector.pipeline.filters import join_contids

    terms = join_contids(args.contid)
    if args.interval != 1.0 and not args.follow:
        raise ConfigError("--interval is of use with --follow alone")
    source = Snapshots(args.control)

    def take() -> "Snapshot":
        return only(source.take(), terms, args.name)

    if not args.follow:
        text = _shown(take(), args)
        print(text, end="\n" if text else "")
        return 0
    try:
        follow(take, args, time.sleep)
    except KeyboardInterrupt:
        return 0
    return 0


def follow(take: "Callable[[], Snapshot]", args: argparse.Namespace, wait: Callable[[float], None]) -> None:
    """Show snapshot after snapshot, each that differs from the one before; ends when ``wait`` raises."""
    screen = sys.stdout.isatty() and not args.json
    before = ""
    while True:
        text = _shown(take(), args)
        if screen:
            from auditns_connector.daemon.terminal import HOME, fit

            text = "\n".join(fit(text.split("\n")))  # another size of the terminal is a change, too
        if text != before:
            if screen:
                print((HOME if before else _CLEAR + HOME) + text, flush=True)
            else:
                print(f"\n{text}" if before and not args.json else text, flush=True)
            before = text
        wait(args.interval)


def _shown(snapshot: "Snapshot", args: argparse.Namespace) -> str:
    roots = tree(snapshot, everything=args.all)
    if not args.json:
        from auditns_connector.daemon.terminal import escape

        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") not in ("utf8", "utf16")
        return "\n".join(map(escape, lines(roots, aged=not args.follow, branches=_PLAIN if ascii_only else _BRANCHES)))
    import json

    if args.follow:  # ages change all the time: that is no change
        roots = [_ageless(root) for root in roots]
    return json.dumps({"v": 1, "tree": roots}, indent=None if args.follow else 2)


def _ageless(node: Node) -> Node:
    """``node`` of a container, and those inside it, without ages."""
    kept = {name: what for name, what in node.items() if name != "age_s"}
    return {**kept, "containers": [_ageless(inner) for inner in node["containers"]]}


def tree(snapshot: "Snapshot", *, everything: bool = False) -> list[Node]:
    """The host, then the containers that are not inside another one; each as an object with ``processes`` (how many),
    ``namespaces`` (sets of serials, each with its ``tree`` of processes) and ``containers`` (those inside it).

    Processes of the host are listed with ``everything`` alone; where none is among the processes there is no host.
    """
    members: dict[int, dict[int | None, list[list[Json]]]] = {}
    for process in snapshot["processes"]:
        members.setdefault(process[3], {}).setdefault(process[4], []).append(process)
    children: dict[int | None, list[int]] = {}
    for at, container in enumerate(snapshot["containers"]):
        children.setdefault(container["parent"], []).append(at)

    def node(at: int) -> Node:
        container = snapshot["containers"][at]
        named = {name: container.get(name) for name in _NAMED}
        return {
            **{name: what for name, what in named.items() if what},
            "age_s": container["age"],
            **_inside(snapshot, members.get(at, {}), True),
            "containers": [node(child) for child in children.get(at, [])],
        }

    host, unknown = members.get(_HOST), members.get(_UNKNOWN)
    return [
        *([{"contid": None, **_inside(snapshot, host, everything), "containers": []}] if host else []),
        *(node(at) for at in children.get(None, [])),
        *([{"contid": "?", **_inside(snapshot, unknown, True), "containers": []}] if unknown else []),
    ]


def _inside(snapshot: "Snapshot", members: dict[int | None, list[list[Json]]], listed: bool) -> Node:
    count = sum(map(len, members.values()))
    if not listed:
        return {"processes": count, "namespaces": []}
    sets = [
        {"ns": _serials(snapshot, at), "processes": len(processes), "tree": _family(processes)}
        for at, processes in members.items()
    ]
    return {"processes": count, "namespaces": sets}


def _serials(snapshot: "Snapshot", at: int | None) -> JsonObject | None:
    """Serials of what is not initial; ``None`` where its namespaces are not known."""
    if at is None:
        return None
    out: JsonObject = {}
    for name, n in zip(ALL_ORDER, snapshot["sets"][at], strict=True):
        if n is None:
            out[name] = None
        elif not snapshot["namespaces"][n]["initial"]:
            out[name] = snapshot["namespaces"][n]["serial"]
    return out


def _family(processes: list[list[Json]]) -> list[Node]:
    """Processes below their creators, as far as these are among them; a line of more than ``_DEPTH`` begins anew."""
    nodes: dict[int, Node] = {process[0]: {"pid": process[0], "comm": process[2]} for process in processes}
    creators = {process[0]: process[1] for process in processes}
    depths: dict[int, int] = {}

    def depth(pid: int) -> int:
        line: list[int] = []
        while pid in creators and pid not in depths and len(line) <= len(creators):
            line.append(pid)
            pid = creators[pid]
        nested = depths.get(pid, -1)
        for below in reversed(line):
            nested = depths[below] = (nested + 1) % _DEPTH
        return nested

    roots = []
    for process in processes:
        above = nodes.get(process[1]) if depth(process[0]) and process[1] != process[0] else None
        if above is None:
            roots.append(nodes[process[0]])
        else:
            above.setdefault("children", []).append(nodes[process[0]])
    return roots


def lines(roots: list[Node], *, aged: bool = True, branches: tuple[tuple[str, str], ...] = _BRANCHES) -> list[str]:
    """The tree for people."""
    from auditns_connector.daemon.terminal import clean

    out: list[str] = []
    stack: list[tuple[str, str, Json]] = []

    def title(root: Node) -> str:
        count = f"{root['processes']} process{'es' if root['processes'] != 1 else ''}"
        if root["contid"] is None:
            return f"host ({count})"
        if root["contid"] == "?":
            return f"unknown ({count})"
        words = [label(root), f"({count}" + (f", {age(root['age_s'])})" if aged else ")"), f"contid={root['contid']}"]
        words += [clean(f"{name}={root[name]}", 80) for name in ("image", "pod", "namespace") if root.get(name)]
        return " ".join(words)

    def below(kind: str, item: Json) -> tuple[str, list[tuple[str, Json]]]:
        """The text of a line, and what hangs below it."""
        if kind == "container":
            return title(item), [
                *(("set", part) for part in item["namespaces"]),
                *(("container", part) for part in item["containers"]),
            ]
        if kind == "set":
            spaces = item["ns"]
            named = " ".join(f"{name}={serial or '?'}" for name, serial in (spaces or {}).items())
            text = "namespaces: " + ("?" if spaces is None else named or "the initial ones")
            return text, [("process", part) for part in item["tree"]]
        return f"{item['pid']} {clean(item['comm'], 40)}", [("process", part) for part in item.get("children", ())]

    for root in roots:
        stack.append(("", "", ("container", root)))
        while stack:
            head, prefix, (kind, item) = stack.pop()
            text, parts = below(kind, item)
            out.append(head + text)
            for i, part in enumerate(reversed(parts)):
                branch, rest = branches[1] if i == 0 else branches[0]
                stack.append((prefix + branch, prefix + rest, part))
    return out
