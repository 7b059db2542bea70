"""Who is whose child, among the processes in namespaces of their own, read before the kernel's events are in hand: who
was adopted since does not show any more, see host/adoption.py.

Who was adopted before that shows by its session alone: it is the one of whoever made the process, until that begins
one of its own (kernel/sys.c ksys_setsid). A process in a session that is neither its own nor its parent's was made by
somebody else, or its parent has begun one since: by whom, nothing proves."""

import os
import time
from collections.abc import Collection
from typing import Final, NamedTuple

from auditns_connector.sources.procfs import boot_offset
from auditns_connector.vocabulary.frames import UNPROVEN_PARENT


class Child(NamedTuple):
    """A process with its parent, UNPROVEN_PARENT where that may be another; ``start``: see :meth:`Procfs.start_ns`."""

    parent: int
    start: int


class Parents(NamedTuple):
    """The children by pid, all read after ``taken`` (CLOCK_MONOTONIC ns)."""

    taken: int
    of: dict[int, Child]

    @property
    def all(self) -> frozenset[int]:
        """Those who have such children."""
        return frozenset(child.parent for child in self.of.values() if child.parent != UNPROVEN_PARENT)


#: nothing was read
NOT_READ: Final = Parents(0, {})


def read_parents(types: Collection[str], root: str = "/proc") -> Parents:
    """The processes below ``root`` that are in other namespaces of one of ``types`` than this one, and whose children
    they are. Who ends meanwhile, or does not show, is left out. Raises OSError when ``root`` cannot be listed."""
    taken, offset, tick = time.monotonic_ns(), boot_offset(), 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    ours = {f"ns/{name}": link for name in types if (link := _link(f"{root}/self/ns/{name}"))}
    found: dict[int, Child] = {}
    for name in os.listdir(root):
        if not name.isdecimal():
            continue
        folder = f"{root}/{name}"
        links = ((_link(f"{folder}/{where}"), link) for where, link in ours.items())
        if any(own not in ("", link) for own, link in links):
            fields = _stat(folder)
            if fields is not None:
                found[int(name)] = Child(_parent(root, name, fields), max(0, int(fields[19]) * tick - offset))
    return Parents(taken, found)


def _parent(root: str, name: str, fields: list[bytes]) -> int:
    """Whose child the process ``name`` is, whose ``fields`` of stat these are."""
    ppid, session = int(fields[1]), fields[3]
    above = _stat(f"{root}/{ppid}") if ppid and session != name.encode() else None
    return ppid if above is None or above[3] == session else UNPROVEN_PARENT


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""  # it has ended, or hides it: the scan counts both


def _stat(folder: str) -> list[bytes] | None:
    """What stands behind comm, see proc_pid_stat(5)."""
    try:
        with open(f"{folder}/stat", "rb", buffering=0) as file:
            return file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
