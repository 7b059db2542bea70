"""How far a program has come with the kernel's audit events: the last serial that it handed to its outputs.

It is kept in a small mapped file, so that noting it is a store and no system call, and so that it outlives a
program that is killed. It holds for one boot: the kernel counts from 1 at each.
"""

import mmap
import os
import struct
from typing import Final

from auditns_connector.audittext.serials import SerialGap
from auditns_connector.errors import AuditnsError
from auditns_connector.state.directory import SafeDir

#: boot id, serial, its event's time (ms since 1970); what is missing since the run before and may not be told yet:
#: first and last serial, number (0: nothing), time
_STATE: Final = struct.Struct("<16sqqqqqq")
_NOTED: Final = struct.Struct("<qq")
_ABSENT: Final = struct.Struct("<qqqq")


class Position:
    """The position of the program ``name``; :attr:`former` is where the one before it was in this boot, (serial, ms),
    or ``None``. Without a directory that can be had, nothing is kept, and ``notices`` say so."""

    def __init__(self, name: str, boot_id: str, directory: str) -> None:
        self.notices: list[str] = []
        self.former: tuple[int, int] | None = None
        #: what the one before it may not have told any more
        self.absent: SerialGap | None = None
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
        was, serial, ms, first, last, events, when = _STATE.unpack_from(self._map)
        if was == boot and 0 <= serial < 1 << 32 and ms >= 0:
            self.former = serial, ms
            if 0 < events < 1 << 32 and 0 <= first < 1 << 32 and 0 <= last < 1 << 32:
                self.absent = SerialGap(first, last, events, when, when)
        else:
            _STATE.pack_into(self._map, 0, boot, -1, 0, 0, 0, 0, 0)

    def note(self, serial: int, ms: int) -> None:
        """All events up to ``serial``, of the time ``ms``, were handed over."""
        if self._map is not None:
            _NOTED.pack_into(self._map, 16, serial, ms)

    def note_absent(self, gap: SerialGap | None) -> None:
        """``gap`` is missing since the run before, as far as is known, and may not be told yet; ``None``: it is."""
        if self._map is not None:
            said = (0, 0, 0, 0) if gap is None else (gap.first, gap.last, gap.events, gap.to_ms)
            _ABSENT.pack_into(self._map, 32, *said)

    def close(self) -> None:
        """Let go; what was noted stays."""
        if self._map is not None:
            self._map.close()
            self._map = None
