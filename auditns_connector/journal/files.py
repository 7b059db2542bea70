"""The journal: every input of the model in the order it was taken in, as a file of frames.

Live, a MARK frame stands wherever audit events were answered: its payload is pairs of u64 serials (first, last), its
time the CLOCK_MONOTONIC moment the answer was given. So a replay gives each event its answer from the same state of the
model as the live run did, whatever file the audit text comes from. A rotated journal begins with a HELLO frame as the
first one does, followed by answers of a new scan of /proc. Journals of several runs of one boot can be read together:
each run has a model of its own, as it had live, and LOST frames tell that what was before and after it it has not seen.
"""

import bisect
import contextlib
import json
import os
import stat
import struct
import time
from collections.abc import Iterable
from typing import BinaryIO, Final, Literal, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.errors import AuditnsError, DecodeError
from auditns_connector.vocabulary import frames as f

_RANGE: Final = struct.Struct("<QQ")
#: how a frame begins: its size and its kind
_START: Final = struct.Struct("<IB")
_CHUNK: Final = 1 << 20
#: that much space is worth a new beginning
_ROOM: Final = 4 << 20
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
                _refuse_others(self.path)
                self._shift()

    @staticmethod
    def _open(path: str) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                _refuse_others(path)
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
        if self._pending_size > _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hand what is pending to the file."""
        if self.torn:
            return
        data, self._pending, self._pending_size = b"".join(self._pending), [], 0
        view, now = memoryview(data), time.monotonic_ns()
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            self.torn = True
            self.failed += len(data)
            self.notices.append(f"the journal {self.path} lacks what happens from now on: {error.strerror}")
            self._cut()
            return
        self.settled = now
        self.written += len(data)

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
        self.flush()
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
        return True

    def _stay(self, error: OSError) -> bool:
        self._limit = self.written + self._max
        self.notices.append(f"cannot begin a new journal {self.path}: {error.strerror}")
        return False

    def close(self) -> None:
        """Write what is pending and close."""
        self.flush()
        self._file.close()


class Beginning(NamedTuple):
    """What the HELLO frame of a file says: its time (ns), whether of perf, the boot and the run; its size in bytes."""

    time: int = 0
    perf: bool = True
    boot: str = ""
    run: int = 0
    size: int = 0


class JournalReader:
    """Frames of journal files of one boot, up to one mark after the other.

    Raises :class:`DecodeError` for a file that is no journal; a journal cut short at its end is read as far as it goes
    (:attr:`truncated` says so), for the recorder may have been killed.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.truncated = False
        begun = sorted(((_beginning(path), path) for path in paths), key=lambda item: item[0].time)
        self._begun = [beginning for beginning, _ in begun]
        self._paths = [path for _, path in begun]
        for beginning, path in begun:
            if beginning.boot != self._begun[0].boot:
                raise DecodeError(f"{path}: of another boot than {self._paths[0]}; journals of one boot go together")
        #: where the whole frames of each file end
        self._ends: list[int] = []
        #: of each mark: its time, and the place of its frame as (number of the file, offset). The end of a run that
        #: another one follows is a mark as well: what was not marked any more is answered there
        self._times: list[int] = []
        #: and up to when it was drained for the answers at it: text that had waited is answered as of earlier times
        self._cuts: list[int] = []
        self._places: list[tuple[int, int]] = []
        #: (first serial, last serial, mark number), sorted
        self._ranges: list[tuple[int, int, int]] = []
        for path in self._paths:
            self._index(path)
        self._ranges.sort()
        #: the mark reached last, and the place up to which everything has been given
        self._at = -1
        self._given = (0, 0)

    def _index(self, path: str) -> None:
        """Find the marks of one file, and where its last whole frame ends."""
        number, base, rest = len(self._ends), 0, b""
        if self._begins_run(number):
            self._note(self._begun[number].time)
            self._places.append((number, 0))
        with _opened(path) as file:
            while more := file.read(max(_CHUNK, _missing(rest))):
                data = rest + more
                used = self._index_block(path, data, number, base)
                base, rest = base + used, data[used:]
        if not base:
            raise DecodeError(f"{path}: not a journal of auditns (it holds no whole frame)")
        self._ends.append(base)
        self.truncated |= bool(rest)

    def _index_block(self, path: str, data: bytes, number: int, base: int) -> int:
        off, found, view = 0, ffi.new("int *"), memoryview(data)
        if not base and len(data) >= _START.size and not _hello(data):
            raise DecodeError(f"{path}: not a journal of auditns (it must begin with a HELLO frame)")
        while True:
            off = int(lib.frames_seek(ffi.from_buffer(data), len(data), off, f.K_MARK, f.MAX_FRAME, found))
            if found[0] < 0:
                raise DecodeError(f"{path}: no frame at offset {base + off}")
            if not found[0]:
                return off
            size, mark = _START.unpack_from(data, off)[0], len(self._times)
            self._note(int.from_bytes(data[off + 8 : off + 16], "little"))
            self._places.append((number, base + off))
            pairs = (size - f.HEADER_SIZE) // _RANGE.size * _RANGE.size
            payload = view[off + f.HEADER_SIZE : off + f.HEADER_SIZE + pairs]
            self._ranges += [(first, last, mark) for first, last in _RANGE.iter_unpack(payload)]
            off += size

    def _note(self, cut: int) -> None:
        """A mark: what the run had taken in by then is at least that of the marks before."""
        self._cuts.append(cut)
        self._times.append(max(cut, self._times[-1]) if self._times else cut)

    def span_of(self, serial: int) -> tuple[int, int, int] | None:
        """(first, last, mark): ``serial`` and all others from first to last were answered at that mark; ``None`` where
        no mark names it."""
        i = bisect.bisect_right(self._ranges, (serial, 1 << 64, 0)) - 1
        if i < 0 or serial > self._ranges[i][1]:
            return None
        first, last, mark = self._ranges[i]
        if i + 1 < len(self._ranges):
            last = min(last, max(self._ranges[i + 1][0] - 1, serial))
        return first, last, mark

    def settled(self, mono: int | None) -> int:
        """The number of the first mark settled after ``mono`` (ns), for events that no mark names."""
        if mono is None:
            return max(self._at, 0)
        return min(bisect.bisect_left(self._times, mono + SETTLED), max(len(self._times) - 1, 0))

    def upto(self, mark: int) -> tuple[list[bytes], int]:
        """The frames not yet given, up to and without mark ``mark`` (the one before it included, for what that says
        came after the answers given at it), and that mark's time. Marks already passed give nothing more.

        The frames of the run that was read last come first; each further item is another run's, from its beginning.
        """
        blocks = [b""]
        if self._at < mark:
            last = (len(self._paths) - 1, self._ends[-1])
            until = self._places[mark] if mark < len(self._places) else last
            blocks = self._read(until)
            self._at, self._given = mark, until
        return blocks, self._cuts[min(mark, len(self._cuts) - 1)] if self._cuts else 0

    def _read(self, until: tuple[int, int]) -> list[bytes]:
        runs: list[list[bytes]] = [[]]
        number, offset = self._given
        while (number, offset) < until:
            end = until[1] if number == until[0] else self._ends[number]
            with _opened(self._paths[number]) as file:
                file.seek(offset)
                if not offset and self._begins_run(number):
                    begun = self._begun[number]
                    runs.append([file.read(begun.size), _unseen(begun, 1, begun.time)])
                runs[-1].append(file.read(end - file.tell()))
            number, offset = number + 1, 0
            if self._begins_run(number):
                marks = bisect.bisect_left(self._places, (number, 0))
                since = max(self._begun[number - 1].time, self._times[marks - 1] if marks else 0)
                runs[-1].append(_unseen(self._begun[number - 1], since, self._begun[number].time))
        return [b"".join(parts) for parts in runs]

    def _begins_run(self, number: int) -> bool:
        """Whether file ``number`` is the first of another run than the file before it."""
        return 0 < number < len(self._begun) and self._begun[number].run != self._begun[number - 1].run


