"""Audit text that was compressed: gzip, and zstd where a module for it is installed."""

import io
import os
import select
import zlib
from collections.abc import Callable
from typing import Any, Final

from auditns_connector.errors import AuditnsError

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
#: so many bytes tell what a text is
ENOUGH: Final = 4


class UnreadableError(AuditnsError):
    """An input cannot be opened, or not be read on."""


def may_be_compressed(head: bytes) -> bool:
    """Whether more than ``head`` is wanted to tell."""
    return any(magic.startswith(head[:ENOUGH]) or head.startswith(magic) for magic in (GZIP, ZSTD))


def read_into(fd: int, buffer: Any) -> int:
    """How many bytes were read into ``buffer``; waits also where the descriptor came to us as one that does not."""
    while True:
        try:
            return os.readv(fd, [buffer])
        except BlockingIOError:
            select.select([fd], [], [])


def read_some(fd: int, size: int) -> bytes:
    """At most ``size`` bytes, as :func:`read_into` reads them; none at the end."""
    buffer = bytearray(size)
    return bytes(memoryview(buffer)[: read_into(fd, buffer)])


class _Joined(io.RawIOBase):
    """What was read of a descriptor already, and the rest of it."""

    def __init__(self, head: bytes, fd: int) -> None:
        self._head, self._fd = head, fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._head:
            return read_into(self._fd, buffer)
        size = min(len(self._head), len(buffer))
        buffer[:size], self._head = self._head[:size], self._head[size:]
        return size


class _Frames(io.RawIOBase):
    """Frames of zstd as they are read, which must not end within one: the module says nothing of that. The lengths of
    frames and blocks stand at their beginnings (RFC 8878)."""

    def __init__(self, source: io.BufferedReader) -> None:
        self._source = source
        self._left = b""
        #: bytes up to the next head, which is that of a block, or of a frame
        self._skip = 0
        self._in_frame = self._checksum = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._source.readinto1(buffer)
        if size:
            self._follow(self._left + bytes(buffer[:size]))
        elif self._skip or self._left or self._in_frame:
            raise EOFError("it ends within a frame")
        return size

    def _follow(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if not self._skip:
                self._skip = self._next(data[at : at + 8])
                if not self._skip:
                    break
            step = min(self._skip, len(data) - at)
            self._skip -= step
            at += step
        self._left = data[at:]

    def _next(self, head: bytes) -> int:
        """How long what begins with ``head`` is; 0 where more of it must be seen."""
        if self._in_frame:
            if len(head) < 3:
                return 0
            block = int.from_bytes(head[:3], "little")
            length = 3 + (1 if block >> 1 & 3 == 1 else block >> 3)  # one byte, so many times
            self._in_frame = not block & 1
            return length if self._in_frame else length + 4 * self._checksum
        if len(head) < 8:
            return 0
        if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:  # to be passed over
            return 8 + int.from_bytes(head[4:8], "little")
        flags = head[4]
        single = bool(flags & 0x20)
        self._in_frame, self._checksum = True, bool(flags & 4)
        return 5 + (not single) + (0, 1, 2, 4)[flags & 3] + (int(single), 2, 4, 8)[flags >> 6]


def reader(head: bytes, fd: int, path: str) -> "Callable[[int], bytes] | None":
    """What reads on in the text of ``fd``, of which ``head`` was read, if that is compressed: some bytes, none at the
    end. Raises :class:`UnreadableError` where it cannot."""
    source = io.BufferedReader(_Joined(head, fd), 1 << 16)
    if head.startswith(GZIP):
        import gzip

        opened: Any = gzip.GzipFile(fileobj=source)
        errors: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
    elif head.startswith(ZSTD):
        opened, errors = _open_zstd(source, path)
    else:
        return None

    def read(size: int) -> bytes:
        try:
            return bytes(opened.read1(size))  # read() would lose what it has where the rest is damaged
        except errors as error:
            raise UnreadableError(f"{path}: the compressed text is damaged or cut: {error}") from error

    return read


def _open_zstd(source: Any, path: str) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        import zstandard
    except ImportError:
        raise UnreadableError(
            f"{path}: this is zstd, for which a module is missing: pip install 'auditns-connector[zstd]', or use "
            "zstd -dc FILE | auditns enrich"
        ) from None
    whole: Any = _Frames(source)
    opened = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(whole, read_across_frames=True)
    return opened, (zstandard.ZstdError, OSError, EOFError)
