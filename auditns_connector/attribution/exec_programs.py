"""Records of execs as EXE frames: which program an exec ran, by ``exe=``.

The frame names the exec by its time, so it can be of no other one, and of no later holder of the pid. A record tells
that of the one exec that had its file name and its comm; where two come into question, or events of then are missing,
nothing follows. Rows of the process table answer most (cdefs/attribution/programs.c).
"""

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from auditns_connector._native import ffi, lib
from auditns_connector.attribution.exec_match import find_named
from auditns_connector.attribution.row_lookup import RowLookup
from auditns_connector.audittext.values import untrusted
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.timing import MS
from auditns_connector.vocabulary.values import CData

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.model.apply.dispatch import Model

#: what stands behind comm=, in which there is no space
_EXE: Final = re.compile(rb" comm=[^ ]+ exe=([^ \x1d]+)")
#: a frame is larger than its text by this at most (bytes)
_FRAME: Final = f.HEADER_SIZE + 8
_FAR: Final = 1 << 62


class ExecPrograms:
    """The programs that records of execs name, for ``model``."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._rows = RowLookup(model)
        self._missed: CData = ffi.new("uint32_t[]", 64)
        self._missing: CData = ffi.new("uint32_t *")
        self._out: CData = ffi.new("uint8_t[]", 1 << 12)

    def frames(self, points: "InsertionPoints", now: int, nodes: Collection[bytes]) -> bytes:
        """The EXE frames of ``points``; ``nodes`` are the ``node=`` names that mean this host, and all that happened up
        to ``now`` (CLOCK_MONOTONIC ns) must be in the model."""
        n, room = points.n, _FRAME * points.n + points.c.len
        if len(self._missed) < n:
            self._missed = ffi.new("uint32_t[]", 2 * n)
        if len(self._out) < room:
            self._out = ffi.new("uint8_t[]", 2 * room)
        rows = self._rows.ready(now)
        size = lib.lookup_programs(
            rows.c, points.c, 0, n, min(now, _FAR), self._out, len(self._out), self._missed, self._missing
        )
        found = bytes(ffi.buffer(self._out, size)) if size > 0 else b""
        if self._missing[0]:
            found += b"".join(self._careful(points, ffi.unpack(self._missed, self._missing[0]), now, nodes))
        return found

    def _careful(
        self, points: "InsertionPoints", which: Iterable[int], now: int, nodes: Collection[bytes]
    ) -> Iterable[bytes]:
        model = self._model
        for i in which:
            if points.flags[i] & pt.P_NODE and points.node(i) not in nodes:
                continue
            pid, name, comm, exe = points.pid[i], untrusted(points.path(i)), untrusted(points.comm(i)), _exe(points, i)
            if name is None or comm is None or exe is None or not exe.startswith(b"/"):
                continue
            match = find_named(model, pid, model.clock.candidates(points.ms[i] * MS, now), now, name, comm)
            if match is not None:
                yield f.pack(f.K_EXE, f.S_AUDIT, now, pid=pid, arg=match[0].time, payload=exe + b"\0")


def _exe(points: "InsertionPoints", i: int) -> bytes | None:
    """The program that the record of point ``i`` names."""
    record = points.record(i)
    found = _EXE.search(record.replace(b'\\"', b'"') if points.trail_len[i] > 1 else record)
    return untrusted(found[1]) if found is not None else None
