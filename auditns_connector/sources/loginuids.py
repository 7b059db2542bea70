"""Login uid, session and program of all processes, as /proc shows them (cdefs/kernel/procwho.c); two threads read them
where they are many."""

import os
import threading
from array import array
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib

_ROOM: Final = 256 * 1024
#: so many processes are worth a second thread
_MANY: Final = 1000
_LOGIN: Final = ffi.sizeof("struct procfs_login")


class Who(NamedTuple):
    """The payloads of a LOGINS and of a PROGRAMS frame."""

    logins: bytes
    programs: bytes


def read_all(root: str = "/proc") -> Who:
    """Login uid and session, and the program, of every process below ``root`` that could be read. A kernel thread has
    no program. Raises OSError where ``root`` cannot be listed."""
    pids = array("i", (int(name) for name in os.listdir(root) if name.isdecimal()))
    half = len(pids) // 2 if len(pids) >= _MANY else len(pids)
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    others: list[Who] = []
    helper = threading.Thread(target=lambda: others.append(_read(folder, pids[half:])), name="who", daemon=True)
    helping = half < len(pids)
    try:
        if helping:
            helper.start()
        own = _read(folder, pids[:half])
    finally:
        if helper.is_alive():
            helper.join()
        os.close(folder)
    found = [own, *others]
    if len(found) != 1 + helping:
        raise MemoryError("no memory for what /proc says of logins")
    return Who(b"".join(one.logins for one in found), b"".join(one.programs for one in found))


def _read(folder: int, pids: "array[int]") -> Who:
    """The same of ``pids``, below an open folder."""
    logins, found, done = ffi.new("struct procfs_login[]", max(len(pids), 1)), ffi.new("size_t *"), ffi.new("size_t *")
    text = ffi.new("uint8_t[]", _ROOM)
    sessions, programs = [], []
    at: int = 0
    while at < len(pids):
        left = ffi.from_buffer("int32_t[]", pids) + at
        size = lib.procfs_who(folder, left, len(pids) - at, logins, found, text, _ROOM, done)
        sessions.append(bytes(ffi.buffer(logins, found[0] * _LOGIN)))
        programs.append(bytes(ffi.buffer(text, size)))
        at += done[0]
    return Who(b"".join(sessions), b"".join(programs))
