"""Files that runtimes have written, read only where nobody but their owner can have written them.

A file counts where it is a regular one, of at most :data:`MAX_FILE` bytes, of the expected owner, and writable by
nobody else, and where its directory is its owner's or root's and writable by nobody else either. The last component is
never a link.
"""

import json
import os
import stat
from typing import Final

from auditns_connector.vocabulary.values import Json, JsonObject

MAX_FILE: Final = 8 << 20
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class OwnedFiles:
    """Reads below ``root``, whose owner stands for root there; ``counters`` says how many files were read, made no
    sense, and belonged to somebody else."""

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self.counters = {"read": 0, "malformed": 0, "foreign": 0}
        self._superuser = os.stat(root).st_uid

    def object(self, path: str, uid: int = 0) -> JsonObject:
        """The JSON object in the file ``path`` of user ``uid``; empty where there is none."""
        found = self.json(path, uid)
        return found if isinstance(found, dict) else {}

    def json(self, path: str, uid: int = 0) -> Json:
        """What the file ``path`` of user ``uid`` says; ``None`` where that is nothing."""
        data = self.read(path, uid)
        if data is None:
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            self.counters["malformed"] += 1
            return None

    def read(self, path: str, uid: int = 0) -> bytes | None:
        """The bytes of the file ``path`` of user ``uid``; ``None`` where it is not there, or not to be trusted."""
        folder, _, name = self.place(path).rpartition("/")
        try:
            at = os.open(folder or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError):
            return None  # it is not there, or nothing that has a name
        try:
            fd = os.open(name, _FLAGS, dir_fd=at)
        except (OSError, ValueError):
            return None
        else:
            try:
                return self._checked(at, fd, uid)
            finally:
                os.close(fd)
        finally:
            os.close(at)

    def _checked(self, at: int, fd: int, uid: int) -> bytes | None:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE:
            return None
        if not (self._owned(about, (uid,)) and self._owned(os.fstat(at), (uid, 0))):
            self.counters["foreign"] += 1
            return None
        self.counters["read"] += 1
        try:
            with open(fd, "rb", closefd=False) as file:
                return file.read(MAX_FILE)
        except OSError:
            self.counters["malformed"] += 1
            return None

    def _owned(self, about: os.stat_result, uids: tuple[int, ...]) -> bool:
        owners = {self._superuser if uid == 0 else uid for uid in uids}
        return about.st_uid in owners and not about.st_mode & _OTHERS

    def listed(self, path: str) -> list[str]:
        """The names in the directory ``path``; none where it is not there."""
        try:
            return sorted(os.listdir(self.place(path)))
        except (OSError, ValueError):
            return []

    def place(self, path: str) -> str:
        """Where ``path`` is below the root."""
        return os.path.join(self.root, path.lstrip("/"))
