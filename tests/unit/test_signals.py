"""A signal counts wherever it comes: the handler runs between any two steps of the main thread, and each is tried."""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from auditns_connector.pipeline import loop

from .test_slices import Host


def calls_before_step(number: int, call: Callable[[], object], act: Callable[[], object], file: str) -> bool:
    """Call ``call``, and ``act`` before its step ``number``, of the instructions of the module ``file``, as
    a signal's handler would. False where it has not as many."""
    left = number

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != file:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            left -= 1
            if left == -1:
                act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left < 0


def one_round(number: int, sign: signal.Signals) -> tuple[Host, bool]:
    """A host whose program's round is met by the signal before the step ``number``; False where it has not as many."""
    host = Host()
    host.sink.reopen = lambda: None  # type: ignore[attr-defined]
    host.pipeline._on_hup = lambda: host.asked.append(1)
    try:
        met = calls_before_step(
            number, host.pipeline._round, lambda: host.pipeline._on_signal(sign, None), loop.__file__
        )
        return host, met
    finally:
        host.observer.close()
        host.audit.close()


def test_a_signal_ends_the_run_before_whatever_step_of_a_round_it_comes() -> None:
    """One that came while the round looked whether it was over otherwise was forgotten: the run went on for ever."""
    number, met = 0, True
    while met:
        host, met = one_round(number, signal.SIGTERM)
        assert bool(host.pipeline.stopping) == met, f"step {number}"
        number += 1
    assert number > 100


def test_a_hup_is_heeded_once_before_whatever_step_of_a_round_it_comes() -> None:
    number, met = 0, True
    while met:
        host, met = one_round(number, signal.SIGHUP)
        assert len(host.asked) + host.pipeline._hup == met, f"step {number}"
        number += 1
    assert number > 100
