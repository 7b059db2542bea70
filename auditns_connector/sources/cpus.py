"""Which CPUs are online, and which have gone or come back meanwhile.

/sys says what holds now. One that went and came back between two looks is reported by the kernel's own messages about
devices (NETLINK_KOBJECT_UEVENT): online@ and offline@ and its path. A machine that was asleep has taken all but one
CPU down without a message; CLOCK_BOOTTIME has run on then, and CLOCK_MONOTONIC has not.
"""

import contextlib
import os
import re
import socket
import struct
import time
from typing import Final

from auditns_connector._native import ffi

_NETLINK_KOBJECT_UEVENT: Final = 15
_SO_ATTACH_FILTER: Final = 26
_CLOCK_BOOTTIME: Final = 7
#: shorter than this nothing sleeps; the two clocks are not read at once (ns)
_SLEPT: Final = 50_000_000
_CPU: Final = re.compile(rb"(?:online|offline)@/devices/system/cpu/cpu(\d+)\0")
#: struct sock_filter: pass what begins with "onli" or "offl", and nothing else
_FILTER: Final = b"".join(
    struct.pack("=HBBI", code, true, false, value)
    for code, true, false, value in (
        (0x20, 0, 0, 0),  # load the first four bytes
        (0x15, 2, 0, int.from_bytes(b"onli", "big")),
        (0x15, 1, 0, int.from_bytes(b"offl", "big")),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online now."""
    fd = os.open("/sys/devices/system/cpu/online", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return numbers(os.read(fd, 4096))
    finally:
        os.close(fd)


def numbers(online: bytes) -> list[int]:
    """The numbers in a list of the kernel's, as ``0-3,8``."""
    cpus: list[int] = []
    for part in online.decode("ascii").strip().split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def cpu_of(message: bytes) -> int | None:
    """The CPU that a message about a device says has come or gone; None: it says nothing of one."""
    found = _CPU.match(message)
    return int(found[1]) if found is not None else None


class CpuWatch:
    """Hears of CPUs that go and come. Where the kernel's messages cannot be had, only what /sys shows is known."""

    def __init__(self) -> None:
        self._slept = _asleep()
        self._socket = _listen()

    def changed(self) -> frozenset[int] | None:
        """Those that have gone or come since the last call; None: that may be any of them."""
        slept, self._slept = self._slept, _asleep()
        if self._slept - slept > _SLEPT:
            return None
        found: set[int] = set()
        while self._socket is not None:
            try:
                message, sender = self._socket.recvfrom(4096)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were dropped
                return None
            cpu = cpu_of(message) if sender[0] == 0 else None  # 0: the kernel itself
            if cpu is not None:
                found.add(cpu)
        return frozenset(found)

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _asleep() -> int:
    """For how long the machine has slept since its start (ns)."""
    return time.clock_gettime_ns(_CLOCK_BOOTTIME) - time.monotonic_ns()


def _listen() -> socket.socket | None:
    kinds = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    made = None
    try:
        made = socket.socket(socket.AF_NETLINK, kinds, _NETLINK_KOBJECT_UEVENT)
        program = ffi.from_buffer(_FILTER)
        about = struct.pack("@HP", len(_FILTER) // 8, int(ffi.cast("uintptr_t", program)))
        made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, about)
        made.bind((0, 1))
    except OSError:  # in a namespace of a container nobody is notified
        if made is not None:
            with contextlib.suppress(OSError):
                made.close()
        return None
    return made
