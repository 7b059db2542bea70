"""What is said to people, and how often."""

import pytest

from auditns_connector.daemon.log import PAUSE, Log, RateLimitedLog


def test_what_others_bring_about_is_said_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [5.0]
    rate_limited = RateLimitedLog(Log(), lambda: now[0])
    for _ in range(100):
        rate_limited.warning("one", "socket gone", stream="one")
        rate_limited.warning("two", "socket gone", stream="two")
        now[0] += 0.1
    now[0] = 5.0 + PAUSE
    rate_limited.warning("one", "socket gone", stream="one")
    said = [line for line in capsys.readouterr().err.split("\n") if line]
    assert [line.rpartition("stream=")[2] for line in said] == ["one", "two", "one left_out=99"]
