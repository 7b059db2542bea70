"""An enriched event as one JSON object on one line; the format is that of auditns-records(5), ``"v": 1``.

The output is ASCII (everything else escaped), so no input can break a line or the encoding. Identifiers that may be
larger than 2^53 (contid, namespace serials) are strings.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from .records import Fields, text

VERSION: Final = 1


class Who(NamedTuple):
    """What is known of one process of an event; ``contid`` None is a process of the host."""

    contid: str | None
    container: Mapping[str, Any] | None = None
    ns: Mapping[str, Any] | None = None


HOST: Final = Who(None)
_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


def event(
    ms: int,
    serial: int,
    node: bytes,
    who: Who,
    targets: Iterable[tuple[int, int, Who]],
    records: Iterable[tuple[str, Fields]],
) -> bytes:
    """One event: ``ms`` milliseconds since 1970, ``node`` without ``node=`` (empty: none), ``targets`` as
    (record, pid, who), ``records`` as (type, fields) in the order of the text."""
    line: dict[str, Any] = {"v": VERSION, "time": f"{ms // 1000}.{ms % 1000:03d}", "serial": serial}
    if node:
        line["node"] = text(node)
    line["contid"] = who.contid
    if who.container is not None:
        line["container"] = who.container
    if who.ns is not None:
        line["ns"] = who.ns
    listed = [{"record": record, "pid": pid, **_target(target)} for record, pid, target in targets]
    if listed:
        line["targets"] = listed
    line["records"] = [{"type": kind, **_free(fields)} for kind, fields in records]
    return _encode(line).encode("ascii") + b"\n"


def _target(who: Who) -> dict[str, Any]:
    out: dict[str, Any] = {"contid": who.contid}
    if who.container is not None:
        out["container"] = who.container
    if who.ns is not None:
        out["ns"] = who.ns
    return out


def _free(fields: Fields) -> Fields:
    """A field named "type" (NS_INIT has one) gives way to the record's own."""
    if "type" in fields:
        fields = {("nstype" if name == "type" else name): what for name, what in fields.items()}
    return fields


def foreign(line: bytes) -> bytes:
    """A line of the input that is no audit record."""
    return _encode({"v": VERSION, "foreign": text(line)}).encode("ascii") + b"\n"
