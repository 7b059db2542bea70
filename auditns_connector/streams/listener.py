"""The listening sockets of a stream, in a kept directory.

The directory is what is bind-mounted into a container, so whoever is root there may do to it what it likes. Sockets are
therefore made in a directory that no container sees, given their rights there and moved in by name; nothing is ever
opened or changed by a path through the shared directory.
"""

import contextlib
import errno
import os
import socket
from typing import Final

from auditns_connector.daemon.privileges import OTHER_USERS_HINT
from auditns_connector.errors import AuditnsError

#: attempts to put a socket where somebody else puts directories
_TRIES: Final = 16


class Listener:
    """One listening socket ``name`` in the directory behind the descriptor ``folder``."""

    def __init__(self, folder: int, private: int, name: str, kind: int, mode: int, uid: int, gid: int) -> None:
        self._folder, self.name = folder, name
        self.watched = False
        self.sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        fresh = f"{name}.{os.getpid()}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=private)
            self.sock.bind(f"/proc/self/fd/{private}/{fresh}")
            os.chmod(fresh, mode, dir_fd=private)  # before it is somebody else's, which would take CAP_FOWNER
            os.chown(fresh, uid, gid, dir_fd=private, follow_symlinks=False)
            info = os.stat(fresh, dir_fd=private, follow_symlinks=False)
            self.inode = (info.st_dev, info.st_ino)
            self.sock.listen(64)
            self._put(fresh, private)
        except OSError as error:
            self.sock.close()
            hint = OTHER_USERS_HINT if error.errno == errno.EPERM else ""
            raise AuditnsError(f"socket {name} of the stream: {error.strerror}{hint}") from error

    def _put(self, fresh: str, private: int) -> None:
        """Move the socket to its name. A directory there, which no rename replaces, is given a name that nobody can
        have taken before; whoever owns the place may put another one there at once, so this is tried a few times."""
        for _ in range(_TRIES):
            try:
                os.rename(fresh, self.name, src_dir_fd=private, dst_dir_fd=self._folder)
                return
            except OSError as error:
                if error.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
                    raise
            with contextlib.suppress(FileNotFoundError):
                aside = f".{self.name}.{os.urandom(8).hex()}"
                os.rename(self.name, aside, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def in_place(self) -> bool:
        """Whether the name still leads to this socket."""
        try:
            info = os.stat(self.name, dir_fd=self._folder, follow_symlinks=False)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self.inode

    def close(self) -> None:
        """Stop listening; the name goes when it is ours."""
        self.sock.close()
        if self.in_place():
            with contextlib.suppress(OSError):
                os.unlink(self.name, dir_fd=self._folder)
