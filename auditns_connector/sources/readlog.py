"""The kernel's audit records without auditd: NETLINK_AUDIT's multicast group AUDIT_NLGRP_READLOG.

One datagram is one record: a netlink header whose type is the record type, then ``audit(SEC.mmm:SERIAL): …``
without NUL or newline at its end. :meth:`ReadlogSource.drain` gives the lines auditd writes with
``log_format = RAW``, EOE records included. As auditd does (3.0.9 to 4.2, ``format_raw``), a newline inside a
record becomes a space, the record ends at its first NUL, one space at its end is dropped, and a line is at most
8937 bytes long: a USER record carries what its sender likes, newlines and whole forged records included
(the kernel passes all bytes but NUL on), and must stay one line. Every other control byte stays as it is.

Needs CAP_AUDIT_READ in the initial user namespace, and the initial network namespace: in any other the group can
be joined and stays silent, which this class finds out and says. Loss: the queue's overflow (ENOBUFS, once each
time it fills), the socket's drop counter (exact, in records), and holes in the serials (in events).
"""

import errno
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.audittext.serials import SerialGap, SerialTracker, parse_stamp
from auditns_connector.errors import AuditnsError, NotPermittedError, NotSupportedError
from auditns_connector.sources.initns import in_initial
from auditns_connector.vocabulary.record_types import NAMES, OWN

NETLINK_AUDIT: Final = 9
READLOG_GROUP: Final = 1
_NLMSGHDR: Final = struct.Struct("=IHHII")
_HEADER_SIZE: Final = _NLMSGHDR.size
#: records start here; lower numbers are netlink's own and the control messages of audit
_FIRST_RECORD: Final = 1005
#: auditd formats into MAX_AUDIT_MESSAGE_LENGTH (8970) less 32 bytes, NUL included
MAX_LINE: Final = 8970 - 32 - 1
_BUFFER: Final = 65536
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_MEMINFO_DROPS: Final = 8

SILENT_MESSAGE: Final = (
    "this process is not in the host's network namespace: the kernel delivers audit records only there, none will "
    "arrive; start it in the host's network namespace (docker: --network host; from a shell: nsenter -t 1 -n)"
)


class MulticastSocket(Protocol):
    """What is used of a socket (so that a scripted one can stand in for it)."""

    def fileno(self) -> int: ...
    def recvfrom_into(self, buffer: bytearray, nbytes: int, flags: int, /) -> tuple[int, tuple[int, int]]: ...
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def close(self) -> None: ...


