"""Each runtime really starts, runs what it is told, and leaves nothing behind."""

import os
from pathlib import Path

import pytest

from tests.kernel import cgroupfs
from tests.kernel.runtimes import NAMES, Runtimes


@pytest.mark.parametrize("runtime", NAMES)
def test_start_exec_stop(runtimes: Runtimes, runtime: str) -> None:
    container = runtimes.start(runtime)

    assert os.readlink(f"/proc/{container.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    assert container.exec(["sh", "-c", "echo $((6 * 7))"]).stdout.strip() == b"42"
    inner = container.exec(["readlink", "/proc/self/ns/pid"]).stdout.strip().decode()
    assert inner == os.readlink(f"/proc/{container.pid}/ns/pid")

    container.stop()
    container.wait()
    left = [str(path) for path in cgroupfs.folders("/") if container.name in str(path) or container.id in str(path)]
    assert left == []


@pytest.mark.parametrize("runtime", NAMES)
def test_run_a_command_to_its_end(runtimes: Runtimes, runtime: str, tmp_path: Path) -> None:
    runtimes.run(runtime, ["sh", "-c", "true; exec true"])
    assert list(tmp_path.glob("auditns-*")) == []
