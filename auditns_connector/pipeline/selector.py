"""The descriptors that a program waits for.

A wake-up of :class:`selectors.EpollSelector` makes two objects for each ready descriptor and looks each up twice. Where
every audit event is a wake-up of its own that is seen, so here the same epoll set is waited for without it.
"""

import os
import select
import selectors
from collections.abc import Callable
from typing import Any

#: given an epoll set and a timeout, returns what is ready
Wait = Callable[[select.epoll, float], list[tuple[int, int]]]


class Selector(selectors.EpollSelector):
    """A selector; the ``data`` of what is registered is a function to be called when it is ready."""

    def __init__(self) -> None:
        super().__init__()
        #: all but what is shared
        self.others = select.epoll.fromfd(os.dup(self.fileno()))
        self._own = select.epoll()
        self._own.register(self.others, select.EPOLLIN)
        self._calls: dict[int, Callable[[], object]] = {}
        #: counts batches
        self._turn = 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for ``fileobj`` as well; see :mod:`selectors`."""
        key = super().register(fileobj, events, data)
        self._calls[key.fd] = data
        return key

    def share(self, fd: int, call: Callable[[], object]) -> None:
        """Wait until ``fd`` can be read, as the first of those who wait for it: who begins to after us, with
        EPOLLEXCLUSIVE, is woken only where we do not wait."""
        self._calls[fd] = call
        self._own.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait otherwise for ``fileobj``."""
        key = super().modify(fileobj, events, data)
        self._calls[key.fd] = data
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Wait for ``fileobj`` no more."""
        key = super().unregister(fileobj)
        del self._calls[key.fd]
        return key

    def poll_once(self, timeout: float, wait: Wait | None = None) -> bool:
        """Wait up to ``timeout`` seconds, and call what is registered with each descriptor that is ready; ``wait`` does
        the waiting if it is given. False when there was none."""
        own, others = self._own, self.others
        ready = own.poll(timeout) if wait is None else wait(own, timeout)
        if any(fd == others.fileno() for fd, _ in ready):
            ready = [one for one in ready if one[0] != others.fileno()] + others.poll(0)
        self._turn = turn = self._turn + 1
        for fd, _ in ready:
            call = self._calls.get(fd)
            if call is not None:  # else it was let go while this batch was worked on
                call()
            if self._turn != turn:
                break  # others were waited for meanwhile, in that call: what is ready still is found again
        return bool(ready)

    def close(self) -> None:
        self._own.close()
        self.others.close()
        super().close()
