"""Other programs of ours (doctor, the OCI hook) show who they are, so that what they do is not taken for something that
happens on the host: see :mod:`model.own_processes`.

Who asks is believed only as far as the kernel vouches for it: the process behind the connection (SO_PEERCRED and its
pidfd) is root of the initial user namespace with CAP_AUDIT_CONTROL, in no container, and runs a file that is root's and
that nobody else may write. Whoever is all that can do what it likes to the watching program as well; anybody else is
shown like any other process.

Whoever has shown it is announced to all who follow the program that was asked, before that answers: so all know it when
the asking program goes on, or ends.
"""

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from auditns_connector.control.peer import PidHandle, describe_caller
from auditns_connector.sources.procfs import Procfs
from auditns_connector.sources.runtime_daemons import on_host, real_uid
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    import socket

    from auditns_connector.control.peer import Peer
    from auditns_connector.control.server import DocumentHandler
    from auditns_connector.host.observer import Observer


#: names of the hook and of the command, and the words behind the command that make it one that asks
_HOOK: Final = b"auditns-oci-hook"
_COMMAND: Final = b"auditns"
_ASKING: Final = (b"doctor", b"oci-hook")
#: of the arguments of a process no more is read (bytes)
_MOST_WORDS: Final = 4096


class OwnPrograms:
    """Takes in who shows that it is one, for ``observer``; :attr:`publish` tells others."""

    def __init__(self, observer: "Observer") -> None:
        self._observer = observer
        self.publish: Callable[[JsonObject], None] = _nobody
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
        observer, now = self._observer, self._observer.sync_within()
        observer.feed(own_frame(now, held.pid, caller["start"]))
        self.publish({"v": 1, "op": "own", "pid": held.pid, "start": caller["start"], "saved": now})
        process = observer.model.alive(held.pid)
        return process is not None and observer.model.own.other(process)


def own_frame(now: int, pid: int, start: int) -> bytes:
    """The frame that says at ``now`` that the process ``pid`` that began at ``start`` is one of ours."""
    return f.pack(f.K_OWN, f.S_CONTROL, now, pid=pid, arg=start)


def may_be_one(pid: int, file: bytes) -> bool:
    """Whether process ``pid``, which has run ``file``, may go on to show that it is one. Anybody may be called so."""
    name = os.path.basename(file)
    return name == _HOOK or (name == _COMMAND and any(word in _ASKING for word in _words(pid)))


def _words(pid: int) -> list[bytes]:
    """The arguments of a process; none where it is gone, or cannot show who it is anyway. They are its memory, which
    may be of a file whose file system never answers (FUSE): whoever reads them then waits for good."""
    try:
        if real_uid(pid) != 0 or not on_host(pid):
            return []
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(_MOST_WORDS).split(b"\0")
    except (OSError, ValueError):
        return []


def _nobody(_: JsonObject) -> None:
    """Nobody follows."""


def _of_root_alone(pid: int) -> bool:
    """Whether the program that process ``pid`` runs is root's, and nobody else may write it."""
    try:
        about = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return False
    return about.st_uid == 0 and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
