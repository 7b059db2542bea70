"""The journal: every input of the model in the order it was taken in, as a file of frames.

Live, a MARK frame stands wherever audit events were answered: its payload is pairs of u64 serials (first, last), its
time the CLOCK_MONOTONIC moment the answer was given. So a replay gives each event its answer from the same state of the
model as the live run did, whatever file the audit text comes from. A rotated journal begins with a HELLO frame as the
first one does, followed by answers of a new scan of /proc.
"""

import bisect
import os
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from . import frames as f
from .errors import AuditnsError, DecodeError

_RANGE: Final = struct.Struct("<QQ")
_CHUNK: Final = 1 << 20
#: events that no MARK names are answered by the state this long after their stamp (ns)
SETTLED: Final = 200_000_000


def ranges(serials: Iterable[int]) -> bytes:
    """The payload of a MARK frame for these serials."""
    out = bytearray()
    first = last = -2
    for serial in sorted(set(serials)):
        if serial == last + 1:
            last = serial
            continue
        if first >= 0:
            out += _RANGE.pack(first, last)
        first = last = serial
    if first >= 0:
        out += _RANGE.pack(first, last)
    return bytes(out)


class JournalWriter:
    """Appends frames to ``path`` (mode 0600; never through a symlink). With ``max_size`` > 0, :attr:`full` says when it
    is time to :meth:`rotate`."""

    def __init__(self, path: str, max_size: int = 0, keep: int = 4) -> None:
        self.path, self._max, self._keep = path, max_size, keep
        self._pending: list[bytes] = []
        self._pending_size = 0
        self.written = 0
        self.failed = 0
        self._file = self._open()

    def _open(self) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.fdopen(os.open(self.path, flags, 0o600), "wb", buffering=0)
        except OSError as error:
            raise AuditnsError(f"cannot write the journal {self.path}: {error.strerror}") from error

    def write(self, block: bytes) -> None:
        """Append whole frames."""
        self._pending.append(block)
        self._pending_size += len(block)
        if self._pending_size > _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hand what is pending to the file; what the disk does not take is counted in :attr:`failed` (bytes)."""
        data, self._pending, self._pending_size = b"".join(self._pending), [], 0
        view = memoryview(data)
        while view:
            try:
                done = self._file.write(view) or 0
            except OSError:
                self.failed += len(view)
                return
            self.written += done
            view = view[done:]

    @property
    def full(self) -> bool:
        """The file has reached its size; the run should begin a new one with :meth:`rotate`."""
        return 0 < self._max <= self.written + self._pending_size

    def rotate(self) -> None:
        """Begin a new file; ``path.1`` is the former one, and so on up to ``keep``."""
        self.flush()
        self._file.close()
        for number in range(self._keep, 0, -1):
            older = self.path if number == 1 else f"{self.path}.{number - 1}"
            if os.path.lexists(older):
                os.replace(older, f"{self.path}.{number}")
        self.written = 0
        self._file = self._open()

    def close(self) -> None:
        """Write what is pending and close."""
        self.flush()
        self._file.close()


class JournalReader:
    """Frames of journal files, up to one mark after the other.

    Raises :class:`DecodeError` for a file that is no journal; a journal cut short at its end is read as far as it goes
    (:attr:`truncated` says so), for the recorder may have been killed.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.truncated = False
        #: (first serial, last serial, mark number), sorted
        self._ranges: list[tuple[int, int, int]] = []
        self._times: list[int] = []
        self._paths = list(paths)
        self.kinds: dict[int, int] = {}
        for path in self._paths:
            self._index(path)
        self._ranges.sort()
        self._frames = self._read()
        self._at = -1
        self._held = b""

    def _index(self, path: str) -> None:
        first = True
        for frame in self._scan(path):
            kind = frame[4]
            if first and kind != f.K_HELLO:
                raise DecodeError(f"{path}: not a journal of auditns (it must begin with a HELLO frame)")
            first = False
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if kind == f.K_MARK:
                number = len(self._times)
                self._times.append(int.from_bytes(frame[8:16], "little"))
                payload = memoryview(frame)[f.HEADER_SIZE :]
                for a, b in _RANGE.iter_unpack(payload[: len(payload) // 16 * 16]):
                    self._ranges.append((a, b, number))
        if first:
            raise DecodeError(f"{path}: not a journal of auditns (it holds no whole frame)")

    def _scan(self, path: str) -> Iterator[bytes]:
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed by the with below
        except OSError as error:
            raise AuditnsError(f"cannot read the journal {path}: {error.strerror}") from error
        with file:
            while head := file.read(4):
                size = int.from_bytes(head, "little")
                if len(head) == 4 and (size < f.HEADER_SIZE or size & 7 or size > f.MAX_FRAME):
                    raise DecodeError(f"{path}: no frame at offset {file.tell() - 4}")
                rest = file.read(size - 4) if len(head) == 4 else b""
                if len(rest) != size - 4:
                    self.truncated = True
                    return
                yield head + rest

    def _read(self) -> Iterator[bytes]:
        for path in self._paths:
            yield from self._scan(path)

    def mark_of(self, serial: int, mono: int | None) -> int:
        """The number of the mark at which the event was answered live; else the first one settled after ``mono``."""
        i = bisect.bisect_right(self._ranges, (serial, 1 << 64, 0)) - 1
        if i >= 0 and self._ranges[i][0] <= serial <= self._ranges[i][1]:
            return self._ranges[i][2]
        if mono is None:
            return max(self._at, 0)
        return min(bisect.bisect_left(self._times, mono + SETTLED), max(len(self._times) - 1, 0))

    def upto(self, mark: int) -> tuple[bytes, int]:
        """The frames not yet given, up to and without mark ``mark`` (the one before it included), and that mark's
        time. Marks already passed give nothing more."""
        out: list[bytes] = []
        while self._at < mark:
            if self._held:
                out.append(self._held)  # the mark reached last: what it says came after the answers given at it
                self._held = b""
            for frame in self._frames:
                if frame[4] == f.K_MARK:
                    self._held = frame
                    self._at += 1
                    break
                out.append(frame)
            else:
                break
        return b"".join(out), self._times[min(mark, len(self._times) - 1)] if self._times else 0
