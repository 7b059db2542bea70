"""An entry, and where a process comes from, as fields of CONTAINER_INFO and as objects of JSON."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from auditns_connector.audittext import own_records as text
from auditns_connector.model.entry import Ancestor
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.entry import Entry

_MS = 1_000_000
#: how a chain ends of which more is not known
_CUT = "?"
_PROCFS = "procfs"
#: bytes of a list of parents
_ROOM = 2048


def entry_fields(model: "Model", entry: "Entry") -> str:
    """The fields of an entry, with a space before each."""
    who, session = entry.who, entry.session
    fields = [
        ("entry", entry.id),
        ("entry-how", entry.how),
        ("entry-time", _time(model, entry) or "?"),
        ("entry-pid", str(who.pid)),
        ("entry-start", str(who.start)),
        ("entry-comm", _or_unknown(who.comm)),
        ("entry-exe", _or_unknown(who.program)),
    ]
    if who.procfs:
        fields.append(("entry-exe-from", _PROCFS))
    fields += [
        ("entry-auid", "?" if session is None else str(session.auid)),
        ("entry-ses", "?" if session is None else str(session.ses)),
        ("entry-login", "?" if session is None else session.source),
        ("entry-from", entry.came_from),
    ]
    if entry.unit:
        fields.append(("entry-unit", text.untrusted(entry.unit)))
    if entry.parents:
        fields.append(("entry-parents", text.untrusted(ancestors_text(entry.parents))))
    outer = ",".join(other.id for other in entry.around())
    if outer:
        fields.append(("entry-outer", outer))
    return "".join(f" {name}={value}" for name, value in fields)


def entry_object(model: "Model", entry: "Entry") -> JsonObject:
    """The same as an object; what is not known is null."""
    who, session = entry.who, entry.session
    shown: JsonObject = {
        "id": entry.id,
        "how": None if entry.how == "?" else entry.how,
        "time": _time(model, entry),
        **ancestor_object(who),
        "auid": None if session is None else session.auid,
        "ses": None if session is None else session.ses,
        "login": None if session is None else session.source,
        "from": None if entry.came_from == "?" else entry.came_from,
        "unit": entry.unit or None,
        "parents": [None if one is None else ancestor_object(one) for one in entry.parents],
        "outer": [other.id for other in entry.around()],
    }
    return shown


def ancestors_text(line: "Iterable[Ancestor | None]") -> str:
    """``PID:START:COMM:FILE[:EXE[:procfs]]`` of each, the nearest first, as far as there is room in a record."""
    shown: list[str] = []
    room = _ROOM
    for one in line:
        word = _CUT if one is None else _ancestor(one)
        room -= len(word) + 1
        if room <= 0:
            shown.append(_CUT)
            break
        shown.append(word)
    return ",".join(shown)


def _ancestor(one: Ancestor) -> str:
    parts = [str(one.pid), str(one.start), text.item(one.comm), text.item(one.file)]
    if one.exe:
        parts += [text.item(one.exe), *([_PROCFS] if one.procfs else [])]
    return ":".join(parts)


def ancestor_object(one: Ancestor) -> JsonObject:
    """The fields of a process that others descend from."""
    shown: JsonObject = {"pid": one.pid, "start": str(one.start)}
    for name, value in (("comm", one.comm), ("file", one.file), ("exe", one.exe)):
        if value:
            shown[name] = value.decode("utf-8", "backslashreplace")
    if one.procfs:
        shown["exe_from"] = _PROCFS
    return shown


def _or_unknown(value: bytes) -> str:
    return text.untrusted(value) if value else "?"


def _time(model: "Model", entry: "Entry") -> str | None:
    if entry.time is None or model.clock.offset is None:
        return None
    ms = (entry.time + model.clock.offset) // _MS
    return f"{ms // 1000}.{ms % 1000:03d}"
