"""Whether this process is in a namespace of the host, also where root may not read /proc/1/ns.

The initial namespaces have fixed inode numbers (include/linux/proc_ns.h), the net and mnt ones only since Linux
6.18. Below, the answer for ``net`` comes from the kernel's connector, which exists in the initial network
namespace alone, and else from a comparison with process 1.
"""

import errno
import os
import socket
from typing import Final

from auditns_connector.vocabulary import namespaces as nstypes

_NETLINK_CONNECTOR: Final = 11
#: fixed numbers lie between these two (PROC_DYNAMIC_FIRST is 0xF0000000)
_FIXED_FIRST: Final = 0xEFFFFFF0
_FIXED_LAST: Final = 0xEFFFFFFF


def own_inode(name: str, proc: str = "/proc") -> int | None:
    """Inode of this process's namespace ``name`` (a key of nstypes.FLAGS); None where the kernel has no such type."""
    try:
        return os.stat(f"{proc}/self/ns/{name}").st_ino
    except OSError:
        return None


def in_initial(name: str, proc: str = "/proc") -> bool | None:
    """True or False for the initial namespace of that type or another one; None when it cannot be told."""
    inode = own_inode(name, proc)
    if inode is None:
        return None
    if inode == nstypes.INITIAL_INODES_618.get(name):
        return True
    if name in nstypes.INITIAL_INODES:
        return False
    if name == "net":
        answer = _connector_here()
        if answer is not None:
            return answer
    return _same_as_first(name, inode, proc)


def _connector_here() -> bool | None:
    """Whether the kernel's connector listens in this network namespace; None when that cannot be asked."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR) as sock:
            sock.sendto(bytes(4), (0, 0))  # shorter than a header: the kernel ignores it
            return True
    except OSError as error:
        # a kernel without connector says EPROTONOSUPPORT: that tells nothing about the namespace
        return False if error.errno == errno.ECONNREFUSED else None


def _same_as_first(name: str, inode: int, proc: str) -> bool | None:
    if own_inode("pid", proc) != nstypes.INITIAL_INODES["pid"]:
        return None  # process 1 is a container's
    try:
        return os.stat(f"{proc}/1/ns/{name}").st_ino == inode
    except OSError:
        return None
