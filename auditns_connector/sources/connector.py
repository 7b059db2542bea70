"""The proc connector (cn_proc) as a source of frames.

Every datagram carries a sequence number of its CPU, so a gap is a loss, and tells its size. A loss at the end of a
CPU's events shows only at that CPU's next event: :meth:`ConnectorSource.heartbeat` provokes one. A loss at their
beginning would not show at all, so every CPU that we may run on is heard once at the start. Facts relied on:
include/uapi/linux/cn_proc.h, drivers/connector/cn_proc.c.
"""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.errors import NotPermittedError, NotSupportedError
from auditns_connector.sources import initns
from auditns_connector.vocabulary import frames
from auditns_connector.vocabulary.namespaces import CLONE_NEWPID
from auditns_connector.vocabulary.values import CData

NETLINK_CONNECTOR: Final = 11
NETLINK_NO_ENOBUFS: Final = 5
SOL_NETLINK: Final = 270
SO_RCVBUFFORCE: Final = 33
SO_MEMINFO: Final = 55
NO_CUT: Final = 0xFFFFFFFFFFFFFFFF
LISTEN: Final = 1
IGNORE: Final = 2
NM: Final = 0x400
#: nlmsghdr (length, type NLMSG_DONE, flags, seq, port) and cn_msg (idx, val, seq, ack, len, flags)
_REQUEST: Final = struct.Struct("=IHHIIIIIIHH")
_NLMSG_DONE: Final = 3
#: what a source with mask_all=False asks for: fork, exec, exit and namespace events
FILTER: Final = 0x00000001 | 0x00000002 | 0x80000000 | NM
ACK_WAIT: Final = 1.0
ROOM: Final = 4 << 20


def request(operation: int, ack: int = 0, event_type: int | None = None) -> bytes:
    """The datagram that asks for ``operation``; with ``event_type`` as the 8-byte ``proc_input`` of Linux 6.6."""
    payload = struct.pack("=I", operation) if event_type is None else struct.pack("=II", operation, event_type)
    size = _REQUEST.size + len(payload)
    return (
        _REQUEST.pack(size, _NLMSG_DONE, 0, 0, 0, lib.CN_IDX_PROC, lib.CN_VAL_PROC, 0, ack, len(payload), 0) + payload
    )


