"""Sorting and splitting blocks of frames, in C."""

import random

import pytest

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary import frames


def block_of(times):
    return b"".join(
        frames.pack(frames.K_COMM, frames.S_CN, time, pid=place, payload=b"x" * (place % 17))
        for place, time in enumerate(times)
    )


def sort(block):
    data = bytearray(block)
    with ffi.from_buffer(data) as view:
        failed = lib.frames_sort(view, len(data))
    return failed, bytes(data)


@pytest.mark.parametrize(
    "times",
    [
        [],
        [1],
        [1, 2, 3],
        [3, 2, 1],
        [1, 3, 5, 2, 4, 6],
        [5, 5, 1, 5, 1],
        [1, 2, 3, 1, 2, 3, 1, 2],
        [0xFFFFFFFFFFFFFFFF, 0],
        random.Random(1).choices(range(50), k=1000),
    ],
    ids=["none", "one", "sorted", "reversed", "two runs", "equal", "three runs", "largest", "random"],
)
def test_sort_is_by_time_and_stable(times):
    failed, block = sort(block_of(times))
    expected = sorted(enumerate(times), key=lambda item: item[1])
    assert failed == 0
    assert [(frame.pid, frame.time) for frame in frames.iter_frames(block)] == expected


@pytest.mark.parametrize("damage", [b"\0" * 7, b"\0" * 48, frames.pack(1, 1, 1)[:-8]])
def test_what_is_no_frame_is_refused(damage):
    block = block_of([2, 1]) + damage
    failed, untouched = sort(block)
    assert failed == -22
    assert untouched == block


@pytest.mark.parametrize(("cut", "kept"), [(0, 0), (1, 1), (2, 3), (3, 3), (9, 4)])
def test_split_keeps_what_is_not_later(cut, kept):
    times = [1, 2, 2, 7]
    block = block_of(times)
    end = lib.frames_split(ffi.from_buffer(block), len(block), cut)
    assert [frame.time for frame in frames.iter_frames(block[:end])] == times[:kept]
