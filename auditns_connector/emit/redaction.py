"""Secrets on command lines: what patterns find in arguments and process titles is replaced by a mark. Pure.

Raw text stays as it is: it is what the kernel wrote, and others verify it. A pattern may reach over several arguments
(``--password secret``): it is looked for in all of them with spaces between, and each argument that it touches loses
its part.
"""

import re
from collections.abc import Sequence
from typing import Final

from auditns_connector.emit.fields import Argument, Fields
from auditns_connector.errors import ConfigError

MARK: Final = "[redacted]"
#: longer command lines are replaced whole: a pattern may take long over what somebody chose
LONGEST: Final = 1 << 16


class Redaction:
    """Replaces what ``patterns`` (as in Python's re) find. Raises :class:`ConfigError` for one that is none."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = []
        for pattern in patterns:
            try:
                self._patterns.append(re.compile(pattern))
            except (re.error, RecursionError, OverflowError) as error:
                raise ConfigError(f"redact {pattern!r}: not a regular expression: {error}") from None

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def records(self, records: Sequence[tuple[str, Fields]]) -> None:
        """Do it in these records, as (type, fields)."""
        for _, fields in records:
            argv = fields.get("argv")
            if isinstance(argv, list):
                fields["argv"] = [
                    _marked(whole) if isinstance(whole, list) else one
                    for one, whole in zip(self.arguments([_plain(one) for one in argv]), argv, strict=True)
                ]
            title = fields.get("proctitle")
            if isinstance(title, str):
                fields["proctitle"] = " ".join(str(part) for part in self.arguments([title]))

    def arguments(self, argv: Sequence[str | None]) -> list[str | None]:
        """``argv`` without what is found; an argument that the kernel left out (None) stays."""
        starts, text = [], ""
        for argument in argv:
            starts.append(len(text))
            text += f"{'' if argument is None else argument} "
        if len(text) > LONGEST:
            return [None if argument is None else MARK for argument in argv]
        spans = _apart(sorted(match.span() for pattern in self._patterns for match in pattern.finditer(text[:-1])))
        found: list[str | None] = []
        first = 0  # whoever chooses the arguments chooses how many there are and how many are found in them
        for argument, start in zip(argv, starts, strict=True):
            while first < len(spans) and spans[first][1] <= start:
                first += 1
            found.append(None if argument is None else _without(argument, start, spans, first))
        return found


def _plain(argument: Argument) -> str | None:
    """An argument as one string."""
    return "".join(piece or "" for piece in argument) if isinstance(argument, list) else argument


def _marked(pieces: list[str | None]) -> list[str | None]:
    """Pieces of an argument that is not whole: what would be found in it nobody knows."""
    return [None if piece is None else MARK for piece in pieces]


def _apart(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted ``spans`` without what those before them cover."""
    found: list[tuple[int, int]] = []
    for low, high in spans:
        low = max(low, found[-1][1] if found else 0)
        if low < high:
            found.append((low, high))
    return found


def _without(argument: str, start: int, spans: Sequence[tuple[int, int]], first: int) -> str:
    """``argument``, which stands at ``start``, with a mark for each part that ``spans`` cover, from number ``first``
    on."""
    out, at = "", 0
    for n in range(first, len(spans)):
        low, high = max(spans[n][0] - start, at), min(spans[n][1] - start, len(argument))
        if low >= len(argument):
            break
        out += argument[at:low] + MARK
        at = high
    return out + argument[at:]
