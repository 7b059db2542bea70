"""A process of its own that reads the addresses of network namespaces: it enters one, reads, and leaves it again.

It never holds a socket or a descriptor of a foreign namespace longer than one read, for that would keep the namespace
alive. One request a line on stdin, JSON ``[[pid, inode], …]``; for each pair one line on stdout, JSON ``{"ino", "dev",
"addrs"}``, ``addrs`` null where the namespace is gone or hidden. It ends with stdin, or when idle for a minute.

Run as a file, so it imports nothing of the package.
"""

import ctypes
import json
import os
import select
import sys

from auditns_connector.vocabulary.values import JsonObject

_CLONE_NEWNET = 0x40000000
_IDLE = 60.0
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def read(pid: int, inode: int, home: int) -> JsonObject:
    """The addresses of the network namespace of ``pid``, if that is the one with ``inode``; we are at ``home`` again
    afterwards."""
    from pyroute2 import IPRoute

    found: JsonObject = {"ino": inode, "dev": 0, "addrs": None}
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        about = os.fstat(fd)
        if about.st_ino != inode:
            return found
        found["dev"] = about.st_dev
        _enter(fd)
    except OSError:
        return found
    finally:
        os.close(fd)
    try:
        with IPRoute() as route:
            messages = list(route.get_addr())
        pairs = [dict(message["attrs"]) for message in messages]
        # on a point-to-point link IFA_ADDRESS is the other side
        found["addrs"] = [address for attrs in pairs if (address := attrs.get("IFA_LOCAL") or attrs.get("IFA_ADDRESS"))]
    finally:
        _enter(home)
    return found


def main() -> None:
    """Serve stdin."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    buffer = b""
    while select.select([0], [], [], _IDLE)[0]:
        data = os.read(0, 65536)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            for pid, inode in json.loads(line):
                sys.stdout.write(json.dumps(read(int(pid), int(inode), home)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
