"""Audit text that arrives on a descriptor: auditd's socket to a plugin, or a pipe."""

import errno
import os
import select
from typing import TYPE_CHECKING, Final

from auditns_connector.audittext.scanner import ROOM, TextStream
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.errors import AuditnsError, ConfigError
from auditns_connector.pipeline.native_loop import NativeLoop

if TYPE_CHECKING:
    from auditns_connector.pipeline.loop import Pipeline

#: an event or two: after less than this there is hardly more
_LITTLE: Final = 16 * 1024
#: no more than that is scanned before any of it is decided (bytes)
_AHEAD: Final = 1 << 20
_NOTHING: Final = (-errno.EAGAIN, -errno.EINTR)


class StdinSource:
    """Reads ``fd`` without blocking; ``limit`` bytes at most are taken at once, so that a burst is held by us and not
    by whoever writes."""

    def __init__(self, fd: int = 0, limit: int = 1 << 20) -> None:
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
        size = 0
        while not self._ended and size < self._limit:
            got = stream.read(self._fd)
            if got == -errno.ENOBUFS:
                stream.room(ROOM)
                continue
            if got in _NOTHING:
                break
            if got < 0 and got != -errno.ECONNRESET:
                raise AuditnsError(f"cannot read audit records: {os.strerror(-got)}")
            self._ended = got <= 0
            size += max(got, 0)
            if got < _LITTLE:
                break
            if size <= _AHEAD:
                stream.ahead()  # meanwhile whoever writes fills the socket again
        self._counts["bytes"] += size
        return None if self._ended and not size else size

    def take_gaps(self, *, final: bool = False) -> list[SerialGap]:
        """None: what auditd did not hand on, the serials of its events tell (Narrator ``track``)."""
        return []

    def late(self) -> bool:
        """Never: when auditd has closed, nothing more comes."""
        return False

    def quick(self, pipeline: "Pipeline") -> NativeLoop:
        """Rounds that read from the descriptor themselves."""
        self._stream = pipeline.stream
        return NativeLoop(pipeline, self._fd, self._took, pipeline.hold)

    def _took(self, count: int) -> None:
        self._counts["bytes"] += count

    def counters(self) -> dict[str, int]:
        """received records and bytes; what is lost before us, the serials tell."""
        return {"received": self._stream.lines if self._stream is not None else 0, **self._counts}

    def close(self) -> None:
        """Leave the descriptor as it was found."""
        os.set_blocking(self._fd, self._blocking)
