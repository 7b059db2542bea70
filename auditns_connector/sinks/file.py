"""The log file: whole records only, rotated by size, opened anew on HUP, retried while the disk is full."""

import errno
import os
from collections.abc import Callable

from auditns_connector.config.options import FileOutput
from auditns_connector.sinks.base import LostLine
from auditns_connector.sinks.paths import group_id, open_directory, open_log
from auditns_connector.sinks.threaded import BOUNDLESS, ThreadedSink


class FileSink(ThreadedSink):
    """Appends to ``options.path``. Problems with it are never raised: they are told, counted and retried."""

    def __init__(self, options: FileOutput, lost: LostLine, name: str = "file") -> None:
        super().__init__(name, options.queue, lost, LogFile(options, self.say))
        self.options = options


class LogFile:
    """The file behind a :class:`FileSink`, as its thread sees it."""

    def __init__(self, options: FileOutput, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._directory, self._name = os.path.split(options.path)
        self._gid = -1
        self._no_group = False
        self._dir_fd = self._fd = -1
        self._size = 0
        self._limit = 0  # rotate beyond this size; 0 never
        self._reopened = self._rotated = self._torn = 0

    def counters(self) -> dict[str, int]:
        """reconnects: opened anew; rotations; torn: lines found or left incomplete."""
        return {"reconnects": self._reopened, "rotations": self._rotated, "torn": self._torn}

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
        """Let go of the file; the next write opens it by its name."""
        if self._fd >= 0:
            self._reopened += 1
        self.close()

    def close(self) -> None:
        for fd in (self._fd, self._dir_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._dir_fd = -1

    def _open(self) -> None:
        self._gid = group_id(self._options.group)
        if self._gid < 0 and not self._no_group:
            self._no_group = True
            self._say(f"there is no group {self._options.group} here, {self._options.path} keeps its own")
        if self._dir_fd < 0:
            self._dir_fd = open_directory(self._directory, self._gid)
        self._fd = fd = open_log(self._name, self._dir_fd, self._options.mode, self._gid)
        self._size = os.fstat(fd).st_size
        self._limit = self._options.max_size
        if self._size and os.pread(fd, 1, self._size - 1) != b"\n":
            # a crash cut the last line short; a record of ours must not continue it
            self._torn += 1
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
