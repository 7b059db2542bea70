"""The kernel's audit records without auditd: NETLINK_AUDIT's multicast group AUDIT_NLGRP_READLOG.

One datagram is one record: a netlink header whose type is the record type, then ``audit(SEC.mmm:SERIAL): …``
without NUL or newline at its end. What is read are the lines auditd writes with ``log_format = RAW``, EOE records
included (cdefs/intake/readlog.c puts them together). As auditd does (3.0.9 to 4.2, ``format_raw``), a newline inside a
record becomes a space, the record ends at its first NUL, one space at its end is dropped, and a line is at most
8937 bytes long: a USER record carries what its sender likes, newlines and whole forged records included
(the kernel passes all bytes but NUL on), and must stay one line. Every other control byte stays as it is.

Needs CAP_AUDIT_READ in the initial user namespace, and the initial network namespace: in any other the group can
be joined and stays silent, which this class finds out and says. Loss: the queue's overflow (ENOBUFS, once each
time it fills), the socket's drop counter (exact, in records), and holes in the serials (in events), which whoever
reads the text finds.
"""

import errno
import socket
import struct
from types import TracebackType
from typing import Final, Self

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.errors import AuditnsError, NotPermittedError, NotSupportedError
from auditns_connector.sources import initns
from auditns_connector.sources.initns import in_initial
from auditns_connector.sources.intake import READLOG, SMALL, Intake, Limits
from auditns_connector.vocabulary.record_types import NAMES, OWN
from auditns_connector.vocabulary.values import CData

NETLINK_AUDIT: Final = 9
READLOG_GROUP: Final = 1
#: auditd formats into MAX_AUDIT_MESSAGE_LENGTH (8970) less 32 bytes, NUL included
MAX_LINE: Final = int(lib.READLOG_LINE) - 1
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_MEMINFO_DROPS: Final = 8
#: what an event of some ten records takes of the socket's buffer (bytes)
_EVENT: Final = 16_384
_COUNTS: Final = ("received", "overruns", "foreign", "malformed", "truncated", "mended")
# a kernel's record never gets a name of ours, should it ever use one of our numbers
_NAMED: Final = [(name, number) for number, name in NAMES.items() if number not in OWN]
_NAMES: Final = b"".join(name.encode() + b"\0" for name, _ in _NAMED)
lib.intake_readlog_names(_NAMES, [number for _, number in _NAMED], len(_NAMED))

SILENT_MESSAGE: Final = (
    "this process is not in the host's network namespace: the kernel delivers audit records only there, none will "
    "arrive; start it in the host's network namespace (docker: --network host; from a shell: nsenter -t 1 -n)"
)


def open_socket(rcvbuf: int, notices: list[str]) -> socket.socket:
    """Join the group; what is less than asked for goes to ``notices``."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_AUDIT)
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT and initns.filtered():
            raise NotPermittedError(
                "a seccomp filter, as containers have one, refuses sockets of audit (docker and podman: "
                "--security-opt seccomp=unconfined, or --privileged)"
            ) from error
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
                f"reading audit records needs CAP_AUDIT_READ in the host's user namespace: {initns.here()}"
            ) from error
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            raise NotSupportedError("this kernel has no audit multicast group (it came with Linux 3.16)") from error
        raise AuditnsError(f"cannot join the audit multicast group: {error}") from error
    return sock


class ReadlogSource(Intake):
    """Audit records as text. ``rcvbuf``: bytes of kernel memory for records not yet read (a record takes about
    1 to 2 KiB of it); ``limits`` say how much may wait with us; ``sock`` stands in for the kernel's."""

    def __init__(self, *, rcvbuf: int = 32 << 20, limits: Limits = SMALL, sock: socket.socket | None = None) -> None:
        notices: list[str] = []
        self._sock = open_socket(rcvbuf, notices) if sock is None else sock
        self.silent = sock is None and in_initial("net") is False
        if self.silent:
            notices.append(SILENT_MESSAGE)
        self._granted = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        try:
            super().__init__(self._sock.fileno(), READLOG, limits, full=self._granted // 4)
        except BaseException:
            self._sock.close()
            raise
        self.notices += notices
        self._dropped = 0
        self._counts: CData = ffi.new("struct readlog_counts *")

    @property
    def room(self) -> int:
        """How many events may wait in the socket: a quarter of what its buffer holds."""
        return max(1, self._granted // (4 * _EVENT))

    def drain(self) -> bytes:
        """Whole lines of what waits, for whoever looks for something; ``b""`` when nothing does. Never blocks."""
        stream = TextStream(1 << 20)
        return stream.held() if self.fill(stream) else b""

    def counters(self) -> dict[str, int]:
        """``received`` records; ``lost`` events, for want of room with us; ``dropped`` records (the socket's own count)
        and ``overruns`` (times its queue was full); ``foreign`` datagrams not from the kernel; ``malformed`` ones;
        ``truncated`` lines; ``mended`` lines, in which a newline or NUL was; and what the intake counts."""
        self._dropped = max(self._dropped, self._drops())
        counted = super().counters()
        if self.c != ffi.NULL:
            lib.intake_readlog_counts(self.c, self._counts)
        own = {name: int(getattr(self._counts, name)) for name in _COUNTS}
        return {**own, "dropped": self._dropped, "lost": counted["dropped_events"], **counted}

    def _drops(self) -> int:
        try:
            raw = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return 0  # SO_MEMINFO came with Linux 4.12; overruns and serials still tell
        return int(_MEMINFO.unpack(raw)[_MEMINFO_DROPS]) if len(raw) == _MEMINFO.size else 0

    def close(self) -> None:
        """Leave the group."""
        super().close()
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
