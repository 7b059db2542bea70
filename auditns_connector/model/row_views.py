"""The process table as readers see it: processes by pid, threads by tid, the dead in the order of their ends."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from auditns_connector._native import ffi, lib
from auditns_connector.model.process import Process
from auditns_connector.vocabulary.values import CData

_SAMPLED: Final = int(lib.TABLE_SAMPLED)


class Rows(Protocol):
    """What is looked at, see rows.py."""

    c: CData

    def find(self, pid: int) -> Process | None:
        """The newest incarnation of ``pid``."""

    def incarnation(self, pid: int, start: int) -> Process | None:
        """The process that held ``pid`` from ``start`` on."""

    def pids(self) -> set[int]:
        """All pids of which somebody is remembered."""

    def all(self) -> list[Process]:
        """The newest incarnation of every pid."""

    def packed_thread(self, tid: int) -> int:
        """The pid of the packed process that thread ``tid`` is of, 0 where there is none."""


class Newest(Mapping[int, Process]):
    """The newest incarnation of each pid, in the order in which the pids came to be remembered."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, pid: int, default: Any = None) -> Any:
        """The process, packed or held; ``default`` where nobody is remembered."""
        process = self._rows.find(pid)
        return default if process is None else process

    def __getitem__(self, pid: int) -> Process:
        process = self._rows.find(pid)
        if process is None:
            raise KeyError(pid)
        return process

    def __contains__(self, pid: object) -> bool:
        return isinstance(pid, int) and self._rows.find(pid) is not None

    def __iter__(self) -> Iterator[int]:
        return iter([process.pid for process in self._rows.all()])

    def __len__(self) -> int:
        return len(self._rows.pids())

    def values(self) -> Any:
        """All of them, in that order."""
        return self._rows.all()


class Threads:
    """The process of each thread that is not a leader."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.held: dict[int, Process] = {}

    def get(self, tid: int) -> Process | None:
        """The process that thread ``tid`` is of."""
        process = self.held.get(tid)
        if process is None and (pid := self._rows.packed_thread(tid)):
            process = self._rows.find(pid)
        return process

    def __contains__(self, tid: int) -> bool:
        return tid in self.held or self._rows.packed_thread(tid) != 0

    def __getitem__(self, tid: int) -> Process:
        process = self.get(tid)
        if process is None:
            raise KeyError(tid)
        return process

    def __len__(self) -> int:
        return len(self.held) + int(self._rows.c.threads)


class Sampled:
    """Tasks whose exit sample has come, and whose EXIT has not."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __contains__(self, tid: int) -> bool:
        return bool(lib.table_held(self._rows.c, tid) & _SAMPLED)

    def add(self, tid: int) -> None:
        """The sample of ``tid`` has come."""
        lib.table_hold(self._rows.c, tid, _SAMPLED, _SAMPLED)

    def discard(self, tid: int) -> None:
        """The EXIT of ``tid`` has come, or is missing."""
        lib.table_hold(self._rows.c, tid, 0, _SAMPLED)


class Dead:
    """Ended processes that are remembered, in the order of their ends."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return int(self._rows.c.dead)

    def end(self, at: int) -> int:
        """When the one ended that has place ``at``, the first that ended having 0; 0 where there is none."""
        who = ffi.new("struct table_dead_row *")
        return int(who.end) if lib.table_read_dead(self._rows.c, len(self) - 1 - at, who) else 0

    def __reversed__(self) -> Iterator[Process]:
        who, back = ffi.new("struct table_dead_row *"), 0
        while lib.table_read_dead(self._rows.c, back, who):
            process = self._rows.incarnation(who.pid, who.start)
            if process is not None:
                yield process
            back += 1
