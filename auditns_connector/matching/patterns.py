"""What a value may be: patterns with ``*``, ``?`` and ``[…]``, several of them, and ``!=``. Pure."""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from typing import Final, NamedTuple

#: what a pattern says of one value
Match = Callable[[str], bool]
_WILD: Final = re.compile(r"\[[^\]]*\]|[*?]")
#: characters that stand for themselves wherever they are written: not those that hex or JSON takes
_SAFE: Final = re.compile(r"[A-Za-z0-9_./:@+,=%~^-]+")
#: no word has a shorter piece looked for
_LEAST: Final = 2


class Patterns(NamedTuple):
    """Of ``wanted`` any, of ``unwanted`` none; both as they were written, without ``!=``."""

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.wanted or self.unwanted)


def parse(texts: Iterable[str], *, listed: bool = False) -> Patterns:
    """The patterns of several options; ``listed``: each may hold several words with commas between."""
    wanted: list[str] = []
    unwanted: list[str] = []
    for text in texts:
        negated = text.startswith("!=")
        body = text[2:] if negated else text.removeprefix("=")
        (unwanted if negated else wanted).extend(body.split(",") if listed else [body])
    return Patterns(tuple(wanted), tuple(unwanted))


def matcher(patterns: Sequence[str]) -> Match:
    """Whether a value is one of ``patterns``."""
    plain = frozenset(one for one in patterns if not is_wild(one))
    wild = [translate(one) for one in patterns if is_wild(one)]
    if not wild:
        return plain.__contains__
    pattern = re.compile("|".join(wild))
    return lambda value: value in plain or pattern.match(value) is not None


def is_wild(pattern: str) -> bool:
    """Whether it has places for anything."""
    return _WILD.search(pattern) is not None


def piece(pattern: str) -> str:
    """The longest run of plain characters that every value has which ``pattern`` means; empty where there is none."""
    runs = [run for part in _WILD.split(pattern) for run in _SAFE.findall(part)]
    longest = max(runs, key=len, default="")
    return longest if len(longest) >= _LEAST else ""


def pieces_as_written(pieces: Iterable[str]) -> list[bytes] | None:
    """How a value with one of ``pieces`` stands in the text, as it is or in hex; ``None`` where one is empty: it may be
    anywhere."""
    found: list[bytes] = []
    for one in pieces:
        if not one:
            return None
        raw = one.encode("utf-8", "surrogateescape")
        found += [raw, raw.hex().upper().encode()]
    return found


def needles(patterns: Iterable[str]) -> list[bytes] | None:
    """The same for values that ``patterns`` mean; one that is a plain word begins behind a quote or an equals sign."""
    found: list[bytes] = []
    for pattern in patterns:
        written = pieces_as_written([piece(pattern)])
        if written is None:
            return None
        if piece(pattern) == pattern:
            written[:1] = [b'"' + written[0], b"=" + written[0]]
        found += written
    return found
