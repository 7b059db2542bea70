"""Small state files in a directory such as /run/auditns, where no one else may lead us astray.

The directory must belong to us (or root) and be writable by its owner alone; nothing in it is followed through a
symbolic link, and a file is replaced whole (written beside it, then renamed) or not at all.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from auditns_connector.errors import AuditnsError, LockedError, NotPermittedError

MAX_STATE: Final = 1 << 20
#: a lock is held for some milliseconds: so long it is waited for, and so often tried again (seconds)
_PATIENCE: Final = 2.0
_AGAIN: Final = 0.01


def make_public(path: str) -> None:
    """Make the directory ``path`` where it is not there, for all to enter whatever our umask; those above it too."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_public(os.path.dirname(path))
        os.mkdir(path)
    os.chmod(path, 0o755)


class SafeDir:
    """An open directory. ``create``: make it (mode 0755) when it is not there; its parent must exist."""

    def __init__(self, path: str, *, create: bool = True) -> None:
        self.path = path
        if create:
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                pass  # what it is, is checked below
            except OSError as error:
                raise _explained(error, f"cannot make the directory {path}") from error
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _explained(error, f"cannot open the directory {path}") from error
        about = os.fstat(self._fd)
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            self.close()
            raise AuditnsError(f"the directory {path} can be written by others (chown root, chmod 755 mends it)")

    @property
    def fd(self) -> int:
        """Its descriptor, ours to use as long as it is open."""
        return self._fd

    def read(self, name: str, limit: int = MAX_STATE) -> bytes | None:
        """The file's content; None when there is none. A link, a file of someone else's, or one larger than
        ``limit`` is an error."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _explained(error, f"cannot read {self.path}/{name}") from error
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode) or about.st_uid not in (0, os.geteuid()) or about.st_size > limit:
                raise AuditnsError(f"{self.path}/{name} is not a state file of ours: remove it")
            with open(fd, "rb", closefd=False) as file:
                return file.read(limit)
        finally:
            os.close(fd)

    def open_state(self, name: str, mode: int = 0o600) -> int:
        """A descriptor to read and write the small file ``name`` in place, made where it is not there; the same
        files are refused as by :meth:`read`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, mode, dir_fd=self._fd)
        except OSError as error:
            raise _explained(error, f"cannot open {self.path}/{name}") from error
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_uid not in (0, os.geteuid()) or about.st_size > MAX_STATE:
            os.close(fd)
            raise AuditnsError(f"{self.path}/{name} is not a state file of ours: remove it")
        return fd

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Put ``data`` in place of the file in one step."""
        temporary = f".{name}.{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, mode, dir_fd=self._fd), "wb") as file:
                os.fchmod(file.fileno(), mode)  # whatever our umask
                file.write(data)
            os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            self.remove(temporary)
            raise _explained(error, f"cannot write {self.path}/{name}") from error

    def remove(self, name: str) -> None:
        """Remove the file; it is fine when it is gone already."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            pass  # what was wanted
        except OSError as error:
            raise _explained(error, f"cannot remove {self.path}/{name}") from error

    @contextlib.contextmanager
    def locked(self, name: str, *, wait: float = _PATIENCE) -> Iterator[None]:
        """Hold the lock file ``name``; the lock ends with its process. Raises :class:`LockedError` where another holds
        it for longer than ``wait`` seconds: it may have been stopped."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, 0o600, dir_fd=self._fd)
        except OSError as error:
            raise _explained(error, f"cannot open the lock {self.path}/{name}") from error
        try:
            end = time.monotonic() + wait
            while not _locks(fd):
                if time.monotonic() >= end:
                    raise LockedError(f"another program keeps {self.path}/{name} locked")
                time.sleep(_AGAIN)
            yield
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the directory."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _locks(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _explained(error: OSError, what: str) -> AuditnsError:
    if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
        return NotPermittedError(f"{what}: {error.strerror}")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return AuditnsError(f"{what}: it is a symbolic link or not a directory: remove it")
    return AuditnsError(f"{what}: {error.strerror}")
