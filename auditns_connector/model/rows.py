"""Processes as rows of the table in C (cdefs/table), where plain frames are applied, and as objects.

A process is *packed* (a row of the table) or *held* (an object in Python alone). A row has one state only, and shares
all that a child has of its creator in a *profile*; frames that change no more than a row are applied there. Whoever
writes anything else about a process has it held first, and may have it packed again (packing.py).

To read a packed process is to get the object that goes with its row: it has all that Python alone writes, and what the
table has changed since is read anew. So an object stays the same one, packed or held.

Who lives in a set of namespaces, and how many processes a container has, is counted by Python. All packed ones of a
profile are one member there, called minus its number, as long as the table counts any.
"""

import os
import struct
from collections.abc import Callable, Sequence
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.containers import Containers
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import Container, Instance
from auditns_connector.model.process import Exec, Process, State
from auditns_connector.model.profiles import Profile, split_execs
from auditns_connector.model.row_views import Dead, Newest, Sampled, Threads
from auditns_connector.vocabulary.values import CData

_PIDS: Final = int(lib.TABLE_PIDS)
_ENDED: Final = int(lib.TABLE_HELD_ENDED)
#: struct table_row
_ROW: Final = struct.Struct("<8Q2i7I9Bx16s2x")
_HELD: Final = int(lib.TABLE_HELD)
_THREAD: Final = int(lib.TABLE_HELD_THREAD)
_NO_MEMBER: Final = int(lib.TABLE_NO_MEMBER)
_NO_PROCESS: Final = int(lib.TABLE_NO_PROCESS)
_UNUSED: Final = int(lib.TABLE_UNUSED)
_MOST_EXECS: Final = int(lib.TABLE_EXECS)
_MOST_MADE: Final = 2 * int(lib.TABLE_MADE)
#: known to nobody, so that no names can be chosen that hash alike
_SEED: Final = int.from_bytes(os.urandom(8), "little")


