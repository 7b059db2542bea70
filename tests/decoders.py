"""The C decoders called on plain bytes, their input ending right in front of a page that cannot be read."""

import ctypes
import mmap
import struct
from typing import Any

from auditns_connector._native import ffi, lib
from tests.reference.perfring import Layout

CN_COUNTERS = ("received", "acks", "lost", "disorder", "unknown", "malformed")
PERF_COUNTERS = ("received", "lost", "unknown", "malformed")
GUARDED = 1 << 18


class Guarded:
    """Memory of GUARDED bytes with a forbidden page behind: reading past the end kills the test run."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, GUARDED + mmap.PAGESIZE)
        self._view = (ctypes.c_char * (GUARDED + mmap.PAGESIZE)).from_buffer(self._map)
        self.end = ctypes.addressof(self._view) + GUARDED
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(self.end), ctypes.c_size_t(mmap.PAGESIZE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, data: bytes) -> Any:
        """A C pointer to a copy of ``data`` which ends at the forbidden page."""
        ctypes.memmove(self.end - len(data), data, len(data))
        return ffi.cast("const uint8_t *", self.end - len(data))


GUARD = Guarded()


def cn_decode(datagrams: list[bytes], filtered: bool = False) -> tuple[list[bytes], dict[str, int]]:
    """Frames of each datagram by the C decoder, and its counters."""
    state = ffi.new("struct cn_state *")
    state.filtered = filtered
    out = []
    for datagram in datagrams:
        room = ffi.new("uint8_t[]", 4 * len(datagram) + 64)
        size = lib.cn_decode(state, GUARD.place(datagram), len(datagram), room)
        assert size <= len(room)
        out.append(ffi.buffer(room, size)[:])
    return out, {name: getattr(state, name) for name in CN_COUNTERS}


def c_layout(layout: Layout) -> Any:
    """``layout`` as a C ``struct perf_layout``."""
    made = ffi.new("struct perf_layout *")
    made.has_cgroup = layout.has_cgroup
    for number, name in layout.ids.items():
        setattr(made, f"{name}_id", number)
    for member, (offset, size) in layout.fields.items():
        place = getattr(made, member)
        place.offset, place.size = offset, size
    return made


def perf_decode(layout: Layout, data: bytes, cpu: int, cut: int) -> tuple[bytes, int, dict[str, int]]:
    """Frames, bytes used and counters of the C decoder for the records in ``data``."""
    counters = ffi.new("struct perf_counters *")
    last = ffi.new("uint64_t *")
    out = ffi.new("uint8_t **")
    used = ffi.new("size_t *")
    size = lib.perf_decode(c_layout(layout), counters, GUARD.place(data), len(data), cpu, cut, last, out, used)
    assert size >= 0
    block = ffi.buffer(out[0], size)[:]
    lib.perf_free(out[0])
    return block, used[0], {name: getattr(counters, name) for name in PERF_COUNTERS}


def cn_message(data: bytes, seq: int = 0, idx: int = 1, kind: int = 3, ack: int = 0) -> bytes:
    """A datagram as the connector sends it, with ``data`` as its proc_event."""
    cn = struct.pack("<IIIIHH", idx, 1, seq, ack, len(data), 0) + data
    return struct.pack("<IHHII", 16 + len(cn), kind, 0, 0, 0) + cn


def proc_event(what: int, body: bytes, cpu: int = 0, time: int = 0, size: int = 24) -> bytes:
    """A proc_event whose union has ``size`` bytes: 24 on mainline, 32 on a kernel with PROC_EVENT_NM."""
    return struct.pack("<IIQ", what, cpu, time) + body.ljust(size, b"\0")
