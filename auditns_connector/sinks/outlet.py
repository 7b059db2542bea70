"""One receiver that can be polled: its descriptor, its queue, and its place in the sink's epoll set."""

import os
import select
import socket
import stat
from collections.abc import Callable
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.sinks.base import LineQueue, LostLine, send_vector
from auditns_connector.sinks.loss import Block
from auditns_connector.sinks.native import PIPE, SOCKET

#: sends some of the buffers without blocking; returns how many bytes went, 0 when none can now
Transmit = Callable[[int, list[memoryview]], int]
_TERMINAL: Final = 256


class Outlet:
    """Moves lines from a queue to a descriptor whenever it takes them. The descriptor belongs to the caller."""

    def __init__(
        self, fd: int, queue: LineQueue, epoll: select.epoll, lost: LostLine, transmit: Transmit = send_vector
    ) -> None:
        self.fd = fd
        self.queue = queue
        self._epoll = epoll
        self._lost = lost
        self._transmit = transmit
        self._armed = False
        epoll.register(fd, 0)  # hang-ups and errors are always reported

    def write(self, data: Block) -> None:
        """Send ``data`` at once where nothing waits before it, else queue it. Raises OSError: receiver gone."""
        queue = self.queue
        try:
            sent = self._transmit(self.fd, [memoryview(data)]) if queue.idle else 0
        except OSError:
            queue.push(data)
            queue.trim()
            raise
        if sent == len(data):
            queue.passed(data)
        else:
            self.write_rest(data, sent)

    def write_rest(self, data: Block, sent: int) -> None:
        """Of ``data`` only ``sent`` bytes went; the rest waits. Raises OSError: receiver gone."""
        queue = self.queue
        queue.push(data)
        queue.advance(sent)
        try:
            if not self._armed:
                self.pump()
        finally:
            queue.trim()

    def pump(self) -> None:
        """Send what waits until the descriptor takes no more. Raises OSError when the receiver is gone."""
        queue = self.queue
        while True:
            while queue.size and (count := self._transmit(self.fd, queue.peek())):
                queue.advance(count)
            if not queue.wants_to_tell():
                break
            queue.tell(self._lost)
        waiting = queue.size > 0
        if waiting != self._armed:
            self._epoll.modify(self.fd, select.EPOLLOUT if waiting else 0)
            self._armed = waiting

    def detach(self) -> None:
        """Leave the epoll set."""
        self._epoll.unregister(self.fd)


def transmit_for(fd: int) -> Transmit:
    """How to write to an inherited descriptor without blocking.

    O_NONBLOCK would change the open file that others share (the shell's terminal), so: sockets have MSG_DONTWAIT;
    a pipe that polls writable takes PIPE_BUF bytes (pipe(7)), a terminal at least :data:`_TERMINAL`.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(fd))

        def send(_: int, views: list[memoryview]) -> int:
            try:
                return sock.sendmsg(views, [], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return 0

        return send
    if stat.S_ISFIFO(mode):
        return write_pipe
    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def write(out: int, views: list[memoryview]) -> int:
        ready = poll.poll(0)
        return os.write(out, views[0][:_TERMINAL]) if ready else 0

    return write


def write_pipe(fd: int, views: list[memoryview]) -> int:
    """Write to a pipe as much as it takes without blocking."""
    went = int(lib.output_write(fd, PIPE, ffi.from_buffer(views[0]), len(views[0])))
    if went < 0:
        raise OSError(-went, os.strerror(-went))
    return went


def native_kind(fd: int) -> int | None:
    """How the loop in C writes to an inherited descriptor; ``None``: it cannot."""
    mode = os.fstat(fd).st_mode
    return SOCKET if stat.S_ISSOCK(mode) else PIPE if stat.S_ISFIFO(mode) else None
