"""The counter of our own events' serials."""

import fcntl
import os
import struct
import threading
import time
from pathlib import Path

import pytest

from auditns_connector.state.event_serials import FILE_NAME, HALF, MODULUS, NEAR, EventSerials

BOOT = "12345678-1234-1234-1234-123456789abc"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def test_it_starts_half_the_space_from_the_kernels_and_counts_on(folder: str) -> None:
    serials = EventSerials(folder, boot_id=BOOT)
    serials.saw(1000)
    assert [serials.take(), serials.take(3), serials.take()] == [1000 + HALF, 1001 + HALF, 1004 + HALF]
    serials.saw(1007)
    assert serials.take() == 1005 + HALF


def test_all_programs_count_together(folder: str) -> None:
    one, other = EventSerials(folder, boot_id=BOOT), EventSerials(folder, boot_id=BOOT)
    one.saw(5)
    first = one.take(10)
    assert (other.take(), one.take()) == (first + 10, first + 11)
    assert EventSerials(folder, boot_id=BOOT).take() == first + 12


def test_threads_and_programs_never_get_one_twice(folder: str) -> None:
    counters = [EventSerials(folder, boot_id=BOOT) for _ in range(2)]
    found: list[int] = []

    def work(serials: EventSerials) -> None:
        for _ in range(200):
            first = serials.take(2)
            found.extend((first, first + 1))

    threads = [threading.Thread(target=work, args=(counters[i % 2],)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 2400


def test_it_wraps_with_the_kernels() -> None:
    serials = EventSerials(None)
    serials.saw(HALF - 2)
    assert serials.take(2) == MODULUS - 2
    assert serials.take() == 0


@pytest.mark.parametrize("kernel", [HALF + 1000 - NEAR + 1, HALF + 1000, HALF + 999, HALF + 1000 + NEAR - 1])
def test_a_kernel_serial_that_comes_near_is_evaded(kernel: int) -> None:
    serials = EventSerials(None)
    serials.saw(0)
    serials.take(1000)
    serials.saw(kernel)
    assert serials.take() == (kernel + HALF) % MODULUS


def test_another_boots_counter_and_rubbish_are_not_taken_over(folder: str) -> None:
    EventSerials(folder, boot_id=BOOT).take(100)
    assert EventSerials(folder, boot_id=BOOT.replace("1", "2")).take() == HALF
    path = Path(folder, FILE_NAME)
    boot = bytes.fromhex(BOOT.replace("-", ""))
    for rubbish in (b"", b"x" * 7, b"\xff" * 40, boot + struct.pack("<Qq8x", 1 << 40, 1)):
        path.write_bytes(rubbish)
        assert EventSerials(folder, boot_id=BOOT).take() == HALF


def test_a_place_it_may_not_use_leaves_a_private_counter_and_is_told(tmp_path: Path, folder: str) -> None:
    os.mkdir(folder)
    os.symlink(tmp_path / "elsewhere", Path(folder, FILE_NAME))
    serials = EventSerials(folder, boot_id=BOOT)
    assert serials.take() == HALF
    assert len(serials.notices) == 1
    assert FILE_NAME in serials.notices[0]
    assert not (tmp_path / "elsewhere").exists()


def test_a_closed_one_goes_on_alone(folder: str) -> None:
    serials = EventSerials(folder, boot_id=BOOT)
    first = serials.take()
    serials.close()
    assert serials.take() == first + 1


def test_nobody_waits_for_a_program_that_keeps_the_counter_locked(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped one would hold up whoever has something to tell, and auditd behind it."""
    clock = iter((5.0, 5.0, 5.5, 6.5, 7.5))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    serials, other = EventSerials(folder, boot_id=BOOT), EventSerials(folder, boot_id=BOOT)
    serials.saw(1000)
    other.saw(1000)
    first = serials.take(2)
    with Path(folder, FILE_NAME).open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        apart = [counter.take(5) for counter in (serials, other, serials)]
        assert serials.take_notices() == [], "that is how it may be where both have much to tell"
        apart += [serials.take(5), serials.take(5)]
    assert apart[2:] == [(apart[0] + 5 * i) % MODULUS for i in (1, 2, 3)]
    assert len({first, first + 1, *(one + i for one in apart for i in range(5))}) == 27
    assert all(NEAR < (one - 1000) % MODULUS < MODULUS - NEAR for one in apart)
    assert (serials.apart, other.apart) == (20, 5)
    assert serials.take() == first + 2
    told = serials.take_notices()
    assert len(told) == 1
    assert f"{folder}/{FILE_NAME} locked" in told[0]
    assert serials.take_notices() == []


def test_what_is_counted_apart_evades_the_kernels_serials_as_well(folder: str) -> None:
    serials = EventSerials(folder, boot_id=BOOT)
    serials.saw(0)
    with Path(folder, FILE_NAME).open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        near = serials.take()
        serials.saw(near - 1)
        assert NEAR < (serials.take() - near) % MODULUS < MODULUS - NEAR
