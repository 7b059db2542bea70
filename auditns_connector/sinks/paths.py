"""Opening files and directories of ours so that nobody can put something else in their place."""

import errno
import os
import stat


def open_directory(path: str, gid: int = -1) -> int:
    """Open the directory ``path``, made with mode 0750 and group ``gid`` if it is not there; returns a descriptor.

    The last component must not be a symbolic link, and the directory must belong to root or to us and not be
    writable by all, unless it is sticky. Raises OSError.
    """
    try:
        fd = _open_directory(path)
    except FileNotFoundError:
        os.mkdir(path, 0o750)
        fd = _open_directory(path)
        if gid >= 0 and os.geteuid() == 0:
            os.fchown(fd, -1, gid)
    info = os.fstat(fd)
    open_to_all = info.st_mode & 0o002 and not info.st_mode & stat.S_ISVTX
    if info.st_uid not in (0, os.geteuid()) or open_to_all:
        os.close(fd)
        raise PermissionError(errno.EPERM, "the directory can be changed by others", path)
    return fd


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def open_log(name: str, directory: int, mode: int, gid: int = -1) -> int:
    """Open the log file ``name`` for appending, made if it is not there; returns a descriptor.

    Refused with OSError: a symbolic link, anything but a regular file with one link, a file of somebody else.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            raise PermissionError(errno.EPERM, "not a regular file with one name", name)
        if info.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, f"belongs to uid {info.st_uid}", name)
        if gid >= 0 and info.st_gid != gid and os.geteuid() == 0:
            os.fchown(fd, -1, gid)
        if stat.S_IMODE(info.st_mode) != mode:
            os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def group_id(name: str) -> int:
    """The number of the group ``name``, -1 when there is no such group here."""
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return -1
