"""The values of the configuration file: each reader takes what TOML gave and returns the option.

A value that is not allowed raises ValueError, whose text says what is allowed.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from auditns_connector.vocabulary.values import Json

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

ContidTerm = int | str  # an identifier, or the words "unset" (a host process) and "unknown"

Reader = Callable[[Json], Json]


def choice(*words: str) -> Reader:
    def read(value: Json) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError(", ".join(f'"{word}"' for word in words))

    return read


def boolean(value: Json) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true, false")
    return value


def whole(low: int, high: int) -> Reader:
    def read(value: Json) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise ValueError(f"a whole number from {low} to {high}")

    return read


_UNITS: Final = {"K": KIB, "M": MIB, "G": GIB}


def _show_size(size: int) -> str:
    for letter, unit in reversed(_UNITS.items()):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def size(low: int, high: int, *, zero: bool = False, none: bool = False, power: bool = False) -> Reader:
    allowed = f'bytes, or a string like "16M", from {_show_size(low)} to {_show_size(high)}'
    allowed += (", a power of two" if power else "") + (", or 0 for no limit" if zero else "")
    allowed += ", or 0 for none" if none else ""

    def read(value: Json) -> int:
        size = -1
        if type(value) is int:
            size = value
        elif isinstance(value, str) and value.isascii():
            number, unit = (value[:-1], _UNITS[value[-1]]) if value[-1:] in _UNITS else (value, 1)
            if number.isdigit() and len(number) < 16:
                size = int(number) * unit
        if (size == 0 and (zero or none)) or (low <= size <= high and not (power and size & (size - 1))):
            return size
        raise ValueError(allowed)

    return read


_AGES: Final = {"h": 3600, "d": 86_400}


def age(value: Json) -> int:
    """A time to keep something, in seconds; 0 is for ever."""
    if value == 0 and type(value) is int:
        return 0
    if isinstance(value, str) and value[-1:] in _AGES and value[:-1].isascii() and value[:-1].isdigit():
        seconds = int(value[:-1][:12]) * _AGES[value[-1]]
        if 0 < seconds <= 100 * 366 * 86_400:
            return seconds
    raise ValueError('days or hours, as "90d" or "36h", at most 100 years, or 0 for no limit')


def pair(first: Reader, second: Reader) -> Reader:
    """Two values in a list."""

    def read(value: Json) -> tuple[Any, Any]:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError("a list of two values")
        return first(value[0]), second(value[1])

    return read


#: what may wait of what auditd hands over: bytes in memory, and in a file
INPUT_QUEUE: Final = (64 * MIB, GIB)
_INPUT_QUEUE: Final = pair(size(MIB, GIB), size(MIB, 1024 * GIB, none=True))
_INPUT_SIZE: Final = size(MIB, 16 * GIB)


def input_queue(value: Json) -> tuple[int, int]:
    """A pair as INPUT_QUEUE, or the one size of 0.1.0, as "1M": for memory, as far as it is more than the default.

    The rest waited with auditd in 0.1.0. It does not now: so little memory would drop events where there is no disk.
    """
    try:
        one = _INPUT_SIZE(value)
    except ValueError:
        memory, disk = _INPUT_QUEUE(value)
        return memory, disk
    return min(max(one, INPUT_QUEUE[0]), GIB), INPUT_QUEUE[1]


def path_name(*, empty: bool = False, longest: int = 4095) -> Reader:
    allowed = f"an absolute path of a file, without .., of at most {longest} bytes" + (', or ""' if empty else "")

    def read(value: Json) -> str:
        if empty and value == "":
            return ""
        good = isinstance(value, str) and value.startswith("/") and not value.endswith("/") and value.isprintable()
        if not good or ".." in value.split("/") or len(os.fsencode(value)) > longest:
            raise ValueError(allowed)
        return str(value)

    return read


def mode(most: int, allowed: str) -> Reader:
    """The permissions of a file: the owner's, and at the ``most`` these."""

    def read(value: Json) -> int:
        if isinstance(value, str) and 3 <= len(value) <= 4 and all(c in "01234567" for c in value):
            mode = int(value, 8)
            if mode & 0o600 == 0o600 and mode & ~most == 0:
                return mode
        raise ValueError(f"a string, {allowed}")

    return read


def group(value: Json) -> str:
    if isinstance(value, str) and 0 < len(value) < 256 and value.isprintable() and ":" not in value:
        return value
    raise ValueError("the name of a group")


def strings(allowed: str, check: Callable[[str], bool], most: int = 10_000) -> Reader:
    def read(value: Json) -> tuple[str, ...]:
        if isinstance(value, list) and len(value) <= most and all(isinstance(s, str) and check(s) for s in value):
            return tuple(value)
        raise ValueError(f"a list of {allowed}")

    return read


def number(value: Json, bits: int) -> int:
    """``value`` as an unsigned number of ``bits``: a TOML integer, or a string in decimal or 0x-hex."""
    if isinstance(value, str) and value.isascii() and "_" not in value and len(value) < 32:
        body, base = (value[2:], 16) if value[:2].lower() == "0x" else (value, 10)
        if body.isalnum():
            try:
                value = int(body, base)
            except ValueError:
                value = -1
    if type(value) is int and 0 <= value < 1 << bits:
        return value
    raise ValueError(f"a number from 0 to 2^{bits}-1, decimal or 0x-hex")


def contid(value: Json) -> int:
    contid = number(value, 64)
    if contid == 0xFFFFFFFFFFFFFFFF:
        raise ValueError("any number below 2^64-1, which means unset")
    return contid


def contids(value: Json) -> tuple[ContidTerm, ...]:
    try:
        if isinstance(value, list):
            return tuple(term if term in ("unset", "unknown") else contid(term) for term in value)
    except ValueError:
        pass  # reported below, in terms of the list
    raise ValueError('a list of container identifiers (decimal, or strings in 0x-hex), "unset" and "unknown"')


def coalesce(value: Json) -> float | None:
    if value == "adaptive":
        return None
    if type(value) in (int, float) and 0 <= value <= 1000:
        return float(value)
    raise ValueError('"adaptive", or milliseconds from 0 to 1000')


def capabilities(value: Json) -> tuple[str, ...]:
    from auditns_connector.vocabulary.capabilities import NUMBERS

    if isinstance(value, list) and all(isinstance(name, str) and name.upper() in NUMBERS for name in value):
        return tuple(sorted({name.upper() for name in value}))
    raise ValueError('a list of capabilities, such as "CAP_SETUID"')


def argv(value: Json) -> tuple[str, ...]:
    strings_only = isinstance(value, list) and all(isinstance(s, str) and "\0" not in s for s in value)
    if strings_only and len(value) <= 256 and (not value or value[0].startswith("/")):
        return tuple(value)
    raise ValueError("a list of strings, the first an absolute path")


def show(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    shown = '"' + value + '"' if isinstance(value, str) else repr(value)
    return ascii(shown)[1:-1] if len(shown) <= 80 else ascii(shown[:77])[1:-1] + "…"
