"""The control socket: one JSON object asks, one answers, over AF_UNIX SOCK_SEQPACKET (root:root, 0600).

One program at a time serves a path (a lock file beside it says who). Requests are judged by what the kernel says of the
peer, never by what the peer says. Everything is bounded: clients, request size, answers not read.
"""

import contextlib
import errno
import fcntl
import json
import os
import selectors
import socket
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Final

from auditns_connector.control.peer import Peer as Peer
from auditns_connector.control.peer import peer_accepted
from auditns_connector.daemon.log import Talk
from auditns_connector.errors import AuditnsError, NotPermittedError
from auditns_connector.sources.procfs import Procfs

MAX_REQUEST: Final = 64 * 1024
MAX_ANSWER: Final = 1 << 20
MAX_CLIENTS: Final = 64
_BACKLOG: Final = 512
#: messages that wait for a subscriber; one that leaves more unread is dropped
MAX_QUEUE: Final = 100_000

Handler = Callable[[dict[str, Any], Peer, socket.socket], dict[str, Any]]


class ControlServer:
    """Serves ``path`` from the pipeline's selector; ``handlers`` maps the ``op`` of a request to what answers it.

    ``locked``: take the lock file beside it; without, whoever opens it must know that nobody else serves it."""

    def __init__(self, path: str, selector: selectors.BaseSelector, *, locked: bool = True) -> None:
        self.path = path
        self.handlers: dict[str, Handler] = {}
        #: writes down what is kept over a restart and tells subscribers of it
        self.keep: Callable[[], None] = lambda: None
        self.counters = {"connections": 0, "requests": 0, "refused": 0, "malformed": 0}
        self.selector = self._selector = selector
        #: in the order of their last request, the one silent longest first
        self._clients: dict[socket.socket, Peer] = {}
        self._procfs = Procfs()
        #: clients that asked to be told, with what they have not read yet
        self._subscribers: dict[socket.socket, deque[bytes]] = {}
        self._lock = self._take_lock() if locked else -1
        try:
            self._socket = self._bind()
        except BaseException:
            self._unlock()
            raise
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    @classmethod
    def open(cls, path: str, pipeline: Any, talk: Talk) -> "ControlServer | None":
        """The server of ``pipeline``, with the status request; ``None``, and said, where another program serves."""
        try:
            os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
            server = cls(path, pipeline.selector)
        except (AuditnsError, OSError) as error:
            talk.warn("no control socket", path=path, reason=str(error))
            return None
        server.handlers["status"] = lambda request, peer, sock: {"ok": True, "status": pipeline.status()}
        return server

    def _take_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self.path + ".lock", flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise AuditnsError("another listener or plugin serves it") from None
        return lock

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)

    def _bind(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise AuditnsError("something else than a socket is there")
            os.unlink(self.path)  # of a former run: we hold the lock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        umask = os.umask(0o177)
        try:
            sock.bind(self.path)
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(umask)
        sock.listen(_BACKLOG)
        return sock

    # -- clients

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR):
                self.counters["refused"] += 1
            return
        self.counters["connections"] += 1
        if len(self._clients) >= MAX_CLIENTS:
            # nobody can keep others out by holding connections: the one that was silent longest must go
            self.counters["refused"] += 1
            self._drop(next((c for c in self._clients if c not in self._subscribers), client))
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self._clients[client] = peer_accepted(client, self._procfs)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        try:
            data, ancillary, flags, _ = client.recvmsg(MAX_REQUEST + 1, socket.CMSG_SPACE(64 * 4))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(client)
            return
        _close_passed(ancillary)
        if not data:
            self._drop(client)
            return
        self.counters["requests"] += 1
        self._clients[client] = self._clients.pop(client)
        message = json.dumps(self._answer(data, flags, client), default=str).encode()
        if client in self._subscribers:
            self._subscribers[client].appendleft(message)
            self._send_more(client)
            return
        try:
            client.send(message[:MAX_ANSWER])
        except OSError:
            self._drop(client)  # it does not read, or is gone: its answer is not kept

    # -- those who want to be told

    def subscribe(self, client: socket.socket, messages: Collection[dict[str, Any]]) -> None:
        """Send ``messages`` to ``client`` behind the answer to its request, and from now on what is published."""
        self._subscribers[client] = deque(json.dumps(message).encode() for message in messages)

    @property
    def subscribed(self) -> bool:
        """Whether anybody wants to be told."""
        return bool(self._subscribers)

    def publish(self, message: dict[str, Any]) -> None:
        """Tell every subscriber."""
        data = json.dumps(message).encode()
        for client, queue in list(self._subscribers.items()):
            queue.append(data)
            if len(queue) > MAX_QUEUE:
                self._drop(client)
            else:
                self._send_more(client)

    def _send_more(self, client: socket.socket) -> None:
        queue = self._subscribers[client]
        try:
            while queue:
                client.send(queue[0])
                queue.popleft()
        except (BlockingIOError, InterruptedError):
            pass  # the rest when it has read
        except OSError:
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if queue else 0)
        self._selector.modify(client, events, lambda: self._on_subscriber(client))

    def _on_subscriber(self, client: socket.socket) -> None:
        self._read(client)
        if client in self._subscribers:
            self._send_more(client)

    def _answer(self, data: bytes, flags: int, client: socket.socket) -> dict[str, Any]:
        if flags & socket.MSG_TRUNC or len(data) > MAX_REQUEST:
            return self._malformed(f"a request is at most {MAX_REQUEST} bytes")
        try:
            request = json.loads(data)
            handler = self.handlers.get(request["op"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return self._malformed('a request is a JSON object with a key "op"')
        if handler is None:
            return self._malformed(f"no such request: {str(request['op'])[:64]!r}")
        try:
            return handler(request, self._clients[client], client)
        except AuditnsError as error:
            return {"ok": False, "error": "EIO", "message": str(error)}

    def _malformed(self, why: str) -> dict[str, Any]:
        self.counters["malformed"] += 1
        return {"ok": False, "error": "EINVAL", "message": why}

    def _drop(self, client: socket.socket) -> None:
        self._subscribers.pop(client, None)
        if client in self._clients:
            del self._clients[client]
            with contextlib.suppress(KeyError, ValueError, RuntimeError):
                self._selector.unregister(client)
            client.close()

    def close(self) -> None:
        """Stop serving and take the socket away."""
        for client in list(self._clients):
            self._drop(client)
        with contextlib.suppress(KeyError, ValueError, RuntimeError):
            self._selector.unregister(self._socket)
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._unlock()


def _close_passed(ancillary: list[tuple[int, int, bytes]]) -> None:
    """Descriptors nobody asked for are closed at once."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            for (fd,) in struct.iter_unpack("i", data[: len(data) // 4 * 4]):
                os.close(fd)


def _connect(sock: socket.socket, path: str, timeout: float) -> None:
    """Connect; a socket with a time limit does not wait by itself where too many others do already."""
    end = time.monotonic() + timeout
    while True:
        try:
            sock.connect(path)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.005)


def ask(path: str, request: dict[str, Any], timeout: float = 5.0) -> dict[str, Any]:
    """Send one request to the program that serves ``path`` and return its answer.

    Raises :class:`AuditnsError` where nobody serves or the answer makes no sense, and
    :class:`NotPermittedError` where the socket is closed to us.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(timeout)
        try:
            _connect(sock, path, timeout)
            sock.send(json.dumps(request).encode())
            data = sock.recv(MAX_ANSWER)
        except PermissionError:
            raise NotPermittedError(f"{path}: only root may ask") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise AuditnsError(f"nobody serves {path}: neither auditns listen nor the plugin is running") from None
        except TimeoutError:
            raise AuditnsError(
                f"{path}: no answer within {timeout:g} s: who serves it is very busy, or hangs"
            ) from None
        except OSError as error:
            raise AuditnsError(f"{path}: {error}") from error
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise AuditnsError(f"{path}: the answer cannot be understood")
    return answer
