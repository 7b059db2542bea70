"""Events that wait to be shown, for they may turn out to be of our own doing. Pure.

The OCI hook and the doctor show who they are to the program that serves the control socket, and that tells all others
(control/own_programs.py): a moment after the kernel has reported their birth and that they ran. So

* a birth, and all behind it, waits until the child has run a program or has ended, and for :data:`BORN` at most: what a
  process runs says whether it is a *suspect*;
* what a suspect does, from its birth on, and whatever descends from it, is put aside, and nobody else's events wait for
  it. It is dropped when the suspect has shown that it is ours. Where it has ended without that, or :data:`PATIENCE` is
  over, it is shown after all, with its times, behind what is newer.

To be a suspect takes no more than a name. So nothing is hidden by that, and nobody else is kept from being shown: who
is ours the model knows alone (:mod:`model.own_processes`).
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from auditns_connector.model.process import Process
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.timing import FOREVER
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model

#: so long a birth waits for what the child runs (ns)
BORN: Final = 50_000_000
#: so long a suspect may take to show who it is, from its exec on (ns)
PATIENCE: Final = 5_000_000_000
#: events put aside of one suspect, and suspects at a time: of more the oldest one's are shown
_MOST_ASIDE: Final = 10_000
_MOST_SUSPECTS: Final = 64

#: time, rank, event
Timed = tuple[int, int, JsonObject]


def never(pid: int, file: bytes) -> bool:
    """No process is a suspect."""
    return False


class _Suspect:
    """Process ``pid``, which ran a program at ``ran`` that may be ours; ``pids`` are it and whom it has made, as
    long as their numbers are no others'."""

    __slots__ = ("ended", "events", "pid", "pids", "ran")

    def __init__(self, pid: int, ran: int) -> None:
        self.pid, self.ran = pid, ran
        self.pids = {pid}
        self.events: list[Timed] = []
        self.ended = False

    def over(self, now: int) -> bool:
        """Whether nothing will come of it any more."""
        return self.ended or now - self.ran >= PATIENCE or len(self.events) > _MOST_ASIDE


class HeldEvents:
    """Events of processes of ``model``; ``may_be`` says who is a suspect, by the process and the file it has run."""

    def __init__(self, model: "Model", may_be: Callable[[int, bytes], bool]) -> None:
        self._model, self._may_be = model, may_be
        self._waiting: list[Timed] = []
        #: those that have run nothing and have not ended yet, and when they were born
        self._born: dict[int, int] = {}
        #: the oldest first
        self._suspects: list[_Suspect] = []
        #: by each process that is of one
        self._aside: dict[int, _Suspect] = {}

    def look(self, frame: f.Frame) -> None:
        """Note what ``frame`` says of births, programs and ends; its events come behind it."""
        kind, pid = frame.kind, frame.pid
        if kind == f.K_FORK:
            if frame.tid != pid:
                return
            former = self._aside.pop(pid, None)
            if former is not None:
                former.pids.discard(pid)  # the number is another's now
            suspect = self._aside.get(frame.ppid)
            if suspect is not None:
                suspect.pids.add(pid)
                self._aside[pid] = suspect
            else:
                self._born[pid] = frame.time
        elif kind == f.K_EXEC:
            self._born.pop(pid, None)
            file = f.text(frame.payload)
            if file and pid not in self._aside and self._may_be(pid, file):
                self._suspect(pid, frame.time)
        elif kind == f.K_EXIT and frame.tid == pid:
            self._born.pop(pid, None)
            suspect = self._aside.get(pid)
            if suspect is not None and suspect.pid == pid:
                suspect.ended = True

    def _suspect(self, pid: int, time: int) -> None:
        suspect = self._aside[pid] = _Suspect(pid, time)
        self._suspects.append(suspect)
        own = [one for one in self._waiting if one[2].get("pid") == pid]
        since = max((one[0] for one in own if one[2]["event"] == "fork"), default=0)
        suspect.events = [one for one in own if one[0] >= since]
        self._waiting = [one for one in self._waiting if one[0] < since or one[2].get("pid") != pid]

    def add(self, time: int, rank: int, event: JsonObject) -> None:
        """``event`` is to be shown, in the order of ``time`` and ``rank``."""
        suspect = self._aside.get(event.get("pid", 0))
        (self._waiting if suspect is None else suspect.events).append((time, rank, event))

    def decide(self, now: int) -> set[int]:
        """The processes of suspects that have shown that they are ours, of which nothing will be shown; those of others
        for which the time is over at ``now`` are as any others from now on."""
        ours: set[int] = set()
        suspects, self._suspects = self._suspects, []
        for number, suspect in enumerate(suspects):
            if self._is_ours(suspect):
                ours |= suspect.pids
            elif suspect.over(now) or len(suspects) - number > _MOST_SUSPECTS:
                self._waiting += suspect.events
            else:
                self._suspects.append(suspect)
                continue
            for pid in suspect.pids:
                del self._aside[pid]
        return ours

    def _is_ours(self, suspect: _Suspect) -> bool:
        process: Process | None = self._model.table.find(suspect.pid)
        while process is not None and process.start > suspect.ran:
            process = process.prev
        return process is not None and self._model.own.other(process)

    def ready(self, now: int) -> list[Timed]:
        """What may be shown at ``now``, in order."""
        self._born = {pid: time for pid, time in self._born.items() if now - time < BORN}
        events = sorted(self._waiting, key=lambda one: one[:2])
        until = bisect_left(events, min(self._born.values(), default=FOREVER), key=lambda one: one[0])
        self._waiting = events[until:]
        return events[:until]
