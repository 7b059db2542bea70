"""A sink for what can only be written with a call that may block: a thread of its own does it.

Writing to a regular file blocks when the disk is slow, and no poll tells before; the thread takes that upon
itself, and the queue before it is bounded as everywhere. As long as all goes well it stays in one call of C, which
writes each block as it is handed over (cdefs/sinks/file_writer.h); whatever is out of the ordinary it does in Python.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from auditns_connector._native import ffi, lib
from auditns_connector.errors import AuditnsError
from auditns_connector.sinks.base import LineQueue, LostLine, add_notice
from auditns_connector.sinks.loss import Block, Lifecycle, marked
from auditns_connector.sinks.native import WRITER
from auditns_connector.vocabulary.values import CData

#: seconds between attempts while writing fails: doubled from the first to the second
RETRY_FIRST: Final = 0.5
RETRY_LAST: Final = 30.0
#: room without a limit (bytes)
BOUNDLESS: Final = 1 << 62


class Progress(NamedTuple):
    """How many bytes an output has written, how many it was given that it has written or will, and how many it has
    dropped."""

    written: int
    accepted: int
    dropped: int


class Target(Protocol):
    """What the thread writes to; called in that thread only, except ``counters``."""

    def write(self, views: list[memoryview]) -> int:
        """Write some of the bytes, return how many. Raises OSError; nothing of this call is written then."""

    def direct(self) -> tuple[int, int]:
        """A descriptor to which up to so many bytes may be written without more ado; -1 where there is none now."""

    def wrote(self, count: int) -> None:
        """That many bytes, whole lines, were written to it."""

    def fell_short(self, view: memoryview, count: int) -> int:
        """A write to it took but ``count`` bytes of ``view``; returns how many of them stay. Raises OSError: none."""

    def check(self) -> None:
        """See to it that what is written can be found. Raises OSError."""

    def reopen(self) -> None:
        """Open anew before the next write."""

    def close(self) -> None:
        """Let go."""

    def counters(self) -> dict[str, int]:
        """The target's own counters."""


