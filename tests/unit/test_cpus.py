"""Which CPUs there are, and which have gone or come: what the kernel says of them."""

import errno
import socket
from typing import Any

import pytest

from auditns_connector.sources import cpus
from auditns_connector.sources.cpus import CpuWatch, cpu_of, numbers, online_cpus


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"0\n", [0]), (b"0-3\n", [0, 1, 2, 3]), (b"0,2-3,8191\n", [0, 2, 3, 8191])],
)
def test_lists_of_the_kernel(text: bytes, expected: list[int]) -> None:
    assert numbers(text) == expected


def test_this_machine_has_one() -> None:
    assert online_cpus()


@pytest.mark.parametrize(
    ("message", "cpu"),
    [
        (b"online@/devices/system/cpu/cpu12\0ACTION=online\0", 12),
        (b"offline@/devices/system/cpu/cpu0\0", 0),
        (b"offline@/devices/system/cpu/cpu0", None),
        (b"online@/devices/system/memory/memory8\0", None),
        (b"add@/devices/system/cpu/cpu1\0", None),
        (b"", None),
    ],
)
def test_what_a_message_says(message: bytes, cpu: int | None) -> None:
    assert cpu_of(message) == cpu


class Messages:
    """A socket with ``waiting`` in it."""

    def __init__(self, *waiting: Any) -> None:
        self.waiting = list(waiting)

    def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
        if not self.waiting:
            raise BlockingIOError
        found = self.waiting.pop(0)
        if isinstance(found, OSError):
            raise found
        return found if isinstance(found, tuple) else (found, (0, 1))

    def close(self) -> None:
        pass


def watch(monkeypatch: pytest.MonkeyPatch, *waiting: Any) -> CpuWatch:
    monkeypatch.setattr(cpus, "_listen", lambda: Messages(*waiting))
    monkeypatch.setattr(cpus, "_asleep", lambda: 1000)
    return CpuWatch()


def test_who_has_gone_and_come(monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch(
        monkeypatch,
        b"offline@/devices/system/cpu/cpu1\0",
        b"online@/devices/system/cpu/cpu1\0",
        b"online@/devices/system/memory/memory8\0",
        (b"online@/devices/system/cpu/cpu7\0", (4711, 1)),
        b"online@/devices/system/cpu/cpu3\0",
    )
    assert made.changed() == {1, 3}
    assert made.changed() == frozenset()
    made.close()
    assert made.changed() == frozenset()


def test_dropped_messages_may_be_of_any(monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch(monkeypatch, OSError(errno.ENOBUFS, ""), b"online@/devices/system/cpu/cpu3\0")
    assert made.changed() is None
    assert made.changed() == {3}


def test_a_machine_that_slept_may_have_lost_any(monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch(monkeypatch)
    assert made.changed() == frozenset()
    monkeypatch.setattr(cpus, "_asleep", lambda: 10_000_000_000)
    assert made.changed() is None
    assert made.changed() == frozenset()


def test_where_no_messages_can_be_had_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(socket, "socket", refuses)
    made = CpuWatch()
    assert made.changed() == frozenset()
    made.close()


def test_the_kernel_takes_the_filter_and_nothing_is_heard_by_itself() -> None:
    made = CpuWatch()
    assert made.changed() == frozenset()
    made.close()
