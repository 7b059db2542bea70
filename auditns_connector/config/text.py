"""Reading a configuration that somebody else could have written, or that is no file at all."""

import os
import re
import stat
from typing import Final

from auditns_connector.errors import ConfigError
from auditns_connector.vocabulary.values import JsonObject

MAX_FILE: Final = 1 << 20
#: names with points between, so many that nobody means them: what reads TOML takes a time that grows with their square
_DEEP: Final = re.compile(r"""(?<![\w."'-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){64}""", re.ASCII)


def others_may_write(info: os.stat_result) -> bool:
    """Whether anybody but root may write a file."""
    return info.st_uid != 0 or bool(info.st_mode & 0o002) or bool(info.st_mode & 0o020 and info.st_gid != 0)


def read_text(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{path}: not a regular file")
        if os.geteuid() == 0:
            if info.st_uid != 0:
                raise ConfigError(f"{path}: belongs to uid {info.st_uid}; allowed: root (chown root {path})")
            if others_may_write(info):
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


def toml(text: str, path: str) -> JsonObject:
    """What TOML ``text`` says; ``path`` is only named in errors. Raises :class:`ConfigError`."""
    import tomllib

    deep = f"{path}: not TOML that anybody means: nested too deeply"
    if _DEEP.search(text):
        raise ConfigError(deep)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: a number has too many digits") from error
    except RecursionError as error:
        raise ConfigError(deep) from error
