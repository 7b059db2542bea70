"""Serials that we minted ourselves, kept across restarts of our programs: /run/auditns/nserials.json.

Every program reserves a block of numbers there at its start, so that none is ever given twice in a boot; without the
file the time since boot does the same. The program that serves the control socket also writes down the minted serials
of living namespaces, each with processes (pid, start) that live in it: after a restart an instance keeps its serial if
one of them is still in a namespace of that type and inode.
"""

import json
import time
from typing import TYPE_CHECKING, Final

from auditns_connector.errors import AuditnsError, LockedError
from auditns_connector.model.apply.namespace_life import nsid
from auditns_connector.model.places import MINTED
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.paths import RUN_DIR
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model

FILE_NAME: Final = "nserials.json"
_LOCK: Final = "nserials.lock"
_VERSION: Final = 1
#: numbers reserved for one run of a program
BLOCK: Final = 1 << 32
_MAX_KEPT: Final = 10_000
_WITNESSES: Final = 4
_PAUSE: Final = 5.0
_CLOCK_BOOTTIME: Final = 7


def unused() -> int:
    """A number to mint from without having reserved any: more than one a nanosecond are never minted, so it is larger
    than all that an earlier start has given."""
    return MINTED | time.clock_gettime_ns(_CLOCK_BOOTTIME)


_MOST: Final = (1 << 64) - 1


def _check(number: object, low: int, high: int) -> None:
    """Raise ValueError unless this is a whole number from ``low`` to ``high``; JSON's true and 1.0 are none."""
    if type(number) is not int or not low <= number <= high:
        raise ValueError


class SerialStore:
    """One run's block of numbers (from :attr:`first` on) and the serials of the run before it."""

    def __init__(self, boot_id: str, directory: str | None = RUN_DIR) -> None:
        self.notices: list[str] = []
        self._boot_id = boot_id
        self._directory = directory
        self._kept: list[Json] = []
        self._saved: tuple[int, int] | None = None
        self._due = 0.0
        self.first = unused()
        self._reserved = self.first + BLOCK
        if directory is None:
            return
        try:
            with SafeDir(directory) as folder, folder.locked(_LOCK):
                state = self._read(folder)
                self.first = max(self.first, int(state.get("next", 0)))
                self._reserved = self.first + BLOCK
                self._kept = list(state.get("living", ()))
                self._write(folder, self._kept)
        except AuditnsError as error:
            self.notices.append(f"serials of namespaces are not kept across restarts: {error}")
            self._directory = None

    def _read(self, folder: SafeDir) -> JsonObject:
        data = folder.read(FILE_NAME)
        if data is None:
            return {}
        where = f"{folder.path}/{FILE_NAME}"
        try:
            state = json.loads(data)
            if state["v"] != _VERSION:
                raise ValueError
            _check(state["next"], 0, (1 << 64) - (1 << 40) - 1)  # there must be room for more
            for index, dev, ino, serial, witnesses in state["living"]:
                for number, low, high in ((index, 0, 7), (dev, 0, _MOST), (ino, 1, _MOST), (serial, MINTED + 1, _MOST)):
                    _check(number, low, high)
                for pid, start in witnesses:
                    _check(pid, 1, _MOST)
                    _check(start, 0, _MOST)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            self.notices.append(f"{where} is not understood: serials of a former run are not taken over")
            return {}
        if state.get("boot_id") != self._boot_id:
            self.notices.append(f"{where} is of another boot: its serials are not taken over")
            return {}
        return dict(state)

    def _write(self, folder: SafeDir, living: list[Json]) -> None:
        state = {"v": _VERSION, "boot_id": self._boot_id, "next": self._reserved, "living": living}
        folder.write(FILE_NAME, json.dumps(state, separators=(",", ":")).encode())

    def restored(self, model: "Model") -> bytes:
        """NSID frames for namespaces of ``model`` that had a minted serial in the run before, by proof of a process
        that has been in them since."""
        out = []
        now = time.monotonic_ns()
        for index, dev, ino, serial, witnesses in self._kept:
            inst = model.namespaces.current[index].get(ino)
            if inst is None or inst.serial is not None or inst.dev not in (0, dev):
                continue
            for pid, start in witnesses:
                process = model.alive_since(pid, start)
                if process is None or process.state.nsset is None:
                    continue
                if process.state.nsset.inst[index] is inst:
                    out.append(nsid(inst, serial, now, pid))
                    break
        self._kept = []
        return b"".join(out)

    def save(self, model: "Model", *, last: bool = False) -> None:
        """Write down the minted serials of living namespaces, where something changed; at most every few seconds."""
        namespaces = model.namespaces
        sign = (namespaces.mint_next, namespaces.ended)
        now = time.monotonic()
        if self._directory is None or sign == self._saved or (now < self._due and not last):
            return
        self._saved, self._due = sign, now + _PAUSE
        model.table.fetch_lives()
        living: list[Json] = []
        for serial, inst in namespaces.minted.items():
            witnesses: list[list[int]] = []
            for nsset in inst.sets:
                for tid in model.namespaces.tasks(nsset):
                    process = model.alive(tid)
                    if process is not None and len(witnesses) < _WITNESSES:
                        witnesses.append([process.pid, process.start])
            if witnesses and len(living) < _MAX_KEPT:
                living.append([inst.index, inst.dev or namespaces.dev, inst.ino, serial, witnesses])
        try:
            with SafeDir(self._directory) as folder, folder.locked(_LOCK, wait=0.0):
                # another program may have reserved numbers since
                self._reserved = max(self._reserved, int(self._read(folder).get("next", 0)))
                self._write(folder, living)
        except LockedError:
            self._saved = None  # next time
        except AuditnsError as error:
            self.notices.append(f"serials of namespaces are not kept across restarts: {error}")
            self._directory = None
