"""A stderr for programs that have none: auditd gives its plugins /dev/null, so what they say goes to syslog.

One datagram a line to /dev/log (RFC 3164, as syslog(3) sends it, which journald and rsyslog read), and never blocking,
because a log daemon that waits for audit must not make audit wait for it.
"""

import io
import os
import socket
import stat
import time
from collections import deque
from typing import Final

DEVICE: Final = "/dev/log"
#: lines kept while nobody listens yet, as early in the boot; then the oldest stay and the newest go
PENDING: Final = 64
LONGEST: Final = 1800
_DAEMON: Final = 3 << 3
_SEVERITY: Final = {"level=error": 3, "level=warning": 4, "level=info": 6}
_NOTICE: Final = 5


class SyslogStream(io.TextIOBase):
    """A text stream whose lines go to syslog under the name ``ident``."""

    def __init__(self, ident: str, device: str = DEVICE) -> None:
        super().__init__()
        self.unsent = 0
        self._ident = ident
        self._device = device
        self._rest = ""
        self._pending: deque[bytes] = deque()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._connected = False

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._queue(line)
        self._send()
        return len(text)

    def flush(self) -> None:
        """A line is sent when it is whole; what waits for a listener is tried again."""
        self._send()

    def close(self) -> None:
        if not self.closed:
            if self._rest.strip():
                self.write("\n")
            self._socket.close()
        super().close()

    def _queue(self, line: str) -> None:
        if len(self._pending) >= PENDING:
            self.unsent += 1
            return
        severity = _SEVERITY.get(line.split(" ", 1)[0], _NOTICE)
        shown = "".join(char if char.isprintable() else "?" for char in line)
        when = time.strftime("%b %e %H:%M:%S")
        head = f"<{_DAEMON | severity}>{when} {self._ident}[{os.getpid()}]: "
        self._pending.append((head + shown).encode(errors="backslashreplace")[:LONGEST])

    def _send(self) -> None:
        while self._pending:
            try:
                if not self._connected:
                    self._socket.connect(self._device)
                    self._connected = True
                self._socket.send(self._pending[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return  # it is slow: with the next line
            except OSError:
                if not self._connected:
                    return  # nobody listens yet
                self._connected = False  # it was restarted: connect once more
                continue
            self._pending.popleft()


def is_null(fd: int) -> bool:
    """Whether what is written to ``fd`` is thrown away: /dev/null."""
    try:
        info = os.fstat(fd)
    except OSError:
        return True
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3)
