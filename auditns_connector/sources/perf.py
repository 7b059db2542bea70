"""perf event rings as a source of frames: fork, exit, comm, namespaces and cgroups of every process on every CPU.

A software "dummy" event on each CPU carries the task, comm, namespaces and cgroup records; four tracepoints are
redirected into its ring. Whatever the kernel or the host refuses is left out step by step, with a notice, and
``features`` says what is had. Facts relied on: include/uapi/linux/perf_event.h, perf_event_open(2).

Loss is reported three ways, each once: by LOST records in the ring; by the kernel's own counters (PERF_FORMAT_LOST,
6.0), which :meth:`PerfSource.drain` reads whenever a ring was so full that its end may be missing; and where the kernel
has no such counters, as a loss of unknown size.
"""

import errno
import os
import time
from collections.abc import Callable
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.daemon.process import DESCRIPTORS, raise_descriptor_limit
from auditns_connector.errors import AuditnsError, NotPermittedError, NotSupportedError
from auditns_connector.sources import initns
from auditns_connector.sources.cpus import CpuWatch, online_cpus
from auditns_connector.sources.tracefs import EventFormat, read_formats
from auditns_connector.sources.tracepoints import CALLS, IDS, TRACEPOINTS, URGENT, fill_layout
from auditns_connector.vocabulary import frames
from auditns_connector.vocabulary.values import CData

NO_CUT: Final = 0xFFFFFFFFFFFFFFFF
MIN_PAGES: Final = 16


def _bits(*bits: int) -> int:
    return sum(1 << bit for bit in bits)


