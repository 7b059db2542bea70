"""A log as it grows, rotation included; or a pipe."""

import os
import select
from collections.abc import Callable, Iterator
from typing import Final

from auditns_connector.daemon.terminal import complain
from auditns_connector.vocabulary.timing import HOLD

#: how often the log is looked at where nothing tells of it (seconds)
_LOOK: Final = 0.1
#: the same while an event is open (seconds)
_AWAITED: Final = HOLD / 1e9
_READ: Final = 1 << 20


class Growing:
    """The text that comes to ``fd``, which ``path`` names or named, from where it stands on."""

    def __init__(self, path: str, fd: int, reader: int, rest: bytes) -> None:
        """``reader`` is the descriptor that the answers go to: whoever reads there may go away. ``rest`` was read
        already."""
        self._path, self._fd = path, os.dup(fd)
        self._rest = rest
        #: the last read has left nothing
        self.dry = True
        self._gone = select.poll()
        self._gone.register(reader, 0)
        try:
            os.lseek(fd, 0, os.SEEK_CUR)
            self._pipe = False
        except OSError:
            self._pipe = True

    def pieces(self, awaited: Callable[[], bool]) -> Iterator[bytes]:
        """Whole lines as they come, and b"" where nothing has for a while, a short one where ``awaited`` says that
        an event is waited for whose end has not come. Ends where a pipe does, or where nobody reads the answers any
        more."""
        try:
            while True:
                patience = _AWAITED if awaited() else _LOOK
                if self._pipe and not select.select([self._fd], [], [], patience)[0]:
                    yield b""
                    continue
                data = os.read(self._fd, _READ)
                self.dry = len(data) < _READ
                if data:
                    block = self._rest + data
                    end = block.rfind(b"\n") + 1
                    self._rest = block[end:]
                    if end:
                        yield block[:end]
                    continue
                if self._pipe:
                    yield self._rest
                    return
                if self._moved():
                    continue
                yield b""
                if self._gone.poll(round((_AWAITED if awaited() else _LOOK) * 1000)):
                    return
        finally:
            os.close(self._fd)

    def _moved(self) -> bool:
        """Go on in the file that has the name now, where that is another one, all of the old one being read."""
        try:
            there = os.stat(self._path)
            here = os.fstat(self._fd)
            if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                if here.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
                    complain(f"auditns: {self._path} was cut short: it is read from its beginning again")
                    os.lseek(self._fd, 0, os.SEEK_SET)
                    return True
                return False
            if os.lseek(self._fd, 0, os.SEEK_CUR) < here.st_size:
                return True  # it grew until it was moved
            fresh = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False  # there is none of that name yet
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)
        return True
