"""How far a program has come with the kernel's audit events, kept for the run that follows it in the same boot.

It is a small mapped file, so that noting something is a store and no system call, and so that it outlives a program
that is killed. The kernel counts from 1 at each boot.
"""

import mmap
import os
import struct
from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

from auditns_connector.audittext.absence import Absence
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.errors import AuditnsError
from auditns_connector.state.directory import SafeDir

#: boot id, serial, its event's time (ms since 1970); what is missing since the run before and may not be reported yet:
#: first and last serial, number (0: nothing), time
_STATE: Final = struct.Struct("<16sqqqqqq")
_NOTED: Final = struct.Struct("<qq")
_ABSENT: Final = struct.Struct("<qqqq")
#: behind it: serial and time of the event up to which all is settled (0: none; negative: nothing is written), how many
#: are broken, their serials
_SETTLED: Final = struct.Struct("<qq")
_BROKEN: Final = struct.Struct("<q")
_SETTLED_AT: Final = _STATE.size
_BROKEN_AT: Final = _SETTLED_AT + _SETTLED.size
_SIZE: Final = 4096
#: so many events may be broken at once: there are no more than threads that wrote records when a run ended
_MOST_BROKEN: Final = (_SIZE - _BROKEN_AT - _BROKEN.size) // 4
_MODULUS: Final = 1 << 32


class Settled(NamedTuple):
    """Serial and time (ms since 1970) of the event up to which everything is written, or reported as missing. Not
    ``written``: nothing is, the first event of all runs in this boot comes behind it."""

    serial: int
    ms: int
    written: bool = True


class Events(Protocol):
    """The kernel's events so far (pipeline/continuity.py)."""

    newest: tuple[int, int] | None
    first: tuple[int, int] | None
    absence: Absence | None
    broken: set[int]


class Position:
    """The position of the program ``name``; attributes are what the one before it in this boot has left. Without a
    directory that can be had, nothing is kept, and ``notices`` say so."""

    def __init__(self, name: str, boot_id: str, directory: str) -> None:
        self.notices: list[str] = []
        #: serial and time (ms since 1970) of what was handed to the outputs last; ``None``: there was no such run
        self.former: tuple[int, int] | None = None
        self.settled: Settled | None = None
        #: what may have been left unreported
        self.absent: SerialGap | None = None
        #: serials of events of which a part was written by one run, and not completed by the next
        self.broken: frozenset[int] = frozenset()
        #: the first event, where nothing else is settled than what came before it
        self._first: tuple[int, int] | None = None
        self._noted: tuple[SerialGap | None, SerialGap | None] | None = None
        self._map: mmap.mmap | None = None
        boot = bytes.fromhex(boot_id.replace("-", ""))[:16].ljust(16, b"\0")
        try:
            with SafeDir(directory) as folder:
                fd = folder.open_state(f"position.{name}")
        except AuditnsError as error:
            self.notices.append(f"what is missing after a restart cannot be told: {error}")
            return
        try:
            if os.fstat(fd).st_size not in (_STATE.size, _SIZE):  # the first is of 0.1
                os.ftruncate(fd, 0)
            os.ftruncate(fd, _SIZE)
            self._map = mmap.mmap(fd, _SIZE)
        except OSError as error:
            self.notices.append(f"what is missing after a restart cannot be told: {error.strerror}")
            return
        finally:
            os.close(fd)
        self._read(self._map, boot)

    def _read(self, state: mmap.mmap, boot: bytes) -> None:
        was, serial, ms, first, last, events, when = _STATE.unpack_from(state)
        if was != boot or not (0 <= serial < _MODULUS and ms >= 0):
            state[:] = bytes(_SIZE)
            _STATE.pack_into(state, 0, boot, -1, 0, 0, 0, 0, 0)
            return
        self.former = serial, ms
        if 0 < events < _MODULUS and 0 <= first < _MODULUS and 0 <= last < _MODULUS:
            self.absent = SerialGap(first, last, events, when, when)
        serial, ms = _SETTLED.unpack_from(state, _SETTLED_AT)
        if 0 <= serial < _MODULUS and ms:
            self.settled = Settled(serial, abs(ms), ms > 0)
        (number,) = _BROKEN.unpack_from(state, _BROKEN_AT)
        if 0 < number <= _MOST_BROKEN:
            self.broken = frozenset(struct.unpack_from(f"<{number}I", state, _BROKEN_AT + _BROKEN.size))

    def note(self, events: Events) -> None:
        """All events up to the newest were handed over."""
        if self._map is None or events.newest is None:
            return
        _NOTED.pack_into(self._map, 16, *events.newest)
        if events.first is not None and (self.settled is None or self._first not in (None, events.first)):
            self._first = events.first  # until something is settled that is in front of all that came
            self._put_settled(Settled((events.first[0] - 1) % _MODULUS, events.first[1], written=False))
        if events.absence is not None:
            self.note_absent(events.absence.loss)
            if events.broken != self.broken:
                self.note_broken(events.broken)

    def note_absent(self, gap: SerialGap | None) -> None:
        """``gap`` is missing since the run before, as far as is known, and what that one has left may not be
        reported."""
        if self._map is None or self._noted == (gap, self.absent):
            return
        self._noted = gap, self.absent
        former = self.absent
        if former is not None:
            gap = former if gap is None else SerialGap(
                former.first, gap.last, former.events + gap.events, former.from_ms, gap.to_ms
            )  # fmt: skip
        _ABSENT.pack_into(
            self._map, 32, *((0, 0, 0, 0) if gap is None else (gap.first, gap.last, gap.events, gap.to_ms))
        )

    def note_broken(self, serials: Collection[int]) -> None:
        """These events of the run before are not whole, as far as is known."""
        self.broken = frozenset(sorted(serials)[:_MOST_BROKEN])
        if self._map is not None:
            place = _BROKEN_AT + _BROKEN.size
            struct.pack_into(f"<{len(self.broken)}I", self._map, place, *self.broken)
            _BROKEN.pack_into(self._map, _BROKEN_AT, len(self.broken))

    def settle(self, serial: int, ms: int) -> None:
        """All up to this event is written, or reported as missing, and that is written: the next run need not know."""
        self.absent = None
        if self._map is not None:
            self.note_broken(())
            self.note_absent(None)
            self.move_settled(serial, ms)

    def move_settled(self, serial: int, ms: int) -> None:
        """All up to this event is written or reported; the state of those behind it stays."""
        self._first = None
        self._put_settled(Settled(serial, ms))

    def _put_settled(self, settled: Settled) -> None:
        self.settled = settled
        if self._map is not None:
            _SETTLED.pack_into(self._map, _SETTLED_AT, settled.serial, settled.ms if settled.written else -settled.ms)

    def close(self) -> None:
        """Let go; what was noted stays."""
        if self._map is not None:
            self._map.close()
            self._map = None
