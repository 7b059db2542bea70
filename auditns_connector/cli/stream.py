"""``auditns stream``: streams of containers, from the host (create, set …) and from inside (read, send, login)."""

import argparse
import json
import os
import sys
from typing import Final

from auditns_connector.cli.arguments import process_id, seconds, whole
from auditns_connector.cli.options import add_control
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.errors import AuditnsError, NotPermittedError
from auditns_connector.state.paths import CONTROL, USER_SOCKET, USERS, beside
from auditns_connector.vocabulary.values import MOST_UID, JsonObject, decimal

#: option -> key of the stream's definition, for values that are taken as they are
_LISTS: Final = ("contid", "runtime", "name", "label", "pod")
_NUMBERS: Final = ("backlog_limit", "rate_limit", "message_limit", "readers")
_NOT_PERMITTED: Final = ("EPERM", "EDQUOT")
_WORDS: Final = ("overflow", "view", "record_names", "mode")


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command and its own commands."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Each container its own audit stream, its own backlog, its own readers.",
        epilog="auditns-stream(8)",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="do", metavar="COMMAND", required=True, parser_class=type(parser))
    create = commands.add_parser("create", help="make a stream; an ordinary user for containers of his own")
    create.add_argument("stream", metavar="NAME", help="its name: a-z, 0-9, _ - .")
    _definition(create)
    change = commands.add_parser("set", help="change a stream; pause it or go on (inside)")
    change.add_argument("stream", metavar="NAME", nargs="?", default="", help="the stream (inside: the one mounted)")
    _definition(change)
    group = change.add_mutually_exclusive_group()
    group.add_argument("--pause", action="store_true", help="take no events until --resume")
    group.add_argument("--resume", action="store_true", help="take events again")
    shown = commands.add_parser("list", help="all streams, one a line; an ordinary user's own")
    shown.add_argument("--json", action="store_true", help="one JSON object")
    add_control(shown)
    show = commands.add_parser("show", help="one stream: what it is for, holds, has lost; inside, the part of it there")
    show.add_argument("stream", metavar="NAME", nargs="?", default="", help="the stream (inside: the one mounted)")
    show.add_argument("--json", action="store_true", help="one JSON object")
    add_control(show)
    remove = commands.add_parser("remove", help="take a stream away")
    remove.add_argument("stream", metavar="NAME", help="the stream")
    add_control(remove)
    read = commands.add_parser("read", help="print a stream's records, those held first")
    read.add_argument("stream", metavar="NAME", nargs="?", default="", help="the stream (inside: the one mounted)")
    read.add_argument("--follow", action="store_true", help="go on when what was held has been read")
    read.add_argument("--duration", type=seconds, metavar="S", help="stop after S seconds")
    read.add_argument("--count", type=whole(0, what="number of records"), metavar="N", help="stop after N records")
    add_control(read)
    send = commands.add_parser("send", help="send a message as an audit record (inside a container)")
    send.add_argument("--type", required=True, metavar="TYPE", help="USER_CMD, USER_LOGIN or another USER_ type")
    send.add_argument("text", metavar="TEXT", help="what to say; written encoded, as one field")
    login = commands.add_parser("login", help="say who logged in (inside a container, its root; for pam_exec)")
    login.add_argument(
        "--uid",
        type=whole(0, (1 << 32) - 2, "user id"),
        required=True,
        metavar="N",
        help="the user's id inside the container",
    )
    login.add_argument(
        "--session",
        type=whole(0, (1 << 32) - 2, "session number"),
        metavar="M",
        help="a session number of the container's own",
    )
    login.add_argument(
        "--pid", type=process_id, metavar="P", help="the process, by its number inside (default: our parent)"
    )
    for command in (change, show, remove, read):
        command.add_argument("--user", metavar="USER", help="the stream of this user, a name or a number (root)")
    for command in (show, change, read, send, login):
        command.add_argument("--dir", metavar="DIR", help="the stream's directory, where it is mounted elsewhere")
    for command in (send, login):
        command.add_argument("--stream", default="", metavar="NAME", help="the stream, where several are mounted")


