"""Which EXIT of perf is the end of a task.

fs/exec.c begin_new_exec() calls perf_event_exit_task() for a task that runs a set-user-ID, set-group-ID or unreadable
program or one with file capabilities: perf must not watch it any longer, and tells an EXIT of a task that lives on. It
does so for the thread that execs, which is alone and is the leader by then. kernel/exit.c do_exit() raises
sched_process_exit before it comes to perf_event_exit_task(). So what proves an end is, best first:

SAMPLES    the exit sample of that tid, where the tracepoint is had: an EXIT without one changes nothing
CONNECTOR  the proc connector's exit, which the kernel raises from do_exit() alone, after the EXIT of perf
NOTHING    neither is had: nobody knows what became of the process, until it acts or /proc shows
ALWAYS     there is no perf, and the EXIT frames are the connector's

Without samples a process is *suspended* by its EXIT: it has an end, and lives nowhere, so that the inodes of its
namespaces may be another's; but it still belongs to its container, and it goes on as soon as it is shown to live.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from auditns_connector.model.places import Instance
from auditns_connector.model.process import Process
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.values import JsonObject

SAMPLES: Final = "samples"
CONNECTOR: Final = "connector"
NOTHING: Final = "nothing"
ALWAYS: Final = "always"

#: frames of which ``pid`` is whoever did what they tell
ACTS: Final = frozenset(
    (f.K_EXEC, f.K_COMM, f.K_NAMESPACES, f.K_UNSHARE, f.K_SETNS, f.K_NM, f.K_UID, f.K_GID, f.K_SID, f.K_EXIT_SAMPLE)
)


def proof_of(hello: JsonObject) -> str:
    """What proves an end in a run that began with ``hello`` (the payload of a HELLO frame)."""
    if not hello.get("perf", True):
        return ALWAYS
    if "exit_sample" in hello.get("features", ()):
        return SAMPLES
    return CONNECTOR if hello.get("connector") else NOTHING


class Tids(Protocol):
    """A set of tasks."""

    def __contains__(self, tid: int, /) -> bool: ...

    def add(self, tid: int, /) -> None:
        """``tid`` is in it."""

    def discard(self, tid: int, /) -> None:
        """``tid`` is not."""


class Lives(Protocol):
    """What :class:`Exits` does with processes; times are CLOCK_MONOTONIC ns."""

    def end(self, process: Process, time: int) -> None:
        """``process`` has ended at ``time``."""

    def suspend(self, process: Process, time: int) -> Sequence[Instance]:
        """``process`` may have ended at ``time``; returns the namespaces that nobody else lives in."""

    def resume(self, process: Process) -> None:
        """``process`` has not ended."""

    def vacated(self, process: Process, spaces: Sequence[Instance], time: int) -> None:
        """``process`` was the last in these namespaces."""

    def ask_alive(self, pid: int) -> None:
        """Have /proc asked whether process ``pid`` still lives."""


class Exits:
    """Ends of processes in ``model``, as perf tells them."""

    def __init__(self, model: Lives, sampled: Tids) -> None:
        self._model = model
        self.proof = NOTHING
        #: tasks whose exit sample has come, and whose EXIT has not
        self.sampled = sampled
        #: suspended processes by pid, with the namespaces that were left empty
        self.suspended: dict[int, tuple[Process, Sequence[Instance]]] = {}

    # -- the exit

    def left(self, tid: int) -> bool:
        """An EXIT of ``tid`` has come: whether its sample had. (To be called once for each.)"""
        if tid not in self.sampled:
            return False
        self.sampled.discard(tid)
        return True

    def real(self, process: Process, tid: int, sampled: bool) -> bool:
        """Whether the EXIT of ``tid`` of ``process`` is the end of that task; without samples it may still turn out
        to be none."""
        if sampled or tid != process.pid or self.proof == ALWAYS:
            return True
        if self.proof == SAMPLES:
            if process.scanned:
                # perf may have been switched on between the sample and the EXIT of a process that /proc still showed
                self._model.ask_alive(process.pid)
            return False
        # a leader exits once: this one is of the thread that has taken its place
        return not process.leader_gone

    def end(self, process: Process, time: int, *, proven: bool) -> None:
        """The last thread of ``process`` has left by its EXIT, with its sample before it where that is ``proven``."""
        if proven or self.proof == ALWAYS:
            self._model.end(process, time)
            return
        self.suspended[process.pid] = (process, self._model.suspend(process, time))
        if self.proof == NOTHING:
            self._model.ask_alive(process.pid)

    # -- suspended processes

    def connector(self, kind: int, pid: int, tid: int) -> None:
        """A frame of the connector, whose exit is the end of a task for sure. It may come when the number of the
        process is another's already."""
        if kind == f.K_EXIT:
            if tid == pid and pid in self.suspended:
                self.finish(pid)
        elif kind in ACTS and pid in self.suspended:
            self.resume(pid)

    def look_at(self, kind: int, pid: int, tid: int, ppid: int) -> None:
        """A frame names a suspended process: it is another that has its number now, or it acts and so lives."""
        if kind == f.K_FORK:
            if tid == pid != ppid:
                if pid in self.suspended:
                    self.finish(pid)
                pid = ppid
        elif kind not in ACTS:
            return
        if pid in self.suspended:
            self.resume(pid)

    def resume(self, pid: int) -> None:
        """The process ``pid`` is shown to live, and so never ended: its EXIT was none."""
        process, _ = self.suspended.pop(pid)
        self._model.resume(process)

    def finish(self, pid: int) -> None:
        """The process ``pid`` ended at its EXIT."""
        model, (process, vacated) = self._model, self.suspended.pop(pid)
        end = process.end or 0
        model.end(process, end)
        # reported late, with the time at which it was: a namespace may have been entered again since
        model.vacated(process, [inst for inst in vacated if not inst.sets and inst.ended == end], end)
