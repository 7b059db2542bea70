"""Audit text that was compressed: gzip, and zstd where a module for it is installed."""

import io
import os
import zlib
from collections.abc import Callable
from typing import Any, Final

from auditns_connector.errors import AuditnsError

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
#: so many bytes tell what a text is
ENOUGH: Final = 4


def may_be_compressed(head: bytes) -> bool:
    """Whether more than ``head`` is wanted to tell."""
    return any(magic.startswith(head[:ENOUGH]) or head.startswith(magic) for magic in (GZIP, ZSTD))


class _Joined(io.RawIOBase):
    """What was read of a descriptor already, and the rest of it."""

    def __init__(self, head: bytes, fd: int) -> None:
        self._head, self._fd = head, fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._head:
            return os.readv(self._fd, [buffer])
        size = min(len(self._head), len(buffer))
        buffer[:size], self._head = self._head[:size], self._head[size:]
        return size


def reader(head: bytes, fd: int, path: str) -> "Callable[[int], bytes] | None":
    """What reads on in the text of ``fd``, of which ``head`` was read, if that is compressed: some bytes, none at the
    end. Raises :class:`AuditnsError` where it cannot."""
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
            raise AuditnsError(f"{path}: the compressed text is damaged or cut: {error}") from error

    return read


def _open_zstd(source: Any, path: str) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        import zstandard
    except ImportError:
        raise AuditnsError(
            f"{path}: this is zstd, for which a module is missing: pip install 'auditns-connector[zstd]', or use "
            "zstd -dc FILE | auditns enrich"
        ) from None
    opened = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(source, read_across_frames=True)
    return opened, (zstandard.ZstdError, OSError, EOFError)
