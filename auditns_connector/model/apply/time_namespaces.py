"""Time namespaces, which no kernel event names: what can be concluded, and what must be asked of /proc.

The rules of the kernel (time_namespaces(7), kernel/time/namespace.c, kernel/nsproxy.c, fs/exec.c):

* ``unshare(CLONE_NEWTIME)`` leaves the caller where it is. Its children are born into the new namespace, but one that
  shares its memory (vfork) only enters at its exec; so does the caller itself (since 6.3, before that: never).
* ``setns`` to a time namespace moves the caller, and its children with it. ``clone3(CLONE_NEWTIME)`` moves the child.

So a task has two of them, its own and the one *for children*; :class:`TimeNs` keeps the second where it may differ. The
calls are seen as UNSHARE and SETNS frames with their flags; a NAMESPACES record without a call before it (a 32-bit
program, or a host without those tracepoints) may have been either. A namespace whose inode no event tells is ``None``
until /proc answers; the answer holds from the moment of the doubt, if nothing happened to the process since.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from auditns_connector.model.places import Instance, NsSet
from auditns_connector.model.process import Process, State
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import CLONE_NEWTIME, TIME

if TYPE_CHECKING:
    from auditns_connector.model.apply.namespace_life import NsLife
    from auditns_connector.model.tables import Tables

#: from this kernel on an exec enters the time namespace for children
_EXEC_ENTERS: Final = (6, 3)
_MAX_CALLS: Final = 4096
_MAX_DOUBTS: Final = 65536


class Call(NamedTuple):
    """A system call that a task has entered: K_UNSHARE or K_SETNS, and its flags."""

    kind: int
    flags: int

    @property
    def reason(self) -> str:
        """What NS_CHANGE calls it."""
        return "unshare" if self.kind == f.K_UNSHARE else "setns"


class _Doubt(NamedTuple):
    """From ``since`` on the time namespace of ``process`` is not known; it was ``old``; ``reason`` of the change."""

    process: Process
    since: int
    old: Instance | None
    reason: str


class _Children(NamedTuple):
    """Since ``since`` children of a task of ``process`` are born into the namespace ``ino`` (``None``: not known)."""

    process: Process
    ino: int | None
    since: int


class TimeNs:
    """What :class:`Model` asks about time namespaces, and tells of them."""

    def __init__(self, model: "Tables", life: "NsLife") -> None:
        self._model = model
        self._life = life
        #: the kernel has time namespaces
        self.wanted = False
        self._exec_enters = True
        self._calls: dict[int, Call] = {}
        #: by thread: where its children are born, if that is another one than its own, or may be
        self._children: dict[int, _Children] = {}
        #: by process
        self._doubts: dict[int, _Doubt] = {}

    def begin(self, wanted: bool, kernel: str) -> None:
        """HELLO: whether the kernel has time namespaces, and its release."""
        self.wanted = wanted
        digits = [int(part) for part in kernel.replace("-", ".").split(".")[:2] if part.isdecimal()]
        self._exec_enters = len(digits) < 2 or tuple(digits) >= _EXEC_ENTERS

    # -- calls

    def call(self, kind: int, tid: int, flags: int) -> None:
        """A task enters unshare or setns."""
        if len(self._calls) >= _MAX_CALLS:
            del self._calls[next(iter(self._calls))]  # one that failed, and nothing came behind it
        self._calls[tid] = Call(kind, flags)

    def called(self, tid: int) -> Call | None:
        """The call of ``tid`` that has now succeeded, where it was seen."""
        return self._calls.pop(tid, None) if self._calls else None

    def after_call(
        self, process: Process, tid: int, call: Call | None, base: NsSet | None, nsset: NsSet, time: int
    ) -> NsSet:
        """``nsset``, what the record behind a call reported, with the time namespace that the task now has."""
        if not self.wanted:
            return nsset
        if call is not None and call.kind == f.K_UNSHARE:
            if not call.flags & CLONE_NEWTIME:
                return nsset
            moved = False
        else:
            # without a type the descriptor says which it is: if another one has changed, it was that
            if call is not None and not call.flags & CLONE_NEWTIME and (call.flags or nsset is not base):
                return nsset
            moved = True
        self._children[tid] = _Children(process, None, time)
        self._model.ask(process.pid)
        if not moved:
            return nsset
        if tid == process.pid:
            self._doubt(process, time, self._last_seen(process, base), "setns")
        return self._with(nsset, None)

    # -- births, execs, ends

    def forked(self, process: Process, ptid: int, creator: Process) -> NsSet | None:
        """The namespaces of a new process, if they are not known to be where its creator is."""
        nsset = process.state.nsset
        if nsset is None or not (self._children or self._doubts):
            return None
        entry, doubt = self._children.get(ptid), self._doubts.get(creator.pid)
        if doubt is not None and doubt.process is not creator:
            doubt = None
        own = nsset.inst[TIME]
        if entry is None and (doubt is None or own is not None):
            return None
        self._doubt(process, process.start, doubt.old if doubt is not None else own, "clone")
        self._model.ask(process.pid)
        if entry is None:
            return None
        self._children[process.pid] = _Children(process, entry.ino, process.start)
        return self._with(nsset, None)

    def new_thread(self, process: Process, tid: int, ptid: int) -> None:
        """Thread ``tid`` was made by thread ``ptid``."""
        entry = self._children.get(ptid) if self._children else None
        if entry is not None:
            self._children[tid] = entry._replace(process=process)

    def cloned(self, process: Process) -> NsSet | None:
        """The namespaces of a process that was made with CLONE_NEWTIME."""
        nsset = process.state.nsset
        if not self.wanted or nsset is None:
            return None
        self._children[process.pid] = _Children(process, None, process.start)
        self._doubt(process, process.start, self._last_seen(process, nsset), "clone")
        self._model.ask(process.pid)
        return self._with(nsset, None)

    def executed(self, process: Process, old_tid: int, time: int) -> NsSet | None:
        """The namespaces of a process that has execed in its thread ``old_tid`` (0: the leader), if that moves it."""
        if not self._children:
            return None
        pid, nsset = process.pid, process.state.nsset
        entry = self._children.pop(old_tid or pid, None)
        self._children.pop(pid, None)
        if entry is None or nsset is None:
            return None
        old = self._last_seen(process, nsset)
        self._doubts.pop(pid, None)
        if not self._exec_enters or entry.ino is None:
            self._children[pid] = _Children(process, entry.ino, time)
            self._doubt(process, time, old, "unshare")
            self._model.ask(pid)
            return self._with(nsset, None)
        inst = self._model.namespaces.find(TIME, self._model.namespaces.dev, entry.ino, time)
        if inst is not old:
            self._life.went(process, old, inst, time, "unshare", "procfs")
        return self._with(nsset, inst)

    def left(self, process: Process, tid: int) -> None:
        """Thread ``tid`` of ``process`` is gone."""
        self._calls.pop(tid, None)
        entry = self._children.get(tid)
        if entry is not None and entry.process is process:
            del self._children[tid]

    def awaits(self, process: Process) -> bool:
        """Whether a call of a task of ``process`` is under way."""
        return bool(self._calls) and any(task in self._calls for task in (process.pid, *(process.threads or ())))

    def plain(self, process: Process) -> bool:
        """Whether children of ``process``, and what it execs, are where it is itself, as far as is known."""
        if not (self._children or self._doubts):
            return True
        tasks = (process.pid, *(process.threads or ()))
        return process.pid not in self._doubts and not any(task in self._children for task in tasks)

    # -- answers

    def answered(self, process: Process, time: int, own: int, children: int, *, whole: bool) -> None:
        """What /proc showed at ``time`` of the leader of ``process``: the inodes of the time namespaces of its ``own``
        and for its ``children``, 0 not given; ``whole``: no event has shown any of it."""
        if not self.wanted or not own:
            return
        pid = process.pid
        doubt, entry = self._doubts.get(pid), self._children.get(pid)
        if doubt is None and entry is None:
            if whole and process.end is None and children not in (0, own):
                self._children[pid] = _Children(process, children, process.start)
            return
        if doubt is not None and doubt.process is not process:
            doubt = None
        if any(present is not None and present.since > time for present in (doubt, entry)):
            if process.end is None:
                self._model.ask(pid)  # something happened behind the answer: ask again
            return
        self._settle(process, time, own, children, doubt, entry)

    def _settle(
        self, process: Process, time: int, own: int, children: int, doubt: _Doubt | None, entry: _Children | None
    ) -> None:
        """The answer settles ``doubt`` and ``entry``, which are older."""
        pid = process.pid
        present = process.state.nsset.inst[TIME] if process.state.nsset is not None else None
        if doubt is None and entry is not None and present is not None and present.ino != own:
            # while it was read it has entered where its children are born: its exec event is still to come
            self._children[pid] = entry._replace(ino=own)
            return
        if doubt is not None:
            del self._doubts[pid]
            inst = self._model.namespaces.find(TIME, self._model.namespaces.dev, own, time)
            self._fill(process, doubt.since, inst)
            if inst is not doubt.old:
                self._life.went(process, doubt.old, inst, doubt.since, doubt.reason, "procfs")
        if process.end is not None:
            return
        if children not in (0, own):
            self._children[pid] = _Children(process, children, entry.since if entry is not None else process.start)
        else:
            self._children.pop(pid, None)

    def _fill(self, process: Process, since: int, inst: Instance) -> None:
        """Put ``inst`` wherever the time namespace of ``process`` was not known since ``since``."""

        def filled(state: State, at: int) -> State:
            nsset = state.nsset
            if at < since or nsset is None or nsset.inst[TIME] is not None:
                return state
            return state._replace(nsset=self._with(nsset, inst))

        self._model.table.amend_execs(process, filled)
        self._model.table.amend_past(process, filled)
        state = process.state
        if state.since < since:
            # it was in doubt before already, in a way that is not answered by this: a state of its own from here on
            self._model.table.replace(process, state._replace(since=since), after=True)
        self._model.swap_set(process, filled(process.state, process.state.since).nsset, since)

    # -- sets

    def _doubt(self, process: Process, since: int, old: Instance | None, reason: str) -> None:
        if len(self._doubts) >= _MAX_DOUBTS:
            del self._doubts[next(iter(self._doubts))]
        # one about a process that has ended stays: an answer read before its end may be on its way
        self._doubts[process.pid] = _Doubt(process, since, old, reason)

    def _last_seen(self, process: Process, nsset: NsSet | None) -> Instance | None:
        """The time namespace of ``process``, which is in ``nsset``; where that is in doubt already, the one before."""
        doubt = self._doubts.get(process.pid)
        if doubt is not None and doubt.process is process:
            return doubt.old
        return nsset.inst[TIME] if nsset is not None else None

    def _with(self, nsset: NsSet, inst: Instance | None) -> NsSet:
        if nsset.inst[TIME] is inst:
            return nsset
        return self._model.namespaces.intern((*nsset.inst[:TIME], inst, *nsset.inst[TIME + 1 :]), nsset.raw)
