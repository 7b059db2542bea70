"""Reading a configuration that somebody else could have written, or that is no file at all."""

import os
import stat
from typing import Final

from auditns_connector.errors import ConfigError

MAX_FILE: Final = 1 << 20


def read_text(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{path}: not a regular file")
        if os.geteuid() == 0:
            if info.st_uid != 0:
                raise ConfigError(f"{path}: belongs to uid {info.st_uid}; allowed: root (chown root {path})")
            if info.st_mode & 0o002 or (info.st_mode & 0o020 and info.st_gid != 0):
                mode = stat.S_IMODE(info.st_mode)
                raise ConfigError(f"{path}: mode {mode:04o} lets others write it; allowed: 0640 (chmod 0640 {path})")
        data = b""
        while len(data) <= MAX_FILE and (piece := os.read(fd, MAX_FILE + 1 - len(data))):
            data += piece
    finally:
        os.close(fd)
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: larger than {MAX_FILE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
