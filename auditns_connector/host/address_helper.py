"""A process of its own that reads the addresses of network namespaces: it enters one, reads, and leaves it again.

It lives in a network namespace of its own, in which it gives every other one a number: then a socket there with
NETLINK_LISTEN_ALL_NSID receives each change of an address in any of them, and of their ends, and keeps none of them
alive. No namespace of the host sees these numbers. The socket goes to whoever started us, first of all.

It never holds a descriptor of a foreign namespace longer than one read, for that would keep the namespace alive. One
request a line on stdin, a socket: JSON ``[[pid, inode], …]``; for each pair one line comes back, JSON ``{"ino", "dev",
"nsid", "since", "addrs", "all"}``: numbered and followed from before ``since`` (CLOCK_MONOTONIC ns), when reading
began; ``all`` are broadcast addresses. ``addrs`` is null where the namespace is gone or hidden. A pair with a third
element asks whether packets can have been logged there: JSON ``{"ino", "dev", "silent"}``, until when (CLOCK_MONOTONIC
ns) none can have been (packet_rules.py), 0: not known. The first line is ``{"error"}``, "" where all is well. It ends
with stdin.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import time

from auditns_connector.host import packet_rules, rtnetlink
from auditns_connector.vocabulary.values import JsonObject

_CLONE_NEWNET = 0x40000000
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20
_PR_SET_PDEATHSIG = 1
#: seconds until an answer of the kernel is given up
_PATIENCE = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _events() -> socket.socket:
    """The socket that receives changes in every namespace that has a number here."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.setsockopt(rtnetlink.SOL_NETLINK, rtnetlink.LISTEN_ALL_NSID, 1)
    sock.bind((0, 0))
    for group in rtnetlink.GROUPS:
        sock.setsockopt(rtnetlink.SOL_NETLINK, rtnetlink.ADD_MEMBERSHIP, group)
    return sock


def _number(fd: int, numbers: socket.socket) -> int:
    """The number of a network namespace here. Raises OSError."""
    numbers.send(rtnetlink.number(fd))
    for kind, _, body in rtnetlink.messages(numbers.recv(65536)):
        failed = rtnetlink.failure(body) if kind == rtnetlink.ERROR else 0
        if failed not in (0, errno.EEXIST):
            raise OSError(failed, os.strerror(failed))
    numbers.send(rtnetlink.number_of(fd))
    for kind, _, body in rtnetlink.messages(numbers.recv(65536)):
        if kind == rtnetlink.NEWNSID and (found := rtnetlink.nsid(body)) >= 0:
            return found
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _stay() -> None:
    """Leave a child where we are, for as long as we live: of a network namespace without a task, as ours would be in
    each visit to another, nobody knows whether it is the same one afterwards."""
    parent = os.getpid()
    if os.fork():
        return
    os.close(0)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    while os.getppid() == parent:
        signal.pause()
    os._exit(0)


def _enter(pid: int, inode: int, numbers: socket.socket | None, found: JsonObject) -> bool:
    """Enter the network namespace of ``pid``, if that is the one with ``inode``, and say in ``found`` which it is; in
    the namespace of ``numbers`` it is given a number."""
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        about = os.fstat(fd)
        if about.st_ino != inode:
            return False
        found["dev"] = about.st_dev
        if numbers is not None:
            found["nsid"] = _number(fd, numbers)
        _checked(_libc.setns(fd, _CLONE_NEWNET))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def read(pid: int, inode: int, home: int, numbers: socket.socket) -> JsonObject:
    """The addresses of the network namespace of ``pid``, if that is the one with ``inode``, which has a number in the
    namespace of ``numbers`` from now on; we are at ``home`` again afterwards."""
    from pyroute2 import IPRoute

    found: JsonObject = {"ino": inode, "dev": 0, "addrs": None}
    if not _enter(pid, inode, numbers, found):
        return found
    try:
        since = time.monotonic_ns()
        with IPRoute() as route:
            pairs = [dict(message["attrs"]) for message in route.get_addr()]
        # on a point-to-point link IFA_ADDRESS is the other side; what changes meanwhile the socket tells
        addresses = [address for attrs in pairs if (address := attrs.get("IFA_LOCAL") or attrs.get("IFA_ADDRESS"))]
        broadcasts = [address for attrs in pairs if (address := attrs.get("IFA_BROADCAST"))]
        found |= {"since": since, "addrs": addresses, "all": broadcasts}
    finally:
        _checked(_libc.setns(home, _CLONE_NEWNET))
    return found


def read_rules(pid: int, inode: int, home: int) -> JsonObject:
    """Until when no packet can have been logged in the network namespace of ``pid``, if that is the one with ``inode``.
    We are at ``home`` again afterwards."""
    found: JsonObject = {"ino": inode, "dev": 0, "silent": 0}
    if not _enter(pid, inode, None, found):
        return found
    try:
        began = time.monotonic_ns()
        found["silent"] = began if packet_rules.nothing_logs() else 0
    finally:
        _checked(_libc.setns(home, _CLONE_NEWNET))
    return found


def main() -> None:
    """Serve stdin."""
    sock = socket.socket(fileno=0)
    try:
        _checked(_libc.unshare(_CLONE_NEWNET))
        events = _events()
    except OSError as error:
        sock.sendall(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    _stay()
    socket.send_fds(sock, [b'{"error": ""}\n'], [events.fileno()])
    events.close()
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    numbers = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    numbers.settimeout(_PATIENCE)
    buffer = b""
    while data := sock.recv(65536):
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            for pid, inode, *rules in json.loads(line):
                found = read_rules(pid, inode, home) if rules else read(pid, inode, home, numbers)
                sock.sendall(json.dumps(found).encode() + b"\n")


if __name__ == "__main__":
    main()
