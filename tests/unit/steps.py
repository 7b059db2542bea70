"""How much is done, in lines of Python that are run: the same on every machine, however busy it is."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(call: Callable[[], object]) -> int:
    """How many lines ``call`` runs."""
    count = 0

    def line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    traced(call, line)
    return count


def traced(call: Callable[[], object], trace: Callable[[FrameType, str, Any], Any]) -> None:
    """Do ``call`` with ``trace`` as sys.settrace() takes it; whoever traced before does so afterwards."""
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
