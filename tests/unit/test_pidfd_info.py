"""PIDFD_GET_INFO: the layout, what is not told, and the kernel's own answers where it has them."""

import errno
import fcntl
import os
import struct

import pytest

from auditns_connector.control.peer import PidHandle
from auditns_connector.sources import pidfd_info
from auditns_connector.sources.pidfd_info import PIDFD_GET_INFO, ask, decode, request

#: mask, cgroupid, pid, tgid, ppid, ruid rgid euid egid suid sgid fsuid fsgid, exit_code
RECORDED = bytes.fromhex(
    "0700000000000000 d204000000000000 39300000 38300000 01000000"
    "e8030000 e9030000 00000000 ea030000 00000000 00000000 00000000 00000000 00000000"
)


def test_the_request_is_that_of_the_first_version() -> None:
    assert PIDFD_GET_INFO == 0xC040FF0B
    assert len(request()) == 64
    assert request()[:8] == bytes((15, 0, 0, 0, 0, 0, 0, 0))


def test_an_answer_is_the_process_and_not_its_thread() -> None:
    assert decode(RECORDED) == (0x3038, 0, 0x4D2, None)


def test_what_the_mask_does_not_name_is_not_told() -> None:
    assert decode(bytes(8) + RECORDED[8:]) == (None, None, None, None)
    reaped = struct.pack("=QQ", 0xC, 77) + bytes(44) + struct.pack("=i", 256)
    assert decode(reaped) == (None, None, 77, 256)
    assert decode(bytes((1,)) + bytes(63)).pid is None  # of another pid namespace


def test_a_longer_answer_is_read_and_a_cut_one_is_none() -> None:
    assert decode(RECORDED + bytes(40)) == decode(RECORDED)
    with pytest.raises(struct.error):
        decode(RECORDED[:63])


@pytest.mark.parametrize("error", [errno.ENOTTY, errno.EINVAL, errno.ESRCH])
def test_an_older_kernel_tells_nothing(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def refuses(*_: object) -> bytes:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "ioctl", refuses)
    assert ask(0) is None


@pytest.fixture
def has_info() -> None:
    fd = os.pidfd_open(os.getpid())
    found = pidfd_info.ask(fd)
    os.close(fd)
    if found is None:
        pytest.skip("this kernel has no PIDFD_GET_INFO")


@pytest.mark.usefixtures("has_info")
def test_this_process() -> None:
    with PidHandle.by_pid(os.getpid()) as held:
        found = held.info()
        assert found is not None
        assert (found.pid, found.euid, found.status) == (os.getpid(), os.geteuid(), None)
        assert held.ended() == ""


@pytest.mark.usefixtures("has_info")
@pytest.mark.parametrize(("signal", "words"), [(0, "it has exited with status 3"), (9, "signal 9 has ended it")])
def test_how_a_process_ended_is_told_after_it_was_reaped(signal: int, words: str) -> None:
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal)
        os._exit(3)
    with PidHandle.by_pid(pid) as held:
        os.waitpid(pid, 0)
        assert not held.alive()
        found = held.info()
        if found is None or found.status is None:
            pytest.skip("this kernel does not tell how a process ended (Linux 6.15)")
        assert held.ended() == words


def test_nobody_has_no_info() -> None:
    with PidHandle(1, -1) as held:
        assert held.info() is None
        assert held.ended() == ""
