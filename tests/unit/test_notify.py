"""What the service manager is told."""

import os
import socket
from pathlib import Path

import pytest

from auditns_connector.daemon import notify


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "notify"))
    return sock


def test_states(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname()}
    assert notify.notify("READY=1", environment)
    assert notify.notify("STOPPING=1", environment)
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]
    manager.close()


def test_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # the kernel picks an abstract address
        name = sock.getsockname()
        assert notify.notify("X=1", {"NOTIFY_SOCKET": "@" + name[1:].decode()})
        assert sock.recv(100) == b"X=1"


@pytest.mark.parametrize("path", ["", "@", "/", "vsock:2:1", "relative", "/nowhere/to/be/found", "/" + "x" * 300])
def test_no_manager_is_no_trouble(path: str) -> None:
    assert notify.notify("READY=1", {"NOTIFY_SOCKET": path}) is False
    assert notify.notify("READY=1", {}) is False


def test_a_watchdog_is_ours_or_another_process_s() -> None:
    assert not notify.watched({})
    assert notify.watched({"WATCHDOG_USEC": "120000000"})
    assert notify.watched({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(os.getpid())})
    assert not notify.watched({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(os.getpid() + 1)})
    assert not notify.watched({"WATCHDOG_USEC": "soon"})
