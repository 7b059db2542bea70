"""Under what a pass runs: load, clock steps, forced loss. Each is undone at the end, whatever happened."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from .run import Run

#: seconds by which the wall clock is set off
CLOCK_STEPS: Final = (3600.0, -3600.0, 3.0, -3.0)
STEP_HOLD: Final = 0.3
STEP_PAUSE: Final = 0.5
STOPPED: Final = 3.0
STOP_PAUSE: Final = 2.0

#: the conditions by name: load, whether loss is forced (then events may be unknown or absent), what it is
CONDITIONS: Final = {
    "idle": (False, "no load"),
    "spin": (False, "CPU spinners, 4 for each core"),
    "storm": (False, "a fork storm on every core"),
    "clock": (False, "clock_settime by ±1 h and ±3 s"),
    "tiny": (True, "tiny buffers in the subject, and a fork storm"),
    "stop": (True, "the subject stopped by SIGSTOP for 3 s at a time, tiny buffers, and a fork storm"),
}


def lossless(condition: str) -> bool:
    """Whether the subject has to get everything under this condition."""
    return not CONDITIONS[condition][0]


def tiny_buffers(condition: str) -> bool:
    """Whether the subjects are configured with tiny buffers."""
    return condition in ("tiny", "stop")


@contextlib.contextmanager
def condition(name: str, run: Run, processes: Callable[[], list[int]]) -> Iterator[None]:
    """Hold condition ``name`` during the block. ``processes``: those to be stopped, by name of the subject's."""
    with contextlib.ExitStack() as stack:
        if name == "spin":
            stack.enter_context(_background(run, "spin", 4 * (os.cpu_count() or 1)))
        if name in ("storm", "tiny", "stop"):
            stack.enter_context(_background(run, "storm", os.cpu_count() or 1))
        if name == "clock":
            stack.enter_context(clock_steps())
        if name == "stop":
            stack.enter_context(_repeating(lambda ended: _stop_processes(processes(), ended)))
        yield


@contextlib.contextmanager
def _background(run: Run, mode: str, count: int) -> Iterator[None]:
    started = [run.background(mode) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


@contextlib.contextmanager
def clock_steps() -> Iterator[None]:
    """The wall clock is set forth and back all the time during the block."""
    with _clock_guarded(), _repeating(_step_clock):
        yield


#: a program that sets the clock as it was when its input ends, where it differs by more than adjusting it explains
_GUARD: Final = """
import sys, time
wall, steady = time.CLOCK_REALTIME, time.CLOCK_MONOTONIC
offset = time.clock_gettime_ns(wall) - time.clock_gettime_ns(steady)
print(flush=True)
sys.stdin.read()
if abs(time.clock_gettime_ns(wall) - time.clock_gettime_ns(steady) - offset) > 500_000_000:
    time.clock_settime_ns(wall, time.clock_gettime_ns(steady) + offset)
"""


@contextlib.contextmanager
def _clock_guarded() -> Iterator[None]:
    """The clock is right again at the end of the block, also where we are killed in it."""
    command = [sys.executable, "-c", _GUARD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as guard:
        assert guard.stdout is not None
        guard.stdout.readline()  # it knows how the clock was
        yield
    if guard.returncode:
        raise OSError("the clock could not be guarded")


@contextlib.contextmanager
def _repeating(work: Callable[[threading.Event], None]) -> Iterator[None]:
    ended = threading.Event()
    failures: list[BaseException] = []

    def loop() -> None:
        try:
            while not ended.is_set():
                work(ended)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]


def _step_clock(ended: threading.Event) -> None:
    """Every step once; the clock is right again (by CLOCK_MONOTONIC) before each pause."""
    for step in CLOCK_STEPS:
        if ended.wait(STEP_PAUSE):
            return
        offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        try:
            _set_offset(offset + int(step * 1e9))
            ended.wait(STEP_HOLD)
        finally:
            _set_offset(offset)


def _set_offset(offset: int) -> None:
    time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_MONOTONIC) + offset)


def _stop_processes(pids: list[int], ended: threading.Event) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        ended.wait(STOPPED)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    ended.wait(STOP_PAUSE)
