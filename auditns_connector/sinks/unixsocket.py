"""The unix stream socket that readers join and leave.

Each reader has its own queue; one that is too slow loses whole lines and sees how many, the others notice nothing. The
blocks that wait are shared between the queues. What readers send is not read.
"""

import errno
import os
import select
import socket
import stat
from typing import NamedTuple

from auditns_connector.config.options import SocketOutput
from auditns_connector.errors import AuditnsError, ConfigError
from auditns_connector.sinks.base import LineQueue, LostLine, add_notice, wait_until_flushed
from auditns_connector.sinks.loss import Block
from auditns_connector.sinks.native import SOCKET
from auditns_connector.sinks.outlet import Outlet
from auditns_connector.sinks.paths import group_id, open_directory
from auditns_connector.vocabulary.values import CData


class SocketSink:
    """Listens at ``options.path``. Raises :class:`AuditnsError` when that cannot be had.

    ``replaces``: a sink that may still listen there; it is closed by its owner afterwards.
    """

    def __init__(
        self, options: SocketOutput, lost: LostLine, name: str = "socket", replaces: "SocketSink | None" = None
    ) -> None:
        self.name = name
        self.notices: list[str] = []
        self.broken = False
        self.options = options
        self.lost = lost
        self._readers: dict[int, tuple[socket.socket, Outlet]] = {}
        self._gone = dict.fromkeys(LineQueue(name, 0).counters(), 0)
        self._joined = self._refused = 0
        gid = group_id(options.group)
        if gid < 0:
            add_notice(self.notices, f"{name}: there is no group {options.group} here, {options.path} is for root's")
        self._inode: tuple[int, int]
        own = replaces._inode if replaces is not None else None
        self._listener, self._inode = listen(options.path, options.mode, gid, own)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def write(self, data: Block) -> None:
        for fd, (_, outlet) in list(self._readers.items()):
            try:
                outlet.write(data)
            except OSError:
                self._leave(fd)

    @property
    def prompt(self) -> bool:
        return bool(self._readers)

    def natives(self) -> "list[_Reader] | None":
        if all(outlet.queue.idle for _, outlet in self._readers.values()):
            return [_Reader(self, outlet) for _, outlet in self._readers.values()]
        return None

    def write_rest(self, outlet: Outlet, data: Block, sent: int) -> None:
        """Of ``data`` only ``sent`` bytes went to the reader of ``outlet``."""
        try:
            outlet.write_rest(data, sent)
        except OSError:
            self._leave(outlet.fd)

    def on_ready(self) -> None:
        for fd, events in self._epoll.poll(0):
            if fd == self._listener.fileno():
                self._accept()
            elif fd not in self._readers:
                continue  # left while this batch was worked on
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                self._leave(fd)
            else:
                try:
                    self._readers[fd][1].pump()
                except OSError:
                    self._leave(fd)

    def _accept(self) -> None:
        for _ in range(64):  # then the lines again: a storm of connections must not hold them up
            try:
                reader, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # ECONNABORTED, EMFILE: the reader's loss
                self._refused += 1
                if error.errno != errno.ECONNABORTED:
                    add_notice(self.notices, f"{self.name}: accept: {error.strerror}")
                return
            if len(self._readers) >= self.options.readers:
                self._refused += 1
                if self._refused == 1:
                    add_notice(self.notices, f"{self.name}: more than {self.options.readers} readers, one refused")
                reader.close()
                continue
            reader.setblocking(False)
            self._joined += 1
            queue = LineQueue(self.name, self.options.queue)
            self._readers[reader.fileno()] = (reader, Outlet(reader.fileno(), queue, self._epoll, self.lost))

    def _leave(self, fd: int) -> None:
        reader, outlet = self._readers.pop(fd)
        for key, value in outlet.queue.counters().items():
            self._gone[key] += value
        outlet.detach()
        reader.close()

    def deadline(self) -> float | None:
        return None

    def counters(self) -> dict[str, int]:
        """Sums over all readers, past ones too; reconnects: readers that joined; readers: there now."""
        total = {**self._gone, "queued_bytes": 0}
        for _, outlet in self._readers.values():
            for key, value in outlet.queue.counters().items():
                total[key] += value
        return {**total, "reconnects": self._joined, "readers": len(self._readers), "refused": self._refused}

    def reopen(self) -> None:
        """Listen anew when somebody took the socket away; the readers stay."""
        try:
            info = os.lstat(self.options.path)
            if (info.st_dev, info.st_ino) == self._inode:
                return
        except FileNotFoundError:
            pass  # removed: make it again
        try:
            listener, inode = listen(self.options.path, self.options.mode, group_id(self.options.group))
        except AuditnsError as error:
            add_notice(self.notices, f"{self.name}: {error}")
            return
        self._epoll.unregister(self._listener.fileno())
        self._listener.close()
        self._listener, self._inode = listener, inode
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def flush(self, timeout: float | None) -> bool:
        return wait_until_flushed(self, lambda: sum(o.queue.size for _, o in self._readers.values()), timeout)

    def close(self, timeout: float) -> None:
        if self._epoll.closed:
            return
        self.flush(timeout)
        for _, outlet in self._readers.values():
            outlet.queue.clear()
        for fd in list(self._readers):
            self._leave(fd)
        self._epoll.close()
        self._listener.close()
        try:
            info = os.lstat(self.options.path)
            if (info.st_dev, info.st_ino) == self._inode:  # not another program's
                os.unlink(self.options.path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                add_notice(self.notices, f"{self.name}: cannot remove {self.options.path}: {error.strerror}")


class _Reader(NamedTuple):
    """One reader, as the loop in C sees it."""

    sink: SocketSink
    outlet: Outlet

    def put(self, c: CData) -> None:
        c.kind, c.fd = SOCKET, self.outlet.fd

    def passed(self, size: int, lines: int) -> None:
        self.outlet.queue.passed_lines(size, lines)

    def write_rest(self, data: Block, sent: int) -> None:
        self.sink.write_rest(self.outlet, data, sent)


def listen(path: str, mode: int, gid: int, own: tuple[int, int] | None = None) -> tuple[socket.socket, tuple[int, int]]:
    """A listening socket at ``path``, and its (device, inode). ``own`` is one that may be replaced though it is live.

    It is bound under another name in the same directory, given its mode and group there, and moved into place, so
    it never stands with wrong rights and no link is followed. Only a socket that nobody serves is replaced.
    Raises :class:`ConfigError`, or :class:`AuditnsError` when another program serves it.
    """
    folder, name = os.path.split(path)
    try:
        directory = open_directory(folder, gid)
    except OSError as error:
        raise ConfigError(f"socket {path}: {error.strerror}: {folder}") from error
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    fresh = f".{name[:80]}.{os.getpid()}"
    here = f"/proc/self/fd/{directory}"
    try:
        _refuse_other_things(path, name, directory, here, own)
        try:
            os.unlink(fresh, dir_fd=directory)
        except FileNotFoundError:
            pass  # no earlier process of our number died right here
        sock.bind(f"{here}/{fresh}")
        try:
            os.chmod(fresh, mode, dir_fd=directory)
            if gid >= 0 and os.geteuid() == 0:
                os.chown(fresh, -1, gid, dir_fd=directory)
            sock.listen(64)
            info = os.stat(fresh, dir_fd=directory, follow_symlinks=False)
            os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(fresh, dir_fd=directory)
            raise
    except OSError as error:
        sock.close()
        raise ConfigError(f"socket {path}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock, (info.st_dev, info.st_ino)


def _refuse_other_things(path: str, name: str, directory: int, here: str, own: tuple[int, int] | None) -> None:
    try:
        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(info.st_mode):
        raise ConfigError(f"socket {path}: something that is not a socket is there; remove it or choose another path")
    if (info.st_dev, info.st_ino) == own:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        answer = probe.connect_ex(f"{here}/{name}")
    if answer not in (errno.ECONNREFUSED, errno.ENOENT):
        raise AuditnsError(f"socket {path}: another program serves it")
