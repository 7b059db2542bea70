"""For programs inside a container (and on the host): read a stream, ask about it, send it messages, log in.

``directory`` is the stream's directory as it is seen here, such as ``/run/auditns/streams/web``; see :func:`find`::

    from auditns_connector.streams import client
    where = client.find()                       # the one stream that is mounted here
    client.send(where, "USER_CMD", "op=backup")
    for line in client.read(where):
        ...
"""

import errno
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from auditns_connector.errors import AuditnsError, NotPermittedError
from auditns_connector.state.paths import SERVER, STREAMS
from auditns_connector.vocabulary.namespaces import INITIAL_INODES
from auditns_connector.vocabulary.values import JsonObject

_ROOM: Final = 1 << 16
_UCRED: Final = struct.Struct("=iII")
_ANSWER: Final = 1 << 16
#: without ``follow``: silence after which what was held is taken to be all (seconds)
_QUIET: Final = 0.3


def find(name: str = "", base: str = STREAMS) -> str:
    """The directory of stream ``name``; without a name that of the only one there. Raises :class:`AuditnsError`."""
    if name:
        if "/" in name or name.startswith("."):
            raise AuditnsError(f"{name!r} is not the name of a stream")
        return os.path.join(base, name)
    try:
        names = sorted(entry for entry in os.listdir(base) if not entry.startswith("."))
    except OSError as error:
        raise AuditnsError(f"{base}: {error.strerror}; is a stream mounted here?") from error
    if len(names) != 1:
        raise AuditnsError(f"{base} has {len(names)} streams: say which one")
    return os.path.join(base, names[0])


def _connect(directory: str, name: str, kind: int) -> socket.socket:
    path = os.path.join(directory, name)
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotPermittedError(f"{path}: {error.strerror}") from error
        raise AuditnsError(f"{path}: {error.strerror}; is the stream there, and its server running?") from error
    return sock


def request(directory: str, question: JsonObject, timeout: float = 5.0) -> JsonObject:
    """Ask over ``talk``; the answer, which is good. Raises :class:`NotPermittedError` or :class:`AuditnsError`."""
    with _connect(directory, "talk", socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(timeout)
        try:
            sock.send(json.dumps(question).encode())
            answer = json.loads(sock.recv(_ANSWER) or b"null")
        except (OSError, ValueError) as error:
            raise AuditnsError(f"{directory}: no answer: {error}") from error
    if not isinstance(answer, dict):
        raise AuditnsError(f"{directory}: hung up")
    if not answer.get("ok"):
        message = f"{answer.get('message', 'refused')} ({answer.get('error', '?')})"
        raise NotPermittedError(message) if answer.get("error") == "EPERM" else AuditnsError(message)
    return answer


def state(directory: str) -> JsonObject:
    """backlog_limit, rate_limit, overflow, paused, held_records, lost_records."""
    found: JsonObject = request(directory, {"op": "state"})["state"]
    return found


def pause(directory: str) -> None:
    """Have no events of this container taken until :func:`resume`. For root of the container."""
    request(directory, {"op": "pause"})


def resume(directory: str) -> None:
    """Go on after :func:`pause`."""
    request(directory, {"op": "resume"})


def send(directory: str, kind: str, text: str) -> None:
    """Send a message of type ``kind`` (USER_CMD, USER_LOGIN …); it becomes a record of the host's audit."""
    request(directory, {"op": "send", "type": kind, "text": text})


def login(directory: str, uid: int, session: int | None = None, pid: int | None = None) -> None:
    """Say that ``uid`` (of this container) has logged in: for our parent process, or for ``pid`` of this container, and
    what it starts from now on. Once for each process. For root of the container."""
    request(directory, {"op": "login", "uid": uid, "session": session, "pid": pid})


def server_of(sock: socket.socket) -> int:
    """The process that listens on the other side, as the kernel says; 0 when it is in no pid namespace of ours."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(raw)[0])


def control_server(path: str) -> int:
    """The process that serves the control socket ``path``; 0 where there is none to be had."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(path)
        except OSError:
            return 0  # inside a container, or not root
        return server_of(sock)


def trusted_server(control: str) -> int:
    """The process that serves streams on this host; 0 inside a container, where a stream is as trustworthy as the
    container's own root.

    On the host a socket in a stream's directory may be one that a container's root has put there: who serves is known
    by the control socket, or by a file beside it that root alone can write. Raises :class:`AuditnsError` where neither
    is.
    """
    serving = control_server(control)
    if serving or not on_host():
        return serving
    path = os.path.join(os.path.dirname(control), SERVER)
    try:
        with open(path, encoding="ascii") as file:
            if os.fstat(file.fileno()).st_uid == 0:
                return int(file.read(32))
    except (OSError, ValueError):
        pass  # reported below
    raise AuditnsError(f"{path} does not tell who serves streams here: no socket of a stream can be trusted")


def on_host() -> bool:
    """Whether we are in the initial pid and cgroup namespaces and in no container that a cgroup's path tells."""
    from auditns_connector.model.runtimes import places

    try:
        inodes = [os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("pid", "cgroup")]
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            paths = [line.rstrip("\n").split(":", 2)[2] for line in file if line.count(":") >= 2]
    except OSError:
        return True  # it cannot be determined: then nothing is trusted that need not be
    initial = [INITIAL_INODES[kind] for kind in ("pid", "cgroup")]
    return inodes == initial and not any(map(places, paths))


def read(directory: str, *, follow: bool = True, duration: float | None = None, server: int = 0) -> Iterator[bytes]:
    """Whole lines, what was held first; ends when the server goes, after ``duration`` seconds, or, without ``follow``,
    when nothing more is there.

    ``server``: the process that must be the one to serve it. A container whose root can write to the directory could
    put a socket of its own there; a reader on the host is not taken in.
    """
    end = None if duration is None else time.monotonic() + duration
    rest = b""
    with _connect(directory, "sock", socket.SOCK_STREAM) as sock:
        if server and server_of(sock) != server:
            raise AuditnsError(f"{directory}/sock is served by somebody else than the control socket")
        while True:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            wait = left if follow else min(_QUIET, _QUIET if left is None else left)
            sock.settimeout(wait)
            try:
                data = sock.recv(_ROOM)
            except TimeoutError:
                if follow:
                    continue
                return
            except OSError as error:
                raise AuditnsError(f"{directory}: {error.strerror}") from error
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line + b"\n"
