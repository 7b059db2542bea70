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
from typing import Final

from auditns_connector.control.peer import Peer as Peer
from auditns_connector.control.peer import peer_accepted
from auditns_connector.daemon.log import Log
from auditns_connector.errors import AuditnsError, BehindError, NobodyServesError, NotPermittedError
from auditns_connector.sources.procfs import Procfs
from auditns_connector.state.directory import make_public
from auditns_connector.vocabulary.values import JsonObject

MAX_REQUEST: Final = 64 * 1024
MAX_ANSWER: Final = 1 << 20
MAX_CLIENTS: Final = 64
_BACKLOG: Final = 512
#: a program that is behind is asked again after so long (seconds)
_ASK_AGAIN: Final = 0.1
#: messages that wait for a subscriber; one that leaves more unread is dropped
MAX_QUEUE: Final = 100_000

Handler = Callable[[JsonObject, Peer, socket.socket], JsonObject]
#: the same for a request that comes with a document, in a memfd that nobody can change any more
DocumentHandler = Callable[[bytes, Peer, socket.socket], JsonObject]
MAX_DOCUMENT: Final = 4 << 20
#: include/uapi/linux/fcntl.h; Python 3.11 has them in fcntl only where its own headers did
_F_GET_SEALS: Final = 1034
_F_SEAL_SHRINK: Final = 0x2
_F_SEAL_WRITE: Final = 0x8


class ControlServer:
    """Serves ``path`` from the pipeline's selector; ``handlers`` maps the ``op`` of a request to what answers it.

    ``locked``: take the lock file beside it; without, whoever opens it must know that nobody else serves it."""

    def __init__(self, path: str, selector: selectors.BaseSelector, *, locked: bool = True) -> None:
        self.path = path
        self.handlers: dict[str, Handler] = {}
        #: requests of programs that parse nothing: they pass a document and get one line, see :func:`line_of`
        self.document_handlers: dict[str, DocumentHandler] = {}
        #: writes down what is kept over a restart and tells subscribers of it
        self.keep: Callable[[], None] = lambda: None
        self.counters = {"connections": 0, "requests": 0, "refused": 0, "malformed": 0}
        self.selector = self._selector = selector
        #: in the order of their last request, the one silent longest first
        self._clients: dict[socket.socket, Peer] = {}
        self._procfs = Procfs()
        #: clients that asked to be notified, with what they have not read yet
        self._subscribers: dict[socket.socket, deque[bytes]] = {}
        self._lock = self._take_lock() if locked else -1
        try:
            self._socket = self._bind()
        except BaseException:
            self._unlock()
            raise
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    @classmethod
    def open(cls, path: str, selector: selectors.BaseSelector, log: Log) -> "ControlServer | None":
        """The server of ``path``; ``None``, and a warning, where another program serves it."""
        try:
            make_public(os.path.dirname(path) or ".")
            return cls(path, selector)
        except (AuditnsError, OSError) as error:
            log.warning("no control socket", path=path, reason=str(error))
            return None

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
        passed = _passed(ancillary)
        try:
            if not data:
                self._drop(client)
                return
            self.counters["requests"] += 1
            self._clients[client] = self._clients.pop(client)
            message = self._answer(data, flags, client, passed)
        finally:
            for fd in passed:
                os.close(fd)
        if client in self._subscribers:
            self._subscribers[client].appendleft(message)
            self._send_more(client)
            return
        try:
            client.send(message[:MAX_ANSWER])
        except OSError:
            self._drop(client)  # it does not read, or is gone: its answer is not kept

    # -- those who want to be notified

    def subscribe(self, client: socket.socket, messages: Collection[JsonObject]) -> None:
        """Send ``messages`` to ``client`` behind the answer to its request, and from now on what is published."""
        self._subscribers[client] = deque(json.dumps(message).encode() for message in messages)

    @property
    def subscribed(self) -> bool:
        """Whether anybody wants to be notified."""
        return bool(self._subscribers)

    def publish(self, message: JsonObject) -> None:
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

    def _answer(self, data: bytes, flags: int, client: socket.socket, passed: list[int]) -> bytes:
        """What is sent back for the request ``data`` with the descriptors ``passed``."""
        if flags & socket.MSG_TRUNC or len(data) > MAX_REQUEST:
            return _json(self._malformed(f"a request is at most {MAX_REQUEST} bytes"))
        try:
            request = json.loads(data)
            op = request["op"]
            handler, document_handler = self.handlers.get(op), self.document_handlers.get(op)
        except (ValueError, KeyError, TypeError, RecursionError):
            return _json(self._malformed('a request is a JSON object with a key "op"'))
        peer = self._clients[client]
        try:
            if document_handler is not None:
                return line_of(document_handler(_document(passed), peer, client))
            if handler is not None:
                return _json(handler(request, peer, client))
        except AuditnsError as error:
            code = "EAGAIN" if isinstance(error, BehindError) else "EIO"
            answer = {"ok": False, "error": code, "message": str(error)}
            return line_of(answer) if document_handler is not None else _json(answer)
        return _json(self._malformed(f"no such request: {str(op)[:64]!r}"))

    def _malformed(self, why: str) -> JsonObject:
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


