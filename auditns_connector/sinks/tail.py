"""Which event of the kernel a log file of ours ends with."""

import os
import re
import stat
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from auditns_connector.audittext.divided import Half, half_of
from auditns_connector.sinks.loss import OWN_LINE, kernel_stamps

#: no more of its end is read (bytes)
_END: Final = 256 * 1024
#: and where a record of a restart is looked for, which may be some seconds of a storm from the end
_FAR_END: Final = 64 << 20
_BLOCK: Final = 1 << 20
#: no such record is longer
_LINE: Final = 4096


#: a CONTAINER_LOST, as text or as JSON
_RESTART: Final = re.compile(rb'source"?[=:]"?restart[^\n]{0,80}?from"?[=:]"?(\d+)[" ,]+to"?[=:]"?(\d+)')


_BEGUN: Final = re.compile(rb"(?m)^(?:node=\S+ )?type=SYSCALL msg=audit\((\d{1,16})\.(\d{3}):(\d{1,16})\):")
#: a PROCTITLE is the last record of its event but the EOE, which says nothing
_ENDED: Final = re.compile(rb"(?m)^(?:node=\S+ )?type=(?:EOE|PROCTITLE) msg=audit\((\d{1,16})\.(\d{3}):(\d{1,16})\):")
#: records of an event come within this time of those of others (ms): the time after which auparse takes it for ended
_INTERLEAVED: Final = 2000


class Tail(NamedTuple):
    """The last event: its serial, its time (ms since 1970), and whether its last record is there; and first and last
    serial of what was told as missing over a restart.

    Records of several events may alternate, so an older one may be cut short as well: ``cut`` is the oldest such, and
    ``present`` are the events behind it that are there as a whole, both as (serial, ms); ``halves`` say by the serial
    what is there of those cut short."""

    serial: int
    ms: int
    whole: bool
    restarts: frozenset[tuple[int, int]] = frozenset()
    cut: tuple[int, int] | None = None
    present: tuple[tuple[int, int], ...] = ()
    halves: Mapping[int, Half] = MappingProxyType({})


def read_tail(path: str) -> Tail | None:
    """The end of ``path`` or, where no event of the kernel is there, of the file rotated last. ``None`` where there is
    none, or it cannot be read: then it is not known how far a former run came."""
    return _tail_of(path) or _tail_of(f"{path}.1")


def tells_restart(path: str, first: int, last: int) -> bool:
    """Whether ``path``, or the file rotated last, tells of events ``first`` to ``last`` as missing over a restart."""
    return any(_tells(name, (first, last)) for name in (path, f"{path}.1"))


def _tells(path: str, wanted: tuple[int, int]) -> bool:
    fd, size = _open(path)
    if fd < 0:
        return False
    try:
        for at in range(size, max(size - _FAR_END, 0), -_BLOCK):
            start = max(at - _BLOCK, 0)
            data = os.pread(fd, at - start + _LINE, start)
            if any((int(found[1]), int(found[2])) == wanted for found in _RESTART.finditer(data)):
                return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _open(path: str) -> tuple[int, int]:
    """A descriptor and the size of a regular file; -1 where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return -1, 0
    try:
        info = os.fstat(fd)
    except OSError:
        info = None
    if info is None or not stat.S_ISREG(info.st_mode):
        os.close(fd)
        return -1, 0
    return fd, info.st_size


def _tail_of(path: str) -> Tail | None:
    fd, size = _open(path)
    if fd < 0:
        return None
    try:
        start = max(size - _END, 0)
        data = os.pread(fd, size - start, start)
    except OSError:
        return None
    finally:
        os.close(fd)
    if start:
        data = data[data.find(b"\n") + 1 :]
    return tail_of(data[: data.rfind(b"\n") + 1])


def tail_of(data: bytes) -> Tail | None:
    """The last event in whole lines."""
    stamps = {(int(time.replace(b".", b"")), int(serial)) for time, serial in set(kernel_stamps(data))}
    if not stamps:
        return None
    newest = max(stamps)
    told = frozenset((int(found[1]), int(found[2])) for found in _RESTART.finditer(data))
    begun, ended = _stamps(_BEGUN, data), _stamps(_ENDED, data)
    recent = [
        (ms, serial)
        for ms, serial in begun - ended
        if ms >= newest[0] - _INTERLEAVED and not any(first <= serial <= last for first, last in told)
    ]
    cut = min(recent, default=None)
    present = sorted(stamp for stamp in stamps - (begun - ended) if cut is not None and stamp[1] > cut[1])
    return Tail(
        newest[1], newest[0], newest not in begun - ended, told,
        None if cut is None else (cut[1], cut[0]), tuple((serial, ms) for ms, serial in present),
        {serial: half for _, serial in recent if (half := half_of(_records(data, serial))) is not None},
    )  # fmt: skip


def _records(data: bytes, serial: int) -> list[bytes]:
    """The kernel's records of one event."""
    lines = re.findall(rb"(?m)^[^\n]*msg=audit\([0-9.]+:%d\):[^\n]*" % serial, data)
    return [line for line in lines if OWN_LINE.match(line) is None]


def _stamps(records: "re.Pattern[bytes]", data: bytes) -> set[tuple[int, int]]:
    """(ms, serial) of each of these records."""
    return {(int(found[1] + found[2]), int(found[3])) for found in records.finditer(data)}
