"""What is registered as the REGISTER requests that put it back: of a state file, a new journal, a second program."""

from collections.abc import Collection

from auditns_connector.model.apply import entries_state as entriesstate
from auditns_connector.model.apply import inner_ids_state as insidestate
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.restore import loose, snapshots
from auditns_connector.model.places import Container
from auditns_connector.vocabulary.values import Json, JsonObject


def requests_of(model: Model, now: int, *, only: Collection[Container] = ()) -> list[JsonObject]:
    """Everything registered (or ``only`` these) as the requests that put it back, and the processes inside
    containers; the last one closes the restore."""
    living = [container for container in model.registry.living() if not only or container in only]
    found = snapshots(model, living)
    for request in found:
        request["saved"] = now
    left = [about for request in found if (about := loose(request)) is not None]
    rights = [
        [pid, start, inside.key if inside is not None else None]
        for (pid, start), inside in model.registry.delegates.items()
        if (process := model.alive(pid)) is not None and process.start == start
    ]
    inside = insidestate.requests(model, now) if model.inside.kept and not only else []
    entries = entriesstate.requests(model, now) if not only else []
    dumps = [] if only or not model.checkpoints.dumps else [{**model.checkpoints.snapshot(), "saved": now}]
    return [
        *found,
        *inside,
        *entries,
        *dumps,
        {"op": "restored", "saved": now, "loose": left, "delegates": rights},
    ]


def checked(request: JsonObject) -> JsonObject:
    """``request`` when it has the shape that apply/restore.py relies on; raises ValueError, KeyError, TypeError."""
    int(request["saved"])
    if request["op"] == "restored":
        _check_end(request)
    elif request["op"] == "inside":
        return insidestate.checked(request)
    elif request["op"] == "entries":
        return entriesstate.checked(request)
    elif request["op"] == "restore":
        _check_container(request)
    elif request["op"] == "dumps":
        if not all(isinstance(run, str) and isinstance(text, str) for run, text in request["dumps"]):
            raise ValueError("no dumps")
    else:
        raise ValueError("an unknown request")
    return request


def _check_end(request: JsonObject) -> None:
    for pid, start, key in request["delegates"]:
        int(pid), int(start), dict(key or ())
    for about in request["loose"]:
        _pairs(about["above"])
        for cg in about["cg"]:
            _pairs(cg)


def _check_container(request: JsonObject) -> None:
    if not 0 <= int(request["contid"]) < 1 << 64 or int(request["born"]) < 0 or not request["key"]:
        raise ValueError("no container")
    keys = [request["key"], request["parent"] or [], request["owner"] or [], *request["replaces"], *request["taken"]]
    for key in keys:
        for runtime, ident in key:
            if not (isinstance(runtime, str) and isinstance(ident, str)):
                raise ValueError("no key")
    _processes(request["members"])
    _pairs(request["above"])
    _processes([request["first"]] if request["first"] else [])
    _whole(request["saved"], request["born"], request["contid"])
    for index, _dev, ino in request["ns"]:
        if not 0 <= int(index) < 8 or int(ino) < 0:
            raise ValueError("no namespace")
    if not isinstance(request["names"], dict):
        raise ValueError("no names")
    for cg in request["cg"]:
        _pairs(cg)


def _whole(*values: Json) -> None:
    """Whole numbers of 64 bits, as they are written here."""
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 64:
            raise ValueError("no number")


def _processes(raw: Json) -> None:
    """(pid, start) of each."""
    for pid, start in raw:
        _whole(pid, start)


def _pairs(raw: Json) -> None:
    for first, _ in raw:
        int(first)
