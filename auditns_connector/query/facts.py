"""What one event tells: which program, which files and how, which address, which error. Objects of JSON in, words out.

The numbers of system calls and errors are those of the architecture that the record says; flags are those of
include/uapi/asm-generic/fcntl.h, which every architecture of ours has for these bits.
"""

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from auditns_connector.emit import words as w
from auditns_connector.emit.fields import flat
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.syscall_names import call_name
from auditns_connector.vocabulary.values import JsonObject

#: an event as --format json has it
Event = JsonObject
_WRITE: Final = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND
#: calls with flags -> the argument that has them
_FLAGGED: Final = {"open": "a1", "openat": "a2", "open_by_handle_at": "a2"}
_CHANGES: Final = """
creat truncate ftruncate rename renameat renameat2 unlink unlinkat mkdir mkdirat rmdir link linkat symlink symlinkat
mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat setxattr lsetxattr fsetxattr removexattr
lremovexattr fremovexattr utime utimes utimensat futimesat mount umount umount2 swapon swapoff
"""
_CHANGING: Final = frozenset(_CHANGES.split())
_PROGRAMS: Final = frozenset(("execve", "execveat"))
LOGINS: Final = frozenset(("LOGIN", "USER_LOGIN", "USER_START", "USER_AUTH", "USER_CMD"))


def read(line: bytes) -> Event:
    """The event of a line of ``--format json``, its records called by their names however the log spells them:
    ``UNKNOWN[1342]`` is a CONTAINER_INFO to whoever asks."""
    event: Event = json.loads(line)
    for record in event.get("records", ()):
        record["type"] = rectypes.plain(record["type"])
    return event


class Facts(NamedTuple):
    """An event in words. ``call`` is "" where there was no system call; ``failed`` the error's name, or "failed"."""

    ms: int
    serial: int
    pid: int
    ppid: int
    comm: str
    exe: str
    auid: str
    uid: str
    call: str
    failed: str
    key: str
    argv: tuple[str, ...]
    files: tuple[tuple[str, bool], ...]
    addresses: tuple[str, ...]
    kinds: tuple[str, ...]


def facts_of(event: Event) -> Facts:
    """What ``event``, an object of ``--format json``, tells."""
    records = event["records"]
    main = next((one for one in records if one["type"] == "SYSCALL"), records[0] if records else {"type": ""})
    call = _call(main)
    pairs = [(one["type"], one) for one in records]
    argv = next((one["argv"] for one in records if isinstance(one.get("argv"), list)), ())
    return Facts(
        int(event["time"].replace(".", "")),
        event["serial"],
        _number(main, "pid"),
        _number(main, "ppid"),
        _text(main, "comm"),
        _text(main, "exe"),
        _user(main, "auid"),
        _user(main, "uid"),
        call,
        _failed(main, records),
        _text(main, "key"),
        tuple("…" if word is None else word for word in flat(argv)),
        tuple(_files(call, main, pairs)) if call not in _PROGRAMS else (),
        tuple(found for kind, one in pairs if kind == "SOCKADDR" and (found := w.address(one))),
        tuple(dict.fromkeys(one["type"] for one in records)),
    )


def _number(fields: Event, name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else -1


def _text(fields: Event, name: str) -> str:
    value = fields.get(name)
    return "" if value is None or isinstance(value, (dict, list)) else str(value).replace("\1", " ")


def _user(fields: Event, name: str) -> str:
    value = _text(fields, name)
    return "unset" if value == "4294967295" else value


def _call(main: Event) -> str:
    number = main.get("syscall")
    if not isinstance(number, int):
        return ""
    return call_name(str(main.get("arch")), number) or f"syscall {number}"


def _failed(main: Event, records: list[Event]) -> str:
    if main.get("success") == "no":
        return w.failure(main)
    words = [word for one in records for word in (str(one.get("msg") or "").split())]
    if "res=failed" in words or "res=0" in words or main.get("res") == 0:
        return "failed"
    return ""


def _files(call: str, main: Event, pairs: "list[tuple[str, Event]]") -> Iterator[tuple[str, bool]]:
    """Files, and whether they were (to be) changed."""
    flags = _number_of(main, _FLAGGED[call], 16) if call in _FLAGGED else 0
    flags |= next((_number_of(one, "oflag", 8) for kind, one in pairs if kind == "OPENAT2"), 0)
    changing = call in _CHANGING or bool(flags & _WRITE)
    made = {
        str(one.get("name")) for kind, one in pairs if kind == "PATH" and one.get("nametype") in ("CREATE", "DELETE")
    }
    for path in dict.fromkeys(w.paths(list(pairs))):
        yield path, changing or any(path.endswith(name) for name in made)


def _number_of(fields: Event, name: str, base: int) -> int:
    try:
        return int(str(fields.get(name)), base)
    except ValueError:
        return 0
