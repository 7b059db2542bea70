"""Text that is to be sealed: files, compressed or not, in the order of what they say."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from auditns_connector.audittext.heads import read_head
from auditns_connector.errors import AuditnsError
from auditns_connector.pipeline.compressed import ENOUGH, reader

#: of so many bytes the first line tells a file from others
_LINE: Final = 4096
_LOOK: Final = 1 << 16
#: a file without a record stands behind those that have one
_LAST: Final = 1 << 62
#: how often something is tried that a rotation may disturb
_TRIES: Final = 16


def _name(text: bytes) -> str:
    """What a text is called by its first line, "" where it has none yet."""
    line, newline, _ = text[:_LINE].partition(b"\n")
    return hashlib.sha256(line + newline).hexdigest() if newline or len(line) == _LINE else ""


def head_of(fd: int) -> str:
    """The same of an open file, compressed or not, which is read on from where it was."""
    here = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        text = os.pread(fd, _LINE, 0)
        os.lseek(fd, min(ENOUGH, len(text)), os.SEEK_SET)
        if (unpack := reader(text[:ENOUGH], fd, "")) is not None:
            text = b""
            while len(text) < _LINE and (more := unpack(_LINE)):
                text += more
        return _name(text)
    except AuditnsError:
        return ""  # it is reported when it is read
    finally:
        os.lseek(fd, here, os.SEEK_SET)


class TextFile:
    """An open file. ``at`` is how much of its text was read; ``head`` names it by its first line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        info = os.fstat(self.fd)
        self.dev, self.ino = info.st_dev, info.st_ino
        self.failed = ""
        #: its text is all in the archive, as far as it can be read
        self.ended = False
        #: it must stay, whatever is wanted
        self.kept = ""
        try:
            if not os.path.isfile(f"/proc/self/fd/{self.fd}"):
                raise AuditnsError(f"{path}: only regular files can be sealed")
            self.rewind()
            look = self._peek()
        except BaseException:
            self.close()
            raise
        self.head = _name(look)
        #: it begins with lines of which none is a record
        self.is_foreign = bool(look.strip()) and not any(read_head(line) for line in look.split(b"\n"))
        self.first_ms = next((head.ms for head in map(read_head, look.split(b"\n")) if head is not None), _LAST)

    def rewind(self) -> None:
        """Begin again."""
        os.lseek(self.fd, 0, os.SEEK_SET)
        self._ahead = os.read(self.fd, ENOUGH)
        self._read: Callable[[int], bytes] | None = reader(self._ahead, self.fd, self.path)
        if self._read is not None:
            self._ahead = b""
        self.at = 0

    def _peek(self) -> bytes:
        """What it begins with."""
        while len(self._ahead) < _LOOK:
            try:
                more = self._read(_LOOK) if self._read is not None else os.read(self.fd, _LOOK)
            except AuditnsError:
                break  # it is reported when it is read
            if not more:
                break
            self._ahead += more
        return self._ahead[:_LOOK]

    def read_into(self, view: memoryview) -> int:
        """More of the text, 0 at its end. Raises AuditnsError where it is damaged or cut."""
        if self._ahead:
            size = min(len(view), len(self._ahead))
            view[:size], self._ahead = self._ahead[:size], self._ahead[size:]
        elif self._read is None:
            size = os.readv(self.fd, [view])
        else:
            data = self._read(len(view))
            size = len(data)
            view[:size] = data
        self.at += size
        return size

    def fill(self, view: memoryview) -> int:
        """As much as there is room, or there is text for."""
        size = 0
        while size < len(view) and (more := self.read_into(view[size:])):
            size += more
        return size

    def skip(self, size: int) -> None:
        """Read so much more."""
        scratch = memoryview(bytearray(1 << 20))
        while size and (more := self.read_into(scratch[: min(size, len(scratch))])):
            size -= more

    def grown(self) -> bool:
        """Somebody has written to it since it was read."""
        return os.lseek(self.fd, 0, os.SEEK_CUR) != os.fstat(self.fd).st_size

    def remove(self) -> str:
        """Remove it, whatever it is called by now, and nothing else. Returns why it is still there, "" where it is not.

        Rotation may rename it at any moment. So it is first moved aside, and what was moved is looked at."""
        directory, name = os.path.split(self.path)
        aside = os.path.join(directory, f".{name}.{os.urandom(8).hex()}.sealed")
        for _ in range(_TRIES):
            path = self._find(directory, name)
            if path is None:
                return ""
            try:
                os.rename(path, aside)
            except FileNotFoundError:
                continue
            info = os.lstat(aside)
            if (info.st_dev, info.st_ino) == (self.dev, self.ino):
                os.unlink(aside)
                return ""
            try:
                os.link(aside, path, follow_symlinks=False)
            except FileExistsError:
                return f"{aside} was {path}, which somebody has made anew: seal it by this name"
            os.unlink(aside)
        return f"{self.path} is renamed again and again"

    def _find(self, directory: str, name: str) -> str | None:
        """A path of this very file."""
        stem = name.rstrip("0123456789")
        for entry in [name, *sorted(os.listdir(directory or "."))]:
            if entry == name or entry.startswith(stem):
                path = os.path.join(directory, entry)
                with contextlib.suppress(FileNotFoundError):
                    info = os.lstat(path)
                    if (info.st_dev, info.st_ino) == (self.dev, self.ino):
                        return path
        return None

    def close(self) -> None:
        """Close it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_all(paths: Sequence[str], say: Callable[[str], None]) -> list[TextFile]:
    """The files, each once, those with the oldest records first; what cannot be opened is reported and left out."""
    found: dict[tuple[int, int], TextFile] = {}
    for path in paths:
        try:
            file = TextFile(path)
        except OSError as error:
            say(f"{path}: {error.strerror}")
            continue
        except AuditnsError as error:
            say(str(error))
            continue
        if (file.dev, file.ino) in found:
            file.close()
        else:
            found[file.dev, file.ino] = file
    return sorted(found.values(), key=lambda file: file.first_ms)


def rotated(path: str) -> list[str]:
    """``path.N`` for each number that is there, also compressed, the highest first."""
    directory, name = os.path.split(path)
    found = []
    for entry in os.listdir(directory or "."):
        number = entry.removeprefix(name + ".").removesuffix(".gz").removesuffix(".zst")
        if entry.startswith(name + ".") and number.isascii() and number.isdigit():
            found.append((int(number), os.path.join(directory, entry)))
    return [one for _, one in sorted(found, reverse=True)]


def open_rotated(path: str, say: Callable[[str], None]) -> list[TextFile]:
    """The files of :func:`rotated`, in that order, as they were at one moment."""
    for _ in range(_TRIES):
        texts: list[TextFile] = []
        unreadable: set[tuple[int, int]] = set()
        for name in rotated(path):
            opened = open_all([name], say)
            texts += opened
            if not opened:
                unreadable.add(_identity(name))
        there = [_identity(name) for name in rotated(path)]
        if [(text.dev, text.ino) for text in texts] == [one for one in there if one not in unreadable]:
            return texts
        for text in texts:
            text.close()
    raise AuditnsError(f"{path} is rotated again and again")


def _identity(path: str) -> tuple[int, int]:
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return (-1, -1)
    return info.st_dev, info.st_ino
