"""Processes as /proc shows them: the scan at the start and after a loss, and single look-ups.

A process of the scan becomes one PROCESS frame (see frames.py and procscan.py); one that is looked up becomes a PROC
frame, its payload a JSON object::

    pid, tids      thread group id, ids of its threads
    ppid           real parent (the grandparent under CLONE_PARENT)
    start          CLOCK_MONOTONIC ns, see :meth:`Procfs.start_ns` for its accuracy
    start_ticks    field 22 of /proc/PID/stat as it is
    comm, state    not UTF-8: surrogates, as surrogateescape makes them
    ns             type -> inode for the eight types of nstypes, with pid_for_children and time_for_children
    ns_dev         device of nsfs
    cg             hierarchy id ("0": cgroup v2) -> path, as /proc/PID/cgroup tells; those at "/" are left out
    uids           [real, effective, saved, file system]
    nspid          its pid in every pid namespace, ours first
    loginuid, sessionid
    gone           true: whoever was asked for is no more (see :meth:`Procfs.read_alive`), and nothing else is given

What could not be read is null, never guessed. ``time`` is CLOCK_MONOTONIC *before* the first read, so that an event
after it is never held to be in the answer already. All reads of a process go through one descriptor of its folder,
which the kernel ties to that process: an answer never mixes two holders of a pid. A process that ends while it is
read is left out; a zombie is there, and of its namespaces those the kernel still shows: pid and user, and all of them
while another thread lives.

Formats: proc(5); Documentation/filesystems/proc.rst of the kernel.
"""

import errno
import json
import os
import time
from collections.abc import Collection, Iterator
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.model.cgroups import cgroup_paths
from auditns_connector.sources.initns import own_inode
from auditns_connector.sources.procscan import ProcScan
from auditns_connector.vocabulary import frames
from auditns_connector.vocabulary import namespaces as nstypes
from auditns_connector.vocabulary.values import CData, JsonObject

