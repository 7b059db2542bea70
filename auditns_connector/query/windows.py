"""Text in windows of whole lines, forwards and backwards, plain and compressed."""

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Final

from auditns_connector.errors import AuditnsError
from auditns_connector.pipeline.compressed import ENOUGH, may_be_compressed, read_some, reader
from auditns_connector.vocabulary.audit_text import MAX_LINE

#: bytes of a window, and of one that is read backwards
SIZE: Final = 1 << 20
SIZE_BACK: Final = 1 << 23
#: a line longer than this is no record, and is divided
_LONGEST: Final = 2 * MAX_LINE

Read = Callable[[int], bytes]


def opened(path: str, fd: int, start: int = 0) -> Read:
    """What reads on in ``fd``, uncompressed: some bytes, none at the end. ``start``: a file is read from this byte of
    its text on. Here and there :class:`AuditnsError` may be raised."""

    def plain(size: int) -> bytes:
        try:
            return read_some(fd, size)
        except OSError as error:
            raise AuditnsError(f"{path}: {error.strerror}") from error

    head = plain(ENOUGH)
    while 0 < len(head) < ENOUGH and may_be_compressed(head):
        more = plain(ENOUGH - len(head))
        if not more:
            break
        head += more
    unpack = reader(head, fd, path)
    if unpack is not None:
        while start and (skipped := unpack(min(start, SIZE))):
            start -= len(skipped)
        return unpack
    if start:
        os.lseek(fd, start, os.SEEK_SET)
        return plain
    left = [head]
    return lambda size: left.pop() if left and left[0] else plain(size)


def forwards(read: Read, size: int = SIZE) -> Iterator[bytes]:
    """All that ``read`` gives, in pieces of about ``size`` bytes that end with a line; the last one may not. What was
    read before an error comes before it."""
    rest, failure, ended = b"", None, False
    while not ended:
        parts, have = [rest], len(rest)
        while have < size and not ended:
            try:
                data = read(size - have)
            except AuditnsError as error:
                data, failure = b"", error
            parts.append(data)
            have += len(data)
            ended = not data
        block = b"".join(parts)
        end = len(block) if ended else block.rfind(b"\n") + 1
        if not end and have > _LONGEST:
            end = have  # this is no line of a record
        rest = block[end:]
        if end:
            yield block[:end]
        elif not ended and size <= have:
            size = 2 * have
    if failure is not None:
        raise failure


def backwards(path: str, fd: int, first: int = 0) -> Iterator[bytes]:
    """The same from the end up to byte ``first``, each window as it stands in the text. What cannot be read so is
    copied first."""
    fd, end = _seekable(path, fd)
    try:
        tail = b""
        while end > first:
            start = max(first, end - SIZE_BACK)
            block = os.pread(fd, end - start, start) + tail
            cut = block.find(b"\n") + 1 if start > first else 0
            if start > first and not cut and len(block) <= 4 * SIZE_BACK:
                tail, end = block, start
                continue
            tail, end = block[:cut], start
            if block[cut:]:
                yield block[cut:]
    except OSError as error:
        raise AuditnsError(f"{path}: {error.strerror}") from error
    finally:
        os.close(fd)


def _seekable(path: str, fd: int) -> tuple[int, int]:
    """A descriptor of the uncompressed text, and its size."""
    try:
        head = os.pread(fd, ENOUGH, 0)
        if not may_be_compressed(head) or len(head) < ENOUGH:
            return os.dup(fd), os.fstat(fd).st_size
    except OSError:
        pass  # a pipe cannot be read from any place
    read = opened(path, fd)
    with tempfile.TemporaryFile() as copy:
        try:
            while data := read(SIZE):
                copy.write(data)
        except OSError as error:
            raise AuditnsError(f"cannot keep the text of {path}: {error.strerror}") from error
        copy.flush()
        return os.dup(copy.fileno()), copy.tell()
