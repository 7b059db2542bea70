"""Which unshare and setns calls a record has consumed: the order of a process's own doings.

A call of these changes the caller's namespaces, and an audit stamp is too coarse to say on which side of the change
another record of the process lies. The order is not: a process's records come in the order of its calls. So a record of
such a call is matched with the call's own event (UNSHARE, SETNS frame, taken at entry); records of the process that
come after it were made after the change, and, where every such call makes a record, those that come before it were made
before.
"""

from collections.abc import Iterable
from typing import Final

from auditns_connector.model.process import Process
from auditns_connector.vocabulary.syscalls import NAMESPACE_CALLS, by_arch, is_64bit

_CAP: Final = 64
#: how far a stamp may be behind: its clock stands still while the CPU that keeps the time is kept from its ticks (ns;
#: 70 ms were seen on a busy virtual machine). Further than Model.lag, for here the order of calls tells which it was
_STALE: Final = 100_000_000
#: AUDIT_ARCH of 64-bit system calls -> numbers of unshare and setns; 32-bit ones have no such event
NUMBERS: Final = {arch: numbers for arch, numbers in by_arch(NAMESPACE_CALLS).items() if is_64bit(arch)}


class Calls:
    """The calls no record has consumed yet, by process: their times of entry (CLOCK_MONOTONIC ns), in order."""

    def __init__(self) -> None:
        self.pending: dict[int, list[int]] = {}

    def entered(self, pid: int, time: int) -> None:
        """Process ``pid`` has entered such a call."""
        entries = self.pending.setdefault(pid, [])
        entries.append(time)
        del entries[:-_CAP]

    def consume(self, process: Process, times: Iterable[int], before: int) -> int:
        """A record of ``process`` tells of such a call, stamped with one of ``times``, or up to ``before`` ns before.
        Returns the time before which none of its records still to come was made; 0 where that is no call we know, and
        then the order of this process's calls is not known."""
        entries = self.pending.pop(process.pid, [])
        for low in times:
            for i, entry in enumerate(entries):
                if low - before <= entry <= low + _STALE:
                    following = entries[i + 1] if i + 1 < len(entries) else None
                    if following is not None:
                        self.pending[process.pid] = entries[i + 1 :]
                    return _effect(process, entry, following)
        return 0

    def next(self, pid: int) -> int | None:
        """When the first call that no record has consumed was entered."""
        entries = self.pending.get(pid)
        return entries[0] if entries else None

    def expire(self, before: int) -> None:
        """Forget calls entered before ``before``: their records are not coming."""
        for pid in [pid for pid, entries in self.pending.items() if entries[0] < before]:
            left = [entry for entry in self.pending[pid] if entry >= before]
            if left:
                self.pending[pid] = left
            else:
                del self.pending[pid]


def _effect(process: Process, entry: int, following: int | None) -> int:
    """When the call entered at ``entry`` changed the state of ``process``; ``entry`` where it did not."""
    for state in (*(process.past or ()), process.state):
        if state.since > entry:
            return state.since if following is None or state.since < following else entry
    return entry
