"""Started where the host cannot be seen as it is: that is refused, because what would be said could be wrong."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.programs import AUDITNS, environment
from tests.kernel.support import need_tool

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("root")]


@pytest.mark.parametrize("command", ["listen", "enrich"])
def test_own_pid_namespace(command: str, tmp_path: Path) -> None:
    """perf counts pids as its opener does, audit as the host does: one would be taken for another."""
    need_tool("unshare")
    options = ["--control", str(tmp_path / "control"), "--duration", "5"] if command == "listen" else []
    done = subprocess.run(
        [shutil.which("unshare") or "", "--pid", "--fork", "--mount-proc", *AUDITNS, command, *options],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("auditns: this is not the host's pid namespace")
    assert done.stderr.count("\n") == 1
