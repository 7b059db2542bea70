"""Registrations kept over a restart: a file beside the control socket, replaced whole, of this boot alone."""

import json
import os
from typing import Final

from auditns_connector.errors import AuditnsError
from auditns_connector.model.apply.restore_requests import checked
from auditns_connector.state.directory import SafeDir
from auditns_connector.vocabulary.values import JsonObject

NAME: Final = "registrations.json"
VERSION: Final = 1


class StateFile:
    """The state of the program that serves the control socket ``control``."""

    def __init__(self, control: str) -> None:
        self._directory = os.path.dirname(control) or "."
        self._last = b""
        self._failed = False

    def write(self, boot_id: str, requests: list[JsonObject], sockets: dict[tuple[int, int], str]) -> str:
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

    def read(self, boot_id: str) -> tuple[list[JsonObject], dict[tuple[int, int], str], str]:
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
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            return [], {}, f"{where} cannot be understood ({type(error).__name__}): not used"


MAX_SIZE: Final = 64 << 20