class ConnectorSource:
    """Listens from construction on. ``rcvbuf`` is in bytes; 832 of them are used up by one waiting event.

    ``mask_all`` False has the kernel (6.6) send only :data:`FILTER`; losses are not reported then, because the kernel
    counts what it filtered like what it sent. Raises :class:`NotPermittedError` or :class:`NotSupportedError`.
    """

    def __init__(self, rcvbuf: int = 64 << 20, mask_all: bool = True) -> None:
        self.notices: list[str] = []
        self._state: CData = ffi.new("struct cn_state *")
        self._state.filtered = not mask_all
        self._room: CData = ffi.new("uint8_t[]", lib.CN_ROOM_MIN)
        self._more: CData = ffi.new("int *")
        self._held = b""
        self._beat = threading.Event()
        self._beaten = threading.Event()
        self._beating: threading.Thread | None = None
        self._stop_beats = False
        self._socket = _open()
        try:
            self._set_rcvbuf(rcvbuf)
            # Gaps and the drop counter tell losses exactly; ENOBUFS would only add an error in front of the data.
            self._socket.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
            self._listen(mask_all)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The socket's descriptor, for a selector."""
        return self._socket.fileno()

    def drain(self, cut: int | None = None) -> bytes:
        """Frames sorted by time, up to ``cut`` (CLOCK_MONOTONIC ns; None: all that is there at the call).

        Later ones which were read on the way are kept for the next call.
        """
        stop = time.monotonic_ns() if cut is None else cut
        parts = [self._held] if self._held else []
        while True:
            size = lib.cn_drain(self._socket.fileno(), self._state, stop, self._room, len(self._room), self._more)
            if size < 0:
                raise OSError(-size, f"proc connector: {os.strerror(-size)}")
            if size:
                parts.append(ffi.buffer(self._room, size)[:])
            if not self._more[0]:
                break
            if len(self._room) < ROOM:  # a busy host: from now on with fewer calls
                self._room = ffi.new("uint8_t[]", ROOM)
        if not parts:
            return b""
        block = bytearray().join(parts)
        view = ffi.from_buffer(block)
        failed = lib.frames_sort(view, len(block))
        if failed:
            raise MemoryError(f"no memory to sort the proc connector's frames: {os.strerror(-failed)}")
        end = lib.frames_split(view, len(block), NO_CUT if cut is None else cut)
        ffi.release(view)
        self._held = bytes(block[end:])
        return bytes(block[:end])

    def counters(self) -> dict[str, int]:
        """Counts since the start; ``drops`` is the socket's own (it includes losses that no gap has shown yet)."""
        state = self._state
        return {
            "received": state.received,
            "lost": state.lost,
            "drops": self.drops(),
            "unknown": state.unknown,
            "malformed": state.malformed,
            "foreign": state.foreign,
            "disorder": state.disorder,
            "enobufs": state.enobufs,
            "acks": state.acks,
        }

    def drops(self) -> int:
        """Datagrams the kernel dropped for this socket (SO_MEMINFO): one cheap system call."""
        return int(struct.unpack("=9I", self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[8])

    def heartbeat(self) -> None:
        """Have every CPU send an acknowledgement soon, so that a loss at the end of its events shows.

        A thread pinned to one CPU after the other asks for it, over a socket of its own which listens and
        ignores in turn: before Linux 6.6 the kernel counts listeners, and the count must come out even.
        """
        if self._beating is None:
            beating = threading.Thread(target=self._beats, name="auditns-heartbeat", daemon=True)
            try:
                beating.start()
            except RuntimeError:  # this host allows no more threads now: the next heartbeat tries again
                return
            self._beating = beating
        self._beat.set()

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        if self._socket.fileno() < 0:
            return
        if self._beating is not None:
            self._stop_beats = True
            self._beat.set()
            self._beating.join(1.0)
        with contextlib.suppress(OSError):  # no room in the kernel's socket: closing ends it as well (since 6.6)
            self._socket.send(request(IGNORE))
        self._socket.close()

    def __enter__(self) -> "ConnectorSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _beats(self) -> None:
        cpus = range(os.sysconf("SC_NPROCESSORS_CONF"))
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR) as helper:
            while self._beat.wait() and not self._stop_beats:
                self._beat.clear()
                for cpu in cpus:
                    with contextlib.suppress(OSError):  # the CPU is offline, or the kernel out of memory: next time
                        os.sched_setaffinity(0, {cpu})
                        helper.send(request(LISTEN))
                        helper.send(request(IGNORE))
                self._beaten.set()

    def _set_rcvbuf(self, size: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            had = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            if had < size:
                self.notices.append(
                    f"proc connector: a receive buffer of {had} bytes instead of {size}: "
                    "CAP_NET_ADMIN is missing, or raise net.core.rmem_max"
                )

    def _listen(self, mask_all: bool) -> None:
        try:
            self._socket.send(request(LISTEN, event_type=None if mask_all else FILTER))
        except ConnectionRefusedError:
            if initns.in_initial("net") is False:
                raise NotPermittedError(
                    f"the proc connector is in the host's network namespace alone: {initns.here()}"
                ) from None
            raise NotSupportedError("the kernel has no proc connector (CONFIG_PROC_EVENTS)") from None
        except PermissionError:
            raise NotPermittedError("the proc connector refuses to be listened to: it needs root") from None
        if not mask_all:
            return  # a filtered socket gets no acknowledgement
        deadline = time.monotonic() + ACK_WAIT
        while not self._state.acks:
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise NotPermittedError(
                    "the proc connector does not answer: it hears root of the host's user and pid namespaces alone: "
                    + initns.here()
                )
            select.select([self._socket], [], [], wait)
            self._held = self.drain()
        self.heartbeat()
        if self._beating is not None:
            self._beaten.wait(ACK_WAIT)


def _open() -> socket.socket:
    try:
        made = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR
        )
    except OSError as error:
        raise NotSupportedError(f"no netlink connector in this kernel: {error.strerror}") from None
    try:
        made.bind((0, lib.CN_IDX_PROC))
    except PermissionError:
        made.close()
        raise NotPermittedError("listening to the proc connector needs root, or CAP_NET_ADMIN") from None
    return made


def probe_nm() -> bool:
    """Whether this kernel sends PROC_EVENT_NM: a child really unshares a namespace, and the events are looked at."""
    failed = ffi.new("int *")
    with ConnectorSource(rcvbuf=4 << 20) as source:
        child = lib.cn_unshare_child(CLONE_NEWPID, failed)
        if child < 0 or failed[0]:
            raise NotPermittedError(f"unshare for the probe failed: {os.strerror(-child if child < 0 else failed[0])}")
        deadline = time.monotonic() + ACK_WAIT
        while time.monotonic() < deadline:
            for frame in frames.iter_frames(source.drain()):
                if frame.kind == frames.K_NM and frame.pid == child:
                    return True
                if frame.kind == frames.K_EXIT and frame.pid == child:
                    return False
            select.select([source], [], [], 0.05)
    return False
