"""What a request about identifiers says, and what becomes of it."""

import re
from typing import Final, NamedTuple

from auditns_connector.model.places import Container
from auditns_connector.model.runtimes import UNSET
from auditns_connector.vocabulary.values import JsonObject

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+", re.ASCII)


class Outcome(NamedTuple):
    """What became of a request: the name of an errno or "", and the container it speaks of."""

    error: str = ""
    message: str = ""
    container: Container | None = None


class Refused(Exception):
    """A request that a rule forbids; ``args`` are the errno's name and what is wrong."""


def number(text: str) -> int:
    """The identifier that ``text`` spells. Raises :class:`Refused` (EINVAL, ERANGE)."""
    if not _NUMBER.fullmatch(text):
        raise Refused("EINVAL", "an identifier is a decimal or 0x-hex number")
    base = 16 if text[:2].lower() == "0x" else 10
    digits = (text[2:] if base == 16 else text).lstrip("0") or "0"
    value = int(digits, base) if len(digits) <= 20 else UNSET + 1
    if value > UNSET:
        raise Refused("ERANGE", "an identifier has 64 bits")
    return value


def caller_of(request: JsonObject) -> JsonObject:
    """Who asks, as the program that was asked has found."""
    found: JsonObject = request.get("caller") or {}
    return found
