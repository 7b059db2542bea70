"""Moments as journalctl takes them (systemd.time(7)): ``2026-11-30 14:05``, ``today``, ``-1h30min``, ``2 hours ago``,
``@1795307949.616``. Pure but for the clock and the time zone of this host."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from auditns_connector.errors import ConfigError

_DAY: Final = 86_400.0
_UNITS: Final[dict[str, float]] = {
    **dict.fromkeys(("usec", "us", "µs"), 1e-6),
    **dict.fromkeys(("msec", "ms"), 1e-3),
    **dict.fromkeys(("seconds", "second", "sec", "s", ""), 1.0),
    **dict.fromkeys(("minutes", "minute", "min", "m"), 60.0),
    **dict.fromkeys(("hours", "hour", "hr", "h"), 3600.0),
    **dict.fromkeys(("days", "day", "d"), _DAY),
    **dict.fromkeys(("weeks", "week", "w"), 7 * _DAY),
    **dict.fromkeys(("months", "month", "M"), 30.44 * _DAY),
    **dict.fromkeys(("years", "year", "y"), 365.25 * _DAY),
}
_SPAN: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([A-Za-zµ]*)\s*")
_WHEN: Final = re.compile(
    r"(?:(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{2}-[0-9]{2}-[0-9]{2}|today|yesterday|tomorrow)(?:[ T]|$))?"
    r"(?:(?P<clock>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?))?"
    r"\s*(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*|[+-][0-9]{2}:?[0-9]{2})?"
)
_WEEKDAY: Final = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+(?=[0-9])", re.IGNORECASE)
_DAYS: Final = {"today": 0, "yesterday": -1, "tomorrow": 1}
_OFFSET: Final = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})")


def milliseconds(text: str, now: float) -> int:
    """The moment that ``text`` means, in ms since 1970, where it is ``now`` (seconds). Raises :class:`ConfigError`."""
    words = " ".join(text.split())
    found = _relative(words, now) if words else None
    if found is None:
        found = _absolute(_WEEKDAY.sub("", words, count=1), now)
    if found is None or not 0 <= found < 1e11:
        raise ConfigError(
            f"time {text!r}: allowed are 2026-11-30 14:05:00, 14:05, now, today, yesterday, -1h30min, '2 days ago' and "
            "@SECONDS, with UTC or a time zone behind those with a clock"
        )
    return round(found * 1000)


def _relative(words: str, now: float) -> float | None:
    """``now``, ``@SECONDS``, ``-SPAN``, ``+SPAN``, ``SPAN ago``, ``SPAN left``; ``None`` where it is none of these."""
    if words == "now":
        return now
    if words[0] == "@":
        return float(words[1:]) if re.fullmatch(r"[0-9]{1,11}(?:\.[0-9]{1,9})?", words[1:]) else None
    sign = {"-": -1, "+": 1}.get(words[0])
    body = words[1:]
    if sign is None:
        body, _, last = words.rpartition(" ")
        sign = {"ago": -1, "left": 1}.get(last)
    span = _span(body.strip()) if sign is not None else None
    return None if sign is None or span is None else now + sign * span


def _span(words: str) -> float | None:
    """``1h 30min`` in seconds."""
    at, total = 0, 0.0
    while at < len(words):
        match = _SPAN.match(words, at)
        unit = None if match is None else _UNITS.get(match[2])
        if match is None or unit is None:
            return None
        total += float(match[1]) * unit
        at = match.end()
    return total if words else None


def _absolute(words: str, now: float) -> float | None:
    match = _WHEN.fullmatch(words.removesuffix("Z") + " UTC" if re.search(r"[0-9]Z$", words) else words)
    if match is None or not (match["date"] or match["clock"]):
        return None
    zone = _zone(match["zone"])
    try:
        here = datetime.fromtimestamp(now, zone)
        date, clock = match["date"], match["clock"] or "00:00"
        if date is None or date in _DAYS:
            day = (here + timedelta(days=_DAYS.get(date or "", 0))).strftime("%Y-%m-%d")
        else:
            day = date if len(date) == 10 else f"20{date}"
        clock = clock if clock.count(":") == 2 else f"{clock}:00"
        form = "%Y-%m-%d %H:%M:%S.%f" if "." in clock else "%Y-%m-%d %H:%M:%S"
        found = datetime.strptime(f"{day} {clock}", form)
        return (found.astimezone() if zone is None else found.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _zone(name: str | None) -> tzinfo | None:
    """The time zone of that name; ``None``: that of this host. Raises :class:`ConfigError`."""
    if name is None:
        return None
    if name.upper() in ("UTC", "GMT"):
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        minutes = int(offset[2]) * 60 + int(offset[3])
        if minutes < 24 * 60:
            return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"time zone {name!r}: this host knows none of that name") from None
