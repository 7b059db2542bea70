"""Who asks over the control socket, and whom a request speaks of: what the kernel says, never what the peer says.

SO_PEERCRED and SO_PEERPIDFD (Linux 6.5) tell the process that connected. A pid in a request counts in its own
pid namespace. What is read about a process is believed only if a pidfd, opened before, says that it lives still;
PIDFD_GET_INFO (Linux 6.13) also tells by that pidfd its user and cgroup, and how it ended.
"""

import errno
import os
import select
import socket
import struct
from types import TracebackType
from typing import Final, NamedTuple, Self

from auditns_connector.sources.pidfd_info import PidInfo, ask
from auditns_connector.sources.procfs import Procfs
from auditns_connector.vocabulary.namespaces import INITIAL_INODES
from auditns_connector.vocabulary.values import Json, JsonObject

#: include/uapi/asm-generic/socket.h; Python 3.11 has no name for it
SO_PEERPIDFD: Final = 77
_NO_PIDFD: Final = (errno.ENOPROTOOPT, errno.EINVAL)
CAP_AUDIT_CONTROL: Final = 30
_UCRED: Final = struct.Struct("=iII")
#: two readings of one start time (ns); no pid comes round in that time
_SAME: Final = 50_000_000
_MAX_ANCESTORS: Final = 256
_UNSET_ID: Final = 0xFFFFFFFF


class Peer(NamedTuple):
    """Who is on the other side, by SO_PEERCRED: pid in our pid namespace (0: not in it), and ids. ``start``: when the
    process that had this pid as the connection was accepted began, where there is no SO_PEERPIDFD to tell."""

    pid: int
    uid: int
    gid: int
    start: int | None = None


def peer_of(sock: socket.socket) -> Peer:
    """The credentials the kernel took when the peer connected."""
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def peer_accepted(sock: socket.socket, procfs: Procfs) -> Peer:
    """The peer of a connection just accepted."""
    peer = peer_of(sock)
    try:
        os.close(_peer_pidfd(sock))
    except OSError as error:
        found = procfs.describe(peer.pid) if error.errno in _NO_PIDFD and peer.pid > 0 else None
        return peer._replace(start=found["start"] if found is not None else None)
    return peer


def _peer_pidfd(sock: socket.socket) -> int:
    return int(struct.unpack("=i", sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, 4))[0])


class PidHandle:
    """A process held by its pidfd (``fd`` -1: it is gone, or cannot be held)."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd

    @classmethod
    def by_pid(cls, pid: int) -> Self:
        """The process that has this pid now."""
        try:
            return cls(pid, os.pidfd_open(pid) if 0 < pid < 1 << 31 else -1)
        except OSError:
            return cls(pid, -1)

    @classmethod
    def by_socket(cls, sock: socket.socket) -> Self:
        """The process that connected. Without SO_PEERPIDFD the one that has its pid now, see ``Peer.start``."""
        pid = peer_of(sock).pid
        try:
            return cls(pid, _peer_pidfd(sock))
        except OSError as error:
            return cls.by_pid(pid) if error.errno in _NO_PIDFD else cls(pid, -1)

    def alive(self) -> bool:
        """Whether it lives, so that what was read of its pid before was about it."""
        if self._fd < 0:
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return not poll.poll(0)

    def info(self) -> PidInfo | None:
        """What the kernel says of it by the pidfd; None where it says nothing."""
        return ask(self._fd) if self._fd >= 0 else None

    def ended(self) -> str:
        """How it ended, in words; empty where that is not given."""
        found = self.info()
        if found is None or found.status is None:
            return ""
        code = os.waitstatus_to_exitcode(found.status)
        return f"it has exited with status {code}" if code >= 0 else f"signal {-code} has ended it"

    def close(self) -> None:
        """Let it go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def describe_caller(procfs: Procfs, held: PidHandle, peer: Peer) -> JsonObject:
    """The caller as a REGISTER frame has it: identity, rights, ancestors, and the fields that CONTAINER_OP prints.

    ``start`` is None where the process has gone already; ``privileged``: root of the initial user namespace with
    CAP_AUDIT_CONTROL; ``ns`` and ``cg`` as :mod:`sources.procfs` has them.
    """
    before = held.info()
    found = procfs.describe(held.pid) if held.pid > 0 else None
    about: JsonObject = {"pid": peer.pid, "start": None, "uid": peer.uid, "privileged": False, "ancestors": []}
    if found is None:
        return about
    initial = (found.get("ns") or {}).get("user") == INITIAL_INODES["user"]
    capable = _capabilities(held.pid) >> CAP_AUDIT_CONTROL & 1 == 1
    about.update(
        auid=_id(found.get("loginuid")),
        ses=_id(found.get("sessionid")),
        tty=_tty(held.pid),
        comm=found.get("comm"),
        exe=_link(held.pid),
        subj=_label(held.pid),
        ancestors=_ancestors(procfs, found),
    )
    began = found["start"]
    if held.alive() and began is not None and (peer.start is None or abs(peer.start - began) < _SAME):
        now = held.info()
        about["start"] = began
        about["privileged"] = peer.uid == 0 and initial and capable and (now is None or now.euid in (None, 0))
        about["pid_ns"] = (found.get("ns") or {}).get("pid")
        about["depth"] = len(found.get("nspid") or [0])
        about["ns"], about["cg"] = found.get("ns"), found.get("cg")
        if before is not None and now is not None and before.cgroup != now.cgroup:
            about["cg"] = None  # it was moved while it was read
    return about


