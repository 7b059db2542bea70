"""What is said to people, and how often."""

import subprocess
import sys

import pytest
import structlog

from auditns_connector.daemon.log import PAUSE, Log, RateLimitedLog, logfmt

_VALUES = [
    "plain", "two words", 'a "quoted" one', "back\\slash", "back\\slash and space", "a=b", "", "ü\u200b", 7, 0.5, None,
    True, False, ["a", 1], "two\nlines", "two\nlines with words",
]  # fmt: skip


@pytest.mark.parametrize("value", _VALUES)
def test_a_line_is_structlog_s(value: object) -> None:
    render = structlog.processors.LogfmtRenderer(key_order=["level", "event"])
    expected = render(None, "", {"reason": value, "level": "warning", "event": "it happened"})
    assert logfmt("warning", "it happened", {"reason": value}) == f"{expected}\n"


def test_a_plugin_need_not_wait_for_structlog() -> None:
    code = (
        "import sys; from auditns_connector.daemon.log import Log; "
        "Log().warning('a', b=1); print('structlog' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "level=warning event=a b=1\n")


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
