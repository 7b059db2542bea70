"""Taking audit text in stands apart from thinking about it, for whoever writes it must never wait for us: auditd drops
records while it does, and so does the kernel.

While the loop keeps up it reads the text itself, as it comes. A thread in C (cdefs/intake) sleeps beside it. While the
loop does anything else than wait for text, a timer wakes it every 5 ms; it takes over when text waits and was not read
since the time before, or a netlink socket's buffer is a quarter full, and waits for nobody then: neither for the
interpreter, nor for an output or kernel events. The text goes into memory up to a limit, then into an
unlinked file up to another; above that whole events are dropped and counted. When all that waits was worked off the
loop reads again.

Each block of text carries the moment at which it was taken in. That is up to when kernel events are drained before it
is answered, and the latest time that a record in it can speak of."""

import errno
import os
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.audittext.scanner import ROOM, TextStream
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.errors import AuditnsError
from auditns_connector.state.paths import SPOOL_DIR
from auditns_connector.vocabulary.values import CData

STREAM: Final = int(lib.INTAKE_STREAM)
READLOG: Final = int(lib.INTAKE_READLOG)
#: so much is taken in at once by the loop itself: an event or two; after less than this there is hardly more (bytes)
_LITTLE: Final = 16 * 1024
#: events in a socket of the default size, in a record each write, are some forty
_ROOM: Final = 20
#: no more than that is scanned before any of it is decided (bytes)
_AHEAD: Final = 1 << 20


class Limits(NamedTuple):
    """How many bytes of text may wait in memory, and then on disk; ``directory`` is where ("" nowhere)."""

    memory: int = 64 << 20
    disk: int = 1 << 30
    directory: str = SPOOL_DIR


#: for whoever takes in no more than is read at once, as programs that only look for something do
SMALL: Final = Limits(1 << 20, 0, "")


def open_spool(limits: Limits) -> tuple[int, str]:
    """The file that text goes into, without a name, and a complaint; -1 where there is none."""
    if not limits.disk or not limits.directory:
        return -1, ""
    try:
        try:
            return os.open(limits.directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), ""
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        import tempfile  # takes milliseconds, and hardly any file system lacks O_TMPFILE

        fd, name = tempfile.mkstemp(dir=limits.directory)
        os.unlink(name)
    except OSError as error:
        return -1, f"audit text may wait in memory alone, not on disk: {limits.directory}: {error.strerror}"
    return fd, ""


