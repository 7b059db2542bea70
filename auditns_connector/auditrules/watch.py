"""Watches which system calls make an audit record for sure (see coverage.py), from the rules and the serials seen.

A change of the rules shows as a CONFIG_CHANGE record, a record that is lost, or late, as a hole in the serials: from
either on, what was before is no longer relied on; a hole that is filled is none any more. Events of several processes
are written at the same time, so that one is answered while another that began before it is open. That is no hole: what
a process did before comes before what it did later. Only where the open one is of the same process, its end is missing,
and it is not known which of both was first to be answered. What is found goes to the model as RULES frames.
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.syscalls import EXEC_CALLS, NAMESPACE_CALLS

if TYPE_CHECKING:
    from auditns_connector.auditrules.netlink import AuditControl, LoadedRules, RulesQuestion
    from auditns_connector.audittext.scanner import InsertionPoints

#: so long the kernel's answer is waited for where others want to be served (seconds): it comes in a millisecond or two,
#: unless the threads of the kernel's that give it wait for a CPU
_SOON: Final = 0.05
#: after this it will not come any more, and is asked for again (seconds)
_NEVER: Final = 10.0
_MODULUS: Final = 1 << 32
_HALF: Final = 1 << 31


class SerialsSeen(Protocol):
    """What audit text shows beside its points: see :class:`~auditns_connector.audittext.scanner.TextStream`."""

    @property
    def changes(self) -> int:
        """How many CONFIG_CHANGE records came so far."""

    @property
    def missing_before(self) -> int:
        """Events of before that time may be missing (CLOCK_MONOTONIC ns)."""

    def open_calls(self) -> list[tuple[int, int]] | None:
        """(pid, serial) of the system calls whose events are open; ``None`` where those are too many."""


class RuleWatch:
    """Feeds RULES frames to ``feed``."""

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        self._feed = feed
        self._found = self._changes = 0
        #: when the rules were read, and from when on the model takes it that all is audited (CLOCK_MONOTONIC ns)
        self._read = self._since = 0
        self._control: AuditControl | None = None
        #: what the kernel was asked, when (time.monotonic seconds), and has not answered yet
        self._question: RulesQuestion | None = None
        self._asked = 0.0
        self._next: int | None = None
        #: called with each answer, or why there is none
        self.on_answer: list[Callable[[LoadedRules | AuditnsError], None]] = []

    def begin(self) -> None:
        """Open the netlink socket, where there may be one."""
        from auditns_connector.auditrules.netlink import AuditControl

        try:
            self._control = AuditControl()
        except AuditnsError:
            self._control = None

    def fileno(self) -> int:
        """Readable when :meth:`go_on` has something to do; -1 where there is no socket."""
        return -1 if self._control is None else self._control.fileno()

    @property
    def asking(self) -> bool:
        """Whether an answer is still to come."""
        return self._question is not None

    def read(self, seconds: float = _SOON) -> None:
        """Ask the kernel for the rules now; what was asked before is moot. The answer is waited for so many ``seconds``
        here; until it comes nothing new is said. Without the right to ask, nothing is taken for granted."""
        if self._control is None:
            return
        self._ask(self._control)
        self.go_on(seconds)

    def _ask(self, control: "AuditControl") -> None:
        self._question, self._asked = control.ask_rules(), time.monotonic()

    def go_on(self, seconds: float = 0.0) -> None:
        """Take the kernel's answer, where it is there within so many ``seconds``."""
        if self._question is None or self._control is None:
            return
        answer: LoadedRules | AuditnsError | None
        found = 0
        try:
            answer = self._question.answered(seconds)
            if answer is not None:
                found = _covered(answer)
        except AuditnsError as error:
            answer = error
        if answer is None:
            if time.monotonic() - self._asked > _NEVER:
                self._ask(self._control)
            return
        self._question = None
        self._read = time.monotonic_ns()
        self._say(found, self._read)
        for call in self.on_answer:
            call(answer)

    def _say(self, found: int, since: int = 0) -> None:
        if found or self._found:
            self._feed(f.pack(f.K_RULES, f.S_AUDIT, time.monotonic_ns(), cgroup=since, arg=found))
        self._found, self._since = found, since

    def before_answer(self, points: "InsertionPoints", text: SerialsSeen) -> bool:
        """Look at the events about to be answered, the last of ``text``. True when :meth:`read` is to be called after
        it."""
        changed = text.changes != self._changes
        self._changes = text.changes
        if changed:
            self._say(0)
        if not points.n:
            return changed
        self._next = points.serial[points.n - 1] + 1
        if self._found:
            since = max(self._read, text.missing_before)
            if self._overtaken(points, text):
                since = time.monotonic_ns()
            if since != self._since:
                self._say(self._found, since)
        return changed

    @staticmethod
    def _overtaken(points: "InsertionPoints", text: SerialsSeen) -> bool:
        """Whether an event is answered before an older one of its process, as far as that is known."""
        calls = text.open_calls()
        if not calls:
            return calls is None
        n, wanted = points.n, {pid for pid, _ in calls}
        if min(wanted) < 0:
            return True
        pids = points.pid[:n].tolist()
        if wanted.isdisjoint(pids):
            return False
        answered: dict[int, list[int]] = {pid: [] for pid in wanted}
        for pid, serial in zip(pids, points.serial[:n].tolist(), strict=True):
            if pid in wanted:
                answered[pid].append(serial)
        return any(0 < (after - serial) % _MODULUS < _HALF for pid, serial in calls for after in answered[pid])

    @property
    def changes(self) -> int:
        """How many CONFIG_CHANGE records it has been shown."""
        return self._changes

    @property
    def next(self) -> int | None:
        """The serial that comes next where none is missing."""
        return self._next

    def needs_python_loop(self) -> bool:
        """Whether no serial was seen yet."""
        return self._next is None

    def passed(self, serial: int) -> None:
        """The next events up to ``serial`` have come, without a hole and without a change of the rules."""
        self._next = serial + 1

    def close(self) -> None:
        """Close the netlink socket."""
        self._question = None
        if self._control is not None:
            self._control.close()
            self._control = None


def _covered(loaded: "LoadedRules") -> int:
    """The RULES_* that hold with these rules."""
    from auditns_connector.auditrules.coverage import all_audited

    machine = os.uname().machine
    calls = ((EXEC_CALLS, f.RULES_EXECS), (NAMESPACE_CALLS, f.RULES_CALLS))
    return sum(bit for names, bit in calls if all_audited(loaded.status, loaded.rules, machine, names))
