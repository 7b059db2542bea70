"""Numbers and times on the command line: what is none is said in words, with what would be one."""

import argparse
from collections.abc import Callable
from typing import Any, Final

from auditns_connector.vocabulary.values import Json

#: what may be meant by text in which there is no record
NO_AUDIT_TEXT: Final = (
    "what ausearch -i has translated cannot be read: use ausearch --raw; of the journal's own audit messages only "
    "journalctl -o json has times and serials"
)
#: why an event may have been handed out before its end
_TOO_MUCH: Final = "more than 16 MiB, or 4096 younger ones beside them, before they had ended"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def count_of(number: int, what: str) -> str:
    """``number`` with ``what`` it counts."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def were_cut(number: int) -> str:
    """That so many events were handed out before their end."""
    return f"{count_of(number, 'event')} had {_TOO_MUCH}"


def whole(low: int, high: int | None = None, what: str = "number") -> Callable[[str], int]:
    """A type of arguments: whole numbers from ``low`` to ``high`` (None: without an end), each called a ``what``."""
    reach = f"from {low} on" if high is None else f"from {low} to {high}"

    def read(text: str) -> int:
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else low - 1
        if number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}: a whole number {reach}")
        return number

    return read


def process_id(text: str) -> int:
    """A process id."""
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text[:11]) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is no process id: a number from 1 to 2147483647, as ps shows it")
    return int(text)


def seconds(text: str) -> float:
    """A time above 0: seconds, or a number with s, m, h or d behind it, as ``5m``."""
    return _seconds(text, 0.0, 1e9, "seconds, or as 90s, 5m, 2h, 1d")


def interval(low: float) -> Callable[[str], float]:
    """A type of arguments: a time from ``low`` seconds to a day."""

    def read(text: str) -> float:
        return _seconds(text, low, 86_400.0, f"from {low:g} seconds to 1d, as 5, 90s or 5m")

    return read


def as_configured(text: str, read: Callable[[Json], object], value: Json) -> Any:
    """The argument ``text`` as the configuration reads ``value``; what it would take instead is said in its words."""
    try:
        return read(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not allowed: {error}") from None


def _seconds(text: str, low: float, high: float, words: str) -> float:
    unit = _UNITS.get(text[-1:], 0)
    try:
        number = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        number = -1.0
    if not low <= number <= high or not number:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: {words}")
    return number
