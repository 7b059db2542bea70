"""The private auditd of a run: our rules beside it, and everything put back afterwards."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.kernel.auditd import Auditd as PrivateAuditd
from tests.kernel.auditd import NotPossibleError, audit_counter
from tests.kernel.support import AuditState, auditctl, until

from .truth import read_actions

__all__ = ["Auditd", "NotPossibleError"]

BACKLOG_LIMIT: Final = 65536


class Auditd(PrivateAuditd):
    """One run of auditd with the rules of the bench. :attr:`lost`: what the kernel lost meanwhile."""

    lost = 0
    backlog_limit = BACKLOG_LIMIT

    def __init__(self, directory: Path, **settings: str) -> None:
        super().__init__(directory, **settings)
        # auditd shuts the folder of its log to all but root (auditd-event.c, fix_disk_permissions); the programs that
        # ordinary users run lie in that of the run
        folder = directory / "log"
        folder.mkdir()
        self.log = folder / self.log.name

    @contextlib.contextmanager
    def running(self, token: str, key: str) -> Iterator[None]:
        """Run auditd with the rules of run ``token`` under ``key``; stop it and put audit's state back."""
        before = AuditState.read()
        if audit_counter("pid"):
            raise NotPossibleError("an auditd is running already: stop it for the time of the bench")
        if before.settings["enabled"] == "2":
            raise NotPossibleError("the audit configuration is immutable (auditctl -e 2) until the next boot")
        lost = audit_counter("lost")
        try:
            self.start()
            auditctl("-b", str(self.backlog_limit))
            add = ("-a", "always,exit", "-F", "arch=b64")
            for arch in ("b64", "b32"):
                auditctl(
                    "-a", "always,exit", "-F", f"arch={arch}", "-S", "execve,execveat,unshare,setns", "-F", f"key={key}"
                )
            auditctl(*add, "-S", "getpriority", "-F", f"a0={int(token[:8], 16)}", "-F", f"key={key}")
            yield
            until(lambda: audit_counter("backlog") == 0, "the kernel's audit backlog to drain", 60)
            self.lost = audit_counter("lost") - lost
        finally:
            auditctl("-D", "-k", key)
            self.stop()
            before.restore()

    def wait_logged(self, token: str, workload: int, count: int, timeout: float) -> None:
        """Until ``count`` actions of ``workload`` are in auditd's own log."""

        def logged() -> bool:
            actions = read_actions(self.log.read_bytes(), token).values()
            return sum(action.workload == workload for action in actions) >= count

        until(logged, "the last event in auditd's log", timeout, 0.1)
