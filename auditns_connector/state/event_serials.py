"""Serial numbers for records of ours that are events of their own.

An event is known by node, time and serial; the kernel counts its serials up from 1. Ours start half the number space
away from the last kernel serial seen, count on from there, modulo 2^32, and stay at least a quarter of it away: so none
can meet a kernel event of the same instant. All our programs on a host take theirs from one counter, a file of 40 bytes
that each take locks; where that file cannot be had, the counter is private to the program, and ``notices`` say so.
"""

import fcntl
import os
import struct
import threading
from typing import Final

from auditns_connector.errors import AuditnsError
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.paths import RUN_DIR

FILE_NAME: Final = "serial"
MODULUS: Final = 1 << 32
HALF: Final = 1 << 31
#: nearer than this to the kernel's serial the counter starts anew, half the space away
NEAR: Final = 1 << 30
#: boot id, next serial to give, last kernel serial seen (-1: none)
_STATE: Final = struct.Struct("<16sQq8x")


class EventSerials:
    """The counter. ``directory`` None is a private one."""

    def __init__(self, directory: str | None = RUN_DIR, *, boot_id: str = "") -> None:
        self.notices: list[str] = []
        self._boot = bytes.fromhex(boot_id.replace("-", ""))[:16].ljust(16, b"\0")
        self._mutex = threading.Lock()
        self._next: int | None = None
        self._seen = -1
        self._fd = -1
        if directory is None:
            return
        try:
            with SafeDir(directory) as folder:
                self._fd = folder.open_state(FILE_NAME)
        except AuditnsError as error:
            self.notices.append(f"serials of our own events are counted by this program alone: {error}")

    def saw(self, serial: int) -> None:
        """The kernel used ``serial`` (the newest seen)."""
        self._seen = serial

    @property
    def seen(self) -> int:
        """The newest serial of the kernel's that was seen; -1: none."""
        return self._seen

    def take(self, count: int = 1) -> int:
        """The first of ``count`` serials that follow one another modulo 2^32. Safe in any thread."""
        with self._mutex:
            shared = self._load()
            first = self._count(count)
            if shared:
                self._store()
            return first

    def _load(self) -> bool:
        """Lock the file and take in what it says, where it is of this boot and makes sense; False without a file."""
        if self._fd < 0:
            return False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            data = os.pread(self._fd, _STATE.size, 0)
        except OSError as error:
            self._go_alone(error)
            return False
        if len(data) == _STATE.size:
            boot, following, seen = _STATE.unpack(data)
            if boot == self._boot and following < MODULUS and -1 <= seen < MODULUS:
                self._next = following
                if self._seen < 0:
                    self._seen = seen
        return True

    def _store(self) -> None:
        try:
            os.pwrite(self._fd, _STATE.pack(self._boot, self._next or 0, self._seen), 0)
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as error:
            self._go_alone(error)

    def _go_alone(self, error: OSError) -> None:
        self.notices.append(f"serials of our own events are counted by this program alone: {error}")
        os.close(self._fd)  # and with it goes the lock
        self._fd = -1

    def _count(self, count: int) -> int:
        seen = max(self._seen, 0)
        if self._next is None or not NEAR <= (self._next - seen) % MODULUS <= MODULUS - NEAR - count:
            self._next = (seen + HALF) % MODULUS
        first = self._next
        self._next = (first + count) % MODULUS
        return first

    def close(self) -> None:
        """Let go of the file; what is taken afterwards is private."""
        with self._mutex:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
