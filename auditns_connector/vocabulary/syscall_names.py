"""Names of system calls by architecture and number, and of the errors they return, for people.

``syscall_names.txt`` is written by cdefs/generate_syscalls.py; only the line of an architecture that is asked for is
read.
"""

import errno
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Final

#: alpha, mips, parisc and sparc have error numbers of their own
_OTHER_ERRORS: Final = frozenset((0x9026, 8, 15, 2, 43))
_ERRORS: Final[dict[int, str]] = {
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    516: "ERESTART_RESTARTBLOCK",
    **errno.errorcode,
}


@cache
def _lines() -> dict[str, str]:
    text = resources.files("auditns_connector.vocabulary").joinpath("syscall_names.txt").read_text(encoding="ascii")
    lines = (line.partition(":") for line in text.splitlines())
    return {arch: calls for arches, _, calls in lines for arch in arches.split()}


@cache
def _table(arch: str) -> dict[int, str]:
    found: dict[int, str] = {}
    number = 0
    for word in _lines().get(arch, "").split():
        if word.isdigit():
            number = int(word)
        else:
            found[number] = word
            number += 1
    return found


def call_name(arch: str, number: int) -> str | None:
    """The name of system call ``number`` where a record says ``arch=`` (hexadecimal, as it stands there)."""
    return _table(arch).get(number) if arch in _lines() else None


def calls_named(match: Callable[[str], bool]) -> dict[str, frozenset[int]]:
    """Architecture (hexadecimal, as records have it) -> the numbers of the calls there whose names ``match``."""
    found = {arch: frozenset(n for n, name in _table(arch).items() if match(name)) for arch in _lines()}
    return {arch: numbers for arch, numbers in found.items() if numbers}


def error_name(arch: str, number: int) -> str | None:
    """The name of error ``number`` there; ``None`` where it is not known."""
    try:
        machine = int(arch, 16) & 0xFFFF
    except ValueError:
        return None
    return None if machine in _OTHER_ERRORS else _ERRORS.get(number)