def _id(value: int | None) -> int | None:
    return -1 if value == _UNSET_ID else value


def _read(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read(65536)
    except OSError:
        return ""  # gone, or not given: the field is left out


def _capabilities(pid: int) -> int:
    for line in _read(pid, "status").split("\n"):
        if line.startswith("CapEff:\t"):
            return int(line[8:], 16)
    return 0


def _tty(pid: int) -> str:
    """The controlling terminal as audit prints it."""
    fields = _read(pid, "stat").rpartition(") ")[2].split()
    number = int(fields[4]) if len(fields) > 4 else 0
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    return f"pts{minor}" if 136 <= major <= 143 else "(none)"


def _link(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""  # gone, or a kernel thread


def _label(pid: int) -> str:
    return _read(pid, "attr/current").rstrip("\0\n")


def _ancestors(procfs: Procfs, found: JsonObject) -> list[list[int]]:
    out: list[list[int]] = []
    parent: JsonObject | None = found
    while parent is not None and parent["ppid"] and len(out) < _MAX_ANCESTORS:
        parent = procfs.describe(parent["ppid"])
        if parent is not None and parent["start"] is not None:
            out.append([parent["pid"], parent["start"]])
    return out


def translate(pid: Json, caller: JsonObject) -> int:
    """``pid`` of the caller's pid namespace in ours; 0 where it names nobody there, or is no pid.

    In a namespace below ours each process has its pid of every level in its status; whether it is in the caller's
    line of namespaces the kernel tells by their inodes.
    """
    if type(pid) is not int or not 0 < pid < 1 << 31:  # true is an int to Python
        return 0
    ours = os.stat("/proc/self/ns/pid").st_ino
    theirs = caller.get("pid_ns")
    if theirs in (None, ours):
        return pid if theirs is not None else 0
    level = caller["depth"] - 1
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        text = _read(int(name), "status")
        at = text.find("\nNSpid:\t")
        pids = text[at + 8 : text.find("\n", at + 1)].split() if at >= 0 else []
        if len(pids) > level and pids[level] == str(pid) and _below(int(name), theirs, len(pids) - 1 - level):
            return int(name)
    return 0


def _below(pid: int, inode: int | None, steps: int) -> bool:
    """Whether the pid namespace of ``pid`` is ``steps`` below the one with ``inode``."""
    import fcntl

    try:
        fd = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for _ in range(steps):
            parent = fcntl.ioctl(fd, _NS_GET_PARENT)
            os.close(fd)
            fd = parent
        return os.fstat(fd).st_ino == inode
    except OSError:
        return False  # the namespace above is not ours to see
    finally:
        os.close(fd)


#: _IO(0xb7, 0x2), include/uapi/linux/nsfs.h
_NS_GET_PARENT: Final = 0xB702
