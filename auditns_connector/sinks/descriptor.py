"""The sink for an inherited descriptor, stdout above all."""

import os
import select
from collections.abc import Callable, Sequence

from auditns_connector.sinks.base import LineQueue, LostLine, Sink, add_notice, wait_until_flushed
from auditns_connector.sinks.loss import Block
from auditns_connector.sinks.outlet import Outlet, native_kind, transmit_for
from auditns_connector.sinks.threaded import BOUNDLESS, ThreadedSink
from auditns_connector.vocabulary.values import CData

#: makes of lines what is to be written
Shape = Callable[[bytes], bytes]


def open_descriptor(
    fd: int, queue: int, lost: LostLine, name: str = "stdout", *, on_terminal: Shape | None = None
) -> Sink:
    """The sink for ``fd``, which stays the caller's: pipes, sockets and terminals are polled; regular files and
    the like, which cannot be, are written by a thread. ``queue``: bytes that may wait; ``on_terminal``: what is done to
    lines that go to a terminal."""
    try:
        return DescriptorSink(fd, queue, lost, name, on_terminal if os.isatty(fd) else None)
    except PermissionError:  # epoll_ctl: the file does not support polling
        return ThreadedSink(name, queue, lost, _Descriptor(fd))


class DescriptorSink:
    """A pipe, socket or terminal. ``broken`` is set when its reader has gone; what waited for it is no loss then."""

    def __init__(self, fd: int, queue: int, lost: LostLine, name: str = "stdout", shape: Shape | None = None) -> None:
        self.name = name
        self._shape = shape
        self.notices: list[str] = []
        self.broken = False
        self._queue = LineQueue(name, queue)
        self._epoll = select.epoll()
        try:
            self._outlet = Outlet(fd, self._queue, self._epoll, lost, transmit_for(fd))
            self._kind = native_kind(fd)
        except BaseException:
            self._epoll.close()
            raise

    def fileno(self) -> int:
        return self._epoll.fileno()

    def write(self, data: Block) -> None:
        if self.broken:
            return
        try:
            self._outlet.write(data if self._shape is None else self._shape(bytes(data)))
        except OSError as error:
            self._break(error)

    @property
    def prompt(self) -> bool:
        """Whoever reads a pipe or a terminal sees no difference between now and a moment later."""
        return False

    def natives(self) -> "Sequence[DescriptorSink] | None":
        idle = self._queue.idle and not self.broken
        return (self,) if idle and self._kind is not None and self._shape is None else None

    def put(self, c: CData) -> None:
        c.kind, c.fd = self._kind, self._outlet.fd

    def passed(self, size: int, lines: int) -> None:
        self._queue.passed_lines(size, lines)

    def write_rest(self, data: Block, sent: int) -> None:
        try:
            self._outlet.write_rest(data, sent)
        except OSError as error:
            self._break(error)

    def on_ready(self) -> None:
        if self.broken:
            return
        for _, events in self._epoll.poll(0):
            if events & (select.EPOLLERR | select.EPOLLHUP):
                self._break(BrokenPipeError(32, "Broken pipe"))
                return
        try:
            self._outlet.pump()
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        self.broken = True
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            self._queue.forget()  # who stops reading has had what he wanted
        else:
            add_notice(self.notices, f"{self.name}: {error.strerror}")
        self._outlet.detach()

    def deadline(self) -> float | None:
        return None

    def counters(self) -> dict[str, int]:
        return {**self._queue.counters(), "reconnects": 0}

    def reopen(self) -> None:
        """Nothing to open anew."""

    def flush(self, timeout: float | None) -> bool:
        return wait_until_flushed(self, lambda: self._queue.size, timeout)

    def close(self, timeout: float) -> None:
        self.flush(timeout)
        self._queue.clear()
        if not self._epoll.closed:
            self._epoll.close()


class _Descriptor:
    """A regular file or a device that always takes what is written."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, views: list[memoryview]) -> int:
        return os.writev(self._fd, views)

    def direct(self) -> tuple[int, int]:
        return self._fd, BOUNDLESS

    def wrote(self, count: int) -> None:
        """Nobody asks how much."""

    def fell_short(self, view: memoryview, count: int) -> int:
        return count

    def check(self) -> None:
        """The descriptor is all there is."""

    def reopen(self) -> None:
        """The descriptor is all there is."""

    def close(self) -> None:
        """It belongs to the caller."""

    def counters(self) -> dict[str, int]:
        return {"reconnects": 0}
