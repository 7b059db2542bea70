"""Watches which system calls make an audit record for sure (see coverage.py), from the rules and the serials seen.

A change of the rules shows as a CONFIG_CHANGE record, a record not (yet) arrived as a hole in the serials: from either
on, what was before is no longer relied on. What is found goes to the model as RULES frames.
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.syscalls import EXEC_CALLS, NAMESPACE_CALLS

if TYPE_CHECKING:
    from auditns_connector.auditrules.netlink import AuditControl
    from auditns_connector.audittext.scanner import InsertionPoints


class RuleWatch:
    """Feeds RULES frames to ``feed``."""

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        self._feed = feed
        self._found = self._changes = 0
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
        self._say(found)

    def _say(self, found: int) -> None:
        if found or self._found:
            self._feed(f.pack(f.K_RULES, f.S_AUDIT, time.monotonic_ns(), arg=found))
        self._found = found

    def before_answer(self, points: "InsertionPoints", changes: int) -> bool:
        """Look at the events about to be answered; ``changes`` counts the CONFIG_CHANGE records that came so far. True
        when :meth:`read` is to be called after it."""
        changed = changes != self._changes
        self._changes = changes
        if changed:
            self._say(0)
        if not points.n:
            return changed
        first, last, complete = points.serial[0], points.serial[points.n - 1], True
        if points.n > 1:
            _, _, first, last, complete = points.range()
        if self._found and not changed and not (complete and first == self._next):
            self._say(self._found)  # from here on anew
        self._next = last + 1
        return changed

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
