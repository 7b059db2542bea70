"""What is shown to people: nothing from outside moves the cursor, hides itself or passes for something else.

This is the one place that decides it. A character that is not printable (str.isprintable: control characters, C1
included, format characters such as bidirectional marks, separators other than the space, what is not assigned) is shown
escaped, as \\x1b or \\u202e. Names that containers have are shown in quotes where they could pass for our own words.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TextIO

#: to the top left, and all behind it cleared
HOME: Final = "\x1b[H\x1b[J"
#: no more of one text is shown
MAX_TEXT: Final = 160
#: what stands for a process of no container, or of one that is not known
HOST: Final = "host"
NOT_KNOWN: Final = "?"
_WORDS: Final = frozenset((HOST, NOT_KNOWN, "unknown", "unset", "kernel", "held", "-"))
#: a name that needs no quotes: what the runtimes allow
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")
ESCAPED_NOTICE: Final = (
    "auditns: stdout is a terminal: bytes that it would obey are shown escaped; a file or a pipe gets them as they are"
)


def escape(words: str) -> str:
    """``words`` without anything that a terminal would obey."""
    if words.isprintable():
        return words
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)


def clean(words: str, limit: int = MAX_TEXT) -> str:
    """The same, and not longer than ``limit``."""
    words = escape(words[: limit + 1])  # who is watched chooses how much there is to escape
    return words if len(words) <= limit else words[: limit - 1] + "…"


def named(name: str, limit: int = 40) -> str:
    """A name, in quotes where it could be taken for one of our words."""
    shown = clean(name, limit)
    if shown.casefold() not in _WORDS and _PLAIN.fullmatch(shown.removesuffix("…")):
        return shown
    return f'"{shown}"'


def lines(data: bytes) -> bytes:
    """Whole lines of text as they are shown on a terminal."""
    shown = (escape(line) for line in data.decode("utf-8", "backslashreplace").split("\n"))
    return "\n".join(shown).encode("utf-8")


def objects(data: bytes) -> bytes:
    """Lines of JSON, which escape all but DEL."""
    return data.replace(b"\x7f", b"\\u007f")


def for_people(name: str, terminal: bool) -> Callable[[bytes], bytes] | None:
    """What is done to output of the format ``name`` on its way to a ``terminal``, which is said in one line; ``None``:
    nothing. Lines for people are made as they are to be shown."""
    if not terminal or name == "pretty":
        return None
    if name == "json":
        return objects
    complain(ESCAPED_NOTICE)
    return lines


def show(text: str | Iterable[str], file: TextIO | None = None, *, flush: bool = False) -> None:
    """Print lines for people: a text is one, whatever a name in it holds, and of several each."""
    parts = (text,) if isinstance(text, str) else text
    print("\n".join(map(escape, parts)), file=file, flush=flush)


def complain(text: str) -> None:
    """Say one line on stderr."""
    show(text, sys.stderr)


def width(words: str) -> int:
    """The columns that printable ``words`` take."""
    if words.isascii():
        return len(words)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in words)


def _cut(line: str, columns: int) -> str:
    if width(line) < columns:
        return line
    kept, room = [], max(columns - 2, 1)
    for c in line:
        room -= width(c)
        if room < 0:
            break
        kept.append(c)
    return "".join(kept) + "…"


def fit(shown: Sequence[str], size: os.terminal_size | None = None) -> list[str]:
    """``shown``, escaped already, cut to what a terminal of ``size`` (this one's) holds with its cursor below: longer
    lines end in …, and the last line says how many there are more."""
    if size is None:
        import shutil  # it takes long to load, and a daemon has no terminal

        size = shutil.get_terminal_size()
    columns, rows = size
    room = max(rows - 2, 1)
    cut = [_cut(line, columns) for line in shown[:room]]
    return [*cut, f"… {len(shown) - room} more lines"] if len(shown) > room else cut
