"""Serial numbers for records of ours that are events of their own.

An event is known by node, time and serial; the kernel counts its serials up from 1. Ours start half the number space
away from the last kernel serial seen, count on from there, modulo 2^32, and stay at least a quarter of it away: so none
can meet a kernel event of the same instant. All our programs on a host take theirs from one counter, a file of 40 bytes
that each take locks; where that file cannot be had, the counter is private to the program, and ``notices`` say so.

Nobody waits for the lock: who holds it may have been stopped. What is needed meanwhile is counted apart, from a place
that each counter chooses by chance, well beyond where the file's counter comes to: programs that do not see what others
take would meet only by less than one chance in a million, and in the same millisecond.
"""

import fcntl
import os
import struct
import threading
import time
from typing import Final

from auditns_connector.errors import AuditnsError
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.paths import RUN_DIR

FILE_NAME: Final = "serial"
MODULUS: Final = 1 << 32
HALF: Final = 1 << 31
#: nearer than this to the kernel's serial the counter starts anew, half the space away
NEAR: Final = 1 << 30
#: from so far behind the middle on, over half of what is left of the way to the kernel's, serials are counted apart
_APART: Final = 1 << 26
_LANES: Final = 1 << 29
#: whoever takes serials holds the lock for some microseconds: that often it is tried again
_TRIES: Final = 3
#: a program that has it for longer than this, as often as it is asked for, was stopped (seconds)
_LONG: Final = 1.0
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
        self._path = f"{directory}/{FILE_NAME}"
        #: how many serials were counted apart, since when nobody has had the lock but another, whether that was
        #: reported, the next of these serials, and where they begin
        self.apart = 0
        self._locked_out: float | None = None
        self._reported = False
        self._lane = int.from_bytes(os.urandom(4)) % _LANES
        self._next_apart: int | None = None
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
        """The first of ``count`` serials that follow one another modulo 2^32. Safe in any thread, and waits for no
        other program."""
        with self._mutex:
            if self._fd >= 0 and not self._lock():
                return self._count_apart(count)
            shared = self._load()
            self._next = first = self._following(self._next, count, 0)
            self._next = (first + count) % MODULUS
            if shared:
                self._store()
            return first

    def _lock(self) -> bool:
        """Lock the file; False where another program has it. Without the file nobody needs a lock."""
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.sched_yield()
            except OSError as error:
                self._go_alone(error)
                return True
            else:
                self._locked_out = None
                return True
        return False

    def _load(self) -> bool:
        """Take in what the locked file says, where it is of this boot and makes sense; False without a file."""
        if self._fd < 0:
            return False
        try:
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

    def _count_apart(self, count: int) -> int:
        now = time.monotonic()
        self._locked_out = now if self._locked_out is None else self._locked_out
        if now - self._locked_out >= _LONG and not self._reported:
            self._reported = True
            self.notices.append(f"another program keeps {self._path} locked: our own events are numbered apart")
        self.apart += count
        first = self._following(self._next_apart, count, _APART + self._lane)
        self._next_apart = (first + count) % MODULUS
        return first

    def _following(self, following: int | None, count: int, beyond: int) -> int:
        """The serial ``following``, unless one of ``count`` from there on comes near the kernel's: then one that lies
        ``beyond`` the half of the space away."""
        seen = max(self._seen, 0)
        if following is None or not NEAR <= (following - seen) % MODULUS <= MODULUS - NEAR - count:
            return (seen + HALF + beyond) % MODULUS
        return following

    def take_notices(self) -> list[str]:
        """What people should see."""
        notices, self.notices = self.notices, []
        return notices

    def close(self) -> None:
        """Let go of the file; what is taken afterwards is private."""
        with self._mutex:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
