"""Audit text from files, pipes and terminals, one after the other, into a stream: what ``auditns enrich`` reads.

Nothing waits long: a raw record is passed on as it comes, but for the end of an event, behind which a record of ours
may stand; an event whose end, or whose next record, has not come is decided after the same silence as in the listener,
and while nothing comes the kernel's events are taken in.
"""

import enum
import os
import select
import stat
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from auditns_connector._native import lib
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.pipeline.compressed import ENOUGH, UnreadableError, may_be_compressed, reader
from auditns_connector.vocabulary.timing import HOLD

_BLOCK: Final = 512 * 1024
_NEWLINE: Final = 0x0A
#: what is found by nothing but looking is looked for this often (ns)
_LOOK: Final = 250_000_000


class Watched(Protocol):
    """Who wants to know of events of the kernel while text is waited for."""

    def filenos(self) -> Sequence[int]:
        """Descriptors that are ready when there are some."""

    def drain(self) -> None:
        """Take in what there is."""


class Reading(Protocol):
    """Called with how far reading is."""

    def opened(self, fd: int) -> None:
        """The next input is read, by this descriptor."""

    def closing(self) -> None:
        """That input has been read, as far as it is."""

    def step(self) -> None:
        """Something of it has been read."""


class NativeRounds(Protocol):
    """Who works on the text of a file without the interpreter, see file_loop.py."""

    @property
    def unended(self) -> bool:
        """What was read last has no newline at its end."""

    def ready(self) -> bool:
        """Whether the next block may be one of these."""

    def run(self, fd: int, unended: bool) -> int:
        """Some blocks of the file ``fd``; how that ended, a FILE_* of the C. ``unended``: so is what came before."""

    def write_rest(self) -> bool:
        """Write what the output did not take; False when nobody wants more."""


class _Came(enum.Enum):
    """What waiting for text has come to."""

    TEXT = enum.auto()
    END = enum.auto()
    """Nothing is there, and nothing more is to come."""
    ENOUGH = enum.auto()
    """Nobody wants more."""


