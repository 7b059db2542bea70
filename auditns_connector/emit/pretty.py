"""An enriched event as one line for people: the container's name first, then what was done and by whom.

Every byte from outside that a terminal could take for more than text is shown escaped.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Final

from auditns_connector.daemon.terminal import HOST, NOT_KNOWN, clean, named
from auditns_connector.emit.fields import Fields
from auditns_connector.emit.json_objects import Who
from auditns_connector.vocabulary import syscalls

_CONTAINER: Final = "\x1b[1;36m"
_UNKNOWN: Final = "\x1b[1;33m"
_FAILED: Final = "\x1b[31m"
_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"

#: numbers of system calls where the record says no name: those that the listener's own rules ask for (x86_64)
_NAMED: Final = (
    *syscalls.CLONE_CALLS,
    *syscalls.EXEC_CALLS,
    *syscalls.NAMESPACE_CALLS,
    "kill",
    "ptrace",
    "openat",
    "connect",
)
_CALLS: Final = {syscalls.NUMBERS[syscalls.X86_64][name]: name for name in _NAMED}
_X86_64: Final = f"{syscalls.X86_64:x}"
_WIDTH: Final = 20


def label(who: Who) -> str:
    """What a container is called here: its name, else runtime and short id, else the contid."""
    if who.contid is None:
        return HOST
    if who.contid == NOT_KNOWN:
        return NOT_KNOWN
    known = who.container or {}
    runtime, number = str(known.get("runtime") or ""), str(known.get("id") or "")
    if known.get("kind") == "sandbox":
        # a namespace's inode, and what tells it from later ones; a unit may have several
        return named(f"{known.get('name') or runtime}/{number.partition('@')[0]}", 60)
    if known.get("name"):
        return named(str(known["name"]))
    if number:
        return named(f"{runtime}/{number[:12]}" if runtime else number[:12])
    return clean(who.contid, 40)


def _paint(words: str, colour: str, wanted: bool) -> str:
    return f"{colour}{words}{_RESET}" if wanted and colour else words


def _action(main: str, fields: Fields, records: Sequence[tuple[str, Fields]]) -> str:
    """What was done: the system call and its objects, or the record's own words."""
    if main != "SYSCALL":
        said = fields.get("msg") or " ".join(
            f"{name}={what}"
            for name, what in fields.items()
            if name not in ("enriched", "pid", "uid", "auid", "ses", "subj", "comm", "exe")
        )
        return f"{clean(main, 40)} {clean(str(said))}".rstrip()
    number = fields.get("syscall")
    known = _CALLS.get(number) if fields.get("arch") == _X86_64 and isinstance(number, int) else None
    call = (fields.get("enriched") or {}).get("SYSCALL") or known or f"syscall {number}"
    for kind, other in records:
        if kind == "EXECVE" and isinstance(other.get("argv"), list):
            return f"{clean(str(call))} {clean(' '.join(other['argv']))}"
    names = [other.get("name") for kind, other in records if kind == "PATH" and other.get("nametype") != "PARENT"]
    return f"{clean(str(call))} {clean(' '.join(str(name) for name in names if name))}".rstrip()


def event(
    ms: int,
    who: Who,
    targets: Iterable[tuple[int, int, Who]],
    records: Sequence[tuple[str, Fields]],
    colour: bool,
) -> bytes:
    """One line; the same arguments as :func:`jsonout.event`, times are those of the local time zone."""
    main, fields = next((r for r in records if r[0] == "SYSCALL"), records[0] if records else ("", {}))
    clock = time.strftime("%H:%M:%S", time.localtime(ms // 1000)) + f".{ms % 1000:03d}"
    tone = "" if who.contid is None else _UNKNOWN if who.contid == "?" else _CONTAINER
    parts = [
        _paint(f"{label(who):{_WIDTH}}", tone, colour),
        _paint(clock, _DIM, colour),
        _action(main, fields, records),
    ]
    for _, pid, target in targets:
        parts.append(f"-> pid={pid} in {label(target)}")
    for name in ("pid", "uid", "comm", "key"):
        if fields.get(name) is not None:
            parts.append(_paint(f"{name}={clean(str(fields[name]), 40)}", _DIM, colour))
    if fields.get("success") == "no":
        parts.append(_paint(f"failed ({clean(str(fields.get('exit')), 20)})", _FAILED, colour))
    return " ".join(parts).encode("utf-8", "backslashreplace") + b"\n"


def foreign(line: bytes) -> bytes:
    """A line of the input that is no audit record."""
    return clean(line.decode("utf-8", "backslashreplace")).encode() + b"\n"
