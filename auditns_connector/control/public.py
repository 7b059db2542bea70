"""A control socket that every user of the host may open: one request a connection, one answer.

Who asks is a uid of the host: its process must be in our user namespace, the initial one, or one user could ask as each
of the uids that are mapped into a namespace of his. All is bounded for each uid and in all: connections, how long they
stay, requests a second, the size of a request. Nothing here waits for a client.
"""

import errno
import json
import os
import selectors
import socket
import stat
import time
from collections.abc import Callable
from typing import Final

from auditns_connector.control.peer import PidHandle, peer_of
from auditns_connector.daemon.rate import RateLimit
from auditns_connector.errors import AuditnsError, BehindError
from auditns_connector.vocabulary.values import JsonObject

MAX_REQUEST: Final = 8192
#: connections that wait for an answer
MAX_CLIENTS: Final = 64
MAX_CLIENTS_OF_USER: Final = 4
#: seconds that a connection may stay without a request
_STAY: Final = 5.0
#: requests a second, of one user and of all
REQUESTS_OF_USER: Final = 10
REQUESTS: Final = 100
#: connections that are taken in one go, and a second
_ACCEPTS: Final = 32
_CONNECTS: Final = 1000
#: who comes faster waits in the kernel's queue for so long (seconds)
_REST: Final = 0.02
_BACKLOG: Final = 256
#: users whose requests are counted
_USERS: Final = 1024

#: given the request, the uid that asks and its connection
Answer = Callable[[JsonObject, int, socket.socket], JsonObject]


class PublicServer:
    """Serves ``path`` (mode 0666) with ``answer``. Raises :class:`AuditnsError`, OSError where it cannot."""

    def __init__(self, path: str, selector: selectors.BaseSelector, answer: Answer) -> None:
        self.path = path
        self.counters = {"connections": 0, "requests": 0, "refused": 0, "malformed": 0}
        #: when clients are listened to again (time.monotonic seconds); None: they are
        self.deadline: float | None = None
        self._selector, self._answer = selector, answer
        #: connection -> its uid and when it came
        self._clients: dict[socket.socket, tuple[int, float]] = {}
        self._users: dict[int, RateLimit] = {}
        self._requests, self._connects = RateLimit(REQUESTS), RateLimit(_CONNECTS)
        self._socket = _bind(path)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    # -- connections

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                client, _address = self._socket.accept()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR):
                    self.counters["refused"] += 1
                    self._rest()
                return
            self.counters["connections"] += 1
            self._take(client)
            if not self._connects.allows(1, time.monotonic_ns()):
                self._rest()
                return

    def _rest(self) -> None:
        if self.deadline is None:
            self._selector.unregister(self._socket)
            self.deadline = time.monotonic() + _REST

    def go_on(self) -> None:
        """Listen again, when :attr:`deadline` has come."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.deadline = None
            self._selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def _take(self, client: socket.socket) -> None:
        client.setblocking(False)
        uid = peer_of(client).uid
        of_user = sum(other == uid for other, _ in self._clients.values())
        if of_user >= MAX_CLIENTS_OF_USER or not in_our_user_namespace(client):
            self.counters["refused"] += 1
            client.close()
            return
        if len(self._clients) >= MAX_CLIENTS:
            self.counters["refused"] += 1
            self._drop(next(iter(self._clients)))  # who came first has had the most time
        self._clients[client] = uid, time.monotonic()
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _drop(self, client: socket.socket) -> None:
        if self._clients.pop(client, None) is not None:
            self._selector.unregister(client)
            client.close()

    def tick(self) -> None:
        """Once a second: hang up on those that say nothing."""
        before = time.monotonic() - _STAY
        for client in [client for client, (_, came) in self._clients.items() if came < before]:
            self.counters["refused"] += 1
            self._drop(client)

    # -- requests

    def _read(self, client: socket.socket) -> None:
        if client not in self._clients:
            return
        uid = self._clients[client][0]
        try:
            data = client.recv(MAX_REQUEST + 1)  # without a buffer for them, passed descriptors are dropped
            if data:
                self.counters["requests"] += 1
                answer = json.dumps(self._of(data, uid, client), default=str).encode()
                client.send(answer, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.counters["refused"] += 1  # it has gone, or has no room for its answer
        self._drop(client)

    def _of(self, data: bytes, uid: int, client: socket.socket) -> JsonObject:
        """The answer to ``data``."""
        now = time.monotonic_ns()
        if not (self._of_user(uid).allows(1, now) and self._requests.allows(1, now)):
            self.counters["refused"] += 1
            return {"ok": False, "error": "EAGAIN", "message": f"more than {REQUESTS_OF_USER} requests a second"}
        try:
            request = json.loads(data) if len(data) <= MAX_REQUEST else None
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            self.counters["malformed"] += 1
            return {"ok": False, "error": "EINVAL", "message": f"a request is a JSON object of {MAX_REQUEST} bytes"}
        try:
            return self._answer(request, uid, client)
        except AuditnsError as error:
            return {"ok": False, "error": "EAGAIN" if isinstance(error, BehindError) else "EIO", "message": str(error)}

    def _of_user(self, uid: int) -> RateLimit:
        found = self._users.pop(uid, None) or RateLimit(REQUESTS_OF_USER)
        while len(self._users) >= _USERS:
            del self._users[next(iter(self._users))]
        self._users[uid] = found  # the one who asked last is the last to be forgotten
        return found

    def close(self) -> None:
        """Stop serving and take the socket away."""
        for client in list(self._clients):
            self._drop(client)
        if self.deadline is None:
            self._selector.unregister(self._socket)
        self._socket.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass  # what was wanted


def in_our_user_namespace(client: socket.socket) -> bool:
    """Whether the process that connected lives, in our user namespace."""
    with PidHandle.by_socket(client) as held:
        try:
            ino = os.stat(f"/proc/{held.pid}/ns/user").st_ino if held.pid else 0
        except OSError:
            return False  # it has gone
        return ino == os.stat("/proc/self/ns/user").st_ino and held.alive()


def _bind(path: str) -> socket.socket:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise AuditnsError(f"{path}: something else than a socket is there")
        os.unlink(path)  # of a former run: who serves the control socket beside it serves this one
    except FileNotFoundError:
        pass  # as it should be
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    umask = os.umask(0o111)
    try:
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock
