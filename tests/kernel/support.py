"""What every kernel test leans on: the forced skip, the machine-wide lock, audit's state put back.

Plain functions and context managers; ``conftest.py`` makes fixtures of them. They are usable without pytest's
fixtures (a bench takes the same lock).
"""

import contextlib
import fcntl
import functools
import os
import shlex
import shutil
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest

from auditns_connector.errors import AuditnsError
from auditns_connector.sources.initns import in_initial
from auditns_connector.sources.nsid import NsIds, alive
from auditns_connector.sources.perf import PerfSource

LOCK_PATH: Final = Path("/run/lock/auditns-kernel.lock")
LOCK_TIMEOUT: Final = 600.0
#: set to 1 by a caller that already holds the lock (``flock FILE env AUDITNS_LOCK_HELD=1 pytest …``)
LOCK_HELD_VARIABLE: Final = "AUDITNS_LOCK_HELD"
FORCE_VARIABLE: Final = "AUDITNS_KERNEL_TESTS"
_NETLINK_AUDIT: Final = 9
_AUDIT_GET: Final = 1000
_NLMSG_ERROR: Final = 2
#: the settings of ``auditctl -s`` that a test may change, with the option that sets each
SETTINGS: Final = {
    "enabled": "-e",
    "failure": "-f",
    "rate_limit": "-r",
    "backlog_limit": "-b",
    "backlog_wait_time": "--backlog_wait_time",
}


def forced() -> bool:
    """Whether a missing prerequisite is a failure (``AUDITNS_KERNEL_TESTS=1``) and not a skip."""
    return os.environ.get(FORCE_VARIABLE) == "1"


def unmet(reason: str) -> NoReturn:
    """Skip with ``reason``; fail with it where skips are forbidden, so that CI cannot skip in silence."""
    if forced():
        pytest.fail(f"{FORCE_VARIABLE}=1 and this is missing: {reason}", pytrace=False)
    pytest.skip(reason)


def need(condition: object, reason: str) -> None:
    """Go on when ``condition`` is true; else skip, or fail when forced, naming ``reason``."""
    if not condition:
        unmet(reason)


@functools.cache
def forbidden() -> str:
    """What root may not do here that the kernel tests are about; empty when it may do all of it.

    Root of a container is no root for audit or perf: what is asked is the kernel, not who we are."""
    for name in ("user", "pid", "net"):
        if in_initial(name) is False:
            return f"the initial {name} namespace"
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_AUDIT) as sock:
        try:
            sock.send(struct.pack("=IHHII", 16, _AUDIT_GET, 1, 1, 0))
            code = struct.unpack_from("=IHHIIi", sock.recv(4096))
        except OSError as error:
            return f"the kernel's audit ({error.strerror})"
    if code[1] == _NLMSG_ERROR and code[5]:
        return f"the kernel's audit ({os.strerror(-code[5])})"
    try:
        PerfSource(pages=16).close()
    except AuditnsError as error:
        return str(error)
    return ""


def need_root() -> None:
    """Need root of a host."""
    need(os.geteuid() == 0, "root")
    need(not forbidden(), forbidden())


def can_tell_life() -> bool:
    """Whether the kernel says of a namespace's id that it is gone, found out on our own uts namespace."""
    own = NsIds().ns_id(os.getpid(), "uts")
    return own is not None and own.id != 0 and alive(own.id, "uts", own.ino) is True


def need_tool(*names: str) -> None:
    """Need each of the commands ``names`` in PATH."""
    for name in names:
        need(shutil.which(name), f"the command {name}")


def until(done: Callable[[], object], what: str, timeout: float = 120.0, pause: float = 0.02) -> None:
    """Ask ``done`` until it is true; TimeoutError names ``what`` after ``timeout`` seconds. These only end a test that
    would never end: on a busy machine all takes many times as long."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(pause)


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked child, wait for its end; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(3)
    os.waitpid(pid, 0)
    return pid


@contextlib.contextmanager
def kernel_lock(timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the machine-wide lock for audit's global state and for measurements.

    Waits ``timeout`` seconds, then fails the test. Not re-entrant; a caller that holds it already sets
    ``AUDITNS_LOCK_HELD=1``.
    """
    if os.environ.get(LOCK_HELD_VARIABLE) == "1":
        yield
        return
    fd = os.open(LOCK_PATH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    pytest.fail(f"{LOCK_PATH} is still held by another after {timeout:.0f} s", pytrace=False)
                time.sleep(0.05)
        yield
    finally:
        os.close(fd)


@dataclass(frozen=True)
class AuditState:
    """Audit's settings and rules as ``auditctl -s`` and ``auditctl -l`` tell them."""

    settings: dict[str, str]
    rules: list[str]

    @classmethod
    def read(cls) -> "AuditState":
        """Ask the kernel, through auditctl."""
        status = dict(line.split(None, 1) for line in auditctl("-s").splitlines() if len(line.split(None, 1)) == 2)
        rules = [line for line in auditctl("-l").splitlines() if line.startswith("-")]
        return cls({name: status[name] for name in SETTINGS if name in status}, rules)

    def restore(self) -> None:
        """Put settings and rules back; touch only what differs."""
        now = AuditState.read()
        for rule in (Counter(now.rules) - Counter(self.rules)).elements():
            auditctl("-d", *shlex.split(rule)[1:])
        if AuditState.read().rules != self.rules:
            auditctl("-D")
            for rule in self.rules:
                auditctl(*shlex.split(rule))
        for name, value in self.settings.items():
            if now.settings[name] != value:
                auditctl(SETTINGS[name], value)
        left = AuditState.read()
        assert left == self, f"audit state could not be restored: {left} instead of {self}"


def auditctl(*args: str) -> str:
    """Run auditctl and give its stdout; a failure raises CalledProcessError with its stderr shown."""
    done = subprocess.run(["auditctl", *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, f"{args}: {done.stderr}")
    return done.stdout


@contextlib.contextmanager
def audit_state() -> Iterator[AuditState]:
    """Hold the lock and put audit's settings and rules back at the end, whatever happens in between."""
    with kernel_lock():
        before = AuditState.read()
        try:
            yield before
        finally:
            before.restore()
