"""Fixtures of the kernel tier. Prerequisites skip with a reason, or fail under ``AUDITNS_KERNEL_TESTS=1``."""

import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import pytest

from auditns_connector.deploy import install
from auditns_connector.state.paths import CONTROL
from tests.kernel import support
from tests.kernel.daemons import unmount_below
from tests.kernel.programs import Task
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import need, need_root, need_tool

__all__ = ["need", "need_root", "need_tool"]

#: the folder that what audit says during each test is kept in, for ``python -m tests.compare``
RECORD: Final = "AUDITNS_RECORD"


@pytest.fixture(scope="session")
def recorder() -> Iterator[IO[bytes] | None]:
    """Where the recorder reads the names of tests, if there is to be one."""
    folder = os.environ.get(RECORD)
    if not folder or os.geteuid() != 0:
        yield None
        return
    command = [sys.executable, "-m", "tests.kernel.recorder", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.stdin
        process.stdin.close()


@pytest.fixture(autouse=True)
def recorded(recorder: IO[bytes] | None, request: pytest.FixtureRequest) -> None:
    """What audit says from now on is of this test."""
    if recorder is not None:
        recorder.write(f"{request.node.nodeid}\n".encode())
        recorder.flush()


@pytest.fixture(scope="session")
def token() -> str:
    """Eight hex digits, new for every run: part of every name, key and argument that a test must find again."""
    return secrets.token_hex(4)


@pytest.fixture
def root() -> None:
    """Need root of a host."""
    need_root()


@pytest.fixture
def kernel_lock(root: None) -> Iterator[None]:
    """Hold the machine-wide lock during the test."""
    with support.kernel_lock():
        yield


@pytest.fixture
def audit_state(root: None) -> Iterator[support.AuditState]:
    """Hold the lock; audit's settings and rules are as before when the test ends, however it ends."""
    need_tool("auditctl")
    with support.audit_state() as before:
        yield before


@pytest.fixture
def runtimes(root: None, token: str, tmp_path: Path) -> Iterator[Runtimes]:
    """Start containers; what is still there at the end is stopped and removed."""
    with Runtimes(tmp_path, token=token) as started:
        yield started


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin as ``auditns install-plugin`` puts it, below a folder of ours."""
    top = tmp_path_factory.mktemp("plugin")
    install.install(str(top), say=lambda text: None)
    return top / "usr/sbin/audisp-auditns"


@pytest.fixture
def quiet(audit_state: support.AuditState) -> support.AuditState:
    """No auditd runs, and audit is off until somebody switches it on."""
    need("\npid 0\n" in support.auditctl("-s"), "no auditd running")
    support.auditctl("-e", "0")
    return audit_state


@pytest.fixture
def default_control(quiet: support.AuditState) -> Iterator[Path]:
    """The control socket that hooks call by default, which nobody serves; what a run leaves beside it is removed."""
    need(not Path(CONTROL).exists(), "no listener or plugin serves the default control socket")
    folder = Path(CONTROL).parent
    before = set(folder.iterdir()) if folder.is_dir() else None
    yield Path(CONTROL)
    for path in set(folder.iterdir()) - (before or set()) if folder.is_dir() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if before is None and folder.is_dir():
        folder.rmdir()


@pytest.fixture
def usable_null(quiet: support.AuditState) -> Iterator[None]:
    """Runtimes open /dev/null as the container's root, who must be let in; on some machines only root is.

    Behind ``quiet``, that is under the lock: another run must not take it back meanwhile."""
    mode = stat.S_IMODE(os.stat("/dev/null").st_mode)
    os.chmod("/dev/null", 0o666)
    yield
    os.chmod("/dev/null", mode)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that root of a user namespace can get at."""
    path = Path(tempfile.mkdtemp(prefix="auditns-streams-"))
    path.chmod(0o755)
    yield path
    unmount_below(path)  # Podman leaves its store mounted
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tasks() -> Iterator[list[Task]]:
    """Filled by the test; they are gone at its end."""
    made: list[Task] = []
    yield made
    for task in made:
        task.process.kill()
        task.process.wait()