class Intake:
    """A source (base.AuditSource) that takes in what comes on ``fd``, which does not block; ``kind`` is :data:`STREAM`
    or :data:`READLOG`. ``most`` bytes are read at once by the loop; a socket whose buffer holds ``full`` bytes is worth
    being taken over."""

    def __init__(self, fd: int, kind: int, limits: Limits, *, most: int = 1 << 20, full: int = 0) -> None:
        self.notices: list[str] = []
        self._fd = fd
        self._most, self._full = most, full
        self._ended = False
        self._spool, complaint = open_spool(limits)
        if complaint:
            self.notices.append(complaint)
        self.c: CData = lib.intake_new(fd, kind, limits.memory, limits.disk, self._spool)
        if self.c == ffi.NULL:
            self._close_spool()
            raise AuditnsError(f"audit records cannot be taken in: {os.strerror(ffi.errno)}")
        self._news: CData = ffi.new("struct intake_news *")
        self._gap: CData = ffi.new("struct intake_gap *")
        self._failed = False

    def fileno(self) -> int:
        """Readable when text has come that nobody has read."""
        return self._fd

    def filenos(self) -> list[int]:
        """Readable while text waits that the thread took in."""
        return [int(lib.intake_fileno(self.c))]

    @property
    def room(self) -> int:
        """How many events may wait where they come from: half of what a socket of the default size holds."""
        return _ROOM

    @property
    def reader(self) -> CData:
        """The ``struct intake *`` that C may read from."""
        return self.c

    def begin(self) -> None:
        """Start the thread, which guards the loop."""
        failed = lib.intake_start(self.c, self._full)
        if failed:
            self.notices.append(
                f"audit text is taken in by the loop alone, whoever writes it may have to wait: {os.strerror(-failed)}"
            )

    def guard(self, on: bool) -> None:
        """The loop has other work from now on, and the thread takes over where text waits unread; or (``on`` False) it
        waits for text itself."""
        lib.intake_guard(self.c, on)

    def fill(self, stream: TextStream) -> int | None:
        """Put text into ``stream``: what is there, or one block of what was taken in before, at :attr:`taken`. Returns
        how many bytes, ``None`` at the end."""
        size = 0
        while not self._ended and size < self._most:
            got = lib.intake_read(self.c, stream.reading())
            if got == -errno.ENOBUFS:
                stream.room(ROOM)
                continue
            if got == -errno.EAGAIN:
                break
            if got < 0:
                raise AuditnsError(f"cannot read audit records: {os.strerror(-got)}")
            self._ended = not got
            size += got
            if self.taken or got < _LITTLE:
                break
            if size <= _AHEAD:
                stream.ahead()  # meanwhile whoever writes fills the socket again
        return None if self._ended and not size else size

    def news(self) -> CData:
        """The C ``struct intake_news`` of now, or of the end."""
        if self.c != ffi.NULL:
            lib.intake_tell(self.c, self._news)
        return self._news

    @property
    def taken(self) -> int:
        """When the text was taken in that was read last, by whomever (CLOCK_MONOTONIC ns); 0: when it was read."""
        return int(self.news().taken)

    @property
    def oldest(self) -> int:
        """When the oldest text that waits was taken in (CLOCK_MONOTONIC ns); 0: none waits."""
        return int(self.news().oldest)

    @property
    def within_line(self) -> bool:
        """The text of the last :meth:`fill` ended within a line."""
        return bool(self.news().middle)

    def finish(self) -> None:
        """Nothing that comes from now on is wanted."""
        lib.intake_finish(self.c)

    def take_dropped(self, *, rest: bool = False) -> list[SerialGap]:
        """What was dropped before the text of the last :meth:`fill`; with ``rest`` all that waits is dropped as
        well."""
        gap, found = self._gap, []
        while lib.intake_dropped(self.c, gap):
            found.append(_serial_gap(gap))
        if rest and lib.intake_abandon(self.c, gap):
            found.append(_serial_gap(gap))
        return found

    def take_notices(self) -> list[str]:
        """What people should see."""
        failed = self.news().failed
        if failed and not self._failed:
            self._failed = True
            self.notices.append(f"audit text waits in memory alone from now on: {os.strerror(failed)}")
        notices, self.notices = self.notices, []
        return notices

    def counters(self) -> dict[str, int]:
        """``bytes`` read; ``waiting`` in memory and ``spooled``, and the ``most`` of both that ever was; ``takeovers``
        of the thread; ``dropped_events`` and the ``dropped_records`` of them, for want of room."""
        news = self.news()
        return {
            "bytes": news.bytes,
            "waiting": news.memory,
            "spooled": news.spool,
            "most_waiting": news.most,
            "takeovers": news.takeovers,
            "dropped_events": news.dropped_events,
            "dropped_records": news.dropped_records,
        }

    def close(self) -> None:
        """Stop the thread and let go of what waits; a second call does nothing."""
        if self.c != ffi.NULL:
            self.counters()  # for whoever asks later
            lib.intake_free(self.c)
            self.c = ffi.NULL
            self._close_spool()

    def _close_spool(self) -> None:
        if self._spool >= 0:
            os.close(self._spool)


def _serial_gap(gap: CData) -> SerialGap:
    return SerialGap(gap.first, gap.last, gap.events, gap.from_ms, gap.to_ms)
