"""Other programs of ours (doctor, the OCI hook) show who they are, so that what they do is not taken for something that
happens on the host: see :mod:`model.own_processes`.

Who asks is believed only as far as the kernel vouches for it: the process behind the connection (SO_PEERCRED and its
pidfd) is root of the initial user namespace with CAP_AUDIT_CONTROL, in no container, and runs a file that is root's and
that nobody else may write. Whoever is all that can do what it likes to the watching program as well; anybody else is
shown like any other process.
"""

import os
import stat
from typing import TYPE_CHECKING

from auditns_connector.control.peer import PidHandle, describe_caller
from auditns_connector.sources.procfs import Procfs
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    import socket

    from auditns_connector.control.peer import Peer
    from auditns_connector.control.server import DocumentHandler
    from auditns_connector.host.observer import Observer


class OwnPrograms:
    """Takes in who shows that it is one, for ``observer``."""

    def __init__(self, observer: "Observer") -> None:
        self._observer = observer
        self._procfs = Procfs()

    def answer(self, request: JsonObject, peer: "Peer", sock: "socket.socket") -> JsonObject:
        """A request ``{"op": "own"}``."""
        if self._take(peer, sock):
            return {"ok": True}
        return {"ok": False, "error": "EPERM", "message": "only a program of root's, outside every container, is ours"}

    def noting(self, handler: "DocumentHandler") -> "DocumentHandler":
        """``handler``, whose peers are such programs where they can show it."""

        def handle(document: bytes, peer: "Peer", sock: "socket.socket") -> JsonObject:
            answer = handler(document, peer, sock)
            self._take(peer, sock)
            return answer

        return handle

    def _take(self, peer: "Peer", sock: "socket.socket") -> bool:
        """Feed an OWN frame about the process behind ``sock``; whether the model took it for one of ours."""
        with PidHandle.by_socket(sock) as held:
            caller = describe_caller(self._procfs, held, peer)
            trusted = caller["privileged"] and _of_root_alone(held.pid) and held.alive()
        if not trusted:
            return False
        observer = self._observer
        observer.feed(f.pack(f.K_OWN, f.S_CONTROL, observer.sync_within(), pid=held.pid, arg=caller["start"]))
        process = observer.model.alive(held.pid)
        return process is not None and observer.model.own.other(process)


def _of_root_alone(pid: int) -> bool:
    """Whether the program that process ``pid`` runs is root's, and nobody else may write it."""
    try:
        about = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return False
    return about.st_uid == 0 and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
