"""The directory of an archive: what is in it, who may read it, and writing so that nothing is half there."""

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from typing import Final

from auditns_connector.archive.segment_layout import FORMAT, LaterVersionError
from auditns_connector.errors import AuditnsError, NotPermittedError

CATALOGUE: Final = "catalogue.sqlite"
_FORMAT_FILE: Final = "format"
_LOCK: Final = "lock"
_SEGMENT: Final = re.compile(r"([0-9]{10})\.zst")
_STAGED: Final = ".new"
_MARK: Final = "auditns archive "


def segment_name(seq: int) -> str:
    """The file of segment ``seq``."""
    return f"{seq:010d}.zst"


class Access:
    """Mode and group of what is written: those of the log."""

    def __init__(self, mode: int, gid: int) -> None:
        self.mode, self.gid = mode & 0o666, gid

    @classmethod
    def of(cls, fd: int) -> "Access":
        """As the open file has them."""
        info = os.fstat(fd)
        return cls(stat.S_IMODE(info.st_mode), info.st_gid)

    def give(self, fd: int, *, directory: bool = False) -> None:
        """Set them. A group that is not ours to give stays away, and with it what the group might do."""
        mode = self.mode | (self.mode & 0o444) >> 2 if directory else self.mode
        if os.fstat(fd).st_gid != self.gid:
            try:
                os.fchown(fd, -1, self.gid)
            except PermissionError:
                mode &= 0o707
        os.fchmod(fd, mode | (0o700 if directory else 0o600))


def is_archive(path: str) -> bool:
    """Whether there is an archive, of whatever version; a directory in which one is just being made is none yet."""
    return os.path.exists(os.path.join(path, _FORMAT_FILE))


class ArchiveFiles:
    """The directory ``path``. ``create``: make it where it is not there; its parent must be."""

    def __init__(self, path: str, *, create: bool = False) -> None:
        self.path = path
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError as error:
            raise NotPermittedError(f"cannot open the archive {path}: {error.strerror}") from error
        except OSError as error:
            raise AuditnsError(f"cannot open the archive {path}: {error.strerror}") from error
        try:
            self._check(create)
        except BaseException:
            self.close()
            raise

    def _check(self, create: bool) -> None:
        try:
            with open(self.open(_FORMAT_FILE), "rb") as file:
                text = file.read(64).decode("ascii", "replace").strip()
        except FileNotFoundError:
            others = set(os.listdir(self.fd)) - {_LOCK, _FORMAT_FILE + _STAGED}
            if others or not create:
                raise AuditnsError(f"{self.path} is not an archive of auditns") from None
            self.replace(_FORMAT_FILE, f"{_MARK}{FORMAT}\n".encode(), None)
            return
        except PermissionError as error:
            raise NotPermittedError(f"cannot read the archive {self.path}: {error.strerror}") from error
        version = text.removeprefix(_MARK)
        if not text.startswith(_MARK) or not version.isdigit():
            raise AuditnsError(f"{self.path} is not an archive of auditns")
        if int(version) > FORMAT:
            raise LaterVersionError(
                f"the archive {self.path} was made by a later version (format {version}, this one reads {FORMAT})"
            )

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """A descriptor of a file in it."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.fd)

    def join(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.path, name)

    def segments(self) -> list[int]:
        """The numbers of the segments whose files are there, ascending."""
        found = (_SEGMENT.fullmatch(name) for name in os.listdir(self.fd))
        return sorted(int(match[1]) for match in found if match)

    def stage(self, name: str) -> tuple[str, int]:
        """A new file that is to become ``name``: its name until then, and a descriptor."""
        staged = name + _STAGED
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged, dir_fd=self.fd)
        return staged, self.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def publish(self, staged: str, name: str) -> None:
        """Give it its name, durably; its content must be so already."""
        os.rename(staged, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        os.fsync(self.fd)

    def replace(self, name: str, data: bytes, access: Access | None) -> None:
        """Write a small file whole, durably."""
        staged, fd = self.stage(name)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if access is not None:
                access.give(fd)
            os.fsync(fd)
        self.publish(staged, name)

    def remove(self, name: str) -> None:
        """Remove a file; it is fine when it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def clean(self) -> None:
        """Remove what a writer that was killed has left half done. Only with the lock."""
        for name in os.listdir(self.fd):
            if name.endswith(_STAGED):
                self.remove(name)

    def give(self, access: Access) -> None:
        """Let those read the archive who may read the log."""
        access.give(self.fd, directory=True)
        for name in (_FORMAT_FILE, CATALOGUE):
            with contextlib.suppress(FileNotFoundError):
                fd = self.open(name)
                access.give(fd)
                os.close(fd)

    def free(self) -> int:
        """Bytes that are free on its file system."""
        info = os.statvfs(self.fd)
        return info.f_bavail * info.f_frsize

    @contextlib.contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Be the only one that writes. Raises AuditnsError where somebody else does and it is not to ``wait``."""
        fd = self.open(_LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            os.close(fd)
            if error.errno != errno.EWOULDBLOCK:
                raise
            raise AuditnsError(f"{self.path} is being written by another process") from error
        try:
            yield
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the directory."""
        os.close(self.fd)

    def __enter__(self) -> "ArchiveFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
