"""How far a program has come with the kernel's audit events: the last serial that it handed to its outputs.

It is kept in a mapped file of 32 bytes, so that noting it is a store and no system call, and so that it outlives a
program that is killed. It holds for one boot: the kernel counts from 1 at each.
"""

import mmap
import os
import struct
from typing import Final

from auditns_connector.errors import AuditnsError
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.paths import RUN_DIR

#: boot id, serial, its event's time (ms since 1970)
_STATE: Final = struct.Struct("<16sqq")
_NOTED: Final = struct.Struct("<qq")


class Position:
    """The position of the program ``name``; :attr:`former` is where the one before it was in this boot, (serial, ms),
    or ``None``. Without a directory that can be had, nothing is kept, and ``notices`` say so."""

    def __init__(self, name: str, boot_id: str, directory: str = RUN_DIR) -> None:
        self.notices: list[str] = []
        self.former: tuple[int, int] | None = None
        self._map: mmap.mmap | None = None
        boot = bytes.fromhex(boot_id.replace("-", ""))[:16].ljust(16, b"\0")
        try:
            with SafeDir(directory) as folder:
                fd = folder.open_state(f"position.{name}")
        except AuditnsError as error:
            self.notices.append(f"what is missing after a restart cannot be told: {error}")
            return
        try:
            if os.fstat(fd).st_size != _STATE.size:
                os.ftruncate(fd, 0)
                os.ftruncate(fd, _STATE.size)
            self._map = mmap.mmap(fd, _STATE.size)
        except OSError as error:
            self.notices.append(f"what is missing after a restart cannot be told: {error.strerror}")
            return
        finally:
            os.close(fd)
        was, serial, ms = _STATE.unpack_from(self._map)
        if was == boot and 0 <= serial < 1 << 32 and ms >= 0:
            self.former = serial, ms
        else:
            _STATE.pack_into(self._map, 0, boot, -1, 0)

    def note(self, serial: int, ms: int) -> None:
        """All events up to ``serial``, of the time ``ms``, were handed over."""
        if self._map is not None:
            _NOTED.pack_into(self._map, 16, serial, ms)

    def close(self) -> None:
        """Let go; what was noted stays."""
        if self._map is not None:
            self._map.close()
            self._map = None
