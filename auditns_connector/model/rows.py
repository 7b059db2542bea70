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
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.model.containers import Containers
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import Container, Instance
from auditns_connector.model.process import Exec, Process, Ran, State
from auditns_connector.model.profiles import Profile
from auditns_connector.model.row_views import Dead, Newest, Sampled, Threads
from auditns_connector.vocabulary.values import CData

_PIDS: Final = int(lib.TABLE_PIDS)
ENDED: Final = int(lib.TABLE_HELD_ENDED)
#: struct table_row
_ROW: Final = struct.Struct("<10Q2i7I9BxB16sx")
HELD: Final = int(lib.TABLE_HELD)
_THREAD: Final = int(lib.TABLE_HELD_THREAD)
_NO_MEMBER: Final = int(lib.TABLE_NO_MEMBER)
_NO_PROCESS: Final = int(lib.TABLE_NO_PROCESS)
_UNUSED: Final = int(lib.TABLE_UNUSED)
_MOST_EXECS: Final = int(lib.TABLE_EXECS)
_MOST_MADE: Final = 2 * int(lib.TABLE_MADE)
#: random, so that no names can be chosen that hash alike
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
        #: called with namespaces that the last task of a packed process has left: (process, which, time, thread)
        self.vacated: Callable[[Process, Sequence[Instance], int, int], None] = _nothing
        #: called where a process was the last of its profile: (process, container, time)
        self.emptied: Callable[[Process, Container | None, int], None] = _nothing
        #: called when rows have been forgotten, before their profiles are
        self.expired: Callable[[], None] = _nothing
        #: makes the object of a row with namespaces of its own, see apply/lives.py
        self.build: Callable[..., Process] = _nobody
        #: called with a held process that is forgotten
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
        if process is not None and process.version == self._version[0]:
            return process
        if process is None and lib.table_has_lives(self.c, row):
            process = self._read(row)
            self._unpack(process)
            return process
        return self._read(row)

    def incarnation(self, pid: int, start: int) -> Process | None:
        """The process that held ``pid`` from ``start`` on, as long as it is remembered."""
        process = self.find(pid)
        while process is not None and process.start != start:
            process = process.prev
        return process

    def read(self, process: Process) -> None:
        """Have the packed ``process``, which may be a former holder of its pid, be as the table has it now."""
        self._read(process.row)

    def state_at(self, row: int) -> State:
        """The state of ``row``; no object is made for it."""
        process, c = self._packed.get(row), self._row
        if process is not None:
            return process.state
        lib.table_read(self.c, row, c)
        profile = self.profiles[c.profile]
        return self._read(row).state if c.life or profile is None else profile.state._replace(since=c.since)

    def _read(self, row: int) -> Process:
        """The object of ``row``, as the table has it now, with the former incarnations behind it."""
        lib.table_read(self.c, row, self._row)
        # fmt: off
        (start, end, since, creator_start, not_before, place, lost, file, ran, exe, pid, creator, _, prev, number,
         version, execs, threads, _, ended, _, leader_gone, newborn, clone_parent, _, before, _, _, life,
         comm) = _ROW.unpack(self._row_bytes)
        # fmt: on
        process = self._packed.get(row)
        if process is None:
            if life:
                process = self._born_apart(row, number, (pid, start), end if ended else None, (file, ran, exe))
            else:
                process = self._new(pid, start, since, number)
            self._packed[row] = process
            process.creator = (creator, creator_start)
            process.row = row
            lib.table_object(self.c, row, 1)
        process.file, process.ran_at, process.exe = file, ran, exe
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

    def _born_apart(self, row: int, number: int, who: tuple[int, int], end: int | None, ran: Ran) -> Process:
        """The object of a row with namespaces of its own; like the others of its pid it is held then."""
        profile = self.profiles[number]
        assert profile is not None
        process = self.build(row, profile, who, end, ran)
        process.sampled, process.own_since, process.epoch = profile.sampled, profile.own_since, profile.epoch
        return process

    def fetch_lives(self) -> dict[int, Process]:
        """Have the living processes with namespaces of their own that are in the table alone; returns all held ones."""
        if room := int(self.c.alive):
            out = ffi.new("int32_t[]", room)
            for pid in ffi.unpack(out, int(lib.table_alive(self.c, out, room))):
                self.hold(pid)
        return self.held

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

    def oldest_packed(self) -> Iterator[tuple[Profile, tuple[int, int, int]]]:
        """Start, place and pid of the oldest living process of each profile that has one."""
        out = ffi.new("struct table_first[]", len(self.profiles))
        lib.table_oldest(self.c, out, len(self.profiles))
        for profile, first in zip(self.profiles, out, strict=True):
            if profile is not None and first.pid:
                yield profile, (first.start, first.place, first.pid)

    def all(self) -> list[Process]:
        """The newest incarnation of every pid, in the order in which the pids came to be remembered."""
        found = [process for pid in self.pids() if (process := self.find(pid)) is not None]
        found.sort(key=lambda process: process.place)
        return found

    def living_except(self, pids: Collection[int]) -> list[Process]:
        """The living processes whose pids are none of ``pids``, in that order. No object is made of anybody else: of
        all that is remembered after a storm nearly nobody lives."""
        held = [pid for pid, process in self.held.items() if process.end is None]
        found = [self.find(pid) for pid in {*held, *self._pids(0, living=True)} if pid not in pids]
        living = [process for process in found if process is not None and process.end is None]
        return sorted(living, key=lambda process: process.place)

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
        lib.table_hold(self.c, pid, HELD if newest.end is None else ENDED, HELD | ENDED)
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
        if not lib.table_hold(self.c, pid, HELD if process.end is None else ENDED, HELD | ENDED):
            raise MemoryError("no memory for the process table")

    def release(self, pid: int) -> None:
        """Nobody of ``pid`` is held any more."""
        del self.held[pid]
        lib.table_hold(self.c, pid, 0, HELD | ENDED)

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
    """Nobody is notified."""


def _nobody(*_: object) -> Process:
    raise NotImplementedError