_LINKS: Final = (*nstypes.ALL_ORDER, "pid_for_children", "time_for_children")
_LINK_NAMES: Final = b"\0".join(name.encode("ascii") for name in _LINKS) + b"\0"
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_ROOM: Final = 16384
_text: Final = ffi.new("char[]", _ROOM)
_KEEP: Final = 8192
#: of field 9 of /proc/PID/stat (include/linux/sched.h)
_PF_EXITING: Final = 4
_GONE: Final = (errno.ENOENT, errno.ESRCH)
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Procfs:
    """Reads processes below ``root``. Errors are counted, never raised, but for a ``root`` that is not there."""

    def __init__(self, root: str = "/proc") -> None:
        self._root = root
        self._tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        self._boot_offset = boot_offset()
        self._dev = _nsfs_dev(root)
        self._read = self._vanished = self._denied = self._malformed = 0
        #: raw text -> parsed: many processes share their cgroups
        self._cgroups: dict[bytes, dict[str, str]] = {}
        self._link_inodes: CData = ffi.new("uint64_t[]", len(_LINKS))
        self._link_errors: CData = ffi.new("int[]", len(_LINKS))

    def scan(self, first: Collection[int] = ()) -> Iterator[bytes]:
        """Blocks of PROCESS frames, for each process there is, those of ``first`` before the others; those begun during
        the scan may be missing.

        Raises OSError when ``root`` itself cannot be listed.
        """
        self._boot_offset = boot_offset()
        # the youngest first: they are gone the soonest
        pids = sorted((int(name) for name in os.listdir(self._root) if name.isdecimal()), reverse=True)
        pids.sort(key=first.__contains__, reverse=True)
        found = ProcScan(
            self._root, tick=self._tick, boot_offset=self._boot_offset, ns_dev=self._dev or 0,
            host_pid_ns=own_inode("pid", self._root) or 0,
        )  # fmt: skip
        yield from found.blocks(pids)
        counts = zip((self._read, self._vanished, self._denied, self._malformed), found.counts(), strict=True)
        self._read, self._vanished, self._denied, self._malformed = (old + new for old, new in counts)
        for pid in found.hard:
            frame = self.read_process(pid)
            if frame is not None:
                yield frame

    def read_process(self, pid: int) -> bytes | None:
        """The PROC frame of one process; None when there is none of that pid (a thread's id is none either)."""
        now = time.monotonic_ns()
        answer = self.describe(pid)
        if answer is None:
            return None
        return frames.pack(frames.K_PROC, frames.S_PROCFS, now, pid=pid, tid=pid, payload=_encode(answer).encode())

    def read_alive(self, pid: int) -> bytes:
        """The PROC frame of a process that has an EXIT: ``gone`` where it has begun to exit, or is none."""
        frame = self.read_process(pid)
        if frame is not None and not self._exiting(pid):
            return frame
        answer = {"pid": pid, "ppid": 0, "start": None, "gone": True}
        payload = _encode(answer).encode()
        return frames.pack(frames.K_PROC, frames.S_PROCFS, time.monotonic_ns(), pid=pid, tid=pid, payload=payload)

    def _exiting(self, pid: int) -> bool:
        """Whether do_exit() has begun for the leader of a process: since Linux 6.16 long before its state says so."""
        try:
            folder = os.open(f"{self._root}/{pid}", _FOLDER)
        except OSError as error:
            self._count(error)
            return error.errno in _GONE
        try:
            return bool(int(_file("stat", folder).rpartition(b") ")[2].split()[6]) & _PF_EXITING)
        except OSError as error:
            self._count(error)
            return error.errno in _GONE
        except (IndexError, ValueError):
            self._malformed += 1
            return False
        finally:
            os.close(folder)

    def describe(self, pid: int) -> JsonObject | None:
        """The payload of :meth:`read_process`, not encoded."""
        try:
            folder = os.open(f"{self._root}/{pid}", _FOLDER)
        except OSError as error:
            self._count(error)
            return None if error.errno in _GONE else _nothing(pid)
        try:
            return self._describe(pid, folder)
        finally:
            os.close(folder)

    def _describe(self, pid: int, folder: int) -> JsonObject | None:
        answer = _nothing(pid)
        try:
            stat = _file("stat", folder)
        except OSError as error:
            self._count(error)
            if error.errno in _GONE:
                return None
        else:
            if not self._stat(stat, answer):
                return None
        threads = answer.pop("threads")
        if threads == 1:
            answer["tids"] = [pid]
        elif threads:
            answer["tids"] = self._tids(folder)
        answer["ns"] = self._namespaces(folder, "ns")
        if answer["state"] == "Z" and threads != 1:
            answer["ns"] = self._namespaces_of_threads(folder, answer["tids"] or ()) or answer["ns"]
        answer["ns_dev"] = self._dev
        try:
            raw = _file("cgroup", folder)
            answer["cg"] = self._cgroup(raw)
            status = _file("status", folder)
        except OSError as error:
            self._count(error)
            if error.errno in _GONE:
                return None
        else:
            if not self._status(status, answer):
                return None
        answer["loginuid"] = self._number("loginuid", folder)
        answer["sessionid"] = self._number("sessionid", folder)
        self._read += 1
        return answer

    def _stat(self, stat: bytes, answer: JsonObject) -> bool:
        # comm may hold anything, ")" and newlines too; behind it are numbers, so the last ")" ends it
        head, _, tail = stat.rpartition(b") ")
        fields = tail.split()
        try:
            pid_text, _, comm = head.partition(b" (")
            tgid = int(pid_text)
            answer["ppid"], answer["threads"] = int(fields[1]), int(fields[17])
            answer["start_ticks"] = ticks = int(fields[19])
        except (IndexError, ValueError):
            self._malformed += 1
            return False
        if tgid != answer["pid"]:
            self._malformed += 1
            return False
        answer["start"] = self.start_ns(ticks)
        answer["comm"] = comm.decode("utf-8", "surrogateescape")
        answer["state"] = fields[0].decode("ascii", "replace")
        return True

    def start_ns(self, ticks: int) -> int:
        """A start time in ticks since boot (CLOCK_BOOTTIME, rounded down) as CLOCK_MONOTONIC ns, 0 at the least.

        The true start lies in the tick that begins there: [start, start + 10 ms) at the default 100 ticks a second.
        What the host was suspended is taken off as it is now, so a process from before a suspend comes out too
        early by that suspend.
        """
        return max(0, ticks * self._tick - self._boot_offset)

    def _tids(self, folder: int) -> list[int] | None:
        try:
            task = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            self._count(error)
            return None
        try:
            return sorted(int(name) for name in os.listdir(task))
        except OSError as error:
            self._count(error)
            return None
        finally:
            os.close(task)

    def _namespaces(self, folder: int, where: str) -> dict[str, int | None] | None:
        """Inodes by type; a type the kernel lacks is null; None when there are none at all."""
        count = len(_LINKS)
        failed = lib.procfs_links(folder, where.encode(), _LINK_NAMES, count, self._link_inodes, self._link_errors)
        if failed:
            self._count(OSError(-failed, os.strerror(-failed)))
            return None
        found: dict[str, int | None] = {}
        denied = any_found = False
        for name, inode, trouble in zip(_LINKS, self._link_inodes[0:count], self._link_errors[0:count], strict=False):
            found[name] = inode or None
            if trouble == errno.EBADMSG:
                self._malformed += 1
            elif trouble:
                denied = denied or trouble not in _GONE
                continue
            any_found = True
        self._denied += denied
        return found if any_found else None

    def _namespaces_of_threads(self, folder: int, tids: list[int] | tuple[int, ...]) -> dict[str, int | None] | None:
        """A leader that ended before its threads has none; the others do."""
        for tid in tids:
            found = self._namespaces(folder, f"task/{tid}/ns")
            if found is not None and found["net"] is not None:
                return found
        return None

    def _cgroup(self, raw: bytes) -> dict[str, str]:
        found = self._cgroups.get(raw)
        if found is None:
            found = dict(cgroup_paths(raw))
            if len(self._cgroups) >= _KEEP:
                self._cgroups.clear()
            self._cgroups[raw] = found
        return found

    def _status(self, status: bytes, answer: JsonObject) -> bool:
        """False when it is a thread that is no process."""
        # its first line is comm, with newlines escaped: no comm can counterfeit a line
        try:
            if int(_line(status, b"\nTgid:\t")) != answer["pid"]:
                return False
            answer["uids"] = [int(uid) for uid in _line(status, b"\nUid:\t").split()]
            answer["nspid"] = [int(pid) for pid in _line(status, b"\nNSpid:\t").split()] or None
        except ValueError:
            self._malformed += 1
        return True

    def _number(self, name: str, folder: int) -> int | None:
        try:
            return int(_file(name, folder))
        except OSError as error:
            if error.errno not in _GONE:  # ENOENT: a kernel without audit
                self._count(error)
        except ValueError:
            self._malformed += 1
        return None

    def _count(self, error: OSError) -> None:
        if error.errno in _GONE:
            self._vanished += 1
        else:
            self._denied += 1

    def counters(self) -> dict[str, int]:
        """read: processes answered; vanished, denied: reads that failed so; malformed: texts that were not as proc(5)
        has them."""
        return {
            "read": self._read,
            "vanished": self._vanished,
            "denied": self._denied,
            "malformed": self._malformed,
        }


