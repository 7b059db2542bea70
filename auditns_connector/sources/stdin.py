"""Audit text that arrives on a descriptor: auditd's socket to a plugin, or a pipe."""

import os
import select
import time
from typing import TYPE_CHECKING, Final

from ..decode.auditserial import SerialGap
from ..errors import AuditnsError, ConfigError
from ..quick import Quick
from ..reassemble import ROOM, TextStream

if TYPE_CHECKING:
    from ..pipeline import Pipeline

_READ: Final = 256 * 1024
#: an event or two: after less than this there is hardly more
_LITTLE: Final = 16 * 1024
#: a socket or pipe with so much in it was full, or nearly: whoever writes fills it again within _REFILL seconds, and to
#: wait for that costs less than to work on it in pieces
_FULL: Final = 128 * 1024
_REFILL: Final = 0.0005


class StdinSource:
    """Reads ``fd`` without blocking; ``limit`` bytes at most are taken at once, so that a burst is held by us and not
    by whoever writes."""

    def __init__(self, fd: int = 0, limit: int = 4 << 20) -> None:
        with select.epoll() as watch:
            try:
                watch.register(fd)
            except PermissionError:  # epoll_ctl(2): a file or /dev/null
                raise ConfigError(
                    "audit records are to come by a socket or a pipe, as auditd gives them (auditns enrich reads files)"
                ) from None
        self._fd = fd
        self._limit = limit
        self._ended = False
        self._blocking = os.get_blocking(fd)
        os.set_blocking(fd, False)
        self._counts = {"bytes": 0, "lost": 0}
        self._stream: TextStream | None = None

    def fileno(self) -> int:
        """For the selector."""
        return self._fd

    def fill(self, stream: TextStream) -> int | None:
        """Put what is there into ``stream``; returns how many bytes, ``None`` when the other side has closed and all is
        read."""
        self._stream = stream
        got = 0 if self._ended else stream.read(self._fd)
        if not 0 < got < _LITTLE:
            return self._fill_on(stream, max(got, 0))
        self._counts["bytes"] += got
        return got

    def _fill_on(self, stream: TextStream, size: int) -> int | None:
        """Go on where one reading has brought ``size`` bytes, and there may be more."""
        waited = 0
        room = stream.room(ROOM)
        while not self._ended and size < self._limit:
            try:
                got = os.readv(self._fd, [room])
            except (BlockingIOError, InterruptedError):
                if size - waited < _FULL:
                    break
                waited = size
                time.sleep(_REFILL)
                continue
            except ConnectionResetError:
                got = 0
            except OSError as error:
                raise AuditnsError(f"cannot read audit records: {error.strerror}") from error
            self._ended = not got
            stream.grew(got)
            size += got
            if got < _LITTLE:
                break
            room = stream.room(_READ)
        self._counts["bytes"] += size
        return None if self._ended and not size else size

    def take_gaps(self, *, final: bool = False) -> list[SerialGap]:
        """None: what auditd did not hand on, the serials of its events tell (Narrator ``track``)."""
        return []

    def late(self) -> bool:
        """Never: when auditd has closed, nothing more comes."""
        return False

    def quick(self, pipeline: "Pipeline") -> Quick:
        """Rounds that read from the descriptor themselves."""
        self._stream = pipeline.stream
        return Quick(pipeline, self._fd, self._took)

    def _took(self, count: int) -> None:
        self._counts["bytes"] += count

    def counters(self) -> dict[str, int]:
        """received records and bytes; what is lost before us, the serials tell."""
        return {"received": self._stream.lines if self._stream is not None else 0, **self._counts}

    def close(self) -> None:
        """Leave the descriptor as it was found."""
        os.set_blocking(self._fd, self._blocking)
