"""Processes become rows of the table in C; see rows.py."""

from auditns_connector._native import ffi, lib
from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.places import Container
from auditns_connector.model.process import Process, State
from auditns_connector.model.profiles import Profile, split_execs
from auditns_connector.model.rows import ENDED, HELD, Rows


class PackedRows(Rows):
    """Rows, and how processes come to be some."""

    def profile(
        self, state: State, cgroups: CgroupSet | None, sampled: int, registered: Container | None,
        entered_container: Container | None, own_since: int | None, epoch: int, cgroup: int, *, execs: bool,
        forks: bool, lives: int,
    ) -> Profile:  # fmt: skip
        """The profile with all this, the state's ``since`` apart. ``cgroup`` is the id of samples that change nothing;
        ``execs`` and ``forks``: neither do execs there, and forks; ``lives``: see :meth:`Lives.allowed`."""
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
            lib.table_profile_lives(self.c, number, lives)
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
        row.heirs, row.execs_lost = process.heirs, process.execs_lost
        row.file, row.ran, row.exe = process.file, process.ran_at, process.exe
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
        former = process.prev
        if former is None:
            self.release(pid)
        else:
            self.held[pid] = former
            lib.table_hold(self.c, pid, ENDED, HELD | ENDED)
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

    def exe(self, process: Process, exe: int) -> None:
        """The record of the last exec of ``process`` names the program of that number (:meth:`Rows.name`)."""
        process.exe = exe
        if process.row:
            lib.table_ran(self.c, process.pid, process.ran_at, exe)

    def forget_cgroup(self, cgroup: int) -> None:
        """Samples with the id ``cgroup`` mean something else from now on."""
        for profile in self.profiles:
            if profile is not None and self.c.profile[profile.number].cgroup == cgroup:
                self.c.profile[profile.number].cgroup = 0
