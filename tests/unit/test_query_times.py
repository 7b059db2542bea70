"""Moments as journalctl takes them."""

from datetime import UTC, datetime

import pytest

from auditns_connector.errors import ConfigError
from auditns_connector.query.times import milliseconds

NOW = datetime(2026, 11, 30, 14, 5, 10, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-30 14:05:10.000"),
        ("today", "2026-11-30 00:00:00.000"),
        ("yesterday", "2026-11-29 00:00:00.000"),
        ("tomorrow", "2026-12-01 00:00:00.000"),
        ("14:00", "2026-11-30 14:00:00.000"),
        ("14:00:07", "2026-11-30 14:00:07.000"),
        ("yesterday 23:59", "2026-11-29 23:59:00.000"),
        ("2026-11-22", "2026-11-22 00:00:00.000"),
        ("2026-11-22 00:39", "2026-11-22 00:39:00.000"),
        ("2026-11-22 00:39:06.692", "2026-11-22 00:39:06.692"),
        ("2026-11-22T00:39:06Z", "2026-11-22 00:39:06.000"),
        ("2026-11-22T00:39:06.5Z", "2026-11-22 00:39:06.500"),
        ("2026-11-22 00:39:06 UTC", "2026-11-22 00:39:06.000"),
        ("2026-11-22T00:39:06+02:00", "2026-11-21 22:39:06.000"),
        ("2026-11-22 00:39:06 Europe/Berlin", "2026-11-21 23:39:06.000"),
        ("26-11-22", "2026-11-22 00:00:00.000"),
        ("Sun 2026-11-22 00:39", "2026-11-22 00:39:00.000"),
        ("-1h30min", "2026-11-30 12:35:10.000"),
        ("-2h", "2026-11-30 12:05:10.000"),
        ("+5s", "2026-11-30 14:05:15.000"),
        ("2 days ago", "2026-11-28 14:05:10.000"),
        ("1h 30m ago", "2026-11-30 12:35:10.000"),
        ("3 weeks left", "2026-12-21 14:05:10.000"),
        ("-1.5d", "2026-11-29 02:05:10.000"),
        ("@1795307949.616", "2026-11-22 00:39:09.616"),
        ("@1795307949", "2026-11-22 00:39:09.000"),
    ],
)
def test_moments(text: str, expected: str) -> None:
    found = milliseconds(text, NOW)
    shown = datetime.fromtimestamp(found // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{found % 1000:03d}"
    assert shown == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "25:00", "2026-13-01", "2026-02-30", "-", "ago", "-5parsecs", "@", "@x", "@1e9", "2026-11-22 x:y",
     "1" * 400, "-" + "9" * 12 + "y", "2026-11-22 00:39 Nowhere/Town", "14:00 +99:99"],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="time"):
        milliseconds(text, NOW)


def test_a_clock_without_a_zone_is_that_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    assert milliseconds("2026-11-22 00:39", NOW) == milliseconds("2026-11-21 23:39 UTC", NOW)
