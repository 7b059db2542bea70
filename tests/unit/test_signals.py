"""A signal counts wherever it comes: the handler runs between any two steps of the main thread, and each is tried."""

import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from auditns_connector.daemon import process
from auditns_connector.daemon.log import Log
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


EVENT = (
    b"type=SYSCALL msg=audit(1700000000.100:7): arch=c000003e syscall=257 success=yes exit=3 ppid=1 pid=50\n"
    b"type=PROCTITLE msg=audit(1700000000.100:7): proctitle=78\n"
)


def whole_run(number: int, text: bytes = EVENT) -> tuple[Host, bool, bool]:
    """A run that SIGTERM ends when ``text`` has come, and one more before the step ``number`` of all that the loop does
    from the first to the last; whether it has as many, and whether that one has cut it short."""
    host = Host()
    host.theirs.send(text)
    host.pipeline.early = [signal.SIGTERM]
    cut = met = False
    try:
        with stoppable():
            try:
                met = calls_before_step(
                    number, host.pipeline.run, lambda: signal.raise_signal(signal.SIGTERM), loop.__file__
                )
            except Stopped:
                cut = met = True
        return host, met, cut
    finally:
        host.observer.close()
        host.audit.close()
        host.ours.close()
        host.theirs.close()


def test_a_second_signal_before_whatever_step_loses_nothing_of_what_was_begun() -> None:
    """It ended the program in the middle of the end: what had arrived was lost, and nothing said so."""
    number, met, cuts = 0, True, 0
    while met:
        host, met, cut = whole_run(number)
        cuts += cut
        untouched = cut and not host.pipeline.stopping  # it came before the run had begun
        written = b"".join(line for line in host.sink.text.splitlines(True) if b"CONTAINER_ID" not in line)
        assert untouched or written == EVENT, f"step {number}"
        number += 1
    assert number > 2 * cuts > 0


def test_an_end_that_does_not_come_is_cut_short_by_a_second_signal_which_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "_MOST_END", -1.0)
    host = Host()
    host.pipeline.log = Log()
    host.pipeline.early = [signal.SIGTERM]
    host.pipeline.at_end.append(lambda: signal.raise_signal(signal.SIGTERM))
    with stoppable(), pytest.raises(Stopped):
        host.pipeline.run()
    assert "what came last may be missing" in capsys.readouterr().err
    host.observer.close()
    host.audit.close()


def test_a_signal_when_all_is_written_does_not_keep_the_last_words_back() -> None:
    with stoppable() as signals:
        signals.hold()
        signal.raise_signal(signal.SIGTERM)
        assert signals.came == [signal.SIGTERM]


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