class Rows:
    """The table, and the objects that go with it."""

    def __init__(self, namespaces: Namespaces, containers: Containers) -> None:
        table = lib.table_new(_SEED)
        if not table:
            raise MemoryError("no memory for the process table")
        self.c: CData = ffi.gc(table, lib.table_free)
        self._namespaces = namespaces
        self._containers = containers
        namespaces.packed = self._members
        #: by pid: the newest incarnation that is held; former ones are behind it (``prev``)
        self.held: dict[int, Process] = {}
        #: by row: the object that goes with it
        self._packed: dict[int, Process] = {}
        self.newest = Newest(self)
        self.threads = Threads(self)
        self.dead = Dead(self)
        self.sampled_tasks = Sampled(self)
        self._profiles: dict[tuple[object, ...], Profile] = {}
        self.profiles: list[Profile | None] = [None]
        #: told of namespaces that the last task of a packed process has left: (process, which, time, thread)
        self.vacated: Callable[[Process, Sequence[Instance], int, int], None] = _nothing
        #: told that a process was the last of its profile: (process, container, time)
        self.emptied: Callable[[Process, Container | None, int], None] = _nothing
        #: called when rows have been forgotten, before their profiles are
        self.expired: Callable[[], None] = _nothing
        #: told of a held process that is forgotten
        self.forgetting: Callable[[Process], None] = _nothing
        self._version: CData = ffi.new("uint32_t *")
        self._row: CData = ffi.new("struct table_row *")
        self._row_bytes = ffi.buffer(self._row)
        self._execs: CData = ffi.new("struct table_exec_row[]", _MOST_EXECS)
        self._made: CData = ffi.new("struct table_made_row[]", _MOST_MADE)

    # -- reading

    def find(self, pid: int) -> Process | None:
        """The newest incarnation of ``pid``."""
        row = lib.table_find(self.c, pid, self._version) if 0 < pid < _PIDS else 0
        if not row:
            return self.held.get(pid)
        process = self._packed.get(row)
        return self._read(row) if process is None or process.version != self._version[0] else process

    def incarnation(self, pid: int, start: int) -> Process | None:
        """The process that held ``pid`` from ``start`` on, as long as it is remembered."""
        process = self.find(pid)
        while process is not None and process.start != start:
            process = process.prev
        return process

    def read(self, process: Process) -> None:
        """Have the packed ``process``, which may be a former holder of its pid, be as the table has it now."""
        self._read(process.row)

    def at(self, row: int) -> Process:
        """The object of ``row``."""
        return self._packed.get(row) or self._read(row)

    def _read(self, row: int) -> Process:
        """The object of ``row``, as the table has it now, with the former incarnations behind it."""
        lib.table_read(self.c, row, self._row)
        # fmt: off
        (start, end, since, creator_start, not_before, place, lost, file, pid, creator, _, prev, number, version, execs,
         threads, _, ended, _, leader_gone, newborn, clone_parent, _, before, _, _, comm) = _ROW.unpack(self._row_bytes)
        # fmt: on
        process = self._packed.get(row)
        if process is None:
            process = self._packed[row] = self._new(pid, start, since, number)
            process.creator = (creator, creator_start)
            process.row = row
            lib.table_object(self.c, row, 1)
        process.file = file
        process.version, process.place, process.not_before, process.execs_lost = version, place, not_before, lost
        process.end = end if ended else None
        process.comm = comm.rstrip(b"\0")
        process.leader_gone, process.newborn = leader_gone != 0, newborn != 0
        process.clone_parent = clone_parent != 0
        process.threads = {} if threads else None
        process.execs = [*(process.behind or ()), *self._read_execs(row, process)] if execs or process.behind else None
        process.prev = self._read(prev) if prev else self.held.get(pid) if before else None
        if not place and process.prev is not None:
            process.place = process.prev.place
        return process

    def _new(self, pid: int, start: int, since: int, number: int) -> Process:
        profile = self.profiles[number]
        assert profile is not None
        process = Process(pid, start, profile.state._replace(since=since), profile.cgroups)
        process.sampled, process.registered = profile.sampled, profile.registered
        process.entered_container = profile.entered_container
        process.own_since, process.epoch = profile.own_since, profile.epoch
        return process

    def _read_execs(self, row: int, process: Process) -> list[Exec]:
        count = lib.table_read_execs(self.c, row, self._execs)
        return [Exec(e.time, e.file, ffi.string(e.comm), process.state) for e in list(self._execs[0:count])[::-1]]

    def made(self, process: Process) -> list[tuple[int, int, int]]:
        """(time, pid, tid) of the newest processes and threads that ``process`` made."""
        if not process.row:
            return process.recent_children or []
        count = lib.table_read_made(self.c, process.row, self._made)
        return [(m.time, m.pid, m.tid) for m in self._made[0:count]]

    def pids(self) -> set[int]:
        """All pids of which somebody is remembered."""
        return {*self.held, *self._pids(0, living=False)}

    def _pids(self, profile: int, *, living: bool) -> list[int]:
        room = int(self.c.processes)
        out = ffi.new("int32_t[]", room)
        return ffi.unpack(out, int(lib.table_pids(self.c, profile, living, out, room))) if room else []

    def all(self) -> list[Process]:
        """The newest incarnation of every pid, in the order in which the pids came to be remembered."""
        found = [process for pid in self.pids() if (process := self.find(pid)) is not None]
        found.sort(key=lambda process: process.place)
        return found

    def packed_thread(self, tid: int) -> int:
        """The pid of the packed process that thread ``tid`` is of, 0 where there is none."""
        return int(lib.table_thread_of(self.c, tid))

    def _members(self, number: int) -> list[int]:
        """The tasks that the member -``number`` of a set stands for."""
        room = int(self.c.processes + self.c.threads)
        out = ffi.new("int32_t[]", room)
        return ffi.unpack(out, int(lib.table_members(self.c, number, out, room))) if room else []

    # -- holding

    def hold(self, pid: int) -> None:
        """Python alone writes the process ``pid`` from now on, and its former incarnations."""
        if 0 < pid < _PIDS and lib.table_find(self.c, pid, self._version):
            process = self.find(pid)
            assert process is not None
            self._unpack(process)

    def hold_task(self, tid: int) -> None:
        """The process ``tid``, and that of thread ``tid``, are Python's."""
        self.hold(tid)
        if pid := lib.table_thread_of(self.c, tid):
            self.hold(pid)

    def hold_all(self) -> None:
        """Nothing is packed any more."""
        for process in self.all():
            self.hold(process.pid)

    def _unpack(self, newest: Process) -> None:
        pid, process = newest.pid, newest
        while process.row:
            self._take(process)
            former = process.prev
            if former is None:
                break
            process = former
        self.held[pid] = newest
        lib.table_hold(self.c, pid, _HELD if newest.end is None else _ENDED, _HELD | _ENDED)
        self.drain()

    def _take(self, process: Process) -> None:
        """What is counted of a row is counted by Python before the row goes."""
        row, c, nsset = process.row, self._row, process.state.nsset
        process.recent_children = self.made(process) or None
        lib.table_read(self.c, row, c)
        process.threads, process.heirs = None, bool(c.heirs)
        if not c.ended:
            self._containers.enter(process.state.container)
            if c.counted and nsset is not None:
                self._namespaces.enter(nsset, process.pid)
            if c.threads:
                self._take_threads(process, row, int(c.threads))
        process.row, process.behind = 0, None
        del self._packed[row]
        lib.table_unpack(self.c, row)

    def _take_threads(self, process: Process, row: int, count: int) -> None:
        out, nsset = ffi.new("struct table_thread_row[]", count), process.state.nsset
        lib.table_read_threads(self.c, row, out, count)
        process.threads = {}
        for thread in out:
            process.threads[thread.tid] = nsset
            self.keep_thread(process, thread.tid)
            if thread.counted and nsset is not None:
                self._namespaces.enter(nsset, thread.tid)

    def keep(self, process: Process) -> None:
        """``process``, which nobody knew, is the newest of its pid now, and held."""
        pid = process.pid
        self.held[pid] = process
        if not lib.table_hold(self.c, pid, _HELD if process.end is None else _ENDED, _HELD | _ENDED):
            raise MemoryError("no memory for the process table")

    def release(self, pid: int) -> None:
        """Nobody of ``pid`` is held any more."""
        del self.held[pid]
        lib.table_hold(self.c, pid, 0, _HELD | _ENDED)

    def next_place(self) -> int:
        """The place of a pid that nobody was remembered of."""
        self.c.places += 1
        return int(self.c.places)

    def keep_thread(self, process: Process, tid: int) -> None:
        """Thread ``tid`` is of ``process``, which is held."""
        self.threads.held[tid] = process
        lib.table_hold(self.c, tid, _THREAD, _THREAD)

    def release_thread(self, tid: int) -> None:
        """Nobody held has thread ``tid``."""
        if self.threads.held.pop(tid, None) is not None:
            lib.table_hold(self.c, tid, 0, _THREAD)

    # -- packing

    def profile(
        self, state: State, cgroups: CgroupSet | None, sampled: int, registered: Container | None,
        entered_container: Container | None, own_since: int | None, epoch: int, cgroup: int, *, execs: bool,
        forks: bool,
    ) -> Profile:  # fmt: skip
        """The profile with all this, the state's ``since`` apart. ``cgroup`` is the id of samples that change nothing;
        ``execs`` and ``forks``: neither do execs there, and forks."""
        nsset = state.nsset
        key = (
            *state[1:], cgroups, sampled, registered, entered_container, own_since, epoch, cgroup, forks,
        )  # fmt: skip
        found = self._profiles.get(key)
        if found is None:
            raw = nsset.raw if nsset is not None and nsset.raw is not None else ffi.NULL
            number = int(lib.table_profile_add(self.c, raw if forks else ffi.NULL, cgroup, epoch, execs))
            if not number:
                raise MemoryError("no memory for the process table")
            found = Profile(number, key, state, cgroups, sampled, registered, entered_container, own_since, epoch)
            self._profiles[key] = found
            self.profiles += [None] * (number + 1 - len(self.profiles))
            self.profiles[number] = found
        return found

    def link(self, profile: Profile, child: Profile) -> None:
        """Children of ``profile`` have ``child``."""
        if not self.c.profile[profile.number].child:
            lib.table_profile_child(self.c, profile.number, child.number)

    def pack(self, process: Process, profile: Profile, since: int, *, early: bool) -> None:
        """The held, living ``process``, the newest of its pid, becomes a row. All its threads are members of its
        namespaces. ``since`` is from when on its state is its answer, ``early``: or a little before."""
        pid, nsset = process.pid, process.state.nsset
        self._populate(profile)
        execs, behind = split_execs(process)
        tids = list(process.threads or ())
        row, made = self._row, process.recent_children or []
        row.pid, row.start, row.since, row.profile = pid, process.start, since, profile.number
        row.creator, row.creator_start = process.creator or (0, 0)
        row.not_before, row.place = process.not_before, process.place
        row.newborn, row.clone_parent = process.newborn, process.clone_parent
        row.behind, row.early, row.scanned = bool(behind), early, process.scanned
        row.heirs, row.execs_lost, row.file = process.heirs, process.execs_lost, process.file
        row.execs, row.threads, row.made = len(execs), len(tids), len(made)
        ffi.memmove(row.comm, process.comm.ljust(16, b"\0"), 16)
        for tid in tids:
            self.release_thread(tid)
        number = lib.table_pack(self.c, row, [(e.time, e.file, e.comm) for e in execs], tids, made)
        if not number:
            raise MemoryError("no memory for the process table")
        if nsset is not None:
            for tid in (pid, *tids):
                self._namespaces.leave(nsset, tid, process.start)
        self._containers.leave(process.state.container, process.start)
        if (former := process.prev) is None:
            self.release(pid)
        else:
            self.held[pid] = former
            lib.table_hold(self.c, pid, _ENDED, _HELD | _ENDED)
        process.row, process.behind, process.recent_children = int(number), behind or None, None
        self._packed[process.row] = process
        process.version = -1

    def _populate(self, profile: Profile) -> None:
        """The packed ones of ``profile`` count where it, or whose child it is, had none."""
        own = self.c.profile[profile.number]
        child = self.profiles[own.child] if own.child != profile.number else None
        for one in (profile, child) if child is not None else (profile,):
            c = self.c.profile[one.number]
            if not c.members and one.state.nsset is not None:
                self._namespaces.enter(one.state.nsset, -one.number)
            if not c.living:
                self._containers.enter(one.state.container)

    def forget_cgroup(self, cgroup: int) -> None:
        """Samples with the id ``cgroup`` mean something else from now on."""
        for profile in self.profiles:
            if profile is not None and self.c.profile[profile.number].cgroup == cgroup:
                self.c.profile[profile.number].cgroup = 0

    # -- effects

    def drain(self) -> None:
        """Count, and tell, what the table has left to do."""
        c = self.c
        while c.effects:
            found = [(e.what, e.profile, e.pid, e.start, e.tid, e.time) for e in c.effect[0 : c.effects]]
            c.effects = 0
            for what, number, pid, start, tid, time in found:
                if what == _NO_MEMBER:
                    self._no_member(number, pid, start, tid, time)
                elif what == _NO_PROCESS:
                    self._no_process(number, pid, start, time)
                elif what == _UNUSED:
                    unused = self.profiles[number]
                    assert unused is not None
                    del self._profiles[unused.key]
                    self.profiles[number] = None
                else:
                    self._forgotten(number, pid, start, time)

    def _no_member(self, number: int, pid: int, start: int, tid: int, time: int) -> None:
        profile = self.profiles[number]
        assert profile is not None
        if profile.state.nsset is None:
            return
        vacated = self._namespaces.leave(profile.state.nsset, -number, time)
        if vacated and (process := self.incarnation(pid, start)) is not None:
            self.vacated(process, vacated, time, tid)

    def _no_process(self, number: int, pid: int, start: int, time: int) -> None:
        profile = self.profiles[number]
        assert profile is not None
        if (process := self.incarnation(pid, start)) is not None:
            self.emptied(process, profile.state.container, time)

    def _forgotten(self, row: int, pid: int, start: int, end: int) -> None:
        if row:
            self._packed.pop(row, None)
            return
        process = self.held.get(pid)
        if process is None:
            return
        if process.start == start and process.end == end:
            self.forgetting(process)
            process.prev = None
            self.release(pid)
            lib.table_place(self.c, pid, process.place)
            return
        while process is not None:
            former = process.prev
            if former is not None and former.start == start and former.end == end:
                self.forgetting(former)
                process.prev = None
                return
            process = former


def _nothing(*_: object) -> None:
    """Nobody is told."""
