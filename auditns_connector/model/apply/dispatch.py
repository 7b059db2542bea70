"""The model: every frame to the handler of its kind.

:meth:`Model.apply` takes frames in the order of their times and changes the tables; nothing here looks at a clock, a
socket or /proc. The answers to what the tables want to know come back as frames, so that a replay of the same frames
gives the same state, byte for byte.

Handlers know the tables and those handlers that they are given here: what one makes of a frame another may have to
know. None of them knows the model.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.errors import DecodeError
from auditns_connector.model.addresses import Packets
from auditns_connector.model.apply.checkpoints import Checkpoints
from auditns_connector.model.apply.connector import ByConnector
from auditns_connector.model.apply.expectations import Expectations
from auditns_connector.model.apply.lives import Lives
from auditns_connector.model.apply.losses import Losses
from auditns_connector.model.apply.namespace_life import NsLife
from auditns_connector.model.apply.packing import Packing
from auditns_connector.model.apply.perf import KernelEvents
from auditns_connector.model.apply.procfs import Resync
from auditns_connector.model.apply.registration import Registry
from auditns_connector.model.apply.time_namespaces import TimeNs
from auditns_connector.model.exits import SAMPLES, proof_of
from auditns_connector.model.inner_ids import Inside
from auditns_connector.model.logins import Logins
from auditns_connector.model.places import Container
from auditns_connector.model.process import Process
from auditns_connector.model.tables import Tables
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER
from auditns_connector.vocabulary.timing import SAME_START
from auditns_connector.vocabulary.values import JsonObject

#: where perf is not had, what these say is taken in another way
_NOT_PERF: Final = (f.S_CN, f.S_AUDIT)
#: frames that may change a process, which Python writes then
_OF_A_PROCESS: Final = frozenset(
    (f.K_FORK, f.K_EXEC, f.K_EXIT, f.K_EXIT_SAMPLE, f.K_COMM, f.K_NAMESPACES, f.K_ATTACH, f.K_NEWTASK, f.K_UNSHARE,
     f.K_SETNS)
)  # fmt: skip
_DONE: Final = int(lib.TABLE_DONE)
_WANT: Final = int(lib.TABLE_WANT)
_EFFECTS: Final = int(lib.TABLE_EFFECTS)
_NO_MEMORY: Final = int(lib.TABLE_NO_MEMORY)
_FAR: Final = (1 << 64) - 1


class Model(Tables):
    """The tables, and whoever changes them."""

    def __init__(self) -> None:
        super().__init__()
        #: False: nothing is packed, every frame is applied by Python (tests compare the two)
        self.packs = True
        #: counts blocks of frames that were applied
        self.applied = 0
        self.life = NsLife(self)
        self.timens = TimeNs(self, self.life)
        self.inside = Inside(self)
        self.losses = Losses(self)
        self.ancestry.missing = self.losses.missing
        self.logins = Logins(self)
        self.packets = Packets(self)
        self.registry = Registry(self, self.packets, self.inside)
        self.expectations = Expectations(self)
        self.checkpoints = Checkpoints(self)
        self.registry.others = {
            "expect": self.expectations.expect, "judge": self.expectations.judge, "dumped": self.checkpoints.dumped,
            "dumps": self.checkpoints.put_back,
        }  # fmt: skip
        self.registry.on_restored = self.checkpoints.restored
        self.kernel = KernelEvents(self, self.life, self.timens, self.inside)
        self.by_connector = ByConnector(self, self.life, self.kernel)
        self.answers = Resync(
            self, self.by_connector, self.inside, self.losses, self.logins, self.registry, self.timens
        )
        self.lives = Lives(self, self.life, self.inside)
        self.read_events, self.events_consumed = self.lives.outputs, self.lives.consumed
        self._packing = Packing(self, self.timens, self.inside, self.lives)
        self.process_ended, self.task_ended = self.by_connector.ended, self.timens.left
        self.namespaces_left = self.table.vacated = self.life.left
        self.children_of = self.by_connector.children
        self.containers.on_end = self._container_ended
        self._handlers: dict[int, Callable[..., None]] = {
            f.K_FORK: self.kernel.fork,
            f.K_EXEC: self.kernel.exec,
            f.K_EXIT: self.kernel.exit,
            f.K_EXIT_SAMPLE: self.kernel.exit_sample,
            f.K_COMM: self.kernel.comm,
            f.K_NAMESPACES: self.kernel.unshared,
            f.K_CGROUP: self.kernel.cgroup,
            f.K_ATTACH: self.kernel.attach,
            f.K_NEWTASK: self.kernel.newtask,
            f.K_UNSHARE: partial(self.kernel.call, f.K_UNSHARE),
            f.K_SETNS: partial(self.kernel.call, f.K_SETNS),
            f.K_NM: self.kernel.ignored,
            f.K_UID: self.kernel.ignored,
            f.K_GID: self.kernel.ignored,
            f.K_SID: self.kernel.ignored,
            f.K_PTRACE: self.kernel.ignored,
            f.K_COREDUMP: self.kernel.ignored,
            f.K_ACK: self.kernel.ignored,
            f.K_HELLO: self._hello,
            f.K_CLOCK: self._clock,
            f.K_PROC: self.answers.proc,
            f.K_PROCESS: self.answers.process,
            f.K_NSID: self.life.nsid,
            f.K_NSGONE: self.life.gone,
            f.K_NSLIST: self.life.listed,
            f.K_CHECK: self.kernel.ignored,
            f.K_MARK: self._mark,
            f.K_RULES: self.losses.rules,
            f.K_RESYNC: self.answers.mark,
            f.K_INSIDE: self.inside.forked,
            f.K_IDMAP: self.inside.mapped,
            f.K_LOGIN: self.inside.login,
            f.K_LOGINS: self.logins.take,
            f.K_PROGRAMS: self.ancestry.programs,
            f.K_EXE: self.ancestry.ran,
            f.K_OWN: self._own,
            f.K_REGISTER: self.registry.take,
            f.K_ADDRS: self.packets.take,
        }

    # -- input

    @property
    def plain(self) -> bool:
        """Whether the table may apply plain frames by itself; that changes with frames that Python takes in alone."""
        return self.packs and self.exits.proof == SAMPLES and not self.exits.suspended

    def needs_python_loop(self) -> bool:
        """Whether there is something to be said, the addresses of packets are asked for, records may say whose session
        a process is of, or frames are not for the table."""
        return bool(self.pending_outputs or self.packets.wanted or self.logins.unsure or not self.plain)

    def apply(self, block: bytes) -> None:
        """Take in whole frames. Raises :class:`DecodeError` on bytes that are none."""
        self.applied += 1
        off, end, table, exits, packs = 0, len(block), self.table, self.exits, self.packs
        frames, c = ffi.from_buffer(block), table.c
        self.note_applied()
        while off < end:
            if packs and exits.proof == SAMPLES and not exits.suspended:  # :attr:`plain`, asked of every other frame
                how = lib.table_apply(c, frames, end, off)
                if (at := c.at) != off:
                    off, self.now = at, max(self.now, c.now)
                if c.asks:
                    self._ask_makers()
                if how == _EFFECTS:
                    table.drain()
                    continue
                if how == _DONE:
                    break
                if how == _WANT and self._packed(c.want):
                    continue
                if how == _NO_MEMORY:
                    raise MemoryError("no memory for the process table")
            off = self._frame(block, off, end)

    def note_applied(self) -> None:
        """Count, and tell, what the table has applied when somebody in C had it do so."""
        self.table.drain()
        self.now = max(self.now, self.table.c.now)
        self._ask_makers()

    def _ask_makers(self) -> None:
        """Whoever made namespaces in the table is asked about as whoever made others."""
        c = self.table.c
        for pid in ffi.unpack(c.ask, c.asks) if c.asks else ():
            self.ask(pid)
        c.asks = 0

    def _packed(self, pid: int) -> bool:
        """Pack process ``pid``, which makes children; False where they cannot be plain."""
        process = self.table.held[pid]
        return not self.inside.counting(process.state.nsset) and self.pack(process)

    def pack(self, process: Process) -> bool:
        """See :meth:`Packing.pack`."""
        return self._packing.pack(process)

    def _frame(self, block: bytes, off: int, end: int) -> int:
        """Take in the one frame at ``off``; returns where the next begins."""
        if end - off < f.HEADER_SIZE:
            raise DecodeError(f"{end - off} stray bytes after the last frame")
        size, kind, source, cpu, time, pid, tid, ppid, ptid, cgroup, arg = f.HEADER.unpack_from(block, off)
        body, off = off + f.HEADER_SIZE, off + size
        if body > off or off > end:
            raise DecodeError(f"frame of {size} bytes where {end - off + size} are left")
        handler = self._handlers.get(kind)
        if handler is None:
            self._of_no_kind(kind, time, source, cpu, cgroup, arg)
            return off
        if source in _NOT_PERF:
            handler = self._not_of_perf(handler, kind, source, pid, tid)
            if handler is None:
                return off
        if self.exits.suspended:
            self.exits.look_at(kind, pid, tid, ppid)
        if time > self.now:
            self.now = time
        if kind in _OF_A_PROCESS:
            if (pid | tid | ppid | ptid) >> f.PID_BITS:
                self.unknown_frames += 1  # no kernel gives such a number
                return off
            if lib.table_has(self.table.c, pid, tid):
                self.table.hold_task(pid)
                self.table.hold_task(tid)
        handler(time, pid, tid, ppid, ptid, cgroup, arg, block[body:off])
        return off

    def _of_no_kind(self, kind: int, time: int, source: int, cpu: int, cgroup: int, arg: int) -> None:
        if kind == f.K_LOST:
            self.losses.lost(time, source, cpu, arg, cgroup)
        else:
            self.unknown_frames += 1

    def _not_of_perf(
        self, handler: Callable[..., None], kind: int, source: int, pid: int, tid: int
    ) -> Callable[..., None] | None:
        """Who takes a frame of the connector, or of audit, in place of ``handler``; None: nobody does."""
        if not self.perf:
            own: Callable[..., None] = self.by_connector.handlers.get(kind, handler)
            return own
        if source != f.S_CN:
            return handler
        if self.exits.suspended:
            self.exits.connector(kind, pid, tid)
        return None

    def _container_ended(self, container: Container, time: int) -> None:
        self.registry.on_end(container, time)
        self.expectations.ended(container, time)
        self.checkpoints.ended(container, time)

    # -- what is of no process

    def _hello(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        hello: JsonObject = json.loads(payload.rstrip(b"\0") or b"{}")
        self.containers.boot_id = str(hello.get("boot_id", ""))
        self.began = self.began or time
        self.own.begin(int(hello.get("self", 0)), time)
        self.perf = bool(hello.get("perf", True))
        self.lifecycle = bool(hello.get("lifecycle", False))
        self.by_connector.nm = hello.get("ns_source") == "nm"
        self.timens.begin(bool(hello.get("timens", False)), str(hello.get("kernel", "")))
        self.tells_clone_parent = "newtask" in hello.get("features", ())
        self.kernel.exec_samples = "exec_sample" in hello.get("features", ())
        self.moves_reported = not {"attach", "exec_sample"}.isdisjoint(hello.get("features", ("attach",)))
        self.exits.proof = proof_of(hello)
        if self.exits.proof != SAMPLES or not self.moves_reported:
            self.table.hold_all()
        self.v2_only = bool(hello.get("v2_only", False))
        self.sample_root = int(hello.get("sample_root", 0))
        self.lag = int(hello.get("lag_ns", self.lag))
        # a journal that does not say so is older than the option
        self.containers.sandbox_types = frozenset(hello.get("sandbox_types", ("pid", "user")))
        self.lives.sandboxes()
        self.namespaces.mint_next = max(self.namespaces.mint_next, int(hello.get("mint_next", 0)))
        self.namespaces.dev = int(hello.get("ns_dev", 0))
        self.namespaces.initial_inodes = {str(k): int(v) for k, v in hello.get("initial", {}).items()}
        found = self.namespaces.initial_inodes
        self.initial = self.namespaces.intern(
            tuple(
                self.namespaces.find(i, self.namespaces.dev, found[name], time) if name in found else None
                for i, name in enumerate(ALL_ORDER)
            )
        )

    def _clock(
        self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes
    ) -> None:
        self.clock.sample(time, arg - (1 << 64) if arg >> 63 else arg, cgroup)
        if ppid:
            self.clock.missed(time)

    def _own(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        holder, process = self.table.find(pid), None  # it may have ended when that is reported
        while holder is not None:
            if process is None or abs(holder.start - arg) < abs(process.start - arg):
                process = holder
            holder = holder.prev
        if process is not None and abs(process.start - arg) <= SAME_START and process.state.container is None:
            self.own.add(process)

    def _mark(self, time: int, pid: int, tid: int, ppid: int, ptid: int, cgroup: int, arg: int, payload: bytes) -> None:
        if cgroup:
            self._forget_namespaces(cgroup, numbered=self.lifecycle)
        if arg:
            self.expire(arg)

    def expire(self, before: int) -> None:
        """Forget processes that ended before ``before`` (CLOCK_MONOTONIC ns): nobody asks for them any more."""
        self.horizon = max(self.horizon, before)
        if lib.table_events_before(self.table.c, min(before, _FAR)):
            self.outputs = self.outputs  # whom they are about is remembered now
        self.calls.expire(before)
        self.logins.expire(before)
        self._forget_namespaces(before)
        self.table.expire(before)

    def _forget_namespaces(self, before: int, *, numbered: bool = False) -> None:
        """Forget namespaces that ended before ``before`` (CLOCK_MONOTONIC ns); see :meth:`Namespaces.expired`."""
        namespaces = self.namespaces
        for inst in namespaces.expired(before, numbered=numbered):
            if namespaces.forget(inst):
                self.inside.forget(inst)
                self.life.forget(inst)
