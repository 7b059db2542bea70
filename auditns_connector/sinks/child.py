"""A plugin of ours: a program that is given the enriched stream on its stdin, as auditd would give it.

Its stdin is one end of a unix stream socket pair. We keep that end open too, because it tells how much a dead
child has left unread: that much is sent again, to the next one, from the start of its line on.
"""

import errno
import fcntl
import os
import select
import signal
import socket
import stat
import termios
import time
from array import array
from typing import Final

from auditns_connector.config.options import ChildOutput
from auditns_connector.sinks.base import LineQueue, LostLine, add_notice, wait_until_flushed
from auditns_connector.sinks.loss import Block, Loss
from auditns_connector.sinks.outlet import Outlet
from auditns_connector.sinks.quoting import quoted
from auditns_connector.sinks.spawner import Spawner

#: seconds between starts: doubled from the first to the second, anew after a child that lived long
BACKOFF_FIRST: Final = 1.0
BACKOFF_LAST: Final = 60.0
#: SO_SNDBUF of our end; the kernel doubles it and counts its own overhead, so less than twice this is ever unread
SEND_BUFFER: Final = 128 * 1024


class ChildSink:
    """Has ``spawner`` start its program and keeps it running; one that cannot be started is reported and tried
    again."""

    def __init__(self, options: ChildOutput, lost: LostLine, spawner: Spawner, name: str = "child") -> None:
        self.name = name
        self.notices: list[str] = []
        self.broken = False
        self.pid = 0  # 0: none runs
        self.options = options
        self._argv = spawner.argv
        self.lost = lost
        self._queue = LineQueue(name, options.queue, keep_sent=2 * SEND_BUFFER)
        self._epoll = select.epoll()
        self._outlet: Outlet | None = None
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._pidfd = -1
        self._backoff = BACKOFF_FIRST
        self._started = self._due = 0.0
        self._starts = 0
        self._closed = False
        self._spawner = spawner
        self._start()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def write(self, data: Block) -> None:
        data = self._spelled(data)
        if self._outlet is None:
            self._queue.push(data)
            self._queue.trim()
            return
        try:
            self._outlet.write(data)
        except OSError:
            self._ended()

    def _spelled(self, data: Block) -> Block:
        """As readers want it that know our records by number alone."""
        return quoted(data) if self.options.record_names == "numeric" else data

    def _lost_line(self, loss: Loss) -> bytes:
        return bytes(self._spelled(self.lost(loss)))

    @property
    def prompt(self) -> bool:
        return True

    def natives(self) -> None:
        """What the child was sent is kept for its successor."""

    def on_ready(self) -> None:
        if self._closed:
            return
        self._epoll.poll(0)
        if self.pid and self._reap():
            self._ended()
        if not self.pid and time.monotonic() >= self._due:
            self._start()
        if self._outlet is not None:
            try:
                self._outlet.pump()
            except OSError:
                self._ended()

    def deadline(self) -> float | None:
        return None if self.pid or self._closed else self._due

    def counters(self) -> dict[str, int]:
        """reconnects: starts after the first; running: 1 or 0."""
        return {**self._queue.counters(), "reconnects": max(self._starts - 1, 0), "running": int(self.pid > 0)}

    def reopen(self) -> None:
        """Hand the HUP on, as auditd does."""
        self._signal(signal.SIGHUP)

    def flush(self, timeout: float | None) -> bool:
        return wait_until_flushed(self, lambda: self._queue.size, timeout)

    def close(self, timeout: float) -> None:
        """End of file for the child, then up to ``timeout`` seconds to finish, then SIGTERM, then SIGKILL."""
        if self._closed:
            return
        end = time.monotonic() + timeout
        self.flush(timeout)
        self._closed = True
        if self._ours is not None:
            self._ours.shutdown(socket.SHUT_WR)
        for sign, seconds in ((None, max(end - time.monotonic(), 0.1)), (signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
            if sign:
                self._signal(sign)
            if self._wait(seconds):
                break
        self._take_back()
        self._queue.clear()
        self._let_go()
        self._epoll.close()

    # --- start ---

    def _start(self) -> None:
        now = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            refuse_unsafe(self._argv[0])
            self.pid, self._pidfd = self._spawner.start(theirs.fileno(), 2)
        except OSError as error:
            ours.close()
            theirs.close()
            self.pid = 0
            self._wait_longer(now)
            add_notice(self.notices, f"{self.name}: cannot start {self._argv[0]}: {error.strerror}")
            return
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._ours, self._theirs = ours, theirs
        self._starts += 1
        self._started = now
        self._epoll.register(self._pidfd, select.EPOLLIN)
        self._outlet = Outlet(ours.fileno(), self._queue, self._epoll, self._lost_line)

    def _wait_longer(self, now: float) -> None:
        self._due = now + self._backoff
        self._backoff = min(self._backoff * 2, BACKOFF_LAST)

    # --- end ---

    def _reap(self) -> bool:
        try:
            status = self._spawner.reap(self.pid)
        except OSError as error:
            how = f"is not looked after any more: {error.strerror}"
        else:
            if status is None:
                return False
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        self.pid = 0
        add_notice(self.notices, f"{self.name}: {self._argv[0]} {how}")
        return True

    def _ended(self) -> None:
        """The child is dead, or does not want to read any more, which comes to the same."""
        now = time.monotonic()
        if self.pid and not self._reap():
            self._signal(signal.SIGTERM)
            if not self._wait(1.0):
                self._signal(signal.SIGKILL)
                self._wait(1.0)
        if now - self._started >= BACKOFF_LAST:
            self._backoff = BACKOFF_FIRST
        self._wait_longer(now)
        self._take_back()
        self._let_go()

    def _take_back(self) -> None:
        """What the dead child has left unread waits again, the line it had begun to read included."""
        if self._theirs is not None:
            unread = array("i", [0])
            fcntl.ioctl(self._theirs, termios.FIONREAD, unread)
            self._queue.take_back(unread[0])

    def _let_go(self) -> None:
        if self._outlet is not None:
            self._outlet.detach()
            self._epoll.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        for sock in (self._ours, self._theirs):
            if sock is not None:
                sock.close()
        self._outlet = self._ours = self._theirs = None

    def _signal(self, sign: signal.Signals) -> None:
        if self.pid:
            try:
                self._spawner.signal(self.pid, sign)
            except OSError as error:
                add_notice(self.notices, f"{self.name}: {self._argv[0]} got no {sign.name}: {error.strerror}")

    def _wait(self, seconds: float) -> bool:
        """Whether the child has ended within ``seconds``."""
        if self.pid:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
        return not self.pid or self._reap()


def refuse_unsafe(path: str) -> None:
    """As root, run only what nobody but root could have put there; auditd asks the same. Raises OSError."""
    info = os.lstat(path)
    if not stat.S_ISREG(info.st_mode):
        raise PermissionError(errno.EPERM, "not a regular file (auditd refuses links, and so do we)", path)
    if os.geteuid() == 0:
        if info.st_uid != 0:
            raise PermissionError(errno.EPERM, f"belongs to uid {info.st_uid}, not to root", path)
        if info.st_mode & 0o002 or (info.st_mode & 0o020 and info.st_gid != 0):
            raise PermissionError(errno.EPERM, "can be written by others", path)
