"""Other programs of ours (doctor, the OCI hook) show who they are, so that what they do is not taken for something that
happens on the host: see :mod:`model.own_processes`.

Who asks is believed only as far as the kernel vouches for it: the process behind the connection (SO_PEERCRED and its
pidfd) is root of the initial user namespace with CAP_AUDIT_CONTROL, in no container, and runs a file that is root's and
that nobody else may write. Whoever is all that can do what it likes to the watching program as well; anybody else is
shown like any other process.

Where single events are shown, a process must be known for one of ours when it has run its program, before it can ask
anything. The same is required of it then, and more: all its user ids are root's without a set-user-ID program that
gave it them, so that nobody but root has chosen its arguments; and it runs the hook of this installation, or its
command with ``doctor`` behind it.
"""

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from auditns_connector.control.peer import Peer, PidHandle, describe_caller
from auditns_connector.sources.procfs import Procfs
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.timing import SAME_START
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    import socket

    from auditns_connector.control.server import DocumentHandler
    from auditns_connector.host.observer import Observer

_COMMAND: Final = b"auditns"
#: of the arguments of a process no more is read (bytes)
_MOST_WORDS: Final = 4096


class OwnPrograms:
    """Takes in who shows that it is one, for ``observer``; ``hook`` is the path of the OCI hook."""

    def __init__(self, observer: "Observer", hook: str) -> None:
        self._observer, self._hook = observer, hook
        #: names of files that may be the hook or the doctor
        self._names = (_COMMAND, os.path.basename(hook).encode())
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

    def runs(self, pid: int, file: bytes) -> bool:
        """Whether process ``pid``, which has run ``file``, is the hook or the doctor."""
        if os.path.basename(file) not in self._names:
            return False
        with PidHandle.by_pid(pid) as held:
            found = self._procfs.describe(pid)
            uids = (found or {}).get("uids")
            if not uids or any(uids):
                return False
            caller = describe_caller(self._procfs, held, Peer(pid, 0, 0))
            if not (caller["privileged"] and _of_root_alone(pid) and self._is_one(pid) and held.alive()):
                return False
        process = self._observer.model.alive(pid)
        if process is None or abs(process.start - caller["start"]) >= SAME_START:
            return False
        return process.state.container is None

    def _is_one(self, pid: int) -> bool:
        """Whether the program that process ``pid`` runs is the hook, or what it was started with is the doctor."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/exe"), os.stat(self._hook)):
                return True
        words = _words(pid)
        at = _script(words)
        if not at or b"doctor" not in words[at + 1 : at + 3]:
            return False
        return words[at + 1] in (b"doctor", _COMMAND) and _is_ours(pid, words[at])


def _words(pid: int | str) -> list[bytes]:
    """The arguments of a process; none where they cannot be read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(_MOST_WORDS).split(b"\0")
    except OSError:
        return []


def _script(words: list[bytes]) -> int:
    """Which of the arguments of an interpreter is the script; 0: there is none."""
    return next((place for place, word in enumerate(words) if place and word[:1] not in (b"-", b"")), 0)


def _is_ours(pid: int, script: bytes) -> bool:
    """Whether ``script``, which the interpreter in process ``pid`` runs, is the command of this installation: a file of
    root's that nobody else may write, and the one that runs here or one of the command's name."""
    own = _words("self")
    at = _script(own)
    try:
        about = os.stat(f"/proc/{pid}/root".encode() + os.path.abspath(script) if script[:1] == b"/" else b"")
        same = at > 0 and own[at][:1] == b"/" and os.path.samestat(about, os.stat(own[at]))
    except OSError:
        return False
    return _belongs_to_root(about) and (same or os.path.basename(script) == _COMMAND)


def _of_root_alone(pid: int) -> bool:
    """Whether the program that process ``pid`` runs is root's, and nobody else may write it or becomes root by it."""
    try:
        return _belongs_to_root(os.stat(f"/proc/{pid}/exe"))
    except OSError:
        return False


def _belongs_to_root(about: os.stat_result) -> bool:
    others = stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID
    return about.st_uid == 0 and not about.st_mode & others
