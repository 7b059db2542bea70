"""An enriched event as one JSON object on one line; the format is that of auditns-records(5), ``"v": 1``.

The output is ASCII (everything else escaped), so no input can break a line or the encoding. Identifiers that may be
larger than 2^53 (contid, namespace serials) are strings.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from auditns_connector.emit.fields import Fields, text
from auditns_connector.vocabulary.values import Json, JsonObject

VERSION: Final = 1


class Who(NamedTuple):
    """The fields of one process of an event; ``contid`` None is a process of the host. ``exit_pid`` is what a clone,
    fork or vfork returned, as the host counts (0: not known; None: it was no such call)."""

    contid: str | None
    container: Mapping[str, Json] | None = None
    ns: Mapping[str, Json] | None = None
    exit_pid: int | None = None
    #: how it came into the container, where it or whom it descends from went in
    entry: Mapping[str, Json] | None = None
    #: which process it is, and where it comes from
    process: Mapping[str, Json] | None = None


HOST: Final = Who(None)
encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


def event(
    ms: int,
    serial: int,
    node: bytes,
    who: Who,
    targets: Iterable[tuple[int, int, Who]],
    records: Iterable[tuple[str, Fields]],
    more: Mapping[str, Json] | None = None,
) -> bytes:
    """One event: ``ms`` milliseconds since 1970, ``node`` without ``node=`` (empty: none), ``targets`` as
    (record, pid, who), ``records`` as (type, fields) in the order of the text; ``more`` members follow the node."""
    head: JsonObject = {"v": VERSION, "time": f"{ms // 1000}.{ms % 1000:03d}", "serial": serial}
    if node:
        head["node"] = text(node)
    head |= more or {}
    parts = [_open(head), describe(who)]
    listed = [f"{_open({'record': record, 'pid': pid})},{describe(target)}}}" for record, pid, target in targets]
    if listed:
        parts.append(f'"targets":[{",".join(listed)}]')
    parts.append(encode({"records": [{"type": kind, **fields} for kind, fields in records]})[1:])
    return ",".join(parts).encode("ascii") + b"\n"


def describe(who: Who) -> str:
    """What an event, or a target, says of its process: members of a JSON object, without its braces."""
    said: JsonObject = {"contid": who.contid}
    if who.container is not None:
        said["container"] = who.container
    if who.entry is not None:
        said["entry"] = who.entry
    if who.process is not None:
        said["process"] = who.process
    if who.ns is not None:
        said["ns"] = who.ns
    members = encode(said)[1:-1]
    return members if who.exit_pid is None else members + returned(who.exit_pid)


def around_process(who: Who) -> tuple[str, str]:
    """What :func:`describe` says of ``who`` in front of which process it is, and behind that."""
    return describe(
        who._replace(process=None, ns=None, exit_pid=None)
    ), "" if who.ns is None else f',"ns":{encode(who.ns)}'


def returned(exit_pid: int) -> str:
    """The last member of what :func:`describe` says of a process that made another one."""
    return f',"exit_pid":{exit_pid or "null"}'


def _open(members: JsonObject) -> str:
    return encode(members)[:-1]


def foreign(line: bytes) -> bytes:
    """A line of the input that is no audit record."""
    return encode({"v": VERSION, "foreign": text(line)}).encode("ascii") + b"\n"
