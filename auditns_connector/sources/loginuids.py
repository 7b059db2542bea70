"""Login uid, session and program of all processes, as /proc shows them."""

import os
from typing import Final

UNSET: Final = 0xFFFFFFFF
_MOST: Final = 64
_DELETED: Final = b" (deleted)"


def read_all(root: str = "/proc") -> tuple[list[tuple[int, int, int]], list[tuple[int, bytes]]]:
    """(pid, auid, ses) and (pid, program) of every process below ``root`` that could be read. Who never logged in has
    no session either (kernel/auditsc.c): of those one file is read. A kernel thread has no program."""
    logins, programs = [], []
    for name in os.listdir(root):
        if not name.isdecimal():
            continue
        auid = _number(f"{root}/{name}/loginuid")
        ses = auid if auid in (None, UNSET) else _number(f"{root}/{name}/sessionid")
        if auid is not None and ses is not None:
            logins.append((int(name), auid, ses))
        try:
            programs.append((int(name), os.readlink(os.fsencode(f"{root}/{name}/exe")).removesuffix(_DELETED)))
        except OSError:
            continue  # it has gone, or is a kernel thread
    return logins, programs


def _number(path: str) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # it has gone, or the kernel has no audit
    try:
        raw = os.read(fd, _MOST)
    except OSError:
        return None
    finally:
        os.close(fd)
    number = int(raw) if raw.strip().isdigit() else -1
    return number if 0 <= number <= UNSET else None
