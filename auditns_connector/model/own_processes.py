"""Which processes this program has started itself: probes, helpers, children of outputs, and what those start.

What they do to namespaces is of no interest to whoever watches the host, so no line and no list tells of it. Audit
records about them are answered as any others. The same holds for other programs of ours that have shown who they are
(OWN frames, see control/own_programs.py); a process of a container is never taken for one.
"""

from typing import Final, Protocol

from auditns_connector.model.outputs import NsChange, NsDel, NsInit, NsLeft
from auditns_connector.model.process import Process

_GENERATIONS: Final = 16
_MOST_HIDDEN: Final = 65536
#: other programs of ours at a time; of more the oldest is a process like any other again
_MOST_OTHERS: Final = 64


class Incarnations(Protocol):
    """Who is remembered."""

    def incarnation(self, pid: int, start: int) -> Process | None:
        """The process that held ``pid`` from ``start`` on."""


class OwnProcesses:
    """Those of ``model``."""

    def __init__(self, model: Incarnations) -> None:
        self._model = model
        #: the program's own process, and a time at which it lived (CLOCK_MONOTONIC ns); 0: that is not known
        self.pid = self.since = 0
        #: (pid, start) of other programs of ours
        self._others: dict[tuple[int, int], None] = {}
        self._verdicts: dict[tuple[int, int], bool] = {}
        #: numbers of the namespaces that they made
        self._hidden: dict[int, None] = {}

    def begin(self, pid: int, since: int) -> None:
        """The program is process ``pid``, which lives at ``since``."""
        self.pid, self.since = pid, since
        self._others.clear()
        self.forget()

    def add(self, process: Process) -> None:
        """``process`` is another program of ours."""
        self._others[process.pid, process.start] = None
        if len(self._others) > _MOST_OTHERS:
            del self._others[next(iter(self._others))]
        self.forget()

    def forget(self) -> None:
        """Who is who may have changed: what was worked out so far is dropped."""
        self._verdicts.clear()

    def made(self, process: Process) -> bool:
        """Whether ``process`` descends from the program, or from another one of ours."""
        if not (self.pid or self._others):
            return False
        line: list[tuple[int, int]] = []
        creator, found = process.creator, False
        for _ in range(_GENERATIONS):
            if creator is None:
                break
            verdict = self._verdicts.get(creator)
            if verdict is not None:
                found = verdict
                break
            line.append(creator)
            if self._is_one(*creator):
                found = True
                break
            above = self._model.incarnation(*creator)
            creator = above.creator if above is not None else None
        for who in line:
            self._verdicts[who] = found
        return found

    def other(self, process: Process) -> bool:
        """Whether ``process`` is another program of ours."""
        return (process.pid, process.start) in self._others

    @property
    def others(self) -> bool:
        """Whether there are any."""
        return bool(self._others)

    def _is_one(self, pid: int, start: int) -> bool:
        return (bool(pid) and pid == self.pid and start <= self.since) or (pid, start) in self._others

    def did(self, process: Process) -> bool:
        """Whether ``process`` is the program or another one of ours, or descends from it."""
        return self._is_one(process.pid, process.start) or self.made(process)

    def hides(self, output: NsInit | NsChange | NsLeft | NsDel) -> bool:
        """Whether ``output`` tells of what they did; to be asked once for each, in their order."""
        if isinstance(output, NsDel):
            hidden = output.inst.number in self._hidden
            self._hidden.pop(output.inst.number, None)
            return hidden
        hidden = output.process is not None and self.did(output.process)
        if hidden and isinstance(output, NsInit):
            self._hidden[output.inst.number] = None
            if len(self._hidden) > _MOST_HIDDEN:
                del self._hidden[next(iter(self._hidden))]
        return hidden
