"""The log file: whole records only, rotated by size, opened anew on HUP, retried while the disk is full."""

import errno
import os
from collections.abc import Callable
from typing import Final

from auditns_connector.config.options import FileOutput
from auditns_connector.sinks.base import LostLine
from auditns_connector.sinks.paths import group_id, open_directory, open_log
from auditns_connector.sinks.threaded import BOUNDLESS, ThreadedSink
from auditns_connector.state.log_files import refuse_foreign
from auditns_connector.vocabulary.audit_text import MAX_LINE

#: how often the log's name is looked at (seconds)
CHECK: Final = 0.5


class FileSink(ThreadedSink):
    """Appends to ``options.path``. Problems with it are never raised: they are reported, counted and retried."""

    def __init__(self, options: FileOutput, lost: LostLine, name: str = "file") -> None:
        #: makes the lines that a file begins with which is opened in place of another; called in the thread that writes
        self.header: Callable[[], bytes] = bytes
        super().__init__(name, options.queue, lost, LogFile(options, self.say, self._head), check_every=CHECK)
        self.options = options

    def _head(self) -> bytes:
        return self.header()


class LogFile:
    """The file behind a :class:`FileSink`, as its thread sees it.

    Somebody may move it or remove it while it is written to. Twice a second its name is looked at: what it no longer
    names is let go, and the lines that went to a file without a name since the last look are written again.
    """

    def __init__(self, options: FileOutput, say: Callable[[str], None], header: Callable[[], bytes] = bytes) -> None:
        self._options = options
        self._say = say
        self._header = header
        #: it is not the first file of this run
        self._again = False
        self._directory, self._name = os.path.split(options.path)
        self._gid = -1
        self._no_group = False
        self._dir_fd = self._fd = -1
        self._size = 0
        self._limit = 0  # rotate beyond this size; 0 never
        #: what is before this was written when the name was still the file's
        self._safe = 0
        #: a file without a name, and from where on its lines are to be written again
        self._orphan: tuple[int, int] | None = None
        self._ours = False
        self._reopened = self._rotated = self._torn = self._rescued = 0

    def counters(self) -> dict[str, int]:
        """reconnects: opened anew; rotations; torn: lines found or left incomplete; rescued: bytes that had gone to a
        removed file and were written again."""
        return {
            "reconnects": self._reopened,
            "rotations": self._rotated,
            "torn": self._torn,
            "rescued": self._rescued,
        }

    def write(self, views: list[memoryview]) -> int:
        """Write some whole lines; what a full disk took of the last line is taken back."""
        if self._fd < 0:
            self._open()
        fitting = self._fit(views)
        if not fitting:
            self._rotate()
            fitting = self._fit(views)
        written = os.writev(self._fd, fitting)
        if written < sum(map(len, fitting)):
            return self._short(fitting, written)
        self._size += written
        return written

    def direct(self) -> tuple[int, int]:
        if self._fd < 0:
            return -1, 0
        return self._fd, self._limit - self._size if self._limit else BOUNDLESS

    def wrote(self, count: int) -> None:
        self._size += count

    def fell_short(self, view: memoryview, count: int) -> int:
        return self._short([view], count)

    def _short(self, views: list[memoryview], written: int) -> int:
        written = self._whole_lines(views, written)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._options.path)
        self._size += written
        return written

    def reopen(self) -> None:
        """Let go of the file; it is opened by its name again at once where it has lost that, else by the next write."""
        before = self._reopened
        self._look(expected=True)
        if self._fd >= 0 and self._reopened == before:
            self._reopened += 1
            self.close()

    def check(self) -> None:
        self._look()

    def _look(self, *, expected: bool = False) -> None:
        if self._fd < 0 and self._orphan is None:
            return
        if self._fd >= 0:
            info = os.fstat(self._fd)
            try:
                there = os.stat(self._options.path, follow_symlinks=False)
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (info.st_dev, info.st_ino):
                if info.st_size < self._size:
                    self._say(f"{self._options.path} was cut short by somebody")
                cut, self._size = self._size > 0 == info.st_size, info.st_size
                if cut:
                    self._begin()
                self._safe = self._size
                return
            if not expected or not info.st_nlink:
                self._say(f"{self._options.path} was {'moved' if info.st_nlink else 'removed'}: opened again")
            self._lose_name(info)
        if self._fd < 0:
            self._open()
        self._rescue()

    def _lose_name(self, info: os.stat_result) -> None:
        """The file has been moved, or removed."""
        self._reopened += 1
        if not info.st_nlink:
            self._orphan = self._fd, min(self._safe, info.st_size)
            self._fd = -1
        self.close()

    def _rescue(self) -> None:
        """Write again what has gone to a file without a name."""
        if self._orphan is None:
            return
        fd, at = self._orphan
        while data := os.pread(fd, 1 << 20, at):
            self._orphan = fd, at
            data = data[: data.rfind(b"\n") + 1] or data
            written = os.write(self._fd, data)
            at += written
            self._size += written
            self._rescued += written
        self._orphan = None
        os.close(fd)

    def close(self) -> None:
        for fd in (self._fd, self._dir_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._dir_fd = -1

    def _open(self) -> None:
        self._gid = group_id(self._options.group) if self._options.group else -1
        if self._gid < 0 and self._options.group and not self._no_group:
            self._no_group = True
            self._say(f"there is no group {self._options.group} here, {self._options.path} keeps its own")
        if self._dir_fd < 0:
            self._dir_fd = open_directory(self._directory, self._gid)
        fd = open_log(self._name, self._dir_fd, self._options.mode, self._gid)
        if not self._ours:
            refuse_foreign(fd, self._options.path)
            self._ours = True
        self._fd = fd
        self._size = self._safe = os.fstat(fd).st_size
        self._limit = self._options.max_size
        if self._size and os.pread(fd, 1, self._size - 1) != b"\n":
            self._mend(fd)
        if self._again and not self._size:
            self._begin()
        self._again = True

    def _begin(self) -> None:
        """The first lines of a file that follows another one; a disk that has no room for them may have some later."""
        lines = self._header()
        try:
            written = os.write(self._fd, lines) if lines else 0
        except OSError as error:
            self._say(f"{self._options.path} begins without what is known of containers: {error.strerror}")
            return
        whole = lines.rfind(b"\n", 0, written) + 1
        if whole < written:
            os.ftruncate(self._fd, self._size + whole)
        self._size += whole

    def _mend(self, fd: int) -> None:
        """A crash cut the last line short: the rest of it is nowhere, and a record of ours must not continue it."""
        self._torn += 1
        start = max(self._size - MAX_LINE, 0)
        whole = os.pread(fd, self._size - start, start).rfind(b"\n") + 1
        if whole or not start:
            self._say(f"{self._options.path} ended within a line: {self._size - start - whole} bytes of it are cut off")
            self._size = start + whole
            os.ftruncate(fd, self._size)
        else:  # no line of ours is as long
            self._size += os.write(fd, b"\n")

    def _fit(self, views: list[memoryview]) -> list[memoryview]:
        """The leading part of ``views`` that the file may still take; empty: rotate first."""
        if not self._limit:
            return views
        room = self._limit - self._size
        count = 0
        while count < len(views) and len(views[count]) <= room:
            room -= len(views[count])
            count += 1
        if count:
            return views[:count]
        cut = bytes(views[0][: max(room, 0)]).rfind(b"\n") + 1
        if not cut and not self._size:  # a single line longer than the whole file may be
            cut = bytes(views[0]).find(b"\n") + 1
        return [views[0][:cut]] if cut else []

    def _rotate(self) -> None:
        """name -> name.1 -> … -> name.keep. When that fails the file grows on, until the next multiple."""
        keep, name, at = self._options.keep, self._name, self._dir_fd
        try:
            if keep:
                for number in range(keep - 1, 0, -1):
                    try:
                        os.rename(f"{name}.{number}", f"{name}.{number + 1}", src_dir_fd=at, dst_dir_fd=at)
                    except FileNotFoundError:
                        continue  # fewer files than may be kept
                os.rename(name, f"{name}.1", src_dir_fd=at, dst_dir_fd=at)
            else:
                os.unlink(name, dir_fd=at)
        except OSError as error:
            self._say(f"cannot rotate {self._options.path}: {error.strerror}")
            self._limit = self._size + self._options.max_size
            return
        os.close(self._fd)
        self._fd = -1
        self._rotated += 1
        self._open()

    def _whole_lines(self, views: list[memoryview], written: int) -> int:
        """Cut a short write back to the end of its last whole line; returns the bytes that stay."""
        data = b"".join(views)[:written]
        whole = data.rfind(b"\n") + 1
        if whole == written:
            return written
        try:
            if os.fstat(self._fd).st_size == self._size + written:
                os.ftruncate(self._fd, self._size + whole)
                return whole
        except OSError as error:
            self._say(f"cannot cut {self._options.path} back to whole lines: {error.strerror}")
        self._torn += 1
        return written  # the rest of the line follows when there is space
