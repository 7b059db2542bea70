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
    from auditns_connector.auditrules.netlink import AuditControl
    from auditns_connector.audittext.scanner import InsertionPoints

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
        self._next: int | None = None

    def read(self) -> None:
        """Ask the kernel for the rules now; without the right to, nothing is taken for granted."""
        from auditns_connector.auditrules.coverage import all_audited
        from auditns_connector.auditrules.netlink import AuditControl

        found = 0
        try:
            if self._control is None:
                self._control = AuditControl()
            rules, status, machine = self._control.list_rules(), self._control.status(), os.uname().machine
            for names, bit in ((EXEC_CALLS, f.RULES_EXECS), (NAMESPACE_CALLS, f.RULES_CALLS)):
                found |= bit if all_audited(status, rules, machine, names) else 0
        except AuditnsError:
            self._control = None
        self._read = time.monotonic_ns()
        self._say(found, self._read)

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
        """How many CONFIG_CHANGE records it has been told of."""
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
        if self._control is not None:
            self._control.close()