class ThreadedSink:
    """Lines handed to a thread that writes them to ``target``; failures are retried, reported and counted."""

    def __init__(self, name: str, queue: int, lost: LostLine, target: Target, check_every: float = -1.0) -> None:
        """``check_every``: the target is to check itself so often (seconds); negative: never."""
        self.name = name
        self.notices: list[str] = []
        self.broken = False
        self._queue = LineQueue(name, queue)
        self.lost = lost
        self._target = target
        self._check_every = check_every
        self._lock = threading.Lock()
        #: for small blocks, by writer_copy; what that refuses is for :meth:`write`
        self.writer: CData = ffi.gc(lib.writer_new(queue), lib.writer_free)
        if self.writer == ffi.NULL:
            raise MemoryError("no memory for a thread that writes")
        self._news: CData = ffi.new("struct writer_news *")
        #: what the writer was given and does not have a copy of
        self._kept: deque[Block] = deque()
        self._flushing = False
        self._drained = threading.Event()
        self._failure = ""
        self._errors = 0
        self._reopen = self._closing = self._left = self._pausing = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(self._wake)
            raise AuditnsError(f"{name}: {error}: this host allows no more of them") from error

    def fileno(self) -> int:
        return self._wake

    def write(self, data: Block) -> None:
        if type(data) is bytes and lib.writer_copy(self.writer, data, len(data)):
            return  # the fast path of a small block
        view, size = ffi.from_buffer(data), len(data)
        with self._lock:
            self._account()
            self._tell()
            given = self._admits(data) and lib.writer_give(self.writer, view, size)
            if given == lib.WRITER_KEPT:
                self._kept.append(data)
            elif not given:
                self._queue.push(data)
                self._queue.trim()
        if not given and not self._pausing:
            self._kick()

    @property
    def prompt(self) -> bool:
        """What goes to a file is not waited for."""
        return False

    def natives(self) -> "Sequence[ThreadedSink]":
        return (self,)

    def put(self, c: CData) -> None:
        c.kind, c.writer = WRITER, self.writer

    def passed(self, size: int, lines: int) -> None:
        """The writer counts by itself what it has written."""

    def write_rest(self, data: Block, sent: int) -> None:
        self.write(data)

    def _admits(self, data: Block) -> bool:
        """Whether the writer may have ``data`` at once: nothing is to come before it, and not too much waits there that
        is to be dropped first."""
        queue = self._queue
        return queue.idle and (not isinstance(data, Lifecycle) or queue.yields_room(len(data)))

    def _account(self) -> None:
        """Take note of what became of that which the writer was given; to be called with the lock held."""
        news, queue = self._news, self._queue
        lib.writer_tell(self.writer, news)
        queue.written_bytes += news.bytes
        queue.written_records += news.lines
        for _ in range(news.kept):
            self._kept.popleft()
        queue.ahead = news.waits
        if news.waits and not news.serving:
            queue.put_back(self._take_back())
            queue.ahead = 0

    def _take_back(self) -> list[Block]:
        """The blocks that the writer was given and has not written whole."""
        blocks: list[Block] = []
        place = ffi.new("const char **")
        while size := lib.writer_take_back(self.writer, place):
            blocks.append(marked(bytes(ffi.buffer(place[0], size))) if place[0] else self._kept.popleft())
        return blocks

    def _kick(self) -> None:
        lib.writer_call(self.writer)

    def on_ready(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass  # called by the clock, not by the descriptor
        with self._lock:
            self._account()
            self._tell()

    def _tell(self) -> None:
        # here and not in the thread: the callback counts serials, which belong to the main thread
        if self._queue.wants_to_tell():
            self._queue.tell(self.lost)
            self._kick()

    def deadline(self) -> float | None:
        return None

    def counters(self) -> dict[str, int]:
        with self._lock:
            self._account()
            return {**self._queue.counters(), "errors": self._errors, **self._target.counters()}

    def progress(self) -> Progress | None:
        """How far it is; ``None`` while lines that were dropped are not reported."""
        with self._lock:
            self._account()
            queue = self._queue
            if queue.loss_pending:
                return None
            return Progress(queue.written_bytes, queue.written_bytes + queue.ahead + queue.size, queue.dropped_bytes)

    def reopen(self) -> None:
        self._reopen = True
        self._kick()

    def flush(self, timeout: float | None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        self._flushing = True
        try:
            while not self.broken:
                self._drained.clear()
                with self._lock:
                    self._account()
                    self._tell()
                    if not self._queue.ahead + self._queue.size:
                        return True
                self._kick()
                left = None if end is None else end - time.monotonic()
                if not self._drained.wait(left):
                    return False
        finally:
            self._flushing = False
        return False

    def close(self, timeout: float) -> None:
        """As in :class:`Sink`. A thread that hangs in a dead disk's write is left behind (it is a daemon)."""
        if self._closing:
            return
        end = time.monotonic() + timeout
        self.flush(timeout)
        self._closing = True
        self._kick()
        self._thread.join(max(end - time.monotonic(), 0.1))
        with self._lock:
            self._account()
            if self._queue.ahead:  # it hangs in writing them
                blocks = self._take_back()
                self._queue.put_back(blocks)
                self._kept.extend(blocks)
                self._queue.ahead = 0
            self._queue.clear()
            self._left = True
        if not self._thread.is_alive():
            os.close(self._wake)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a matter of speed alone: it is not to interrupt whoever gives it something
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        try:
            self._work()
        except BaseException as error:
            self.say(f"stopped by an error of its own: {error!r}")
            self.broken = True
            self._drained.set()
            raise
        finally:
            self._target.close()

    def _work(self) -> None:
        retry, checked, every = RETRY_FIRST, time.monotonic(), self._check_every
        while not self._closing:
            with self._lock:
                self._account()
                reopen, self._reopen = self._reopen, False
                views, idle = self._queue.peek(), self._queue.idle
            try:
                if reopen:
                    self._target.reopen()
                elif every > 0 and (now := time.monotonic()) >= checked + every:
                    checked = now
                    self._target.check()
                count = self._target.write(views) if views else 0 if reopen else self._serve(idle)
            except OSError as error:
                self._failed(error)
                self._pause(retry)
                retry = min(retry * 2, RETRY_LAST)
                continue
            finally:
                del views
            retry = RETRY_FIRST
            self._done(count)

    def _serve(self, idle: bool) -> int:
        """Write what comes until something is to be done here; returns how much was written of a block in parts.
        What comes is taken only where nothing is to come before it (``idle``)."""
        fd, room = self._target.direct()
        left = ffi.new("int64_t *", room)
        short: int = lib.writer_serve(self.writer, fd, left, self._check_every, idle)
        self._target.wrote(room - left[0])
        if not short:
            return 0
        with self._lock:
            if self._left:
                return 0
            self._account()
            views = self._queue.peek()
        return self._target.fell_short(views[0], short)

    def say(self, text: str) -> None:
        """Leave a notice, from either thread."""
        add_notice(self.notices, f"{self.name}: {text}")
        os.eventfd_write(self._wake, 1)

    def _done(self, count: int) -> None:
        with self._lock:
            if self._left:
                return  # the write came back after all, when its bytes were counted as dropped
            self._account()
            self._queue.advance(count)
            due = self._queue.wants_to_tell()
            empty = not self._queue.size
        if self._failure and count:
            self._failure = ""
            self.say("writing goes on")
        if due:
            os.eventfd_write(self._wake, 1)
        if empty and self._flushing:
            self._drained.set()

    def _failed(self, error: OSError) -> None:
        self._errors += 1
        text = f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
        if text != self._failure:
            self._failure = text
            self.say(f"cannot write: {text}; trying again, the queue takes what it can")

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt, but not when it is time to end or to open another file."""
        end, room = time.monotonic() + seconds, ffi.new("int64_t *")
        self._pausing = True
        while not (self._reopen or self._closing) and (left := end - time.monotonic()) > 0:
            lib.writer_serve(self.writer, -1, room, left, False)
        self._pausing = False
