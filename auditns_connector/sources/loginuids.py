"""Login uid, session and program of all processes, as /proc shows them (cdefs/kernel/procwho.c)."""

import os
from array import array
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib

_ROOM: Final = 256 * 1024
_LOGIN: Final = ffi.sizeof("struct procfs_login")


class Who(NamedTuple):
    """The payloads of a LOGINS and of a PROGRAMS frame."""

    logins: bytes
    programs: bytes


def read_all(root: str = "/proc") -> Who:
    """Login uid and session, and the program, of every process below ``root`` that could be read. A kernel thread has
    no program. Raises OSError where ``root`` cannot be listed."""
    pids = array("i", (int(name) for name in os.listdir(root) if name.isdecimal()))
    logins, found, done = ffi.new("struct procfs_login[]", max(len(pids), 1)), ffi.new("size_t *"), ffi.new("size_t *")
    text = ffi.new("uint8_t[]", _ROOM)
    told, programs = [], []
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        at: int = 0
        while at < len(pids):
            left = ffi.from_buffer("int32_t[]", pids) + at
            size = lib.procfs_who(folder, left, len(pids) - at, logins, found, text, _ROOM, done)
            told.append(bytes(ffi.buffer(logins, found[0] * _LOGIN)))
            programs.append(bytes(ffi.buffer(text, size)))
            at += done[0]
    finally:
        os.close(folder)
    return Who(b"".join(told), b"".join(programs))
