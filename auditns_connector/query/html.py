"""A page as one HTML file that asks for nothing: style and script are inside, and a policy allows these two by their
digests and nothing else. All text goes through the autoescape of Jinja2 (extra "report").

Without scripts it is read like any document; with them the timeline is zoomed and tables are filtered.
"""

import base64
import hashlib
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Final, NamedTuple

from auditns_connector.daemon.terminal import escape
from auditns_connector.errors import NotSupportedError
from auditns_connector.query.page import KINDS, Bar, Page, moment

#: lines and marks that are drawn; tables have the rest
MOST_BARS: Final = 400
#: rows of a table
MOST_ROWS: Final = 5_000
#: units of the drawing: its width, that of the names in front, height of a line, of what stands above them
WIDTH: Final = 1200
LEFT: Final = 190
_LINE: Final = 18
_TOP: Final = 22
_TICKS: Final = 5
_DAY: Final = 86_400_000
#: characters of a name that fit in front
_NAME: Final = 26
#: columns that are never divided
_TIMES: Final = frozenset(("time", "since", "until", "first", "last"))


class Drawn(NamedTuple):
    """A line, mark or band as it is placed: ``x`` and ``width`` of :data:`WIDTH`, ``a`` and ``b`` as parts of one."""

    x: float
    width: float
    y: float
    a: float
    b: float
    kind: str
    label: str
    href: str = ""
    depth: int = 0


def render(page: Page) -> str:
    """The document. Raises :class:`NotSupportedError` where Jinja2 is not installed."""
    try:
        import jinja2
    except ImportError:
        raise NotSupportedError("--html wants Jinja2: pip install 'auditns-connector[report]'") from None
    files = resources.files("auditns_connector.query").joinpath("templates")
    style, script, text = (
        files.joinpath(name).read_text(encoding="ascii") for name in ("page.css", "page.js", "page.html.j2")
    )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["plain"] = escape
    shown = page.bars[:MOST_BARS]
    first, last = _range(page)
    drawing = {
        "width": WIDTH, "left": LEFT, "times": _TIMES, "line": _LINE, "top": _TOP,
        "height": _TOP + _LINE * len(shown) + 4,
        "first": first, "last": last,
        "zone": (time.localtime(first // 1000).tm_gmtoff or 0) * 1000, "hidden_bars": len(page.bars) - len(shown),
        "bars": list(_bars(shown, page.rows_of, first, last)), "marks": list(_marks(shown, first, last)),
        "bands": list(_bands(page, first, last)), "ticks": list(_ticks(first, last)),
    }  # fmt: skip
    policy = _policy(style, script)
    return environment.from_string(text).render(
        drawing, page=page, style=style, script=script, policy=policy, kinds=KINDS, most=MOST_ROWS, moment=moment
    )


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded, sent or run but what is here."""

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    own = f"style-src {digest(style)}; script-src {digest(script)}"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


def _range(page: Page) -> tuple[int, int]:
    """The times (ms) that the timeline begins and ends with."""
    if not page.bars:
        return 0, 1
    first, last = min(bar.first for bar in page.bars), max(bar.last for bar in page.bars)
    return first, max(last, first + 1)


def _part(ms: int, first: int, last: int) -> float:
    return round(min(max((ms - first) / (last - first), 0.0), 1.0), 6)


def _placed(a: float, b: float, y: float, kind: str, label: str, *, least: float) -> Drawn:
    width = max((b - a) * (WIDTH - LEFT), least)
    return Drawn(round(min(_x(a), WIDTH - width), 2), round(width, 2), y, a, b, kind, label)


def _x(part: float) -> float:
    """Where a part of the time is drawn."""
    return round(LEFT + part * (WIDTH - LEFT), 2)


def _bars(bars: Sequence[Bar], rows_of: str, first: int, last: int) -> Iterator[Drawn]:
    for line, bar in enumerate(bars):
        a, b = _part(bar.first, first, last), _part(bar.last, first, last)
        label = f"{bar.label}: {moment(bar.first)} to {moment(bar.last)}"
        href = f"#{rows_of}-{bar.row}" if bar.row < MOST_ROWS else f"#{rows_of}"
        depth = min(bar.depth, 12)
        name = bar.label if len(bar.label) <= (fits := _NAME - depth) else bar.label[: fits - 1] + "\u2026"
        yield _placed(a, b, _TOP + line * _LINE, name, label, least=3)._replace(href=href, depth=depth)


def _marks(bars: Sequence[Bar], first: int, last: int) -> Iterator[Drawn]:
    for line, bar in enumerate(bars):
        for mark in bar.marks:
            a = _part(mark.ms, first, last)
            label = f"{moment(mark.ms)} {KINDS[mark.kind]}: {mark.label}"[:400]
            yield Drawn(_x(a), 0, _TOP + line * _LINE + _LINE / 2, a, a, mark.kind, label)


def _bands(page: Page, first: int, last: int) -> Iterator[Drawn]:
    for band in page.bands:
        if band.last >= first and band.first <= last:
            a, b = _part(band.first, first, last), _part(band.last, first, last)
            yield _placed(a, b, 0, band.kind, f"{moment(band.first)} {KINDS[band.kind]}: {band.label}"[:400], least=4)


def _ticks(first: int, last: int) -> Iterator[Drawn]:
    for number in range(_TICKS + 1):
        a = number / _TICKS
        label = moment(first + round(a * (last - first)))
        yield Drawn(_x(a), 0, 14, a, a, "tick", label[11:] if last - first < _DAY else label[:16])
