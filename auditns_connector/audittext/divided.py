"""Whether an event that a log breaks off is whole with what comes of it now, or something between is missing. Pure.

The kernel writes the records of a system call's event in one order (kernel/auditsc.c, audit_log_exit): SYSCALL,
BPRM_FCAPS and EXECVE for an exec, others that depend on the call, CWD, as many PATHs as the SYSCALL says, PROCTITLE,
EOE. What depends on the call may be there or not; only where nothing can stand between two records is nothing missing.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

_KIND: Final = rb"(?:^| )type=([A-Z_]+) msg=audit\("
_ITEM: Final = rb" item=(\d{1,4})(?: |$)"
_ITEMS: Final = rb" items=(\d{1,4})(?: |$)"
_ARGC: Final = rb" argc=(\d{1,9})(?: |$)"


class Half(NamedTuple):
    """What a log has of an event: the type of the last record, its item where it is a PATH, and the number of them;
    ``whole``: that record needs none of its own type behind it."""

    kind: bytes
    item: int
    items: int
    whole: bool


def half_of(lines: Sequence[bytes]) -> Half | None:
    """What ``lines``, the records of one event, are of it; ``None`` where they do not begin with its SYSCALL."""
    kinds = [found[1] for line in lines if (found := re.search(_KIND, line)) is not None]
    if not kinds or kinds[0] != b"SYSCALL":
        return None
    items, item, argc = _number(_ITEMS, lines[0], -1), _number(_ITEM, lines[-1], -1), _number(_ARGC, lines[-1], 0)
    # an EXECVE of many arguments goes on in others
    whole = kinds[-1] != b"EXECVE" or (argc > 0 and b" a%d=" % (argc - 1) in lines[-1])
    return Half(kinds[-1], item, items, whole)


def continues(half: Half, line: bytes) -> bool:
    """Whether the record ``line`` of the same event is the one that follows for sure."""
    found = re.search(_KIND, line)
    if found is None or not half.whole:
        return False
    kind, last = found[1], half.kind
    if kind == b"PATH":
        item = _number(_ITEM, line, -1)
        return (last == b"PATH" and item == half.item + 1) or (last == b"CWD" and item == 0)
    if kind == b"PROCTITLE":
        return (last == b"PATH" and half.item == half.items - 1) or (last == b"CWD" and half.items == 0)
    return (last, kind) in _ALWAYS


def is_unbroken(lines: Sequence[bytes]) -> bool:
    """Whether nothing is missing for sure between ``lines``, the records of one event."""
    halves = (half_of(lines[: i + 1]) for i in range(len(lines) - 1))
    return all(half is not None and continues(half, line) for half, line in zip(halves, lines[1:], strict=True))


#: one type behind another, with nothing that could stand between
_ALWAYS: Final = frozenset(
    ((b"SYSCALL", b"BPRM_FCAPS"), (b"BPRM_FCAPS", b"EXECVE"), (b"EXECVE", b"CWD"), (b"PROCTITLE", b"EOE"))
)


def _number(pattern: bytes, line: bytes, otherwise: int) -> int:
    found = re.search(pattern, line)
    return otherwise if found is None else int(found[1])
