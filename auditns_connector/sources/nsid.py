"""Which namespace is it: the kernel's 64-bit ids, and whether a namespace still exists.

An inode number names a namespace only while it lives (numbers are recycled at once); the id of ``NS_GET_ID`` (Linux
6.18, all eight types) is never given twice in a boot. ``NS_GET_MNTNS_ID`` tells the same for mount namespaces from
Linux 6.11. Where the kernel has neither, the id is 0 and whoever asked mints a serial.

Nothing here holds a descriptor longer than a call, so nothing here keeps a namespace alive. Whether one is there is
asked by its file handle, which is a number and not a reference (open_by_handle_at(2) through FD_NSFS_ROOT, Linux
6.18). On that kernel the answer turns with the last reference: within microseconds of the last process's exit for net,
uts, ipc, mnt, cgroup and time namespaces, some 10 to 60 ms later for pid and user namespaces, whose references
are dropped after an RCU grace period.

A process may keep its namespaces to itself, even from root (ptrace access mode of proc(5), security modules; process
1 of some machines does): then the answer is None, and ``counters`` tell why.
"""

import errno
import os
import time
from typing import NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary import namespaces as nstypes


class NsId(NamedTuple):
    """One namespace, as the kernel described it at ``time`` (CLOCK_MONOTONIC ns, taken before it was asked)."""

    time: int
    nstype: str
    dev: int
    ino: int
    #: the kernel's 64-bit id; 0 where it has none
    id: int
    #: inode of the user namespace that owns it; 0 not given
    owner: int = 0
    #: pid and user namespaces: inode of the parent; 0 for the initial ones and where not given
    parent: int = 0
    #: user namespaces: uid that made it, as this process sees it; -1 not given
    owner_uid: int = -1


class NsIds:
    """Asks the kernel about namespaces through ``proc``; counts what it could not learn."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = os.fsencode(proc)
        self._answer = ffi.new("struct nsid_answer *")
        self._asked = self._gone = self._denied = self._other = self._failed = 0

    def ns_id(self, pid: int, nstype: str, expect_ino: int = 0, *, family: bool = False) -> NsId | None:
        """Ask for the namespace of type ``nstype`` (a key of nstypes.FLAGS, or a ``_for_children`` one) of ``pid``.

        None: the process is gone, hides it, or is no longer in the one with inode ``expect_ino`` (0: any).
        ``family`` adds owner and parent, at half as much again. Takes some 6 µs.
        """
        kind = nstype.removesuffix("_for_children")
        path = b"%s/%d/ns/%s" % (self._proc, pid, nstype.encode())
        answer = self._answer
        now = time.monotonic_ns()
        self._asked += 1
        code = -lib.nsid_ask(-1, path, nstypes.FLAGS[kind], family, answer)
        if code:
            self._count(code)
            return None
        if expect_ino and answer.ino != expect_ino:
            self._other += 1
            return None
        return NsId(now, kind, answer.dev, answer.ino, answer.id, answer.owner_ino, answer.parent_ino, answer.owner_uid)

    def _count(self, code: int) -> None:
        if code in (errno.ENOENT, errno.ESRCH):
            self._gone += 1
        elif code in (errno.EACCES, errno.EPERM):
            self._denied += 1
        else:
            self._failed += 1

    def initial(self) -> dict[str, NsId]:
        """The initial namespaces as far as they can be asked; a type that nobody tells is left out.

        Known by their fixed inode numbers (see nstypes), asked through ourselves or process 1 or 2. Before Linux 6.18
        net and mnt have none: there the word of process 2 counts, which in the initial pid namespace is kthreadd.
        """
        found: dict[str, NsId] = {}
        here = self.ns_id(os.getpid(), "pid")
        on_host = here is not None and here.ino == nstypes.INITIAL_INODES["pid"]
        for name in nstypes.ALL_ORDER:
            fixed = nstypes.INITIAL_INODES_618[name]
            for pid in (os.getpid(), 2, 1):
                answer = self.ns_id(pid, name)
                if answer is None:
                    continue
                if answer.ino == fixed or (pid == 2 and on_host and name not in nstypes.INITIAL_INODES):
                    found[name] = answer
                    break
        return found

    def counters(self) -> dict[str, int]:
        """asked; and of these gone (process ended), denied, other (now in another namespace), failed."""
        return {
            "asked": self._asked,
            "gone": self._gone,
            "denied": self._denied,
            "other": self._other,
            "failed": self._failed,
        }


def alive(ns_id: int, nstype: str, ino: int) -> bool | None:
    """Whether the namespace with this kernel id, type and inode exists; None where the kernel cannot tell.

    All three are needed: the kernel compares them. Needs CAP_DAC_READ_SEARCH or the initial user namespace's root.
    Takes some 3 µs. False is final.
    """
    answer: int = lib.nsid_alive(ns_id, nstypes.FLAGS[nstype], ino)
    return None if answer < 0 else bool(answer)
