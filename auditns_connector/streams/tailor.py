"""An event as its container is shown it. Pure: lines and a :class:`Names` in, lines out.

Numbers of processes and ids are translated; what cannot be is written as nobody's (0, 65534, 4294967295), never as
the host knows it. Left out are the part behind 0x1D (names of the host's users), ``node=``, targets in other
containers, and records that speak of the host (:data:`WITHHELD`).

The kernel writes fields as words between single spaces, and no value of a kernel field holds a space (strings that do
are written in hex), so splitting at spaces is exact. ``msg='…'`` is the sender's own text and stays.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary import syscalls

NO_PID: Final = b"0"
NO_ID: Final = b"65534"
UNSET: Final = b"4294967295"
_UNSET_IDS: Final = (UNSET, b"-1")

_PIDS: Final = frozenset(b"pid ppid opid tpid tty_pid peer_pid sig_pid spid old-pid".split())
_UIDS: Final = frozenset(
    b"uid euid suid fsuid ouid iuid obj_uid inode_uid new_uid old_uid cap_frootid frootid sauid_uid owner_uid".split()
)
_GIDS: Final = frozenset(b"gid egid sgid fsgid ogid igid obj_gid inode_gid new_gid old_gid".split())
_AUIDS: Final = frozenset(b"auid oauid old-auid sauid old_auid".split())
_SESSIONS: Final = frozenset(b"ses oses old-ses old_ses".split())
_ARGUMENTS: Final = frozenset(b"a0 a1 a2 a3".split())

#: types that tell about the host, its rules or other containers; all but SYSCALL's own of the 12xx, 2000 and our own
WITHHELD: Final = frozenset(
    {
        *(rectypes.NUMBERS[name] for name in ("CONFIG_CHANGE", "NETFILTER_PKT", "FEATURE_CHANGE", "REPLACE")),
        *rectypes.DAEMON,
        rectypes.KERNEL,
        *range(1340, 1400),
    }
)

_RETURN_PID: Final = ("getpid", "getppid", "gettid", "getpgid", "getpgrp", "getsid", "setsid", "wait4", "waitpid")
#: arch -> system calls whose result is a process number
PID_RESULTS: Final[Mapping[int, frozenset[int]]] = syscalls.by_arch((*syscalls.CLONE_CALLS, *_RETURN_PID))
#: system call that goes to another process -> the argument that says which signal, or what ptrace is to do
_DEED_ARGUMENT: Final[Mapping[str, bytes]] = {
    "kill": b"a1", "rt_sigqueueinfo": b"a1", "tkill": b"a1", "tgkill": b"a2", "rt_tgsigqueueinfo": b"a2",
    "pidfd_send_signal": b"a1", "ptrace": b"a0",
}  # fmt: skip
#: the same by arch and number
_DEEDS: Final[Mapping[int, Mapping[int, bytes]]] = {
    arch: {table[name]: argument for name, argument in _DEED_ARGUMENT.items()}
    for arch, table in syscalls.NUMBERS.items()
}
#: the words of an outsider's SYSCALL record: as they are, or what stands in their place; all others are left out
_ACTOR_KEPT: Final = frozenset(b"arch syscall success key".split())
_ACTOR_NOBODY: Final[Mapping[bytes, bytes]] = {
    **dict.fromkeys(b"a0 a1 a2 a3 items ppid pid".split(), NO_PID),
    **dict.fromkeys(b"uid gid euid suid fsuid egid sgid fsgid".split(), NO_ID),
    b"auid": UNSET,
    b"ses": UNSET,
    b"tty": b"(none)",
    b"comm": b"(null)",
    b"exe": b"(null)",
}
_TARGET_KEPT: Final = frozenset(b"opid oauid ouid oses obj ocomm".split())


class Tally:
    """How many numbers were translated and how many could not be."""

    __slots__ = ("hidden_ids", "hidden_pids", "ids", "pids")

    def __init__(self) -> None:
        self.pids = self.hidden_pids = self.ids = self.hidden_ids = 0


class Names(NamedTuple):
    """How one event's numbers read inside. ``pids``: host's -> inside's, 0 for who is outside, absent where it is not
    known; ``uid`` and ``gid`` give the id inside or None; ``auid`` and ``session`` are those of a login inside."""

    pids: Mapping[int, int]
    uid: Callable[[int], int | None]
    gid: Callable[[int], int | None]
    login: tuple[int, int] | None = None
    #: the result of the system call is a process number: what it reads inside; None: leave it
    result: int | None = None
    #: the arguments may be the host's process numbers
    hide_arguments: bool = False
    #: as ``login``, of the process that an OBJ_PID record is about
    target: tuple[int, int] | None = None


class Tailor:
    """Rewrites records by ``names``; counts in ``tally``."""

    def __init__(self, names: Names, tally: Tally) -> None:
        self._names = names
        self._tally = tally

    def line(self, line: bytes) -> bytes:
        """One whole line (with its newline), rewritten."""
        head, body = _parts(line)
        if not head:
            return body + b"\n"
        at = body.find(b"msg='")
        message = b""
        if at == 0 or (at > 0 and body[at - 1] == 0x20):
            body, message = body[:at], body[at:]
        return head + b" ".join([self._word(word) for word in body.split(b" ")]) + message + b"\n"

    def target(self, line: bytes) -> bytes:
        """The OBJ_PID record of a target whose actor is an outsider: what tells of the target alone."""
        head, body = _parts(line)
        words = [word for word in body.split(b" ") if word.partition(b"=")[0] in _TARGET_KEPT]
        return head + b" ".join([self._word(word) for word in words]) + b"\n"

    def _word(self, word: bytes) -> bytes:
        name, equals, value = word.partition(b"=")
        if not equals:
            return word
        if name in _PIDS:
            return name + b"=" + self._pid(value)
        if name in _UIDS:
            return name + b"=" + self._id(value, self._names.uid)
        if name in _GIDS:
            return name + b"=" + self._id(value, self._names.gid)
        if name in _AUIDS:
            return name + b"=" + self._auid(name, value)
        if name in _SESSIONS:
            return name + b"=" + self._session(name)
        if name == b"exit" and self._names.result is not None and not value.startswith(b"-"):
            return b"exit=%d" % self._names.result
        if self._names.hide_arguments and name in _ARGUMENTS:
            return name + b"=0"
        return word

    def _pid(self, value: bytes) -> bytes:
        pid = _number(value)
        inside = 0 if pid == 0 else None if pid is None else self._names.pids.get(pid)
        if inside is None:
            self._tally.hidden_pids += 1
            return NO_PID
        self._tally.pids += 1
        return b"%d" % inside

    def _id(self, value: bytes, translate: Callable[[int], int | None]) -> bytes:
        if value in _UNSET_IDS:
            return value
        outside = _number(value)
        inside = None if outside is None else translate(outside)
        if inside is None:
            self._tally.hidden_ids += 1
            return NO_ID
        self._tally.ids += 1
        return b"%d" % inside

    def _auid(self, name: bytes, value: bytes) -> bytes:
        login = self._names.login if name == b"auid" else self._names.target if name == b"oauid" else None
        if login is not None:
            return b"%d" % login[0]
        if value in _UNSET_IDS:
            return value
        outside = _number(value)
        inside = None if outside is None else self._names.uid(outside)
        if inside is None:
            self._tally.hidden_ids += 1
            return UNSET
        self._tally.ids += 1
        return b"%d" % inside

    def _session(self, name: bytes) -> bytes:
        # session numbers are the host's alone: no namespace translates them
        login = self._names.login if name == b"ses" else self._names.target if name == b"oses" else None
        return b"%d" % login[1] if login is not None else UNSET


def outsider(line: bytes, arch: int, sysno: int) -> bytes:
    """The SYSCALL record of a process outside the container that did something to one inside: that it was done, which
    signal it was, and nothing of who did it."""
    head, body = _parts(line)
    deed = _DEEDS.get(arch, {}).get(sysno)
    out = []
    for word in body.split(b" "):
        name, _, value = word.partition(b"=")
        if name in _ACTOR_KEPT or (name == deed and len(value) <= 4):
            out.append(word)
        elif name == b"exit":
            out.append(word if value.startswith(b"-") else b"exit=0")
        elif name in _ACTOR_NOBODY:
            out.append(name + b"=" + _ACTOR_NOBODY[name])
    return head + b" ".join(out) + b"\n"


def _parts(line: bytes) -> tuple[bytes, bytes]:
    """Head (``type=… msg=audit(…): ``, without ``node=``) and fields, without what auditd adds behind 0x1D; no head
    where there is none."""
    line = line.rstrip(b"\n")
    start = line.find(b"type=")
    end = line.find(b"): ", start)
    if start < 0 or end < 0:
        return b"", line[max(start, 0) :].partition(b"\x1d")[0]
    return line[start : end + 3], line[end + 3 :].partition(b"\x1d")[0]


def _number(value: bytes) -> int | None:
    return int(value) if value.isdigit() and len(value) <= 10 else None
