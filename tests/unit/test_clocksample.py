"""When the wall clock is worth telling."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from auditns_connector._native import ffi, lib


@pytest.fixture
def sample() -> Iterator[Any]:
    made = ffi.new("struct clock_sample *", {"watch": lib.clock_watch_open(), "step": 10**15})
    yield made
    os.close(made.watch)


def test_the_first_is_told_and_the_same_again_is_not(sample: Any) -> None:
    assert lib.clock_look(sample) == 1
    assert (sample.before, sample.missed) == (0, 0)
    first = sample.at
    assert lib.clock_look(sample) == 0
    assert sample.before == first <= sample.at <= time.monotonic_ns()
    sample.emitted = 0  # a journal begins anew
    assert lib.clock_look(sample) == 1


def test_the_offset_is_that_of_the_clocks(sample: Any) -> None:
    before = time.time_ns() - time.monotonic_ns()
    lib.clock_look(sample)
    after = time.time_ns() - time.monotonic_ns()
    assert abs(2 * sample.offset - before - after) <= 2 * abs(after - before) + 100_000_000


def test_a_step_is_told(sample: Any) -> None:
    lib.clock_look(sample)
    sample.offset += 2 * 10**15  # as it was before somebody set the clock
    assert lib.clock_look(sample) == 1
    assert sample.missed == 0
    assert abs(sample.offset - (time.time_ns() - time.monotonic_ns())) < 10**9


def test_without_a_watch_nothing_is_missed() -> None:
    bare = ffi.new("struct clock_sample *", {"watch": -1, "step": 10**15})
    assert (lib.clock_look(bare), lib.clock_look(bare), bare.missed) == (1, 0, 0)
