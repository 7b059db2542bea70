"""Checksums in a journal: a CHECK frame behind every block, over all that stands before it.

Its ``arg`` is the CRC-32 (zlib) of the block and of the CHECK frame itself with ``arg`` 0, begun with the checksum
before it: so a block that is changed, missing, doubled or moved shows, where it begins and in all that follow. The last
one has ``ptid`` 1: without it the file was cut, or whoever recorded it was killed. Journals of 0.1.0 have none of this.
"""

import time
import zlib
from collections.abc import Sequence
from typing import BinaryIO, Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary import frames as f

#: a block is no smaller than this where there is more to write (bytes)
BLOCK: Final = 64 << 10
_CHUNK: Final = 1 << 20
#: where ``arg`` stands in a frame
_ARG: Final = slice(40, 48)
_LAST: Final = 1


class Writer:
    """The checksums of one file. ``crc`` is that of all that is in the file."""

    def __init__(self) -> None:
        self.crc = 0

    def sealed(self, blocks: Sequence[bytes], *, last: bool = False) -> tuple[bytes, int]:
        """The bytes to write for ``blocks`` of whole frames, and the checksum when they are written."""
        out: list[bytes] = []
        crc, size = self.crc, 0
        for block in blocks:
            out.append(block)
            crc, size = zlib.crc32(block, crc), size + len(block)
            if size >= BLOCK:
                check, crc = _check(crc, last=False)
                out.append(check)
                size = 0
        if size or (last and crc):  # an empty file stays empty
            check, crc = _check(crc, last=last)
            out.append(check)
        return b"".join(out), crc


class Verified(NamedTuple):
    """What is to be trusted of a file: the bytes up to ``end``. ``guarded``: it has checksums; ``damaged``: there is
    more, and it is not what was written; ``whole``: its end is there."""

    end: int
    guarded: bool
    damaged: bool
    whole: bool


def verify(file: BinaryIO, *, announced: bool) -> Verified:
    """Read a journal through. ``announced``: it says at its beginning that it has checksums."""
    crc, base, end, rest, guarded, last = 0, 0, 0, b"", announced, False
    found = ffi.new("int *")
    while more := file.read(max(_CHUNK, _lacking(rest))):
        data, off, done = rest + more, 0, 0
        while True:
            off = int(lib.frames_seek(ffi.from_buffer(data), len(data), off, f.K_CHECK, f.MAX_FRAME, found))
            crc = zlib.crc32(memoryview(data)[done:off], crc)
            done = off
            if found[0] != 1:
                break
            frame = data[off : off + f.HEADER_SIZE]
            guarded = True
            crc = zlib.crc32(frame[: _ARG.start] + bytes(8), crc)
            if int.from_bytes(frame[:4], "little") != f.HEADER_SIZE or crc != int.from_bytes(frame[_ARG], "little"):
                return Verified(end, True, True, False)
            off += f.HEADER_SIZE
            done, end, last = off, base + off, f.HEADER.unpack(frame)[8] == _LAST
        base, rest = base + done, data[done:]
        if found[0] < 0:
            return Verified(end if guarded else base, guarded, True, False)
    if not guarded:
        return Verified(base, False, False, not rest)
    return Verified(end, True, False, last and end == base and not rest)


def _check(crc: int, *, last: bool) -> tuple[bytes, int]:
    frame = f.pack(f.K_CHECK, f.S_PIPELINE, time.monotonic_ns(), ptid=_LAST * last)
    crc = zlib.crc32(frame, crc)
    return frame[: _ARG.start] + crc.to_bytes(8, "little"), crc


def _lacking(start: bytes) -> int:
    return min(int.from_bytes(start[:4], "little"), f.MAX_FRAME) - len(start) if len(start) >= 4 else 0
