"""Whether a path may be the log that we append to, and whether two outputs meet."""

import os
import stat
from typing import Final

from auditns_connector.state.log_files import refuse_foreign

AUDITD_CONF: Final = "/etc/audit/auditd.conf"
_DEFAULT: Final = "/var/log/audit/audit.log"


def objection(path: str, auditd_conf: str = AUDITD_CONF) -> str:
    """Why ``path`` cannot be our log, "" where it can: auditd's own log, a directory, a file of something else."""
    own = auditd_log(auditd_conf)
    real = os.path.realpath(path)
    if real == os.path.realpath(own) or real.startswith(os.path.realpath(own) + "."):
        return f"it is auditd's own log ({own})"
    try:
        info = os.lstat(path)
        if stat.S_ISDIR(info.st_mode):
            return "it is a directory"
        if not stat.S_ISREG(info.st_mode):
            return "it is not a regular file"
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""  # not there, or not to be seen by whoever checks: it will be reported when it is opened
    try:
        refuse_foreign(fd, path)
    except OSError as error:
        holds = isinstance(error, PermissionError)
        return f"it {error.strerror}" if holds else f"it cannot be read: {error.strerror}"
    os.close(fd)
    return ""


def auditd_log(auditd_conf: str = AUDITD_CONF) -> str:
    """The path of auditd's log by its configuration."""
    try:
        with open(auditd_conf, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition("=")
                if key.strip().lower() == "log_file" and value.strip().startswith("/"):
                    return value.strip()
    except OSError:
        return _DEFAULT  # no auditd here, or not ours to read
    return _DEFAULT


def meet(name: str, path: str, other: str, taken: str) -> bool:
    """Whether two options write to one file, or one to where the other puts its rotated files."""
    first, second = os.path.normpath(path), os.path.normpath(taken)
    if first == second:
        return True
    pairs = ((name, first, second), (other, second, first))
    return any(
        one.startswith(("journal.", "output.file.", "rule "))
        and long.startswith(f"{short}.")
        and long[len(short) + 1 :].isdecimal()
        for one, short, long in pairs
    )
