"""Whose a user namespace is, by the kernel's word: ioctl_ns(2).

The owner is the effective user id of who made it. He has all capabilities in it and in those below it
(user_namespaces(7)), and neither the owner nor the namespace above ever changes.
"""

import fcntl
import os
import struct
from typing import Final, NamedTuple

#: include/uapi/linux/nsfs.h
_NS_GET_USERNS: Final = 0xB701
_NS_GET_PARENT: Final = 0xB702
_NS_GET_OWNER_UID: Final = 0xB704
#: the kernel allows 32 levels below the initial one
_MOST: Final = 64
_UID: Final = struct.Struct("=I")


class UserNamespace(NamedTuple):
    """Inode and owner (a uid as we count)."""

    ino: int
    owner: int


def open_namespace(pid: int, kind: str) -> int:
    """A descriptor of the namespace ``kind`` of process ``pid``. Raises OSError where it has gone."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def owning(fd: int) -> int:
    """A descriptor of the user namespace that the namespace behind ``fd``, no user namespace, belongs to."""
    return int(fcntl.ioctl(fd, _NS_GET_USERNS))


def lineage(fd: int) -> tuple[UserNamespace, ...]:
    """The user namespace behind ``fd`` and those above it, up to the one we are in. Raises OSError."""
    found: list[UserNamespace] = []
    at = os.dup(fd)
    try:
        while len(found) < _MOST:
            owner = _UID.unpack(fcntl.ioctl(at, _NS_GET_OWNER_UID, bytes(_UID.size)))[0]
            found.append(UserNamespace(os.fstat(at).st_ino, owner))
            try:
                parent = int(fcntl.ioctl(at, _NS_GET_PARENT))
            except PermissionError:
                break  # above ours none is to be seen
            os.close(at)
            at = parent
    finally:
        os.close(at)
    return tuple(found)


def descends(fd: int, ino: int) -> bool:
    """Whether the pid namespace behind ``fd`` is the one with the inode ``ino``, or below it. Raises OSError."""
    at = os.dup(fd)
    try:
        for _ in range(_MOST):
            if os.fstat(at).st_ino == ino:
                return True
            try:
                parent = int(fcntl.ioctl(at, _NS_GET_PARENT))
            except PermissionError:
                return False
            os.close(at)
            at = parent
        return False
    finally:
        os.close(at)
