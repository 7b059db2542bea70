"""Lines of NS_INIT, NS_CHANGE and NS_DEL for many outputs of the model at once.

Outputs are collected as rows (``struct lifecycle_record``, cdefs/records/lines.h), and each format's text of all rows
is put together by one call in C. The readable form of the same lines is tests/reference/lifecycle_records.py.
"""

import struct
from typing import TYPE_CHECKING, Final

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.own_records import UNKNOWN
from auditns_connector.model.outputs import NsChange, NsDel, NsInit, NsLeft
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.namespaces import ALL_ORDER, FLAGS
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.entry import Session
    from auditns_connector.model.places import Container, Instance
    from auditns_connector.model.process import Process

#: struct lifecycle_record
RECORD: Final = struct.Struct("=q5Q6q11I4x")
#: the record types, in the order of RECORD_NS_INIT and its like
KINDS: Final = (rectypes.NS_INIT, rectypes.NS_CHANGE, rectypes.NS_DEL)
#: what this module makes lines of
OUTPUTS: Final = (NsInit, NsChange, NsLeft, NsDel)
_FLAGS: Final = tuple(FLAGS[name] for name in ALL_ORDER)
_INIT, _CHANGE, _DEL = range(3)
_PID, _UID, _AUID, _SES, _SNUM, _OLD_SNUM, _DEV, _INO, _OLD_INO, _COMM, _CONTID, _LAST, _PPID, _EXE = (
    1 << i for i in range(14)
)

#: pid, uid, auid, ses, and where comm and contid are (each place and length); flags of those that are known
Who = tuple[tuple[int, ...], int]


def _types(numeric: bool) -> CData:
    names = [ffi.new("char[]", rectypes.spelling(kind, numeric).encode()) for kind in KINDS]
    return ffi.new("const char *[]", names), names


class LifecycleRows:
    """Rows of outputs, in their order; times in milliseconds since 1970."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._types = {numeric: _types(numeric) for numeric in (False, True)}
        self._rows: list[bytes] = []
        self._pool = bytearray()
        self._places: dict[bytes, tuple[int, int]] = {}
        self._contids: dict[Container, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Begin anew."""
        self._rows.clear()
        self._pool.clear()
        self._places.clear()
        self._contids.clear()

    def add(self, output: NsInit | NsChange | NsLeft | NsDel, ms: int) -> None:
        """One more row."""
        inst = output.inst
        if isinstance(output, NsDel):
            last = output.process
            container = None if last is None else last.state.container
            session = None if last is None else last.state.session
            who = self._who(last, container, inst.ended or output.time, None, session)
            self._row(_DEL, ms, inst, who, word=b"no" if output.held is False else b"unknown")
            return
        state = output.state
        who = self._who(output.process, state.container, output.time, output.comm, state.session)
        if isinstance(output, NsInit):
            self._row(_INIT, ms, inst, who, old=output.old)
        elif isinstance(output, NsLeft):
            whence = self._whence(output.process, self._model.ancestry.program(output.process))
            self._row(_CHANGE, ms, inst, who, whence, old=inst, tid=output.tid, flags=_LAST, word=b"exit", left=True)
        else:
            tid, flags, word = output.tid, _LAST if output.last else 0, output.reason.encode()
            whence = self._whence(output.process, output.exe)
            self._row(_CHANGE, ms, inst, who, whence, old=output.old, tid=tid, flags=flags, word=word)

    def initial(self, inst: "Instance", ms: int) -> None:
        """One more row: a namespace that the kernel itself made at its start, before there was anybody else."""
        nobody = 0xFFFFFFFF
        who = (0, 0, nobody, nobody, *self._place(b"swapper/0"), 0, 0), _PID | _UID | _AUID | _SES | _COMM
        self._row(_INIT, ms, inst, who, flags=_OLD_SNUM)

    def text(self, numeric: bool, node: bytes, serial: int, first: int = 0, last: int | None = None) -> bytes:
        """One line for each row from ``first`` to ``last`` (without it), their serials from ``serial`` on (modulo
        2^32)."""
        chosen = self._rows[first:last]
        rows, pool = b"".join(chosen), bytes(self._pool)
        records = ffi.cast("const struct lifecycle_record *", ffi.from_buffer(rows))
        out = ffi.new("uint8_t[]", lib.records_room(records, len(chosen), len(node)))
        size = lib.records_lines(
            records, len(chosen), pool, len(pool), self._types[numeric][0], node, len(node), serial, out
        )
        if size < 0:
            raise ValueError("a row that names no text")
        return bytes(ffi.buffer(out, size))

    def _place(self, words: bytes) -> tuple[int, int]:
        place = self._places.get(words)
        if place is None:
            place = self._places[words] = len(self._pool), len(words)
            self._pool += words
        return place

    def _contid(self, container: "Container") -> tuple[int, int]:
        place = self._contids.get(container)
        if place is None:
            place = self._contids[container] = self._place(self._model.containers.text(container).encode("ascii"))
        return place

    def _who(
        self, process: "Process | None", container: "Container | None", since: int, comm: bytes | None,
        logged_in: "Session | None",
    ) -> Who:  # fmt: skip
        """The fields of ``process``; its user only as /proc showed it after ``since``."""
        if process is None:
            return (0, 0, 0, 0, 0, 0, *self._place(UNKNOWN.encode())), _CONTID
        ids = process.ids
        flags, uid, auid, ses = _PID, 0, 0, 0
        if ids is not None and ids[0] >= since:
            _, user, login, session = ids
            if user is not None:
                flags, uid = flags | _UID, user
            if login is not None:
                flags, auid = flags | _AUID, login
            if session is not None:
                flags, ses = flags | _SES, session
        if logged_in is not None:
            flags, auid, ses = flags | _AUID | _SES, logged_in.auid, logged_in.ses
        name = (process.comm if comm is None else comm) or None
        text = contid = (0, 0)
        if name is not None:
            flags, text = flags | _COMM, self._place(name)
        if container is not None:
            flags, contid = flags | _CONTID, self._contid(container)
        return (process.pid, uid, auid, ses, *text, *contid), flags

    def _whence(self, process: "Process", exe: bytes) -> Who:
        """The parent of ``process``, and the program ``exe`` that it runs (place and length)."""
        flags = (_PPID if process.creator is not None else 0) | (_EXE if exe else 0)
        return (process.creator[0] if process.creator is not None else 0, *(self._place(exe) if exe else (0, 0))), flags

    def _row(
        self, kind: int, ms: int, inst: "Instance", who: Who, whence: Who = ((0, 0, 0), 0), *,
        old: "Instance | None" = None, tid: int = 0, flags: int = 0, word: bytes = b"", left: bool = False,
    ) -> None:  # fmt: skip
        """``left``: it went from ``inst`` to nowhere, which is written as serial and inode 0."""
        (pid, uid, auid, ses, *texts), present = who
        snum, ino = (0, 0) if left else (inst.serial, inst.ino)
        (ppid, *exe), more = whence
        flags |= present | more | _DEV | _INO | (0 if snum is None else _SNUM)
        old_snum, old_ino = None, 0
        if old is not None:
            old_snum, old_ino = old.serial, old.ino
            flags |= _OLD_INO | (0 if old_snum is None else _OLD_SNUM)
        dev = inst.dev or self._model.namespaces.dev
        self._rows.append(
            RECORD.pack(
                ms, snum or 0, old_snum or 0, dev, ino, old_ino, pid, tid, uid, auid, ses, ppid, _FLAGS[inst.index],
                kind, flags, *texts, *(self._place(word) if word else (0, 0)), *exe,
            )
        )  # fmt: skip
