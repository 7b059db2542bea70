"""A process (thread group) with its past: which namespaces and which container it had, and since when."""

from typing import Final, NamedTuple

from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.entry import Entry, Session
from auditns_connector.model.places import Container, NsSet
from auditns_connector.vocabulary.timing import FOREVER, START_TICK

#: where an attribution comes from
OBSERVED: Final = "observed"
INHERITED: Final = "inherited"
PROCFS: Final = "procfs"
REGISTERED: Final = "registered"
NOT_KNOWN: Final = "unknown"


class Login(NamedTuple):
    """Who logged in inside a container: user id and session number there, 4294967295 for none."""

    uid: int
    session: int


class State(NamedTuple):
    """What held for a process from ``since`` (CLOCK_MONOTONIC ns) until the next state or its end."""

    since: int
    container: Container | None
    nsset: NsSet | None
    origin: str
    #: who logged in inside the container
    login: Login | None = None
    #: how it came into the container, where it or whom it descends from went in; see entries.py
    entry: Entry | None = None
    #: who logged in on the host; None: not known
    session: Session | None = None


class Exec(NamedTuple):
    """One successful exec as the kernel reported it, with the state of the process at that very moment. ``file`` is the
    name of the program as a number (:meth:`Rows.hash`)."""

    time: int
    file: int
    comm: bytes
    state: State


#: :attr:`Process.file`, ``ran`` and ``exe``
Ran = tuple[int, int, int]


class Apart:
    """Thread ``tid`` was in ``nsset`` from ``since`` until ``until`` (CLOCK_MONOTONIC ns; None: it is still)."""

    __slots__ = ("nsset", "since", "tid", "until")

    def __init__(self, tid: int, nsset: NsSet | None, since: int) -> None:
        self.tid = tid
        self.nsset = nsset
        self.since = since
        self.until: int | None = None


class Process:
    """One incarnation of a pid. Its identity is ``(pid, start)``; ``state`` is the present one, ``past`` the older.

    Fields are written by the process table (processes.py) and by nobody else."""

    __slots__ = (
        "behind",
        "cgroups",
        "clone_parent",
        "comm",
        "creator",
        "end",
        "entered_container",
        "epoch",
        "exe",
        "execs",
        "execs_lost",
        "file",
        "heirs",
        "ids",
        "inside",
        "leader_gone",
        "newborn",
        "not_before",
        "nspid",
        "own_since",
        "past",
        "pid",
        "place",
        "placeholder",
        "prev",
        "ran_at",
        "recent_children",
        "registered",
        "row",
        "sampled",
        "scanned",
        "start",
        "state",
        "thread_namespaces",
        "threads",
        "unresolved",
        "version",
    )

    def __init__(self, pid: int, start: int, state: State, cgroups: CgroupSet | None) -> None:
        self.pid = pid
        self.start = start
        self.end: int | None = None
        self.state = state
        self.past: list[State] | None = None
        self.cgroups = cgroups
        self.comm = b""
        #: the program that it, or whom it descends from, ran last (:meth:`Rows.name`); 0: none was seen
        self.file = 0
        #: when that exec was (CLOCK_MONOTONIC ns; 0: none was seen), and exe= of its record (:meth:`Rows.name`; 0: not
        #: known)
        self.ran_at = self.exe = 0
        #: number of a pid namespace -> what this process is called there, as perf reported at its birth
        self.inside: dict[int, int] | None = None
        #: its numbers in all its pid namespaces, ours first, as /proc showed
        self.nspid: tuple[int, ...] | None = None
        #: when it, or whom it descends from, first ran a program of the container's own, see streams/view.py
        self.own_since: int | None = None
        #: (pid, start) of the true creator
        self.creator: tuple[int, int] | None = None
        #: made with CLONE_PARENT: its real parent is not its creator but the creator's
        self.clone_parent = False
        #: records still to come were made at or after this time (ns): an exec or a call that a record has consumed
        self.not_before = 0
        #: other threads than the leader: tid -> its namespaces; None while there is one thread
        self.threads: dict[int, NsSet | None] | None = None
        #: when threads were in other namespaces than the leader; see thread_namespaces.py
        self.thread_namespaces: list[Apart] | None = None
        self.leader_gone = False
        #: (time, pid, tid) of the newest processes and threads that it made, see clones.py
        self.recent_children: list[tuple[int, int, int]] | None = None
        #: its FORK came without namespaces: the record that tells them is still to come
        self.newborn = False
        #: execs that no record has consumed, and when the newest one was that is not among them for want of room
        self.execs: list[Exec] | None = None
        self.execs_lost = 0
        self.registered: Container | None = None
        #: real uid, login uid and session as /proc showed them at the time that stands first; None where it did not
        self.ids: tuple[int, int | None, int | None, int | None] | None = None
        #: somebody it made is forgotten by the table, and has descendants
        self.heirs = False
        #: the former holder of this pid
        self.prev: Process | None = None
        #: known from an event other than its birth: ``start`` is when it was first heard of
        self.placeholder = False
        #: first known from /proc
        self.scanned = False
        #: the loss epoch in which its state was last known for sure
        self.epoch = 0
        #: since when its cgroup is not known, until it execs, exits or is read (CLOCK_MONOTONIC ns; 0: it is), see
        #: unresolved.py; of a child of such a one it may be earlier than its start
        self.unresolved = 0
        #: the cgroup id that a sample in its cgroup had; 0: there was none
        self.sampled = 0
        #: its row in the table (0: it is held, see rows.py), and which version of that this is
        self.row = 0
        self.version = 0
        #: while it is a row: execs in a former state that no record has consumed
        self.behind: list[Exec] | None = None
        #: its pid is the so manieth that came to be remembered
        self.place = 0
        #: the container whose mount namespace it entered, see rule 5 of containers.py
        self.entered_container: Container | None = None

    def states(self, low: int, high: int) -> list[State]:
        """The states that held at some time between ``low`` and ``high``, newest first."""
        if self.start > high or (self.end is not None and self.end < low):
            return []
        out = []
        if self.state.since <= high:
            out.append(self.state)
        if self.state.since > low and self.past:
            until = self.state.since
            for state in reversed(self.past):
                if until <= low:
                    break
                if state.since <= high:
                    out.append(state)
                until = state.since
        return out

    def nsset_of(self, tid: int) -> NsSet | None:
        """The namespaces of thread ``tid``."""
        if tid == self.pid or self.threads is None:
            return self.state.nsset
        return self.threads.get(tid, self.state.nsset)

    def same_namespaces(self) -> bool:
        """False where the threads of the process live in different namespaces."""
        return self.threads is None or all(ns is self.state.nsset for ns in self.threads.values())


def valid_interval(process: Process) -> tuple[int, int]:
    """``(since, until)``: a stamp in ``(since, until]``, less :data:`timing.EPSILON`, means the present state of
    ``process`` (CLOCK_MONOTONIC ns, :data:`FOREVER` where it lives)."""
    since = process.state.since
    if process.scanned:
        since = max(since, process.start + START_TICK)
    return min(since, FOREVER), FOREVER if process.end is None else min(process.end, FOREVER)


def first_holder(process: Process) -> bool:
    """Nobody is remembered to have held the pid before ``process``, and its state has always been the present one: the
    interval of :func:`valid_interval` also holds for stamps that are behind its beginning, down to the horizon."""
    return process.prev is None and process.past is None and not process.scanned
