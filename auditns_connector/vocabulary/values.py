"""Types of values that have no better one: what is decoded from JSON or TOML, and what belongs to the C."""

from typing import Any, Final

#: decoded JSON or TOML, of whatever shape: whoever reads it checks what it is
Json = Any
#: the same where it is known to be an object
JsonObject = dict[str, Any]
#: an object of cffi: its type is the C's, see the headers in cdefs/
CData = Any
#: a column of a row, of whatever type: SQLite keeps what is put into it
Column = Any


def decimal(word: str, most: int) -> int | None:
    """The number up to ``most`` that ``word`` is in decimal digits; ``None``: it is no such number, however long."""
    if not (word.isascii() and word.isdecimal()) or len(word.lstrip("0")) > len(str(most)):
        return None
    number = int(word.lstrip("0") or "0")
    return number if number <= most else None


#: the largest number of a process
MOST_PID: Final = (1 << 31) - 1
#: the largest number of a user: the one above it is nobody's
MOST_UID: Final = (1 << 32) - 2
#: of a process so many parents can be asked for in a record
MOST_PARENTS: Final = 32
