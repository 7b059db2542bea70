"""perf records to frames: the readable reference of ``cdefs/kernel/perf.c``.

The C decoder does the work in production; this one says what is right, and tests hold the two byte-identical.
Layouts: include/uapi/linux/perf_event.h with sample_type TID|TIME|CPU|IDENTIFIER (and RAW|CGROUP for tracepoints)
and sample_id_all; raw data as the tracepoints' format files say. Rules:

* A record shorter than its kind needs is malformed: counted, no frame. A record which lies about its size makes all
  behind it unreadable: a LOST frame without a number, and the rest is dropped.
* FORK and a NAMESPACES directly behind it for the same new task become one FORK frame with the namespaces.
* Negative pids (dead, or of another pid namespace) become 0.
* What has no meaning here is kept as an UNKNOWN frame with the record as payload.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from auditns_connector.vocabulary import frames

HEADER: Final = struct.Struct("<IHH")
TRAILER: Final = struct.Struct("<iiQIIQ")  # pid, tid, time, cpu, reserved, identifier
SAMPLE: Final = struct.Struct("<QiiQIII")  # identifier, pid, tid, time, cpu, reserved, raw size; after the header
TASK: Final = struct.Struct("<iiiiQ")  # pid, ppid, tid, ptid, time
PIDS: Final = struct.Struct("<ii")
U64: Final = struct.Struct("<Q")
NAMESPACES: Final = struct.Struct("<iiQ14Q")  # pid, tid, count, 7 times (dev, ino)

LOST: Final = 2
COMM: Final = 3
EXIT: Final = 4
THROTTLE: Final = 5
UNTHROTTLE: Final = 6
FORK: Final = 7
SAMPLE_RECORD: Final = 9
LOST_SAMPLES: Final = 13
NAMESPACES_RECORD: Final = 16
CGROUP: Final = 19
COMM_EXEC: Final = 0x2000

#: kind of record -> bytes it has at least between header and trailer
LEAST: Final = {FORK: 24, EXIT: 24, COMM: 16, LOST: 16, CGROUP: 16, LOST_SAMPLES: 8, NAMESPACES_RECORD: NAMESPACES.size}

Place = tuple[int, int]  # offset and size of a field in raw data


@dataclass
class Layout:
    """The tracepoints to decode, named as in ``struct perf_layout``; a size of 0 is a field that is not there."""

    has_cgroup: bool = True
    ids: dict[int, str] = field(default_factory=dict)  # id -> exec, exit, attach, newtask, unshare, setns
    fields: dict[str, Place] = field(default_factory=dict)  # member of perf_layout -> place


@dataclass
class PerfDecoder:
    """Counters named as in ``struct perf_counters``, and the time of the last record of the ring decoded."""

    layout: Layout
    cpu: int
    last: int = 0
    received: int = 0
    lost: int = 0
    unknown: int = 0
    malformed: int = 0

    def decode(self, data: bytes, cut: int) -> tuple[bytes, int]:
        """Frames of the records of ``data`` until one later than ``cut``, and how many bytes were used."""
        out = b""
        offset = 0
        while offset < len(data):
            record = _record_at(data, offset)
            if not record:
                self.malformed += 1
                return out + self._pack(frames.K_LOST, self.last, cgroup=self.last), len(data)
            time = self._time(record)
            if time > cut:
                break
            following = _record_at(data, offset + len(record))
            frame, merged = self._record(record, time, following)
            out += frame
            self.last = time
            offset += len(record) + (len(following) if merged else 0)
        return out, offset

    def _pack(
        self,
        kind: int,
        time: int,
        *,
        pid: int = 0,
        tid: int = 0,
        ppid: int = 0,
        ptid: int = 0,
        cgroup: int = 0,
        arg: int = 0,
        payload: bytes = b"",
    ) -> bytes:
        return frames.pack(
            kind,
            frames.S_PERF,
            time,
            pid=max(pid, 0),
            tid=max(tid, 0),
            ppid=max(ppid, 0),
            ptid=max(ptid, 0),
            cgroup=cgroup,
            arg=arg,
            cpu=min(self.cpu, frames.CPU_UNKNOWN),
            payload=payload,
        )

    def _time(self, record: bytes) -> int:
        """When the record was written; the time of the one before when it is too short to say."""
        if HEADER.unpack_from(record)[0] == SAMPLE_RECORD:
            place, least = 24, 32
        else:
            place, least = len(record) - 24, HEADER.size + TRAILER.size
        return int(U64.unpack_from(record, place)[0]) if len(record) >= least else self.last

    def _record(self, record: bytes, time: int, following: bytes) -> tuple[bytes, bool]:
        """One record's frame, and whether ``following`` went into it."""
        kind, misc, size = HEADER.unpack_from(record)
        if kind == SAMPLE_RECORD:
            return self._sample(record, time), False
        body = record[HEADER.size : size - TRAILER.size]
        if kind in LEAST and (size < HEADER.size + LEAST[kind] + TRAILER.size):
            self.malformed += 1
            return b"", False
        if kind == NAMESPACES_RECORD and not _is_namespaces(record):
            self.malformed += 1
            return b"", False
        if kind == THROTTLE:
            return self._pack(frames.K_LOST, time, cgroup=self.last), False
        if kind == UNTHROTTLE:
            return b"", False
        if kind in (LOST, LOST_SAMPLES):
            (lost,) = U64.unpack_from(body, 8 if kind == LOST else 0)
            if not lost:
                return b"", False
            self.lost = (self.lost + lost) & 0xFFFFFFFFFFFFFFFF  # a u64, like the kernel's
            return self._pack(frames.K_LOST, time, arg=lost, cgroup=self.last), False
        self.received += 1
        if kind in (FORK, EXIT):
            pid, ppid, tid, ptid, _ = TASK.unpack_from(body)
            payload = b""
            if kind == FORK and _is_namespaces(following) and max(PIDS.unpack_from(following, 8)[1], 0) == max(tid, 0):
                self.received += 1
                payload = _namespaces_payload(following)
            frame_kind = frames.K_FORK if kind == FORK else frames.K_EXIT
            return self._pack(frame_kind, time, pid=pid, tid=tid, ppid=ppid, ptid=ptid, payload=payload), bool(payload)
        if kind == COMM:
            pid, tid = PIDS.unpack_from(body)
            arg = int(bool(misc & COMM_EXEC))
            return self._pack(frames.K_COMM, time, pid=pid, tid=tid, arg=arg, payload=_text(body[8:])), False
        if kind == NAMESPACES_RECORD:
            pid, tid = PIDS.unpack_from(body)
            return self._pack(frames.K_NAMESPACES, time, pid=pid, tid=tid, payload=_namespaces_payload(record)), False
        if kind == CGROUP:
            return self._pack(frames.K_CGROUP, time, cgroup=U64.unpack_from(body)[0], payload=_text(body[8:])), False
        self.unknown += 1
        return self._pack(frames.K_UNKNOWN, time, arg=kind, payload=record), False

    def _sample(self, record: bytes, time: int) -> bytes:
        start = HEADER.size + SAMPLE.size
        if len(record) < start:
            self.malformed += 1
            return b""
        _, pid, tid, _, _, _, length = SAMPLE.unpack_from(record, HEADER.size)
        if len(record) - start < length + (8 if self.layout.has_cgroup else 0):
            self.malformed += 1
            return b""
        raw = record[start : start + length]
        cgroup = U64.unpack_from(record, start + length)[0] if self.layout.has_cgroup else 0
        self.received += 1
        name = self.layout.ids.get(self._number(raw, "common_type"))
        if name == "exec":
            old = self._pid(raw, "exec_old_pid")
            path = self._string(raw, "exec_filename")
            return self._pack(frames.K_EXEC, time, pid=pid, tid=tid, ppid=old, cgroup=cgroup, payload=path)
        if name == "exit":
            return self._pack(frames.K_EXIT_SAMPLE, time, pid=pid, tid=self._pid(raw, "exit_pid"), cgroup=cgroup)
        if name == "attach":
            return self._pack(
                frames.K_ATTACH,
                time,
                tid=self._pid(raw, "attach_pid"),
                cgroup=self._number(raw, "attach_id_field"),
                arg=self._number(raw, "attach_root"),
                payload=self._string(raw, "attach_path"),
            )
        if name == "newtask":
            flags = self._number(raw, "newtask_flags")
            return self._pack(frames.K_NEWTASK, time, ppid=pid, ptid=tid, tid=self._pid(raw, "newtask_pid"), arg=flags)
        if name in ("unshare", "setns"):
            kind = frames.K_UNSHARE if name == "unshare" else frames.K_SETNS
            return self._pack(kind, time, pid=pid, tid=tid, arg=self._number(raw, f"{name}_flags"))
        self.unknown += 1
        return self._pack(frames.K_UNKNOWN, time, arg=SAMPLE_RECORD, payload=record)

    def _number(self, raw: bytes, member: str) -> int:
        """An unsigned field of at most 8 bytes; 0 when it is not there."""
        offset, size = self.layout.fields.get(member, (0, 0))
        return int.from_bytes(raw[offset : offset + size], "little") if size <= 8 and offset + size <= len(raw) else 0

    def _pid(self, raw: bytes, member: str) -> int:
        value = self._number(raw, member) & 0xFFFFFFFF
        return value if value < 0x80000000 else 0

    def _string(self, raw: bytes, member: str) -> bytes:
        """A __data_loc string (u16 offset, u16 length); empty when it lies outside."""
        loc = self._number(raw, member)
        offset, length = loc & 0xFFFF, loc >> 16
        if self.layout.fields.get(member, (0, 0))[1] != 4 or offset + length > len(raw):
            return b"\0"
        return _text(raw[offset : offset + length])


def _record_at(data: bytes, offset: int) -> bytes:
    """The record at ``offset``; empty when there is none or its size makes no sense."""
    if len(data) - offset < HEADER.size:
        return b""
    size = HEADER.unpack_from(data, offset)[2]
    if size < HEADER.size or size % 8 or size > len(data) - offset:
        return b""
    return data[offset : offset + size]


def _is_namespaces(record: bytes) -> bool:
    if len(record) < HEADER.size + NAMESPACES.size + TRAILER.size or HEADER.unpack_from(record)[0] != NAMESPACES_RECORD:
        return False
    count = U64.unpack_from(record, 16)[0]
    return bool(7 <= count <= (len(record) - 24 - TRAILER.size) // 16)


def _namespaces_payload(record: bytes) -> bytes:
    links = NAMESPACES.unpack_from(record, HEADER.size)[3:]
    return frames.NAMESPACES_PAYLOAD.pack(links[0], *links[1::2])


def _text(field_bytes: bytes) -> bytes:
    return frames.text(field_bytes) + b"\0"