def _json(answer: JsonObject) -> bytes:
    return json.dumps(answer, default=str).encode()


def line_of(answer: JsonObject) -> bytes:
    """An answer as one line: "ok MS" (how long the asker is to wait, milliseconds) or "no ERROR: MESSAGE"."""
    if answer["ok"]:
        return f"ok {answer.get('wait_ms', 0)}".encode()
    return f"no {answer.get('error')}: {answer.get('message')}".encode("utf-8", "replace")[:400]


def _passed(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with a request; the caller closes them."""
    return [
        fd
        for level, kind, data in ancillary
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
        for (fd,) in struct.iter_unpack("i", data[: len(data) // 4 * 4])
    ]


def _document(passed: list[int]) -> bytes:
    """What is in the one descriptor that was passed: a sealed memfd, so that reading it waits for nobody.
    Raises :class:`AuditnsError`."""
    if len(passed) != 1:
        raise AuditnsError("the request wants one descriptor with its document")
    (fd,) = passed
    try:
        seals = fcntl.fcntl(fd, _F_GET_SEALS)  # EINVAL: not a memfd
        size = os.fstat(fd).st_size
        if seals & (_F_SEAL_SHRINK | _F_SEAL_WRITE) != _F_SEAL_SHRINK | _F_SEAL_WRITE or size > MAX_DOCUMENT:
            raise AuditnsError(f"the document must be sealed and at most {MAX_DOCUMENT} bytes")
        return os.pread(fd, MAX_DOCUMENT, 0)
    except OSError as error:
        raise AuditnsError(f"the document cannot be read: {error.strerror}") from error


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


def ask(path: str, request: JsonObject, timeout: float = 5.0) -> JsonObject:
    """Send one request to the program that serves ``path`` and return its answer; where that program is behind, again
    and again for ``timeout`` seconds.

    Raises :class:`NobodyServesError`, :class:`AuditnsError` where the answer makes no sense or does not come, and
    :class:`NotPermittedError` where the socket is closed to us.
    """
    end = time.monotonic() + timeout
    while True:
        answer = _ask_once(path, request, timeout)
        if answer.get("error") != "EAGAIN" or time.monotonic() > end:
            return answer
        time.sleep(_ASK_AGAIN)


def _ask_once(path: str, request: JsonObject, timeout: float) -> JsonObject:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(timeout)
        try:
            _connect(sock, path, timeout)
            sock.send(json.dumps(request).encode())
            data = sock.recv(MAX_ANSWER)
        except PermissionError:
            raise NotPermittedError(f"{path}: only root may ask") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NobodyServesError(f"nobody serves {path}: neither auditns listen nor the plugin is running") from None
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
