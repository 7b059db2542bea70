"""Numbers of processes inside a pid namespace: perf rings opened by a process that lives there for a moment.

perf writes process numbers as the pid namespace of the event's opener sees them, so a ring opened inside tells every
fork by its inside number, the shortest-lived child's too. Each is matched with the host's frame of the same fork
(cdefs/kernel/pidns.c says why that is exact) and becomes an INSIDE frame.

An open ring holds a reference to its pid namespace, which keeps the kernel's struct but no process of it; the rings
are closed as soon as the namespace's last process is known to be gone.
"""

import os
import time
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.errors import NotSupportedError
from auditns_connector.sources.cpus import online_cpus
from auditns_connector.sources.perf import NO_CUT
from auditns_connector.vocabulary import frames
from auditns_connector.vocabulary.values import CData

PAGES: Final = 256
_HEADER: Final = frames.HEADER_SIZE


class PidnsRing:
    """The rings of one pid namespace, entered through the living process ``pid`` of it, with namespace inode ``ino``.

    ``number`` names the namespace in the frames (model.namespaces.Instance.number). Raises
    :class:`NotSupportedError` where it cannot be had: the process is gone, or perf is refused.
    """

    def __init__(self, number: int, pid: int, ino: int, pages: int = PAGES) -> None:
        self.number, self._ino = number, ino
        self.unmatched = 0
        self._layout: CData = ffi.new("struct perf_layout *")
        self._counters: CData = ffi.new("struct perf_counters *")
        self._frames: CData = ffi.new("uint8_t **")
        self._held = b""
        self._fds: list[int] = []
        self._set: CData = lib.perf_set_new()
        try:
            self._open(pid, ino, pages)
        except BaseException:
            self.close()
            raise

    def _open(self, pid: int, ino: int, pages: int) -> None:
        cpus = online_cpus()
        fds = ffi.new("int32_t[]", len(cpus))
        try:
            nsfd = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotSupportedError(f"pid namespace of process {pid}: {error.strerror}") from error
        try:
            if os.fstat(nsfd).st_ino != ino:
                raise NotSupportedError(f"process {pid} is not in pid namespace {ino}")
            failed = lib.nspid_open(nsfd, _attr(), ffi.new("int32_t[]", cpus), len(cpus), fds)
            if failed:
                raise NotSupportedError(f"no perf rings inside pid namespace {ino}: {os.strerror(-failed)}")
            self._fds = list(fds)
            for cpu, fd in zip(cpus, self._fds, strict=True):
                ring = lib.perf_set_add(self._set, fd, cpu, pages)
                if ring < 0:
                    raise NotSupportedError(f"no perf ring of {pages} pages: {os.strerror(-ring)}")
                failed = lib.perf_enable(fd)
                if failed:
                    raise NotSupportedError(f"a perf event cannot be enabled: {os.strerror(-failed)}")
            lib.nspid_poke(nsfd)  # without it the numbers given until now are in /proc alone
        finally:
            os.close(nsfd)

    @property
    def lost(self) -> int:
        """Records that the rings had no room for."""
        return int(self._counters.lost)

    def drain(self, host: bytes, cut: int | None) -> bytes:
        """INSIDE frames for the forks in ``host``, the block of the host's frames up to ``cut``."""
        size = lib.perf_set_drain(self._set, self._layout, self._counters, NO_CUT if cut is None else cut, self._frames)
        if size < 0:
            raise MemoryError(f"no memory for the frames of a pid namespace: {os.strerror(-size)}")
        block = self._held + (bytes(ffi.buffer(self._frames[0], size)) if size else b"")
        held, self._held = self._held, b""
        if not block:
            return b""
        room = len(block) // _HEADER
        pairs = ffi.new("struct nspid_pair[]", room)
        count = lib.nspid_match(ffi.from_buffer(host), len(host), ffi.from_buffer(block), len(block), pairs, room)
        out, waiting = [], []
        for i in range(count):
            pair = pairs[i]
            if pair.state == 1:
                out.append(
                    frames.pack(
                        frames.K_INSIDE,
                        frames.S_PERF,
                        pair.time,
                        pid=pair.pid,
                        tid=pair.tid,
                        ppid=pair.inside_pid,
                        ptid=pair.inside_tid,
                        cgroup=self.number,
                        arg=self._ino,
                    )
                )
            elif pair.state == 0 and pair.offset >= len(held):
                end = pair.offset + int.from_bytes(block[pair.offset : pair.offset + 4], "little")
                waiting.append(block[pair.offset : end])
            else:
                self.unmatched += 1
        self._held = b"".join(waiting)
        return b"".join(out)

    def close(self) -> None:
        """Give back rings and descriptors; a second call does nothing."""
        if self._set != ffi.NULL:
            lib.perf_set_free(self._set)
            self._set = ffi.NULL
        for fd in self._fds:
            os.close(fd)
        self._fds = []


def _attr() -> CData:
    attr = ffi.new("struct perf_event_attr *")
    attr.type = lib.PERF_TYPE_SOFTWARE
    attr.size = lib.PERF_ATTR_SIZE_VER5
    attr.config = lib.PERF_COUNT_SW_DUMMY
    attr.wakeup_watermark = PAGES * os.sysconf("SC_PAGESIZE") // 2
    attr.clockid = time.CLOCK_MONOTONIC
    attr.sample_type = lib.PERF_SAMPLE_TID | lib.PERF_SAMPLE_TIME | lib.PERF_SAMPLE_CPU | lib.PERF_SAMPLE_IDENTIFIER
    for bit in (
        lib.PERF_BIT_DISABLED, lib.PERF_BIT_TASK, lib.PERF_BIT_WATERMARK, lib.PERF_BIT_SAMPLE_ID_ALL,
        lib.PERF_BIT_USE_CLOCKID,
    ):  # fmt: skip
        attr.flags |= 1 << bit
    return attr
