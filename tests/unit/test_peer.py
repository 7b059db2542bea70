"""Who asks: by what the kernel says, also where it has no pidfd of a peer, and never by what the peer says."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.control import peer
from auditns_connector.control.peer import Peer, PidHandle, describe_caller, peer_accepted, translate
from auditns_connector.sources.procfs import Procfs

CONNECT = """
import os, socket, struct, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
forged = struct.pack("=iII", int(sys.argv[2]), 0, 0)
try:
    sock.sendmsg([b"hello"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, forged)])
except PermissionError:
    sock.send(b"hello")  # who may not lie says nothing; root of a container may not
sys.stdin.read()
"""


@pytest.fixture(params=[77, 9999], ids=["by pidfd", "an older kernel"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel tells a peer's pidfd: what it says to an option that it does not know is tried for real."""
    monkeypatch.setattr(peer, "SO_PEERPIDFD", request.param)
    with contextlib.ExitStack() as stack:
        pair = [stack.enter_context(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
        try:
            os.close(struct.unpack("=i", pair[0].getsockopt(socket.SOL_SOCKET, request.param, 4))[0])
        except OSError:
            if request.param == 77:
                pytest.skip("this kernel has no SO_PEERPIDFD")
            return False
    return True


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[tuple[socket.socket, "subprocess.Popen[bytes]"]]:
    """A connection accepted, and the process at its other end, which says that it is somebody else."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen(1)
        command = [sys.executable, "-c", CONNECT, path, str(os.getpid())]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            sock, _ = server.accept()
            with sock:
                assert sock.recv(100) == b"hello"
                yield sock, process
            process.communicate()


def told(sock: socket.socket, known: Peer) -> dict[str, object]:
    with PidHandle.by_socket(sock) as held:
        return describe_caller(Procfs(), held, known)


def test_it_is_the_process_that_connected(
    kernel: bool, connected: tuple[socket.socket, "subprocess.Popen[bytes]"]
) -> None:
    sock, process = connected
    known = peer_accepted(sock, Procfs())
    assert (known.pid, known.uid, known.gid) == (process.pid, os.getuid(), os.getgid())
    assert (known.start is None) == kernel
    about = told(sock, known)
    began = Procfs().describe(process.pid)
    assert began is not None
    assert (about["pid"], about["start"]) == (process.pid, began["start"])
    assert [os.getpid()] == [pid for pid, _ in about["ancestors"]][:1]  # type: ignore[attr-defined]


def test_one_that_has_gone_is_nobody(kernel: bool, connected: tuple[socket.socket, "subprocess.Popen[bytes]"]) -> None:
    sock, process = connected
    known = peer_accepted(sock, Procfs())
    process.communicate()
    about = told(sock, known)
    assert (about["start"], about["privileged"]) == (None, False)


def test_what_was_read_is_believed_only_if_the_process_lives_still(
    connected: tuple[socket.socket, "subprocess.Popen[bytes]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reading and the end of it somebody else may have come by the number."""
    sock, _ = connected
    known = peer_accepted(sock, Procfs())
    monkeypatch.setattr(PidHandle, "alive", lambda self: False)
    about = told(sock, known)
    assert (about["start"], about["privileged"]) == (None, False)


def test_a_later_holder_of_its_pid_is_nobody(
    connected: tuple[socket.socket, "subprocess.Popen[bytes]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "SO_PEERPIDFD", 9999)
    sock, _ = connected
    known = peer_accepted(sock, Procfs())
    assert known.start is not None
    assert told(sock, known)["start"] is not None
    about = told(sock, known._replace(start=known.start - 1_000_000_000))
    assert (about["start"], about["privileged"]) == (None, False)


@pytest.mark.parametrize("pid", [None, True, 0, -1, 1 << 31, "1", 1.0, [1], {}])
def test_what_is_no_pid_names_nobody(pid: object) -> None:
    inode = os.stat("/proc/self/ns/pid").st_ino
    assert translate(pid, {"pid_ns": inode, "depth": 1}) == 0
    assert translate(os.getpid(), {"pid_ns": inode, "depth": 1}) == os.getpid()