def _definition(parser: argparse.ArgumentParser) -> None:
    many: JsonObject = {"action": "append", "default": []}
    parser.add_argument("--contid", metavar="ID", help="containers with this identifier, or inside one with it", **many)
    parser.add_argument("--runtime", metavar="R", help="containers of this runtime: docker, podman, lxc …", **many)
    parser.add_argument("--name", metavar="PATTERN", help="containers whose name or id matches a shell pattern", **many)
    parser.add_argument("--label", metavar="KEY[=PATTERN]", help="containers with this label", **many)
    parser.add_argument("--pod", metavar="PATTERN", help="containers whose pod matches", **many)
    parser.add_argument(
        "--backlog-limit",
        type=whole(0, what="number of records"),
        metavar="N",
        help="records held for a reader; 0 writes nothing",
    )
    parser.add_argument(
        "--rate-limit", type=whole(0, what="number of records"), metavar="N", help="records a second; 0 is no limit"
    )
    parser.add_argument(
        "--message-limit",
        type=whole(0, what="number of messages"),
        metavar="N",
        help="messages from inside a second; 0 takes none",
    )
    parser.add_argument("--overflow", choices=("drop-oldest", "drop-newest"), help="what goes when it is full")
    parser.add_argument(
        "--view", choices=("container", "host"), help="numbers as the container, or as the host has them"
    )
    parser.add_argument("--record-names", choices=("numeric", "symbolic"), help="how the added records are named")
    parser.add_argument("--mode", metavar="MODE", help="mode of the sockets: 0600, 0660 or 0666")
    parser.add_argument("--owner", metavar="UID:GID", help="owner of the sockets, as the host counts")
    parser.add_argument(
        "--readers", type=whole(1, 64, "number of readers"), metavar="N", help="readers at a time, 1 to 64"
    )
    add_control(parser)


def run(args: argparse.Namespace) -> int:
    """Run one of the commands."""
    commands = {
        "create": _create, "set": _set, "list": _list, "show": _show,
        "remove": _remove, "read": _read, "send": _send, "login": _login,
    }  # fmt: skip
    commands[args.do](args)
    return 0


def _options(args: argparse.Namespace) -> JsonObject:
    out: JsonObject = {key: getattr(args, key) for key in _LISTS if getattr(args, key)}
    for key in (*_NUMBERS, *_WORDS):
        if getattr(args, key) is not None:
            out[key] = getattr(args, key)
    if args.owner is not None:
        uid, _, gid = args.owner.partition(":")
        out["uid"], out["gid"] = decimal(uid, MOST_UID), decimal(gid, MOST_UID)
        if out["uid"] is None or out["gid"] is None:
            raise AuditnsError(f"--owner: {args.owner!r} is not two numbers from 0 to {MOST_UID}, UID:GID")
    if getattr(args, "pause", False) or getattr(args, "resume", False):
        out["paused"] = args.pause
    return out


def _ask(args: argparse.Namespace, do: str, **more: object) -> JsonObject:
    from auditns_connector.control.server import ask

    socket = args.control
    user = _user(args)
    if os.geteuid() != 0:
        socket = beside(args.control, USER_SOCKET)
        if user not in (None, os.geteuid()):
            raise NotPermittedError("only root manages the streams of another user")
    elif user is not None:
        more["user"] = user
    answer = ask(socket, {"v": 1, "op": "stream", "do": do, **more})
    if not answer.get("ok"):
        message = f"{answer.get('message', 'refused')}"
        raise NotPermittedError(message) if answer.get("error") in _NOT_PERMITTED else AuditnsError(message)
    return answer


def _user(args: argparse.Namespace) -> int | None:
    """The user named by --user. Raises :class:`AuditnsError`."""
    name = getattr(args, "user", None)
    if name is None:
        return None
    if (number := decimal(name, MOST_UID)) is not None:
        return number
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise AuditnsError(f"there is no user {name!r}") from None