def open_socket(rcvbuf: int, notices: list[str]) -> MulticastSocket:
    """Join the group; what is less than asked for goes to ``notices``."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_AUDIT)
    except OSError as error:
        raise NotSupportedError(f"this kernel has no audit: {error.strerror}") from error
    try:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, rcvbuf)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            if got < rcvbuf:
                notices.append(
                    f"audit receive buffer is {got} bytes instead of {rcvbuf}: CAP_NET_ADMIN or a higher "
                    "net.core.rmem_max lets it hold longer bursts"
                )
        sock.bind((0, READLOG_GROUP))
    except OSError as error:
        sock.close()
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotPermittedError(
                "reading audit records needs CAP_AUDIT_READ in the host's user namespace (be root)"
            ) from error
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            raise NotSupportedError("this kernel has no audit multicast group (it came with Linux 3.16)") from error
        raise AuditnsError(f"cannot join the audit multicast group: {error}") from error
    return sock


class ReadlogSource:
    """Audit records as text. ``rcvbuf``: bytes of kernel memory for records not yet read (a record takes about
    1 to 2 KiB of it). ``notices`` holds what its user should be told."""

    def __init__(
        self, *, rcvbuf: int = 32 << 20, sock: MulticastSocket | None = None, tracker: SerialTracker | None = None
    ) -> None:
        self.notices: list[str] = []
        self._sock = open_socket(rcvbuf, self.notices) if sock is None else sock
        self.silent = sock is None and in_initial("net") is False
        if self.silent:
            self.notices.append(SILENT_MESSAGE)
        self._tracker = SerialTracker() if tracker is None else tracker
        self._gaps: list[SerialGap] = []
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._stamp = b""
        # a kernel's record never gets a name of ours, should it ever use one of our numbers
        self._prefixes: dict[int, bytes] = {
            n: f"type={name} msg=".encode() for n, name in NAMES.items() if n not in OWN
        }
        self._counts = dict.fromkeys(
            ("received", "bytes", "overruns", "dropped", "lost", "foreign", "malformed", "truncated", "mended"), 0
        )

    def fileno(self) -> int:
        """For a selector; readable when records wait."""
        return self._sock.fileno()

    def drain(self, limit: int = 1 << 20) -> bytes:
        """Whole lines of what waits, until the queue is empty or ``limit`` bytes are exceeded; ``b""`` when nothing
        waits. Never blocks."""
        lines: list[bytes] = []
        size = received = 0
        receive, buffer, view, counts = self._sock.recvfrom_into, self._buffer, self._view, self._counts
        flags = socket.MSG_DONTWAIT | socket.MSG_TRUNC
        unpack, prefixes = _NLMSGHDR.unpack_from, self._prefixes
        while size < limit:
            try:
                length, address = receive(buffer, 0, flags)
            except BlockingIOError:
                break
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise AuditnsError(f"cannot read audit records: {error}") from error
                counts["overruns"] += 1
                continue
            if address[0] != 0:
                counts["foreign"] += 1  # another process's port id: not the kernel
                continue
            kind = unpack(buffer)[1] if length >= _HEADER_SIZE else 0
            if kind < _FIRST_RECORD:
                counts["malformed"] += 1
                continue
            if length > _BUFFER:
                counts["truncated"] += 1
                length = _BUFFER
            # the datagram's length counts, not nlmsg_len, which some kernels write without the header
            body = bytes(view[_HEADER_SIZE:length])
            prefix = prefixes.get(kind)
            if prefix is None:
                prefix = prefixes[kind] = b"type=UNKNOWN[%d] msg=" % kind
            line = self._line(prefix, body)
            received += 1
            size += len(line)
            lines.append(line)
        counts["received"] += received
        counts["bytes"] += size
        return b"".join(lines)

    def _line(self, prefix: bytes, body: bytes) -> bytes:
        stamp = body[6 : body.find(b")", 6, 48)]
        if stamp != self._stamp:
            self._stamp = stamp
            parsed = parse_stamp(stamp) if body.startswith(b"audit(") else None
            if parsed is None:
                self._counts["malformed"] += 1
            else:
                self._lost(self._tracker.feed(parsed[1], parsed[0]))
        if b"\n" in body or b"\0" in body:
            self._counts["mended"] += 1
            body = body.partition(b"\0")[0].replace(b"\n", b" ")
        line = prefix + body
        if len(line) > MAX_LINE:
            self._counts["truncated"] += 1
            line = line[:MAX_LINE]
        elif line.endswith(b" "):
            line = line[:-1]
        return line + b"\n"

    def _lost(self, gaps: Sequence[SerialGap]) -> None:
        for gap in gaps:
            self._counts["lost"] += gap.events
            self._gaps.append(gap)

    def fill(self, stream: TextStream) -> int:
        """:meth:`drain` into ``stream``; returns how many bytes."""
        return stream.put(self.drain())

    def take_gaps(self, *, final: bool = False) -> list[SerialGap]:
        """The gaps found since the last call; ``final`` also gives those that could still have been filled."""
        if final:
            self._lost(self._tracker.flush())
        gaps, self._gaps = self._gaps, []
        return gaps

    def quick(self, pipeline: object) -> None:
        """None: it is no text that is read."""

    def late(self) -> bool:
        """Whether an event is missing that may still be on its way."""
        return self._tracker.open

    def counters(self) -> dict[str, int]:
        """``received`` records and their ``bytes`` as lines; ``lost`` events (serials that never came); ``dropped``
        records (the socket's own count) and ``overruns`` (times its queue was full); ``foreign`` datagrams not from
        the kernel; ``malformed`` ones, and records without a stamp; ``truncated`` lines; ``mended`` lines, in which
        a newline or NUL was; ``late`` events."""
        self._counts["dropped"] = max(self._counts["dropped"], self._drops())
        return {**self._counts, "late": self._tracker.late}

    def _drops(self) -> int:
        try:
            raw = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return 0  # SO_MEMINFO came with Linux 4.12; overruns and serials still tell
        return int(_MEMINFO.unpack(raw)[_MEMINFO_DROPS]) if len(raw) == _MEMINFO.size else 0

    def close(self) -> None:
        """Leave the group."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
