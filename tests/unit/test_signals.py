"""A signal counts wherever it comes: the handler runs between any two steps of the main thread, and each is tried."""

import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from auditns_connector.daemon import process
from auditns_connector.daemon.process import Stopped, stoppable, woken
from auditns_connector.pipeline import loop

from .steps import traced
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

    traced(call, trace)
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
    finally:  # hundreds of them are made
        host.observer.close()
        host.audit.close()
        host.pipeline.selector.close()
        host.ours.close()
        host.theirs.close()


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


def test_a_signal_wakes_whoever_begins_to_wait_after_its_handler_has_run() -> None:
    former = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with woken() as signal_came:
            ready = select.poll()
            ready.register(signal_came, select.POLLIN)
            signal.raise_signal(signal.SIGUSR1)
            assert ready.poll(60_000)
            signal_came.recv(64)
            assert not ready.poll(0)
    finally:
        signal.signal(signal.SIGUSR1, former)


SWALLOWED = """
import os, signal, sys
from auditns_connector.daemon import notify
from auditns_connector.config.metrics import Endpoint
from auditns_connector.metrics.http import serve


class Freed:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


notify.notify = lambda text: Freed() and None  # the signal comes where what its handler raises is forgotten
sys.exit(serve(Endpoint(path=sys.argv[1]), bytes) + (2 if os.path.exists(sys.argv[1]) else 0))
"""


def test_metrics_end_by_a_signal_that_comes_before_they_wait(tmp_path: Path) -> None:
    """They waited for the next signal, or an hour."""
    served = [sys.executable, "-c", SWALLOWED, str(tmp_path / "metrics")]
    assert subprocess.run(served, timeout=600, check=False, capture_output=True).returncode == 0


def test_whoever_is_stoppable_knows_of_signals_whatever_became_of_them() -> None:
    class Freed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    unraisable: list[object] = []
    former, sys.unraisablehook = sys.unraisablehook, lambda what: unraisable.append(what.exc_type)
    try:
        with stoppable() as signals:
            Freed()
        assert (signals.came, unraisable) == ([signal.SIGTERM], [Stopped])
    finally:
        sys.unraisablehook = former


def test_a_signal_is_the_same_before_whatever_step_of_beginning_and_ending_it_comes() -> None:
    """Nothing escapes but Stopped, and the handlers of before are there afterwards, or the signal ends the program."""

    def block() -> None:
        with stoppable():
            pass

    def mine(number: int, frame: object) -> None:
        came.append(number)

    came: list[int] = []
    former = signal.signal(signal.SIGTERM, mine)
    number, met, stopped = 0, True, 0
    try:
        while met:
            try:
                met = calls_before_step(number, block, lambda: signal.raise_signal(signal.SIGTERM), process.__file__)
            except Stopped:
                stopped += 1
            number += 1
            signal.signal(signal.SIGTERM, mine)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert len(came) + stopped == number - 1
    assert stopped
