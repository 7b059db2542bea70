"""Reading journals back: see files.py for what is in them, guard.py for how damage shows."""

import bisect
import contextlib
import json
import struct
from collections.abc import Iterable
from typing import BinaryIO, Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.errors import AuditnsError, DecodeError
from auditns_connector.journal import guard
from auditns_connector.journal.files import CHUNK, RANGE, START, is_hello
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.values import JsonObject

#: events that no MARK names are answered by the state this long after their stamp (ns)
SETTLED: Final = 200_000_000
_FOREVER: Final = 1 << 62
#: "v" of a HELLO that is understood here
FORMAT: Final = 1


class LaterVersionError(AuditnsError):
    """A later version wrote the journal."""


class Beginning(NamedTuple):
    """What the HELLO frame of a file says: its time (ns), whether of perf, the boot and the run, whether the file has
    checksums; its size in bytes."""

    time: int = 0
    perf: bool = True
    boot: str = ""
    run: int = 0
    size: int = 0
    guarded: bool = False


class JournalReader:
    """Frames of journal files of one boot, up to one mark after the other.

    Raises :class:`DecodeError` for a file that is no journal, or damaged in its first block. One that is cut short, for
    the recorder may have been killed, or damaged is read as far as it is what was written; :attr:`notices` say so. What
    happened behind that is unknown, as a LOST frame tells the model.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        #: for people
        self.notices: list[str] = []
        begun = sorted(((_beginning(path), path) for path in paths), key=lambda item: item[0].time)
        self._begun = [beginning for beginning, _ in begun]
        self._paths = [path for _, path in begun]
        for beginning, path in begun:
            if beginning.boot != self._begun[0].boot:
                raise DecodeError(f"{path}: of another boot than {self._paths[0]}; journals of one boot go together")
        #: where what is to be trusted of each file ends, and from which time on (ns) more is missing there; 0: nothing
        self._ends: list[int] = []
        self._missing: list[int] = []
        #: of each mark: its time, and the place of its frame as (number of the file, offset). The end of a run that
        #: another one follows is a mark as well: what was not marked any more is answered there
        self._times: list[int] = []
        #: and up to when it was drained for the answers at it: text that had waited is answered as of earlier times
        self._cuts: list[int] = []
        self._places: list[tuple[int, int]] = []
        #: (first serial, last serial, mark number), sorted
        self._ranges: list[tuple[int, int, int]] = []
        #: what is said anywhere of what containers are called, by their keys as they stand there: the requests
        self.names: dict[str, JsonObject] = {}
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
        trusted = self._trusted(path, self._begun[number])
        with _opened(path) as file:
            while more := file.read(min(max(CHUNK, _missing(rest)), trusted.end - file.tell())):
                data = rest + more
                used = self._index_block(path, data, number, base)
                self._index_names(data, used)
                base, rest = base + used, data[used:]
        self._ends.append(trusted.end)
        self._missing.append(0 if trusted.whole else max(self._times[-1] if self._times else 0, 1))
        if not trusted.whole and number == len(self._paths) - 1:
            # whoever asks for what came behind the last mark asks for what is missing
            self._note(self._missing[-1] + 1)
            self._places.append((number + 1, 0))

    def _trusted(self, path: str, begun: Beginning) -> guard.Verified:
        """How much of a file is what was written; what is wrong with it is reported."""
        with _opened(path) as file:
            start = file.read(START.size)
            if start and not (len(start) == START.size and is_hello(start)):
                raise DecodeError(f"{path}: not a journal of auditns (it must begin with a HELLO frame)")
            file.seek(0)
            trusted = guard.verify(file, announced=begun.guarded)
        if not trusted.end:
            if trusted.damaged and trusted.guarded:
                raise DecodeError(f"{path}: the journal is damaged in its first block: nothing of it can be used")
            what = f"no frame at offset {trusted.end}" if trusted.damaged else "it holds no whole frame"
            raise DecodeError(f"{path}: not a journal of auditns ({what})")
        if trusted.damaged:
            self.notices.append(
                f"{path}: the journal is damaged at offset {trusted.end}; what happened after that is unknown"
            )
        elif not trusted.whole:
            self.notices.append(f"{path}: the journal is cut short at its end; events after that are unknown")
        if not trusted.guarded:
            self.notices.append(f"{path}: the journal has no checksums (0.1.0 wrote none): damage to it may not show")
        return trusted

    def _index_block(self, path: str, data: bytes, number: int, base: int) -> int:
        off, found, view = 0, ffi.new("int *"), memoryview(data)
        while True:
            off = int(lib.frames_seek(ffi.from_buffer(data), len(data), off, f.K_MARK, f.MAX_FRAME, found))
            if found[0] < 0:
                raise DecodeError(f"{path}: no frame at offset {base + off}")
            if not found[0]:
                return off
            size, mark = START.unpack_from(data, off)[0], len(self._times)
            self._note(int.from_bytes(data[off + 8 : off + 16], "little"))
            self._places.append((number, base + off))
            pairs = (size - f.HEADER_SIZE) // RANGE.size * RANGE.size
            payload = view[off + f.HEADER_SIZE : off + f.HEADER_SIZE + pairs]
            self._ranges += [(first, last, mark) for first, last in RANGE.iter_unpack(payload)]
            off += size

    def _index_names(self, data: bytes, end: int) -> None:
        """Find what the frames of ``data`` up to ``end`` say of what containers are called; the first word counts."""
        off, found = 0, ffi.new("int *")
        while True:
            off = int(lib.frames_seek(ffi.from_buffer(data), end, off, f.K_REGISTER, f.MAX_FRAME, found))
            if found[0] <= 0:
                return
            size = START.unpack_from(data, off)[0]
            payload = data[off + f.HEADER_SIZE : off + size]
            off += size
            with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):  # shows when it is applied
                request = json.loads(payload.rstrip(b"\0"))
                if request["op"] == "names":
                    self.names.setdefault(json.dumps(request["key"]), request)

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

    def came_between(self, serial: int) -> tuple[int, int] | None:
        """Between which times (ns) the record of an event that no mark names, ``serial``, can have come: serials are
        given in the order in which records are written, and those before and behind it were answered at marks of which
        the times are known. ``None`` where the run has answered no audit events."""
        if not self._ranges:
            return None
        i = bisect.bisect_right(self._ranges, (serial, 1 << 64, 0))
        since = self._times[self._ranges[i - 1][2]] if i else 0
        until = self._times[self._ranges[i][2]] if i < len(self._ranges) else _FOREVER
        return since, until

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
            last = (len(self._paths), 0)
            until = self._places[mark] if mark < len(self._places) else last
            blocks = self._read(until)
            self._at, self._given = mark, until
        return blocks, self._cuts[min(mark, len(self._cuts) - 1)] if self._cuts else 0

    def _read(self, until: tuple[int, int]) -> list[bytes]:
        runs: list[list[bytes]] = [[]]
        number, offset = self._given
        while (number, offset) < until and number < len(self._paths):
            end = until[1] if number == until[0] else self._ends[number]
            with _opened(self._paths[number]) as file:
                file.seek(offset)
                if not offset and self._begins_run(number):
                    begun = self._begun[number]
                    runs.append([file.read(begun.size), _unseen(begun, 1, begun.time)])
                runs[-1].append(file.read(end - file.tell()))
            if number == until[0]:
                break
            runs[-1].append(self._lost_behind(number))
            number, offset = number + 1, 0
            if self._begins_run(number):
                marks = bisect.bisect_left(self._places, (number, 0))
                since = max(self._begun[number - 1].time, self._times[marks - 1] if marks else 0)
                runs[-1].append(_unseen(self._begun[number - 1], since, self._begun[number].time))
        return [b"".join(parts) for parts in runs]

    def _lost_behind(self, number: int) -> bytes:
        """What file ``number`` does not hold any more, up to the beginning of the next one."""
        since, run = self._missing[number], self._begun[number]
        until = self._begun[number + 1].time if number + 1 < len(self._begun) else _FOREVER
        return _unseen(run, since, max(since, until)) if since else b""

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
        if not is_hello(start):
            return Beginning()
        start += file.read(max(0, min(_missing(start), f.MAX_FRAME)))
    try:
        frame = next(f.iter_frames(start))
        said = json.loads(frame.payload.rstrip(b"\0"))
        version = int(said.get("v", FORMAT))
        if version > FORMAT:
            raise LaterVersionError(f"{path}: made by a later version (format {version}, this one reads {FORMAT})")
        return Beginning(
            frame.time, bool(said.get("perf", True)), str(said["boot_id"]), int(said.get("run", 0)), len(start),
            bool(said.get("guard")),
        )  # fmt: skip
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, struct.error, DecodeError):
        return Beginning()


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise AuditnsError(f"cannot read the journal {path}: {error.strerror}") from error


def _missing(start: bytes) -> int:
    """How many bytes the frame that begins with ``start`` lacks."""
    return START.unpack_from(start)[0] - len(start) if len(start) >= START.size else 0