def boot_offset() -> int:
    """CLOCK_BOOTTIME minus CLOCK_MONOTONIC now, ns: how long the host has been suspended since boot.

    Inside a time namespace both clocks are shifted, and /proc's start times likewise.
    """
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    offset = boot - (before + after) // 2
    return offset if offset > 1_000_000 else 0  # never suspended: what is left is the cost of reading


def _nothing(pid: int) -> JsonObject:
    return {
        "pid": pid,
        "tids": None,
        "ppid": None,
        "start": None,
        "start_ticks": None,
        "comm": None,
        "state": None,
        "threads": None,
        "ns": None,
        "ns_dev": None,
        "cg": None,
        "uids": None,
        "nspid": None,
        "loginuid": None,
        "sessionid": None,
    }


def _file(name: str, folder: int) -> bytes:
    """A file of /proc, whole."""
    room = _ROOM
    while True:
        text = _text if room == _ROOM else ffi.new("char[]", room)
        size = lib.procfs_text(folder, name.encode(), text, room)
        if size < 0:
            raise OSError(-size, os.strerror(-size))
        if size < room:
            return bytes(ffi.buffer(text, size))
        room *= 4


def _line(text: bytes, start: bytes) -> bytes:
    at = text.find(start)
    if at < 0:
        return b""
    at += len(start)
    return text[at : text.find(b"\n", at)]


def _nsfs_dev(root: str) -> int | None:
    try:
        return os.stat(f"{root}/self/ns/uts").st_dev
    except OSError:
        return None
