"""Which processes are packed (rows.py): those of which frames can say nothing plain that is not plain for the table.

What the table is not given of a process is either the same for as long as it is packed, or nothing that a frame changes
without Python: pending calls, time namespaces in doubt, threads apart, numbers in a pid namespace that are still being
counted.
"""

from typing import TYPE_CHECKING, Final

from auditns_connector.model.exits import SAMPLES
from auditns_connector.model.places import UNKNOWN, Instance, NsSet
from auditns_connector.model.process import INHERITED, OBSERVED, Process, State, first_holder, valid_interval
from auditns_connector.vocabulary.frames import MOST_PIDS
from auditns_connector.vocabulary.namespaces import MNT, PID

if TYPE_CHECKING:
    from auditns_connector.model.apply.lives import Lives
    from auditns_connector.model.apply.time_namespaces import TimeNs
    from auditns_connector.model.inner_ids import Inside
    from auditns_connector.model.tables import Tables

_MOST_THREADS: Final = 4096
_MOST_COMM: Final = 16
_RAW: Final = 64
_FAR: Final = 1 << 63


class Packing:
    """Packs processes of ``tables``."""

    def __init__(self, tables: "Tables", timens: "TimeNs", inside: "Inside", lives: "Lives") -> None:
        self._tables, self._timens, self._inside, self._lives = tables, timens, inside, lives

    def pack(self, process: Process) -> bool:
        """Pack the living ``process``, the newest of its pid; False where that cannot be."""
        if process.row:
            return True
        if not self._may_be(process):
            return False
        state, nsset, table = process.state, process.state.nsset, self._tables.table
        plain = self._timens.plain(process)
        forks = plain and nsset is not None and nsset.raw is not None and len(nsset.raw) == _RAW
        # of children of one whose cgroups are not known, /proc is asked
        forks = forks and not self._inside.counting(nsset) and process.cgroups is not None
        cgroup = self._cgroup(process)
        execs = plain and (process.own_since is not None or not _may_be_set_up(state))

        lives = self._lives.allowed(state, process) if forks else 0

        def profile(origin: str):  # type: ignore[no-untyped-def]
            return table.profile(
                state._replace(since=0, origin=origin), process.cgroups, process.sampled, process.registered,
                process.entered_container, process.own_since, process.epoch, cgroup, execs=execs, forks=forks,
                lives=lives,
            )  # fmt: skip

        own = profile(state.origin)
        if forks:
            child = profile(INHERITED) if state.origin == OBSERVED else own
            table.link(child, child)
            table.link(own, child)
        since, _ = valid_interval(process)
        table.pack(process, own, since, early=first_holder(process))
        return True

    def _may_be(self, process: Process) -> bool:
        model = self._tables
        pid, nsset, threads = process.pid, process.state.nsset, process.threads or {}
        return (
            model.exits.proof == SAMPLES
            and model.moves_reported  # else /proc is asked behind each exec, which the table does not
            and process.end is None
            and 0 < pid < MOST_PIDS
            and model.table.held.get(pid) is process
            and not (process.unresolved or process.thread_namespaces or process.leader_gone)
            and len(threads) <= _MOST_THREADS
            and len(process.comm) <= _MOST_COMM
            and b"\0" not in process.comm
            and 0 <= process.start < _FAR
            and 0 <= process.state.since < _FAR
            and pid not in model.calls.pending
            and not self._timens.awaits(process)
            and pid not in model.threads  # the end of that thread was lost: they are one member
            and (nsset is None or pid in nsset.members)
            and all(self._packs_thread(process, tid, held) for tid, held in threads.items())
            and not _may_leave_in_doubt(process)
        )

    def _packs_thread(self, process: Process, tid: int, nsset: NsSet | None) -> bool:
        """Whether thread ``tid`` of ``process`` is in its namespaces, and nobody else has that number."""
        model = self._tables
        return (
            nsset is process.state.nsset
            and (nsset is None or tid in nsset.members)
            and 0 < tid < MOST_PIDS
            and model.table.threads.held.get(tid) is process
            and model.alive(tid) is None
        )

    def _cgroup(self, process: Process) -> int:
        """The id of samples that say nothing new of the cgroup of ``process``; 0: any may."""
        model = self._tables
        path, cgroups = model.cgroups.path_of.get(process.sampled), process.cgroups
        same = path is not None and cgroups is not None and cgroups.path(model.sample_root) == (path or "/")
        return process.sampled if same else 0


def _may_leave_in_doubt(process: Process) -> bool:
    """Whether others may live on in a sandbox that is its by what it was the first to live in: behind a loss its end
    makes that doubtful, see :meth:`Tables.left`. (A pid namespace ends with its first process.)"""
    nsset, who = process.state.nsset, (process.pid, process.start)
    return nsset is not None and any(
        inst is not None and inst.index != PID and inst.first == who and _is_sandbox(inst) for inst in nsset.inst
    )


def _is_sandbox(inst: Instance) -> bool:
    return inst.owner is not None and inst.owner.sandbox is inst


def _may_be_set_up(state: State) -> bool:
    """Whether an exec in ``state`` may be the first of a container's own programs: :meth:`Inside.ran`."""
    container, nsset = state.container, state.nsset
    if container is None or container is UNKNOWN or nsset is None:
        return False
    pid_ns, mnt_ns = nsset.inst[PID], nsset.inst[MNT]
    return pid_ns is not None and mnt_ns is not None and not (pid_ns.initial and mnt_ns.initial)
