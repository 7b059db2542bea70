"""Registrations kept over a restart: a file beside the control socket, replaced whole, of this boot alone."""

import json
import os
from collections.abc import Collection
from typing import Any, Final

from auditns_connector.errors import AuditnsError
from auditns_connector.model.apply import inner_ids_state as insidestate
from auditns_connector.model.apply.restore import loose, snapshots
from auditns_connector.model.containers import Container
from auditns_connector.model.table import Model
from auditns_connector.state.directory import SafeDir

NAME: Final = "registrations.json"
VERSION: Final = 1


def requests_of(model: Model, now: int, *, only: Collection[Container] = ()) -> list[dict[str, Any]]:
    """Everything registered (or ``only`` these) as the requests that put it back, and what is known of processes inside
    containers; the last one closes the restore."""
    found = snapshots(model, only)
    for request in found:
        request["saved"] = now
    left = [about for request in found if (about := loose(request)) is not None]
    rights = [
        [pid, start, inside.key if inside is not None else None]
        for (pid, start), inside in model.registry.delegates.items()
        if (process := model.alive(pid)) is not None and process.start == start
    ]
    inside = insidestate.requests(model, now) if model.inside.kept and not only else []
    return [*found, *inside, {"op": "restored", "saved": now, "loose": left, "delegates": rights}]


class StateFile:
    """The state of the program that serves the control socket ``control``."""

    def __init__(self, control: str) -> None:
        self._directory = os.path.dirname(control) or "."
        self._last = b""
        self._failed = False

    def write(self, boot_id: str, requests: list[dict[str, Any]], sockets: dict[tuple[int, int], str]) -> str:
        """Write the state; what is wrong is returned, once."""
        paths = [[pid, start, path] for (pid, start), path in sorted(sockets.items())]
        data = json.dumps({"v": VERSION, "boot_id": boot_id, "requests": requests, "sockets": paths}).encode()
        try:
            with SafeDir(self._directory, create=False) as folder:
                folder.write(NAME, data)
        except AuditnsError as error:
            again, self._failed = self._failed, True
            return "" if again else str(error)
        self._failed = False
        return ""

    def read(self, boot_id: str) -> tuple[list[dict[str, Any]], dict[tuple[int, int], str], str]:
        """(requests, delegated sockets, what is wrong)."""
        where = f"{self._directory}/{NAME}"
        try:
            with SafeDir(self._directory, create=False) as folder:
                data = folder.read(NAME, limit=MAX_SIZE)
        except AuditnsError as error:
            return [], {}, f"registrations of a former run are not used: {error}"
        if data is None:
            return [], {}, ""
        try:
            state = json.loads(data)
            if state["v"] != VERSION:
                return [], {}, f"{where} is of another version: not used"
            if state["boot_id"] != boot_id:
                return [], {}, f"{where} is of another boot: not used"
            requests = [checked(request) for request in state["requests"]]
            return requests, {(int(p), int(s)): str(path) for p, s, path in state["sockets"]}, ""
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return [], {}, f"{where} cannot be understood ({type(error).__name__}): not used"


MAX_SIZE: Final = 64 << 20


def checked(request: dict[str, Any]) -> dict[str, Any]:
    """``request`` when it has the shape that apply/restore.py relies on; raises ValueError, KeyError, TypeError."""
    int(request["saved"])
    if request["op"] == "restored":
        for pid, start, key in request["delegates"]:
            int(pid), int(start), dict(key or ())
        for about in request["loose"]:
            _pairs(about["above"])
            for cg in about["cg"]:
                _pairs(cg)
        return request
    if request["op"] == "inside":
        return insidestate.checked(request)
    if request["op"] != "restore":
        raise ValueError("an unknown request")
    int(request["contid"])
    int(request["born"])
    keys = [request["key"], request["parent"] or [], request["owner"] or [], *request["replaces"], *request["taken"]]
    for key in keys:
        for _runtime, _id in key:
            pass
    _pairs(request["members"])
    _pairs(request["above"])
    _pairs([request["first"]] if request["first"] else [])
    for index, _dev, ino in request["ns"]:
        if not 0 <= int(index) < 8 or int(ino) < 0:
            raise ValueError("no namespace")
    if not isinstance(request["names"], dict):
        raise ValueError("no names")
    for cg in request["cg"]:
        _pairs(cg)
    return request


def _pairs(raw: Any) -> None:
    for item in raw:
        int(item[0])
        _ = item[1]