class PerfSource:
    """Rings of ``pages`` (a power of two) pages on every online CPU; ``watermark`` bytes make a ring readable.

    ``calls`` opens the tracepoints of unshare and setns as well (:data:`CALLS`): they tell which of the two it was, and
    with which flags, so that a change of the time namespace shows.
    Raises :class:`NotPermittedError` or :class:`NotSupportedError` when not even the dummy events can be had.
    """

    def __init__(
        self, pages: int = 4096, tracepoints: bool = True, watermark: int = 1 << 20, calls: bool = False
    ) -> None:
        self.notices: list[str] = []
        self._features = {"task", "namespaces", "cgroup"}
        self._layout: CData = ffi.new("struct perf_layout *")
        self._layout.has_cgroup = 1
        self._counters: CData = ffi.new("struct perf_counters *")
        self._frames: CData = ffi.new("uint8_t **")
        self._set: CData = lib.perf_set_new()
        about = {"set": self._set, "layout": self._layout, "counters": self._counters}
        self._look: CData = ffi.new("struct perf_look *", about)
        self._pages = pages
        self._watermark = min(watermark, pages * os.sysconf("SC_PAGESIZE") // 2)
        self._read_format: int = lib.PERF_FORMAT_LOST
        self._rings: list[tuple[int, list[int]]] = []  # by ring: its CPU; descriptors, the dummy's first
        self._formats: dict[str, EventFormat] = {}
        self._cpus = CpuWatch()
        #: when the rings were last those of the CPUs
        self._looked = 0
        #: frames of rings that were closed, and what their CPUs have lost
        self._kept = b""
        try:
            if tracepoints:
                self._formats, notices = read_formats([event for event in TRACEPOINTS if calls or event not in CALLS])
                self.notices += notices
            for cpu in online_cpus():
                self._add_cpu(cpu)
            self._cpus.changed()
            for _, fds in self._rings:
                self._enable(fds)
            #: from this moment on all events are reported (CLOCK_MONOTONIC ns)
            self.began = self._looked = time.monotonic_ns()
        except BaseException:
            self.close()
            raise
        if not self._formats:
            self._layout.has_cgroup = 0

    @property
    def features(self) -> frozenset[str]:
        """Of task, namespaces, cgroup, exec_sample, attach, newtask, exit_sample: those this host gives.

        exec_sample and exit_sample carry the cgroup only together with "sample_cgroup".
        """
        had = self._features | {TRACEPOINTS[event][0] for event in self._formats}
        return frozenset(had | {"sample_cgroup"} if self._formats and self._layout.has_cgroup else had)

    def filenos(self) -> list[int]:
        """The descriptors that become readable when ``watermark`` bytes wait in a ring, or an :data:`URGENT` record."""
        return [fds[0] for _, fds in self._rings]

    def drain(self, cut: int | None = None) -> bytes:
        """Frames of all records up to ``cut`` (CLOCK_MONOTONIC ns; None: all there are), sorted by time."""
        limit = NO_CUT if cut is None else cut
        size = lib.perf_set_drain(self._set, self._layout, self._counters, limit, self._frames)
        return self.block(size, self._frames[0], cut)

    def watch(self, clock: CData) -> CData:
        """A C ``struct perf_look`` for drains in one go with a sample of ``clock`` (a C ``struct clock_sample``)."""
        self._look.clock = clock
        return self._look

    def look(self, clock: CData) -> tuple[int, bool, bytes]:
        """The same up to now, in one go with a sample of ``clock``: when that was, whether the sample is to be written,
        the frames."""
        look = self.watch(clock)
        size = lib.perf_look(look)
        return look.cut, look.clock_due, self.block(size, look.frames, look.cut)

    def block(self, size: int, frames: CData, cut: int | None) -> bytes:
        """The frames that a C function has drained up to ``cut``; ``size`` is what it returned."""
        if size < 0:
            raise MemoryError(f"no memory for the frames of the perf rings: {os.strerror(-size)}")
        block: bytes = ffi.buffer(frames, size)[:] if size else b""
        if not self._counters.suspect:
            return block
        kept, self._kept = self._kept, b""
        return kept + block + self._tail_loss(cut)

    def counters(self) -> dict[str, int]:
        """Counts since the start: received records, lost, unknown and malformed ones."""
        counted = self._counters
        return {
            "received": counted.received,
            "lost": counted.lost,
            "unknown": counted.unknown,
            "malformed": counted.malformed,
        }

    def refresh(self) -> bool:
        """Look for CPUs that have come or gone since: their rings are opened and closed, and True is returned, for
        :meth:`filenos` are others now. Cheap enough to call every second.

        A CPU that goes takes its events' rings out of use for ever, and one that comes is not followed until it is
        noticed; what was missed then is reported as a loss of unknown size.
        """
        since, self._looked = self._looked, time.monotonic_ns()
        changed, online = self._cpus.changed(), online_cpus()
        old = [cpu for cpu, _ in self._rings if changed is None or cpu in changed or cpu not in online]
        had = {cpu for cpu, _ in self._rings}.difference(old)
        fresh = [cpu for cpu in online if cpu not in had]
        if not old and not fresh:
            return False
        if old:
            self._kept += self.drain()
            self._drop(set(old))
        for cpu in fresh:
            self._follow(cpu)
            now = time.monotonic_ns()
            self._kept += frames.pack(frames.K_LOST, frames.S_PERF, now, cpu=cpu, cgroup=since)
        self._counters.suspect = 1  # more is missing than what the rings hold
        return True

    def _drop(self, cpus: set[int]) -> None:
        for ring in reversed(range(len(self._rings))):
            cpu, fds = self._rings[ring]
            if cpu in cpus:
                lib.perf_set_drop(self._set, ring)
                del self._rings[ring]
                for fd in fds:
                    os.close(fd)

    def _follow(self, cpu: int) -> None:
        """Open a ring for a CPU that has come; where that fails the next :meth:`refresh` tries again."""
        rings, formats = len(self._rings), dict(self._formats)
        try:
            self._add_cpu(cpu)
            if self._formats != formats:
                raise NotSupportedError(self.notices.pop())
            self._enable(self._rings[-1][1])
        except AuditnsError as error:
            self._formats = formats
            for event, form in formats.items():
                setattr(self._layout, IDS[event], form.id)
            if len(self._rings) > rings:
                self._drop({cpu})
            if cpu in online_cpus():  # else it has gone again
                self.notices.append(f"CPU {cpu} has come and cannot be followed: {error}")

    def close(self) -> None:
        """Give back rings and descriptors; a second call does nothing."""
        if self._set != ffi.NULL:
            lib.perf_set_free(self._set)
            self._set = ffi.NULL
            self._cpus.close()
        for _, fds in self._rings:
            for fd in fds:
                os.close(fd)
        self._rings = []

    def __enter__(self) -> "PerfSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tail_loss(self, cut: int | None) -> bytes:
        """LOST frames for what the rings' ends lack and no record in them has counted yet."""
        lost = b""
        self._counters.suspect = 0
        last = ffi.new("uint64_t *")
        for ring, (cpu, fds) in enumerate(self._rings):
            if not lib.perf_set_suspect(self._set, ring):
                continue
            count = lib.perf_set_unreported(self._set, ring, self._lost(fds), last) if self._read_format else 0
            if count or not self._read_format:
                self._counters.lost += count
                now = time.monotonic_ns() if cut is None else cut
                lost += frames.pack(frames.K_LOST, frames.S_PERF, now, cpu=cpu, arg=count, cgroup=last[0])
        return lost

    def _lost(self, fds: list[int]) -> int:
        return sum(int.from_bytes(os.read(fd, 16)[8:16], "little") for fd in fds)

    def _attr(self, kind: int, config: int) -> CData:
        attr = ffi.new("struct perf_event_attr *")
        attr.type = kind
        attr.size = lib.PERF_ATTR_SIZE_VER5
        attr.config = config
        attr.read_format = self._read_format
        attr.wakeup_watermark = self._watermark
        attr.clockid = time.CLOCK_MONOTONIC
        attr.sample_type = lib.PERF_SAMPLE_TID | lib.PERF_SAMPLE_TIME | lib.PERF_SAMPLE_CPU | lib.PERF_SAMPLE_IDENTIFIER
        attr.flags = _bits(
            lib.PERF_BIT_DISABLED, lib.PERF_BIT_WATERMARK, lib.PERF_BIT_SAMPLE_ID_ALL, lib.PERF_BIT_USE_CLOCKID
        )
        return attr

    def _dummy_attr(self) -> CData:
        attr = self._attr(lib.PERF_TYPE_SOFTWARE, lib.PERF_COUNT_SW_DUMMY)
        attr.flags |= _bits(lib.PERF_BIT_COMM, lib.PERF_BIT_TASK, lib.PERF_BIT_COMM_EXEC)
        if "namespaces" in self._features:
            attr.flags |= _bits(lib.PERF_BIT_NAMESPACES)
        if "cgroup" in self._features:
            attr.flags |= _bits(lib.PERF_BIT_CGROUP)
        return attr

    def _tracepoint_attr(self, event: str) -> CData:
        attr = self._attr(lib.PERF_TYPE_TRACEPOINT, self._formats[event].id)
        attr.sample_period = 1
        if event in URGENT:
            attr.flags &= ~_bits(lib.PERF_BIT_WATERMARK)
            attr.wakeup_watermark = 1  # shares its place with wakeup_events
        attr.sample_type |= lib.PERF_SAMPLE_RAW
        if self._layout.has_cgroup:
            attr.sample_type |= lib.PERF_SAMPLE_CGROUP
        return attr

    def _drop_lost_format(self) -> str:
        if not self._read_format:
            return ""
        self._read_format = 0
        return (
            "the kernel keeps no count of lost perf records (before Linux 6.0): losses at a ring's end have no number"
        )

    def _drop_cgroup(self) -> str:
        if "cgroup" not in self._features:
            return ""
        self._features.discard("cgroup")
        return "the kernel tells no new cgroups through perf (before Linux 5.7)"

    def _drop_namespaces(self) -> str:
        if "namespaces" not in self._features:
            return ""
        self._features.discard("namespaces")
        return "the kernel tells no namespaces through perf (before Linux 4.11)"

    def _drop_sample_cgroup(self) -> str:
        if not self._layout.has_cgroup:
            return ""
        self._layout.has_cgroup = 0
        return "the kernel tells no cgroup with perf samples (before Linux 5.7)"

    def _open(self, attr_of: Callable[[], CData], cpu: int, steps: list[Callable[[], str]]) -> int:
        """Open an event; as long as the kernel does not know a bit of it, take back one of ``steps``."""
        while (fd := lib.perf_open(attr_of(), cpu)) < 0:
            notice = ""
            while fd in (-errno.EINVAL, -errno.E2BIG) and steps and not notice:
                notice = steps.pop(0)()
            if not notice:
                return int(fd)
            self.notices.append(notice)
        return int(fd)

    def _add_cpu(self, cpu: int) -> None:
        raise_descriptor_limit(DESCRIPTORS + (len(self._rings) + 1) * (1 + len(self._formats)))
        # what is dropped once is dropped for all CPUs: the first one finds out
        steps = [self._drop_lost_format, self._drop_cgroup, self._drop_namespaces]
        dummy = self._open(self._dummy_attr, cpu, steps)
        if dummy in (-errno.EPERM, -errno.EACCES):
            raise NotPermittedError(
                f"perf_event_open is refused: it needs CAP_PERFMON in the host's user namespace: {initns.here()}"
            )
        if dummy < 0:
            raise NotSupportedError(f"perf_event_open on CPU {cpu}: {os.strerror(-dummy)}")
        fds = [dummy]
        self._rings.append((cpu, fds))
        self._map(cpu, dummy)
        for event in list(self._formats):
            trouble = self._add_tracepoint(event, cpu, fds)
            if trouble:
                del self._formats[event]
                setattr(self._layout, IDS[event], 0)
                self.notices.append(trouble)

    def _map(self, cpu: int, fd: int) -> None:
        wanted = self._pages
        while (ring := lib.perf_set_add(self._set, fd, cpu, self._pages)) < 0:
            # EPERM: more than may be locked
            if ring not in (-errno.EPERM, -errno.ENOMEM) or self._pages <= MIN_PAGES:
                raise NotSupportedError(f"no perf ring of {self._pages} pages on CPU {cpu}: {os.strerror(-ring)}")
            self._pages //= 2
        if self._pages != wanted:
            self.notices.append(
                f"perf rings of {self._pages} pages instead of {wanted}: no memory may be locked for more"
            )

    def _add_tracepoint(self, event: str, cpu: int, fds: list[int]) -> str:
        trouble = fill_layout(self._layout, event, self._formats[event])
        if trouble:
            return trouble
        fd = self._open(lambda: self._tracepoint_attr(event), cpu, [self._drop_lost_format, self._drop_sample_cgroup])
        if fd < 0:
            return f"tracepoint {event}: {os.strerror(-fd)}"
        fds.append(fd)
        failed = lib.perf_redirect(fd, fds[0])
        wanted = TRACEPOINTS[event][1]
        if not failed and wanted:
            failed = lib.perf_filter(fd, wanted.encode())
        if failed:
            os.close(fds.pop())
            return f"tracepoint {event}: {os.strerror(-failed)}"
        return ""

    def _enable(self, fds: list[int]) -> None:
        for fd in fds:
            failed = lib.perf_enable(fd)
            if failed:
                raise NotSupportedError(f"a perf event cannot be enabled: {os.strerror(-failed)}")
