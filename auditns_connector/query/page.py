"""What is shown of an answer, whatever shows it: facts, a timeline, tables. Pure.

The same page is lines for people (:func:`lines`), an object of JSON (:func:`as_object`), and HTML (html.py).
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from auditns_connector.daemon.terminal import clean
from auditns_connector.vocabulary.values import JsonObject

#: rows of a table that people are shown, unless they want all
SOME: Final = 20
_WIDEST: Final = 100


class Table(NamedTuple):
    """``rows`` have a cell for each of ``heads``; ``dropped`` rows were too many to be remembered. ``numbers`` are the
    columns that are right-aligned."""

    key: str
    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    dropped: int = 0
    numbers: frozenset[str] = frozenset()


class Mark(NamedTuple):
    """Something at one moment (ms since 1970), of a kind of :data:`KINDS`."""

    ms: int
    kind: str
    label: str


class Bar(NamedTuple):
    """A line of the timeline from ``first`` to ``last`` (ms since 1970); ``depth`` steps below the one it came of;
    ``row`` is the place in the table "processes" (or "containers") that is about it."""

    label: str
    first: int
    last: int
    depth: int
    row: int
    marks: Sequence[Mark]


class Band(NamedTuple):
    """Something that concerns all lines, from ``first`` to ``last``."""

    first: int
    last: int
    kind: str
    label: str


#: kinds of marks and bands, and what they are called
KINDS: Final = {
    "exec": "program started", "read": "file read", "write": "file changed", "net": "network", "fail": "failed",
    "cross": "signal, trace or entry across containers", "ns": "namespace", "entry": "entry from outside",
    "loss": "records lost",
}  # fmt: skip


class Page(NamedTuple):
    """An answer. ``facts`` are name and value; ``rows_of`` the table that the bars are about."""

    title: str
    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    bars: Sequence[Bar] = ()
    bands: Sequence[Band] = ()
    rows_of: str = ""
    notes: Sequence[str] = ()


def moment(ms: int) -> str:
    """A time in the zone of this host, with milliseconds; "-" where there is none."""
    if not 0 <= ms < 1 << 48:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms // 1000)) + f".{ms % 1000:03d}"


def lines(page: Page, *, every: bool) -> Iterator[str]:
    """Lines for people, fit for a terminal; ``every`` row of each table."""
    yield clean(page.title)
    width = max((len(name) for name, _ in page.facts), default=0)
    for name, value in page.facts:
        yield f"  {name:{width}}  {clean(value)}"
    for table in page.tables:
        if not table.rows:
            continue
        yield ""
        yield f"{table.title} ({len(table.rows) + table.dropped})"
        shown = table.rows if every else table.rows[:SOME]
        yield from _aligned(table, shown)
        left = len(table.rows) - len(shown)
        if left:
            yield f"  … {left} more (--all)"
        if table.dropped:
            yield f"  … {table.dropped} more were not remembered"
    yield from ("", *(clean(note, 400) for note in page.notes)) if page.notes else ()


def _aligned(table: Table, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    # what leads a cell are the steps of a tree
    cells = [[clean(cell, _WIDEST) for cell in row] for row in ((tuple(head.upper() for head in table.heads)), *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        parts = [
            f"{cell:>{width}}" if head in table.numbers else f"{cell:{width}}"
            for cell, width, head in zip(row, widths, table.heads, strict=True)
        ]
        yield ("  " + "  ".join(parts)).rstrip()


def as_object(page: Page) -> JsonObject:
    """An object of JSON, ``"v": 1``: facts, and for each table, by its key, the rows as objects."""
    facts = {name.replace(" ", "_"): value for name, value in page.facts}
    found: JsonObject = {"v": 1, "title": page.title, "facts": facts}
    for table in page.tables:
        heads = [head.replace(" ", "_") for head in table.heads]
        found[table.key] = [dict(zip(heads, (cell.strip() for cell in row), strict=True)) for row in table.rows]
        if table.dropped:
            found[f"{table.key}_dropped"] = table.dropped
    if page.notes:
        found["notes"] = list(page.notes)
    return found
