"""What our programs say to people, on stderr: in structlog's colours on a terminal, elsewhere as one line of logfmt.

structlog takes longer to import than a plugin may to be ready, and each start of one may have something to say. So it
is imported where there is a terminal alone; the lines are those of its LogfmtRenderer (a test holds them against it).
"""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from auditns_connector.daemon.terminal import escape
from auditns_connector.vocabulary.values import JsonObject

#: things that :class:`RateLimitedLog` tells apart in one pause
_MOST: Final = 256
#: seconds for which :class:`RateLimitedLog` is silent
PAUSE: Final = 60.0


def logfmt(level: str, event: str, fields: JsonObject) -> str:
    """One line, its newline included."""
    return " ".join(_pair(name, value) for name, value in {"level": level, "event": event, **fields}.items()) + "\n"


def _pair(name: str, value: object) -> str:
    if value is None:
        return f"{name}="
    if isinstance(value, bool):
        return name if value else f"{name}=false"
    text = str(value)
    quotes = any(c in text for c in ' ="')
    if quotes:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("\n", "\\n")
    return f'{name}="{text}"' if quotes else f"{name}={text}"


def _plain(value: object) -> object:
    """Anything but a number as the words of one line that a terminal does not obey."""
    return value if value is None or isinstance(value, (bool, int, float)) else escape(str(value))


class Log:
    """``say("something happened", key=value)``; on a terminal in colours, else one plain line each."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._logger: Any = None

    def _log(self) -> Any:
        """Of a terminal."""
        if self._logger is None:
            import structlog

            self._logger = structlog.wrap_logger(
                structlog.PrintLogger(sys.stderr),
                processors=[structlog.processors.add_log_level, structlog.dev.ConsoleRenderer()],
                wrapper_class=structlog.BoundLogger,
            )
        return self._logger

    def info(self, event: str, **fields: object) -> None:
        """Something a person may want to know."""
        if not self.quiet:
            self._emit("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something a person should look at; said even when quiet."""
        self._emit("warning", event, fields)

    def _emit(self, level: str, event: str, fields: JsonObject) -> None:
        shown = {name: _plain(value) for name, value in fields.items()}
        try:
            if sys.stderr.isatty():
                getattr(self._log(), level)(escape(event), **shown)
            else:
                sys.stderr.write(logfmt(level, escape(event), shown))
                sys.stderr.flush()
        except OSError:
            self.quiet = True  # stderr is gone: there is nobody left to tell


class RateLimitedLog:
    """Tells of what somebody else can bring about as often as he likes: once a minute about each ``what``."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        #: what -> when it was said, and how often it was not said since
        self._said: dict[str, tuple[float, int]] = {}

    def warning(self, what: str, event: str, **fields: object) -> None:
        """Say ``event``, with how often it was left out."""
        self._say(self._log.warning, what, event, fields)

    def info(self, what: str, event: str, **fields: object) -> None:
        """The same of what a person may want to know."""
        self._say(self._log.info, what, event, fields)

    def _say(self, say: Callable[..., None], what: str, event: str, fields: JsonObject) -> None:
        now = self._clock()
        if what not in self._said and len(self._said) >= _MOST:
            self._said = {words: said for words, said in self._said.items() if now - said[0] < PAUSE}
            if len(self._said) >= _MOST:
                return  # so many different things at once are one thing
        when, left_out = self._said.get(what, (now - PAUSE, 0))
        if now - when < PAUSE:
            self._said[what] = when, left_out + 1
            return
        self._said[what] = now, 0
        say(event, **fields, **({"left_out": left_out} if left_out else {}))
