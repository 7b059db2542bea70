"""Audit text that arrives on a descriptor: auditd's socket to a plugin, or a pipe."""

import os
import select

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.errors import ConfigError
from auditns_connector.sources.intake import SMALL, STREAM, Intake, Limits


class StdinSource(Intake):
    """Reads ``fd`` without blocking. ``limits`` say how much may wait; ``most`` bytes are taken in at once by the
    loop."""

    def __init__(self, fd: int = 0, limits: Limits = SMALL, *, most: int = 1 << 20) -> None:
        with select.epoll() as watch:
            try:
                watch.register(fd)
            except PermissionError:  # epoll_ctl(2): a file or /dev/null
                raise ConfigError(
                    "audit records are to come by a socket or a pipe, as auditd gives them (auditns enrich reads files)"
                ) from None
        super().__init__(fd, STREAM, limits, most=most)
        self._blocking = os.get_blocking(fd)
        os.set_blocking(fd, False)
        self._stream: TextStream | None = None

    def fill(self, stream: TextStream) -> int | None:
        """See :meth:`Intake.fill`."""
        self._stream = stream
        return super().fill(stream)

    def counters(self) -> dict[str, int]:
        """received records, and what the intake counts; what is lost before us, the serials tell."""
        counted = super().counters()
        lines = self._stream.lines if self._stream is not None else 0
        return {"received": lines, "lost": counted["dropped_events"], **counted}

    def close(self) -> None:
        """Leave the descriptor as it was found."""
        super().close()
        os.set_blocking(self._fd, self._blocking)
