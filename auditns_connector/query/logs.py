"""Which files are asked: a log with what it was rotated to, oldest first, or files as they are given."""

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from auditns_connector.archive.reader import Archive
from auditns_connector.errors import AuditnsError
from auditns_connector.pipeline.compressed import read_some

#: audit.log.3, audit.log-20261130, audit.log-20261130-1780000000, each also .gz and .zst
_ROTATED: Final = re.compile(r"(?:\.(?P<number>[0-9]{1,6})|-(?P<date>[0-9]{8}(?:-?[0-9]{1,10})?))(?:\.(?:gz|zst))?")
_PACKED: Final = (".gz", ".zst")
#: so often the files of a log that moves are looked for
_TRIES: Final = 20


class Text(NamedTuple):
    """Files that are one text, oldest first, with descriptors. ``host``: who wrote what names no host itself ("": not
    known); ``ours``: it comes from a program that puts in records of ours. ``archive`` has what is older, and of each
    file so many bytes as ``starts`` says."""

    files: tuple[tuple[str, int], ...]
    host: str
    ours: bool
    archive: Archive | None = None
    starts: tuple[int, ...] = ()

    def start(self, number: int) -> int:
        """Where file ``number`` begins to be of interest."""
        return self.starts[number] if self.starts else 0


@contextmanager
def archived(text: Text, path: str) -> Iterator[Text]:
    """``text`` with the archive at ``path``; the files must be open before. Raises :class:`AuditnsError`."""
    with Archive(path) as archive:
        starts = tuple(archive.sealed_upto(fd) if _is_file(fd) else 0 for _, fd in text.files)
        yield text._replace(archive=archive, starts=starts)


def _is_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)


def rotated(path: str, names: list[str]) -> list[str]:
    """Of ``names`` in the folder of ``path`` those that it was rotated to, oldest first, and itself. One that stands
    there packed as well is being packed: the plain one counts."""
    base = os.path.basename(path)
    found: list[tuple[tuple[int, str, int], str]] = []
    for name in names:
        match = _ROTATED.fullmatch(name.removeprefix(base)) if name.startswith(base) else None
        if match is None or (name.endswith(_PACKED) and os.path.splitext(name)[0] in names):
            continue
        # dated ones are older than numbered ones where both are there: the habit was changed
        key = (0, match["date"], 0) if match["date"] else (1, "", -int(match["number"]))
        found.append((key, name))
    listed = [name for _, name in sorted(found)]
    return [*listed, base] if base in names else listed


@contextmanager
def log(path: str, host: str, *, missing_ok: bool = False) -> Iterator[Text]:
    """The log ``path`` with all that it was rotated to, as they stand at one moment; ``missing_ok``: there may be none.
    Raises :class:`AuditnsError`."""
    opened: list[tuple[str, int]] = []
    try:
        for _ in range(_TRIES):
            if _open_all(path, opened):
                break
            _close(opened)
        if not opened and not missing_ok:
            raise AuditnsError(f"{path}: there is no such log; name files, or set [output.file] in auditns.toml")
        yield Text(tuple(opened), host, ours=True)
    finally:
        _close(opened)


def _open_all(path: str, opened: list[tuple[str, int]]) -> bool:
    """Open all files of the log; False when it was rotated meanwhile."""
    folder = os.path.dirname(path) or "."
    try:
        before = rotated(path, os.listdir(folder))
        for name in before:
            full = os.path.join(folder, name)
            opened.append((full, os.open(full, os.O_RDONLY | os.O_CLOEXEC)))
        seen = {(found.st_dev, found.st_ino) for found in (os.fstat(fd) for _, fd in opened)}
        after = rotated(path, os.listdir(folder))
        now = [os.stat(os.path.join(folder, name)) for name in after]
    except FileNotFoundError:
        return False
    except OSError as error:
        raise AuditnsError(f"{error.filename or path}: {error.strerror}") from error
    return bool(before) and before == after and len(seen) == len(now) and seen == {(s.st_dev, s.st_ino) for s in now}


@contextmanager
def files(paths: list[str], *, copied: bool = False) -> Iterator[Text]:
    """``paths`` as they are given, one behind the other; ``-`` is stdin, which is ``copied`` to a file where it is to
    be read from its end. Raises :class:`AuditnsError`."""
    opened: list[tuple[str, int]] = []
    try:
        for path in paths:
            try:
                if path == "-":
                    fd = _copy(0) if copied and not _is_file(0) else os.dup(0)
                else:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise AuditnsError(f"{path}: {error.strerror}") from error
            opened.append((path, fd))
        yield Text(tuple(opened), "", ours=False)
    finally:
        _close(opened)


def _copy(fd: int) -> int:
    """A file without a name that has all that can be read of ``fd``."""
    with tempfile.TemporaryFile() as copy:
        while data := read_some(fd, 1 << 20):
            copy.write(data)
        copy.flush()
        return os.dup(copy.fileno())


def _close(opened: list[tuple[str, int]]) -> None:
    for _, fd in opened:
        os.close(fd)
    opened.clear()
