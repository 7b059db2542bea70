"""The second program on a host: it does not serve the control socket, it follows the one that does.

When that one goes away it takes over the socket, or follows the next.
"""

import json
import selectors
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from auditns_connector.control.own_programs import own_frame
from auditns_connector.control.server import MAX_ANSWER, ControlServer
from auditns_connector.daemon.log import RateLimitedLog
from auditns_connector.errors import AuditnsError
from auditns_connector.model.apply.restore_requests import checked
from auditns_connector.vocabulary import frames as f

if TYPE_CHECKING:
    from auditns_connector.daemon.log import Log
    from auditns_connector.host.observer import Observer

_TIMEOUT: Final = 2.0
#: whoever only follows waits less for one that does not answer, and asks again after so long (seconds)
_SHORT: Final = 0.25
_AGAIN: Final = 5.0


class Follower:
    """Feeds ``observer`` with the registrations of whoever serves ``path``; ``selector``'s data is what to call. When
    nobody serves any more, ``take_over`` is given the control socket of our own; ``None``: who serves next is
    waited for."""

    def __init__(
        self,
        observer: "Observer",
        selector: selectors.BaseSelector,
        path: str,
        log: "Log",
        take_over: Callable[[ControlServer], None] | None,
    ) -> None:
        self._observer, self._selector = observer, selector
        self._take_over = take_over
        self._path = path
        self._log = RateLimitedLog(log)
        self._sock: socket.socket | None = None
        self._served = False
        self._next = 0.0
        self._connect(_TIMEOUT)
        observer.followed.append(self._read)

    def _connect(self, timeout: float) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        sock.settimeout(timeout)
        try:
            sock.connect(self._path)
            sock.send(json.dumps({"v": 1, "op": "subscribe"}).encode())
            answer = json.loads(sock.recv(MAX_ANSWER) or b"{}")
            if not isinstance(answer, dict) or not answer.get("ok"):
                raise ValueError("refused")
            now = self._observer.sync()
            # what was registered before us must be known before we answer anything
            while (data := sock.recv(MAX_ANSWER)) and self._feed(data, now) != "restored":
                pass
        except (OSError, ValueError):
            sock.close()
            return
        sock.setblocking(False)
        self._sock = sock
        self._selector.register(sock, selectors.EVENT_READ, self._observer.sync_unless_applying)
        self._log.info("followed", "another program serves registrations; they are followed", path=self._path)

    def _read(self, now: int) -> None:
        """Take in all that has been reported. The other one tells us before it answers who asked, so that a
        registration is known here for every event of a process that was registered and let go on."""
        while self._sock is not None:
            try:
                data = self._sock.recv(MAX_ANSWER)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._drop()
                return
            self._feed(data, now)

    def _feed(self, data: bytes, now: int) -> str:
        """Give the model one message; which it was, empty where it cannot be understood and is passed over."""
        try:
            frame, op = _frame(data, now)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, struct.error):
            return ""
        self._observer.feed(frame)
        return op

    def _drop(self) -> None:
        if self._sock is not None:
            self._selector.unregister(self._sock)
            self._sock.close()
            self._sock = None

    def tick(self) -> None:
        """Where nobody serves any more: serve, or follow whoever does now."""
        if self._served or self._sock is not None:
            return
        if self._take_over is None:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + _AGAIN
                self._connect(_SHORT)
            return
        try:
            control = ControlServer(self._path, self._selector)
        except (AuditnsError, OSError):
            self._connect(_TIMEOUT)
            return
        self._served = True
        self._take_over(control)
        self._log.info("served", "registrations are served here now", path=self._path, at=round(time.time()))

    def close(self) -> None:
        """Stop following."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _frame(data: bytes, now: int) -> tuple[bytes, str]:
    """The frame of a message, and which it was. Whatever is wrong with it raises."""
    request = json.loads(data)
    # both programs run on this host, and by one clock
    when = min(now, int(request["saved"]))
    if request["op"] == "own":
        return own_frame(when, int(request["pid"]), int(request["start"])), "own"
    return f.pack(f.K_REGISTER, f.S_CONTROL, when, payload=data), str(checked(request)["op"])
