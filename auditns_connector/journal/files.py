"""The journal: every input of the model in the order it was taken in, as a file of frames.

Live, a MARK frame stands wherever audit events were answered: its payload is pairs of u64 serials (first, last), its
time the CLOCK_MONOTONIC moment the answer was given. So a replay gives each event its answer from the same state of the
model as the live run did, whatever file the audit text comes from. A rotated journal begins with a HELLO frame as the
first one does, followed by answers of a new scan of /proc. Journals of several runs of one boot can be read together:
each run has a model of its own, as it had live, and LOST frames tell that what was before and after it it has not seen.
"""

import contextlib
import os
import stat
import struct
import time
from collections.abc import Iterable
from typing import BinaryIO, Final, Literal

from auditns_connector.errors import AuditnsError
from auditns_connector.journal import guard
from auditns_connector.vocabulary import frames as f

RANGE: Final = struct.Struct("<QQ")
#: how a frame begins: its size and its kind
START: Final = struct.Struct("<IB")
CHUNK: Final = 1 << 20
#: that much space is worth a new beginning
_ROOM: Final = 4 << 20


def ranges(serials: Iterable[int]) -> bytes:
    """The payload of a MARK frame for these serials."""
    out = bytearray()
    first = last = -2
    for serial in sorted(set(serials)):
        if serial == last + 1:
            last = serial
            continue
        if first >= 0:
            out += RANGE.pack(first, last)
        first = last = serial
    if first >= 0:
        out += RANGE.pack(first, last)
    return bytes(out)


class JournalWriter:
    """Appends frames to ``path`` (mode 0600; never through a symlink). With ``max_size`` > 0, :attr:`full` says when it
    is time to :meth:`rotate`. The journal of a ``former`` run is overwritten, or kept as ``path.1`` (and the directory
    made where it is not there); a file of anything else is refused.

    Where the disk takes no more the file is cut back to whole frames and :attr:`torn` until :meth:`mend`: what comes
    meanwhile is counted in :attr:`failed` (bytes), and is not to be followed by anything but a new beginning.
    """

    def __init__(
        self, path: str, max_size: int = 0, keep: int = 4, former: Literal["keep", "overwrite"] = "overwrite"
    ) -> None:
        self.path, self._max, self._keep = path, max_size, keep
        self._limit = max_size
        self._guard = guard.Writer()
        self._pending: list[bytes] = []
        self._pending_size = 0
        self.written = 0
        self.failed = 0
        self.torn = False
        #: when all that had happened a while before was in the file (CLOCK_MONOTONIC ns)
        self.settled = time.monotonic_ns()
        #: for people, taken away by the pipeline
        self.notices: list[str] = []
        try:
            if former == "keep":
                self._make_room()
            self._file = self._open(path)
        except OSError as error:
            raise AuditnsError(f"cannot write the journal {path}: {error.strerror}") from error

    def _make_room(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(self.path) or ".", 0o750)
        with contextlib.suppress(FileNotFoundError):
            info = os.lstat(self.path)
            if stat.S_ISREG(info.st_mode) and info.st_size:
                refuse_others(self.path)
                self._shift()

    @staticmethod
    def _open(path: str) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                refuse_others(path)
                os.fchmod(fd, 0o600)
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        return os.fdopen(fd, "wb", buffering=0)

    def _shift(self) -> None:
        """``path`` becomes ``path.1``, that ``path.2``, and so on up to ``keep``."""
        for number in range(self._keep, 0, -1):
            older = self.path if number == 1 else f"{self.path}.{number - 1}"
            if os.path.lexists(older):
                os.replace(older, f"{self.path}.{number}")

    def write(self, block: bytes) -> None:
        """Append whole frames."""
        if self.torn:
            self.failed += len(block)
            return
        self._pending.append(block)
        self._pending_size += len(block)
        if self._pending_size > CHUNK:
            self.flush()

    def flush(self, *, last: bool = False) -> None:
        """Hand what is pending to the file, and the mark of its end where it is the ``last``."""
        if self.torn:
            return
        (data, crc), size = self._guard.sealed(self._pending, last=last), self._pending_size
        self._pending, self._pending_size = [], 0
        view, now = memoryview(data), time.monotonic_ns()
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            self.torn = True
            self.failed += size
            self.notices.append(f"the journal {self.path} lacks what happens from now on: {error.strerror}")
            self._cut()
            return
        self.settled = now
        self.written += len(data)
        self._guard.crc = crc

    def _cut(self) -> bool:
        """Take back what was written of the last block; a file that cannot be cut stays torn."""
        try:
            self._file.truncate(self.written)
            self._file.seek(self.written)
        except OSError:
            return False
        return True

    def mend(self) -> bool:
        """Whether there is space again. What is written next must be a HELLO frame and a LOST frame."""
        try:
            os.posix_fallocate(self._file.fileno(), self.written, _ROOM)
        except OSError:
            self._cut()  # what it has taken is for others
            return False
        if not self._cut():
            return False
        self.torn = False
        self.notices.append(f"the journal {self.path} goes on")
        return True

    @property
    def full(self) -> bool:
        """The file has reached its size; the run should begin a new one with :meth:`rotate`."""
        return not self.torn and 0 < self._limit <= self.written + self._pending_size

    def rotate(self) -> bool:
        """Begin a new file; ``path.1`` is the former one, and so on up to ``keep``. Where that fails the old one grows
        on until the next multiple of its size."""
        self.flush(last=True)
        if self.torn:
            return False
        fresh = f"{self.path}.new"
        try:
            file = self._open(fresh)
        except OSError as error:
            return self._stay(error)
        try:
            self._shift()
            os.replace(fresh, self.path)
        except OSError as error:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            return self._stay(error)
        self._file.close()
        self._file, self.written, self._limit, self.torn = file, 0, self._max, False
        self._guard = guard.Writer()
        return True

    def _stay(self, error: OSError) -> bool:
        self._limit = self.written + self._max
        self.notices.append(f"cannot begin a new journal {self.path}: {error.strerror}")
        return False

    def close(self) -> None:
        """Write what is pending and close."""
        self.flush(last=True)
        self._file.close()


def is_hello(start: bytes) -> bool:
    return len(start) >= START.size and START.unpack_from(start)[1] == f.K_HELLO


def refuse_others(path: str) -> None:
    """Raise :class:`AuditnsError` for a file that holds anything but a journal."""
    with open(path, "rb") as file:
        start = file.read(f.HEADER_SIZE)
    if start and not is_hello(start):
        raise AuditnsError(f"cannot write the journal {path}: it holds something else; move it away first")