def _unseen(run: Beginning, since: int, until: int) -> bytes:
    """What happened between these times that run has not seen."""
    source = f.S_PERF if run.perf else f.S_CN
    return f.pack(f.K_LOST, source, until, cpu=f.CPU_UNKNOWN, cgroup=max(since, 1))


def _beginning(path: str) -> Beginning:
    """Of a file that is no journal, nothing."""
    with _opened(path) as file:
        start = file.read(f.HEADER_SIZE)
        if not _hello(start):
            return Beginning()
        start += file.read(max(0, min(_missing(start), f.MAX_FRAME)))
    try:
        frame = next(f.iter_frames(start))
        said = json.loads(frame.payload.rstrip(b"\0"))
        return Beginning(
            frame.time, bool(said.get("perf", True)), str(said["boot_id"]), int(said.get("run", 0)), len(start)
        )
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, struct.error, DecodeError):
        return Beginning()


def _hello(start: bytes) -> bool:
    return len(start) >= _START.size and _START.unpack_from(start)[1] == f.K_HELLO


def _refuse_others(path: str) -> None:
    """Raise :class:`AuditnsError` for a file that holds anything but a journal."""
    with open(path, "rb") as file:
        start = file.read(f.HEADER_SIZE)
    if start and not _hello(start):
        raise AuditnsError(f"cannot write the journal {path}: it holds something else; move it away first")


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise AuditnsError(f"cannot read the journal {path}: {error.strerror}") from error


def _missing(start: bytes) -> int:
    """How many bytes the frame that begins with ``start`` lacks."""
    return _START.unpack_from(start)[0] - len(start) if len(start) >= _START.size else 0