def _directory(args: argparse.Namespace) -> str:
    from auditns_connector.streams.client import find

    if args.dir:
        return str(args.dir)
    control, user = getattr(args, "control", CONTROL), _user(args)
    own = f"{beside(control, USERS)}/{os.geteuid() if user is None else user}"
    base = beside(control, "streams")
    # an ordinary user's own come before root's of the same name
    if user is not None or (os.geteuid() != 0 and os.path.isdir(f"{own}/{args.stream}")):
        base = own
    return find(args.stream, base)


def _on_host(args: argparse.Namespace) -> bool:
    """Whether the control socket is here; inside a container only the stream's own is."""
    return not args.dir and os.path.exists(args.control)


def _create(args: argparse.Namespace) -> None:
    stream = _ask(args, "create", name=args.stream, options=_options(args))["stream"]
    from auditns_connector.daemon.terminal import complain, show

    show(f"{stream['stream']}: {stream['directory']}")
    if not stream["backlog_limit"]:
        who = "have root set" if "user" in stream else "set"
        complain(f"auditns: with a backlog limit of 0 nothing is written; {who} --backlog-limit")


def _set(args: argparse.Namespace) -> None:
    options = _options(args)
    if _on_host(args):
        if not args.stream:
            raise AuditnsError("which stream?")
        _ask(args, "set", name=args.stream, options=options)
        return
    from auditns_connector.streams import client

    if set(options) != {"paused"}:
        raise NotPermittedError("inside a container a stream can be paused and resumed, nothing else")
    (client.pause if options["paused"] else client.resume)(_directory(args))


def _list(args: argparse.Namespace) -> None:
    streams = _ask(args, "list")["streams"]
    if args.json:
        print(json.dumps({"v": 1, "streams": streams}, indent=2))
        return
    from auditns_connector.daemon.terminal import show

    for s in streams:
        terms = " ".join(f"{key}={','.join(map(str, s[key]))}" for key in _LISTS if s[key])
        counters = s["counters"]
        name = f"{s['user']}/{s['stream']}" if "user" in s else s["stream"]
        show(
            f"{name}  {terms}  limit={s['backlog_limit']} held={s['held_records']} events={counters['events']}"
            f" lost={counters['lost_records']} readers={len(s['readers_now'])}{' paused' if s['paused'] else ''}"
        )


def _show(args: argparse.Namespace) -> None:
    if _on_host(args):
        if not args.stream:
            raise AuditnsError("which stream?")
        found = _ask(args, "show", name=args.stream)["stream"]
    else:
        from auditns_connector.streams.client import state

        found = state(_directory(args))
    if args.json:
        print(json.dumps({"v": 1, **found}, indent=2))
        return
    from auditns_connector.cli.status import sections
    from auditns_connector.daemon.terminal import show

    show(sections(found))


def _remove(args: argparse.Namespace) -> None:
    _ask(args, "remove", name=args.stream)


def _read(args: argparse.Namespace) -> None:
    from auditns_connector.streams import client

    directory = _directory(args)
    left = args.count
    from auditns_connector.daemon.terminal import for_people

    out = sys.stdout.buffer
    follow = args.follow or args.duration is not None
    server = client.trusted_server(args.control)
    shape = for_people("raw", sys.stdout.isatty())
    for line in client.read(directory, follow=follow, duration=args.duration, server=server):
        out.write(shape(line) if shape is not None else line)
        out.flush()
        if left is not None:
            left -= 1
            if left <= 0:
                return


def _send(args: argparse.Namespace) -> None:
    from auditns_connector.streams import client

    client.send(_directory(args), args.type, args.text)


def _login(args: argparse.Namespace) -> None:
    from auditns_connector.streams import client

    client.login(_directory(args), args.uid, args.session, args.pid)
