"""A sink for what can only be written with a call that may block: a thread of its own does it.

Writing to a regular file blocks when the disk is slow, and no poll tells before; the thread takes that upon
itself, and the queue before it is bounded as everywhere.
"""

import os
import threading
import time
from typing import Final, Protocol

from .base import LineQueue, LostLine, add_notice

#: seconds between attempts while writing fails: doubled from the first to the second
RETRY_FIRST: Final = 0.5
RETRY_LAST: Final = 30.0


class Target(Protocol):
    """What the thread writes to; called in that thread only, except ``counters``."""

    def write(self, views: list[memoryview]) -> int:
        """Write some of the bytes, return how many. Raises OSError; nothing of this call is written then."""

    def reopen(self) -> None:
        """Open anew before the next write."""

    def close(self) -> None:
        """Let go."""

    def counters(self) -> dict[str, int]:
        """The target's own counters."""


class ThreadedSink:
    """Lines handed to a thread that writes them to ``target``; failures are retried, told and counted."""

    def __init__(self, name: str, queue: int, lost: LostLine, target: Target) -> None:
        self.name = name
        self.notices: list[str] = []
        self.broken = False
        self._queue = LineQueue(name, queue)
        self.lost = lost
        self._target = target
        self._changed = threading.Condition()
        self._failure = ""
        self._errors = 0
        self._reopen = self._closing = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._wake

    def write(self, data: bytes) -> None:
        with self._changed:
            self._tell()
            idle = not self._queue.size
            self._queue.push(data)
            self._queue.trim()
            if idle:
                self._changed.notify_all()

    def on_ready(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass  # called by the clock, not by the descriptor
        with self._changed:
            self._tell()

    def _tell(self) -> None:
        # here and not in the thread: the callback counts serials, which belong to the main thread
        if self._queue.wants_to_tell():
            self._queue.tell(self.lost)
            self._changed.notify_all()

    def deadline(self) -> float | None:
        return None

    def counters(self) -> dict[str, int]:
        with self._changed:
            return {**self._queue.counters(), "errors": self._errors, **self._target.counters()}

    def reopen(self) -> None:
        with self._changed:
            self._reopen = True
            self._changed.notify_all()

    def flush(self, timeout: float | None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                self._tell()
                if not self._queue.size:
                    return True
                left = None if end is None else end - time.monotonic()
                if not self._changed.wait_for(lambda: not self._queue.size, left):
                    return False

    def close(self, timeout: float) -> None:
        """As in :class:`Sink`. A thread that hangs in a dead disk's write is left behind (it is a daemon)."""
        end = time.monotonic() + timeout
        self.flush(timeout)
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join(max(end - time.monotonic(), 0.1))
        with self._changed:
            self._queue.clear()
        if not self._thread.is_alive():
            os.close(self._wake)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.say(f"stopped by an error of its own: {error!r}")
            self.broken = True
            raise
        finally:
            self._target.close()

    def _work(self) -> None:
        retry = RETRY_FIRST
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue.size or self._reopen or self._closing)
                if self._closing:
                    return
                reopen, self._reopen = self._reopen, False
                views = self._queue.peek()
            try:
                if reopen:
                    self._target.reopen()
                count = self._target.write(views) if views else 0
            except OSError as error:
                self._failed(error, retry)
                retry = min(retry * 2, RETRY_LAST)
                continue
            finally:
                del views
            retry = RETRY_FIRST
            self._done(count)

    def say(self, text: str) -> None:
        """Leave a notice, from either thread."""
        add_notice(self.notices, f"{self.name}: {text}")
        os.eventfd_write(self._wake, 1)

    def _done(self, count: int) -> None:
        with self._changed:
            self._queue.advance(count)
            if self._failure and count:
                self._failure = ""
                self.say("writing goes on")
            if self._queue.wants_to_tell():
                os.eventfd_write(self._wake, 1)
            if not self._queue.size:
                self._changed.notify_all()

    def _failed(self, error: OSError, retry: float) -> None:
        with self._changed:
            self._errors += 1
            text = f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
            if text != self._failure:
                self._failure = text
                self.say(f"cannot write: {text}; trying again, the queue takes what it can")
            # wakes early only to end or to open another file
            self._changed.wait_for(lambda: self._reopen or self._closing, retry)
