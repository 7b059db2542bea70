"""Proc connector datagrams to frames: the readable reference of ``cdefs/kernel/cnproc.c``.

The C decoder does the work in production; this one says what is right, and tests hold the two byte-identical.
Layouts: include/uapi/linux/{connector,cn_proc}.h, and the PROC_EVENT_NM proposal of 2016. Rules:

* Lengths are the announced ones (``cn_msg.len``): 40 bytes of proc_event on mainline, 48 with PROC_EVENT_NM.
* A message too short for its event is malformed: counted, no frame. What follows the event is ignored.
* An unknown event is kept as an UNKNOWN frame with its proc_event as payload.
* ``cn_msg.seq`` counts each CPU's events without gaps. A gap is a LOST frame in front of the event showing it.
"""

import struct
from dataclasses import dataclass, field
from typing import Any, Final

from auditns_connector.vocabulary import frames

NLMSG_DONE: Final = 3
CN_PROC: Final = (1, 1)  # CN_IDX_PROC, CN_VAL_PROC
MAX_CPUS: Final = 8192
NLMSGHDR: Final = struct.Struct("<IHHII")
CN_MSG: Final = struct.Struct("<IIIIHH")
PROC_EVENT: Final = struct.Struct("<IIQ")

ACK: Final = 0x00000000
FORK: Final = 0x00000001
EXEC: Final = 0x00000002
UID: Final = 0x00000004
GID: Final = 0x00000040
SID: Final = 0x00000080
PTRACE: Final = 0x00000100
COMM: Final = 0x00000200
NM: Final = 0x00000400
NONZERO_EXIT: Final = 0x20000000
COREDUMP: Final = 0x40000000
EXIT: Final = 0x80000000

#: event -> layout of its part of the union
EVENTS: Final[dict[int, struct.Struct]] = {
    ACK: struct.Struct("<I"),
    FORK: struct.Struct("<iiii"),
    EXEC: struct.Struct("<ii"),
    UID: struct.Struct("<iiII"),
    GID: struct.Struct("<iiII"),
    SID: struct.Struct("<ii"),
    PTRACE: struct.Struct("<iiii"),
    COMM: struct.Struct("<ii16s"),
    NM: struct.Struct("<iiIIQQ"),
    COREDUMP: struct.Struct("<iiii"),
    EXIT: struct.Struct("<iiIIii"),
    NONZERO_EXIT: struct.Struct("<iiIIii"),
}
KINDS: Final[dict[int, int]] = {
    ACK: frames.K_ACK,
    FORK: frames.K_FORK,
    EXEC: frames.K_EXEC,
    UID: frames.K_UID,
    GID: frames.K_GID,
    SID: frames.K_SID,
    PTRACE: frames.K_PTRACE,
    COMM: frames.K_COMM,
    NM: frames.K_NM,
    COREDUMP: frames.K_COREDUMP,
    EXIT: frames.K_EXIT,
    NONZERO_EXIT: frames.K_EXIT,
}


@dataclass
class CnDecoder:
    """One listener's counters and sequence numbers, named as in ``struct cn_state``."""

    filtered: bool = False
    received: int = 0
    acks: int = 0
    lost: int = 0
    disorder: int = 0
    unknown: int = 0
    malformed: int = 0
    _cpus: dict[int, tuple[int, int]] = field(default_factory=dict)  # CPU -> next sequence number, time of its last

    def decode(self, datagram: bytes) -> bytes:
        """The frames of one datagram, which may hold several netlink messages."""
        out = b""
        offset = 0
        while offset < len(datagram):
            left = len(datagram) - offset
            if left < NLMSGHDR.size:
                self.malformed += 1
                break
            length, kind, _, _, _ = NLMSGHDR.unpack_from(datagram, offset)
            if not NLMSGHDR.size <= length <= left:
                self.malformed += 1
                break
            out += self._message(kind, datagram[offset + NLMSGHDR.size : offset + length])
            offset += (length + 3) & ~3
        return out

    def _message(self, kind: int, message: bytes) -> bytes:
        if kind != NLMSG_DONE or len(message) < CN_MSG.size:
            self.malformed += 1
            return b""
        idx, val, seq, _, length, _ = CN_MSG.unpack_from(message)
        if (idx, val) != CN_PROC or length > len(message) - CN_MSG.size:
            self.malformed += 1
            return b""
        return self._event(seq, message[CN_MSG.size : CN_MSG.size + length])

    def _event(self, seq: int, data: bytes) -> bytes:
        if len(data) < PROC_EVENT.size:
            self.malformed += 1
            return b""
        what, cpu, time = PROC_EVENT.unpack_from(data)
        layout = EVENTS.get(what)
        if layout and len(data) < PROC_EVENT.size + layout.size:
            self.malformed += 1
            return b""
        out = self._sequence(cpu, seq, time)
        place = min(cpu, frames.CPU_UNKNOWN)
        if layout is None:
            self.received += 1
            self.unknown += 1
            return out + frames.pack(frames.K_UNKNOWN, frames.S_CN, time, cpu=place, arg=what, payload=data)
        values = layout.unpack_from(data, PROC_EVENT.size)
        if what == ACK:
            self.acks += 1
            return out + frames.pack(frames.K_ACK, frames.S_CN, time, cpu=place, arg=values[0])
        self.received += 1
        return out + _frame(what, time, place, values)

    def _sequence(self, cpu: int, seq: int, time: int) -> bytes:
        if cpu >= MAX_CPUS or self.filtered:
            return b""
        out = b""
        expected, last = self._cpus.get(cpu, (seq, 0))
        gap = (seq - expected) & 0xFFFFFFFF
        if gap:
            if gap < 0x80000000:
                self.lost += gap
            else:
                self.disorder += 1
                gap = 0
            out = frames.pack(frames.K_LOST, frames.S_CN, time, cpu=cpu, arg=gap, cgroup=last)
        self._cpus[cpu] = ((seq + 1) & 0xFFFFFFFF, time)
        return out


def _frame(what: int, time: int, cpu: int, values: tuple[Any, ...]) -> bytes:
    """The frame of a known event other than the acknowledgement."""
    tid, pid, *rest = values
    ptid = ppid = arg = 0
    payload = b""
    if what == FORK:  # the parent comes first in this one
        ptid, ppid, tid, pid = values
    elif what in (PTRACE, COREDUMP):
        ptid, ppid = rest
    elif what in (EXIT, NONZERO_EXIT):
        arg, _, ptid, ppid = rest
    elif what in (UID, GID):
        payload = frames.IDS_PAYLOAD.pack(*rest)
    elif what == COMM:
        payload = frames.text(rest[0]) + b"\0"
    elif what == NM:
        arg, reason, old, new = rest
        payload = frames.NM_PAYLOAD.pack(reason, 0, old, new)
    return frames.pack(
        KINDS[what], frames.S_CN, time, pid=pid, tid=tid, ppid=ppid, ptid=ptid, arg=arg, cpu=cpu, payload=payload
    )
