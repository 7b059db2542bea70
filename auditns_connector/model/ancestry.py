"""Where a process comes from: its parents as the table knows them, by who made whom."""

from collections.abc import Iterator
from typing import Final

from auditns_connector.model.entry import Ancestor
from auditns_connector.model.process import Process
from auditns_connector.model.processes import Processes

#: a line of parents is followed no further than this
MOST: Final = 64


def ancestors(table: Processes, process: Process) -> Iterator[Process | None]:
    """The parents of ``process``, the nearest first. At the end of what is known stands ``None``, unless that is where
    all processes come from."""
    for _ in range(MOST):
        if process.creator is None:
            if process.pid > 1:
                yield None
            return
        parent = table.incarnation(*process.creator)
        yield parent
        if parent is None:
            return
        process = parent
    yield None


def ancestor_of(table: Processes, process: Process) -> Ancestor:
    """What is to be told of ``process`` as it is now."""
    return Ancestor(process.pid, process.start, process.comm)


def key_of(boot_id: str, process: Process) -> str:
    """What ``process`` is called over everything: boot, pid, start."""
    return f"{boot_id.replace('-', '')}:{process.pid}:{process.start}"


def program_of(table: Processes, process: Process) -> bytes:
    """The program that ``process`` runs, as far as it is known."""
    return ancestor_of(table, process).program
