"""What the kernel says of a process by its pidfd: PIDFD_GET_INFO, Linux 6.13; how it ended, since 6.15.

A pidfd means one process for ever, so the answer is never about the next holder of its pid, as one of /proc may be.
Layout: struct pidfd_info of linux/pidfd.h, its first 64 bytes (PIDFD_INFO_SIZE_VER0), which every kernel takes.
"""

import fcntl
import struct
from typing import Final, NamedTuple

_INFO: Final = struct.Struct("=QQ11Ii")
#: _IOWR(0xFF, 11, struct pidfd_info) with that size
PIDFD_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
#: bits of mask: what is asked for, and what is filled in
_PID, _CREDS, _CGROUP, _EXIT = 1, 2, 4, 8
_ASKED: Final = _PID | _CREDS | _CGROUP | _EXIT


class PidInfo(NamedTuple):
    """One process; None is what the kernel does not tell (any more)."""

    #: thread group as the asker's pid namespace counts it
    pid: int | None
    #: effective user, as the asker's user namespace counts it
    euid: int | None
    #: id of its cgroup (v2)
    cgroup: int | None
    #: how it ended, as wait(2) has it; only after it was reaped
    status: int | None


def request() -> bytes:
    """What is handed to the kernel, which writes its answer over it."""
    return _INFO.pack(_ASKED, 0, *[0] * 11, 0)


def decode(answer: bytes) -> PidInfo:
    """The kernel's answer. Raises :class:`struct.error` where it is shorter than its layout."""
    mask, cgroup, _, tgid, _, _, _, euid, *_, status = _INFO.unpack_from(answer)
    return PidInfo(
        tgid if mask & _PID and tgid else None,
        euid if mask & _CREDS else None,
        cgroup if mask & _CGROUP and cgroup else None,
        status if mask & _EXIT else None,
    )


def ask(pidfd: int) -> PidInfo | None:
    """Ask about the process of ``pidfd``; None: it is gone, or the kernel is older."""
    try:
        return decode(fcntl.ioctl(pidfd, PIDFD_GET_INFO, request()))
    except OSError:
        return None  # ESRCH: reaped, its status not kept; ENOTTY, EINVAL: before 6.13