class TextInput:
    """Feeds ``stream`` and gives what is decided to ``deliver``, which returns False when nobody wants more."""

    def __init__(
        self,
        stream: TextStream,
        deliver: Callable[[InsertionPoints], bool],
        watched: Watched,
        reading: Reading | None = None,
        ended: Callable[[], bool] = lambda: False,
        native: NativeRounds | None = None,
    ) -> None:
        """``ended``: somebody wants the end, of what has not come yet nothing more is read. ``native`` may work on the
        text of files as well."""
        self._native = native
        self._stream, self._watched, self._reading, self._ended = stream, watched, reading, ended
        self._deliver = deliver if reading is None else self._deliver_and_tell(deliver, reading)
        self._unended = False
        #: what is waited for, and when the kernel's events were looked for last
        self._ready = select.poll()
        self._looked = 0

    @staticmethod
    def _deliver_and_tell(
        deliver: Callable[[InsertionPoints], bool], reading: Reading
    ) -> Callable[[InsertionPoints], bool]:
        def both(points: InsertionPoints) -> bool:
            reading.step()
            return deliver(points)

        return both

    def run(self, paths: Sequence[str]) -> None:
        """Read all of ``paths`` (``-`` is stdin) to their ends. Raises :class:`UnreadableError` where an input
        cannot be read on; what had come is decided before."""
        try:
            if not self._read_all(paths):
                return
        except UnreadableError:
            self._deliver(self._stream.flush(eof=True))
            raise
        self._deliver(self._stream.flush(eof=True))

    def _read_all(self, paths: Sequence[str]) -> bool:
        """Feed all inputs; False when nobody wants more."""
        for number, path in enumerate(paths):
            if number and self._ended():
                break
            if self._unended:  # the last line of a file is never part of the next one's first
                self._unended = False
                if not self._deliver(self._stream.push(b"\n")):
                    return False
            try:
                fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise UnreadableError(f"{path}: {error.strerror}") from error
            try:
                if self._reading is not None:
                    self._reading.opened(fd)
                if not self._copy(fd, path):
                    return False
            finally:
                if self._reading is not None:
                    self._reading.closing()
                if fd:
                    os.close(fd)
        return True

    def _unpack(self, head: bytes, fd: int, path: str) -> bool:
        """Feed an input that begins with ``head`` and may be compressed, to the end if it is."""
        while len(head) < ENOUGH and may_be_compressed(head):
            try:
                more = os.read(fd, ENOUGH - len(head))
            except BlockingIOError:
                select.select([fd], [], [])
                continue
            if not more:
                break
            head += more
        unpack = reader(head, fd, path)
        if unpack is None:
            return self._take(head)
        while not self._ended() and (data := unpack(_BLOCK)):
            if not self._take(data):
                return False
        return True

    def _take(self, data: bytes) -> bool:
        self._unended = not data.endswith(b"\n")
        self._stream.at(time.monotonic_ns())
        return self._deliver(self._stream.push(data))

    def _copy(self, fd: int, path: str) -> bool:
        """Feed one input to its end; False when nobody wants more. Lines of a pipe or a terminal are passed on as they
        come; a file is all there, and what stands in it is looked at first: so what is put in stands in its best place.
        """
        all_there = stat.S_ISREG(os.fstat(fd).st_mode)
        self._stream.hold(all_there)
        self._stream.await_ours(more=all_there)
        self._ready, self._looked = self._poll(fd), time.monotonic_ns()
        fresh, last = True, False
        while not last:
            last = self._ended()  # what is there already is taken
            came = _Came.TEXT if all_there else self._wait(fd, last)
            if came is not _Came.TEXT:
                return came is _Came.END
            room = self._stream.room(_BLOCK)
            try:
                size = os.readv(fd, [room])
            except BlockingIOError:  # the descriptor came to us so, and somebody else was sooner
                continue
            except OSError as error:
                raise UnreadableError(f"{path}: {error.strerror}") from error
            if not size:
                return True
            if fresh and may_be_compressed(bytes(room[:ENOUGH])[:size]):
                if not self._unpack(bytes(room[:size]), fd, path):
                    return False
                fresh = False
                continue
            fresh = False
            self._unended = room[size - 1] != _NEWLINE
            now = time.monotonic_ns()
            self._stream.at(now)
            if not self._deliver(self._stream.filled(size)):
                return False
            # all that had come was read: who is silent in one event holds it up whatever comes of others
            if not all_there and size < len(room) and not self._decide_idle(now - HOLD):
                return False
            if all_there and self._native is not None and not self._go_on_natively(fd, self._native):
                return False
        return True

    def _go_on_natively(self, fd: int, native: NativeRounds) -> bool:
        """As much of the file as needs no interpreter; False when nobody wants more."""
        while not self._ended() and native.ready():
            how = native.run(fd, self._unended)
            self._unended = native.unended
            if self._reading is not None:
                self._reading.step()
            if how == lib.FILE_REST and not native.write_rest():
                return False
            if how == lib.FILE_ASKED:
                return self._deliver(self._stream.scanned())
            if how == lib.FILE_UNSCANNED:
                return self._deliver(self._stream.filled(0))
            if how in (lib.FILE_UNREAD, lib.FILE_ROOM):
                break
        return True

    def _wait(self, fd: int, last: bool) -> _Came:
        """Until there is something to be read; ``last``: nothing more is to come than is there now."""
        while True:
            came = self._ready.poll(0 if last else self._patience(self._looked))
            found = [one for one, _ in came]
            now = time.monotonic_ns()
            if any(what & select.POLLNVAL for _, what in came):
                self._ready = self._poll(fd)  # a CPU has gone, and its ring with it
            if fd in found:
                return _Came.TEXT
            self._watched.drain()
            self._looked = now
            if not self._decide_idle(now - HOLD):
                return _Came.ENOUGH
            if last:
                return _Came.END
            last = self._ended()

    def _decide_idle(self, before: int) -> bool:
        """Decide the events of which nothing has come since ``before``; False when nobody wants more."""
        oldest = self._stream.oldest
        return oldest is None or oldest > before or self._deliver(self._stream.idle(before))

    def _poll(self, fd: int) -> select.poll:
        """What is waited for: text from ``fd``, and the kernel's events."""
        ready = select.poll()
        for one in (*self._watched.filenos(), fd):
            ready.register(one, select.POLLIN)
        return ready

    def _patience(self, looked: int) -> float:
        """How long to wait for text (milliseconds)."""
        due, oldest = looked + _LOOK, self._stream.oldest
        if oldest is not None:
            due = min(due, oldest + HOLD)
        return max(0.0, (due - time.monotonic_ns()) / 1e6)
