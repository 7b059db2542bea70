"""The priority of a program that serves streams: a container that takes all CPUs must not delay another's stream.

auditd does likewise (``priority_boost``). The work is bounded by what audit records there are.
"""

import contextlib
import os
from typing import Final

BOOSTED: Final = -10


class Priority:
    """That of all threads of this process; where it may not be raised it stays."""

    def __init__(self) -> None:
        self._former: int | None = None

    def boost(self, wanted: bool) -> None:
        """Raise it, or put it back to what it was."""
        if wanted == (self._former is not None):
            return
        now, former = os.getpriority(os.PRIO_PROCESS, 0), self._former
        self._former = now if wanted else None
        value = min(now, BOOSTED) if former is None else former
        for tid in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):  # it has ended, or we may not
                os.setpriority(os.PRIO_PROCESS, int(tid), value)
