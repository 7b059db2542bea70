"""Audit text that arrives on a descriptor: auditd's socket to a plugin, or a pipe."""

import os
import select
from typing import Final

from ..decode.auditserial import SerialGap
from ..errors import AuditnsError, ConfigError
from ..reassemble import count_lines

_READ: Final = 256 * 1024
#: an event or two: a buffer of this size costs nothing to make
_LITTLE: Final = 16 * 1024


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
        self._room = _LITTLE
        self._blocking = os.get_blocking(fd)
        os.set_blocking(fd, False)
        self._counts = {"received": 0, "bytes": 0, "lost": 0}

    def fileno(self) -> int:
        """For the selector."""
        return self._fd

    def drain(self) -> bytes | None:
        """What is there; ``b""`` for nothing now, ``None`` when the other side has closed and all is read."""
        if self._ended:
            return None
        parts: list[bytes] = []
        size, room = 0, self._room
        while size < self._limit:
            try:
                part = os.read(self._fd, room)
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionResetError:
                part = b""
            except OSError as error:
                raise AuditnsError(f"cannot read audit records: {error.strerror}") from error
            if not part:
                self._ended = True
                break
            parts.append(part)
            size += len(part)
            if len(part) < room:
                break  # that was all
            room = _READ
        self._room = _READ if size > _LITTLE else _LITTLE
        if not parts:
            return None if self._ended else b""
        block = parts[0] if len(parts) == 1 else b"".join(parts)
        self._counts["bytes"] += size
        self._counts["received"] += block.count(b"\n") if size < _LITTLE else count_lines(block)
        return block

    def take_gaps(self, *, final: bool = False) -> list[SerialGap]:
        """None: what auditd did not hand on, the serials of its events tell (Narrator ``track``)."""
        return []

    def late(self) -> bool:
        """Never: when auditd has closed, nothing more comes."""
        return False

    def counters(self) -> dict[str, int]:
        """received records and bytes; what is lost before us, the serials tell."""
        return dict(self._counts)

    def close(self) -> None:
        """Leave the descriptor as it was found."""
        os.set_blocking(self._fd, self._blocking)
