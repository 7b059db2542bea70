"""Whether this process is in a namespace of the host, also where root may not read /proc/1/ns.

The initial namespaces have fixed inode numbers (include/linux/proc_ns.h), the net and mnt ones only since Linux
6.18. Below, the answer for ``net`` comes from the kernel's connector, which exists in the initial network
namespace alone, and else from a comparison with process 1.
"""

import errno
import os
import socket
from collections.abc import Mapping
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
    """True or False for the initial namespace of that type or another one; None when it cannot be determined."""
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


#: how a container gets what is the host's
CONTAINER: Final = "docker run --privileged --pid host --network host --userns host"


def advice(initial: Mapping[str, bool | None], euid: int, command: str = "") -> str:
    """How to get where process and audit events are: in words, or with ``command`` as what to type. "" for root in
    the host's namespaces: there it is not the place that is wrong.

    ``initial``: :func:`in_initial` of user, pid and net. From another pid or user namespace no command leads out.
    """
    if initial.get("user") is False or initial.get("pid") is False:
        run = f"run {command} " if command else ""
        return f"{run}on the host, or in a container that shares its namespaces ({CONTAINER})"
    if euid != 0:
        return f"sudo {command}" if command else "be root"
    if initial.get("net") is False:
        enter = "nsenter -t 1 -n"
        return (
            f"{enter} {command}" if command else f"be in the host's network namespace (docker: --network host; {enter})"
        )
    return ""


def here() -> str:
    """:func:`advice` for this process."""
    return advice({name: in_initial(name) for name in ("user", "pid", "net")}, os.geteuid()) or (
        "this process lacks the capability, though it is root (docker: --privileged; systemd: CapabilityBoundingSet=)"
    )


def filtered(proc: str = "/proc") -> bool:
    """Whether a seccomp filter may refuse what the kernel would give, as those of containers do."""
    try:
        with open(f"{proc}/self/status", encoding="ascii", errors="replace") as file:
            return any(line.split() == ["Seccomp:", "2"] for line in file)
    except OSError:
        return False  # no /proc: then nothing can be said of it


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
