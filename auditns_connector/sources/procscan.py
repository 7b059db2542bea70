"""All processes at once: PROCESS frames made in C (cdefs/kernel/procscan.c), by two threads where there are many."""

import os
import threading
from array import array
from collections import deque
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary.values import CData, Json

_ROOM: Final = 256 * 1024
#: processes that one thread reads in one go
_CHUNK: Final = 250
COUNTERS: Final = ("read", "vanished", "denied", "malformed")


class ProcScan:
    """One scan below ``root``; ``tick`` is in ns, ``host_pid_ns`` the inode of the pid namespace whose numbers are ours
    (0: none). Raises OSError when ``root`` is not there."""

    def __init__(self, root: str, *, tick: int, boot_offset: int, ns_dev: int, host_pid_ns: int) -> None:
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._about = {
            "root": folder, "tick": tick, "boot_offset": boot_offset, "ns_dev": ns_dev, "host_pid_ns": host_pid_ns
        }  # fmt: skip
        self._chunks: deque[array[int]] = deque()
        self._states: list[Json] = []
        #: processes that must be read one by one (procfs.py); complete when :meth:`blocks` has ended
        self.hard: list[int] = []

    def blocks(self, pids: list[int]) -> Iterator[bytes]:
        """Blocks of frames about ``pids``, in no particular order. Raises OSError where there is no memory."""
        self._chunks += [array("i", pids[at : at + _CHUNK]) for at in range(0, len(pids), _CHUNK)]
        done: SimpleQueue[bytes | int | None] = SimpleQueue()
        helper = threading.Thread(target=self._help, args=(done,), name="scan", daemon=True)
        helping = len(self._chunks) > 2
        if helping:
            helper.start()
        own = self._state()
        try:
            while helping or self._chunks:
                try:
                    block = done.get(block=not self._chunks)
                except Empty:
                    block = self._next(own) or b""
                if block is None:
                    helping = False
                elif isinstance(block, int):
                    raise OSError(block, os.strerror(block))
                else:
                    yield block
        finally:
            self._chunks.clear()
            if helper.is_alive():
                helper.join()
            os.close(self._about["root"])

    def counts(self) -> list[int]:
        """What :data:`COUNTERS` have come to."""
        return [sum(getattr(state, name) for state in self._states) for name in COUNTERS]

    def _state(self) -> CData:
        state: CData = ffi.new("struct procfs_scan *", self._about)
        self._states.append(state)
        return state

    def _help(self, done: "SimpleQueue[bytes | int | None]") -> None:
        state = self._state()
        try:
            while (block := self._next(state)) is not None:
                done.put(block)
        except OSError as error:
            done.put(error.errno or 0)
        done.put(None)

    def _next(self, state: CData) -> bytes | None:
        """The frames of the next chunk that nobody has taken; ``None`` where there is none."""
        try:
            pids = self._chunks.popleft()
        except IndexError:
            return None
        at: CData = ffi.from_buffer("int32_t[]", pids)
        left, read, hards = len(pids), ffi.new("size_t *"), ffi.new("size_t *")
        out, hard, blocks = _memory("uint8_t[]", _ROOM), ffi.new("int32_t[]", left), []
        while left:
            size = lib.procfs_scan(state, at, left, read, out, _ROOM, hard, hards)
            if size < 0:
                raise OSError(-size, os.strerror(-size))
            blocks.append(bytes(ffi.buffer(out, size)))
            self.hard += ffi.unpack(hard, hards[0])
            at += read[0]
            left -= read[0]
        return b"".join(blocks)


_memory: Final = ffi.new_allocator(should_clear_after_alloc=False)
