"""Whatever stdout is, a command ends with one line on stderr at most, and an exit code that is documented."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[2]
#: a command that prints much, and needs no privilege and nobody who serves
DOCTOR = [sys.executable, "-m", "auditns_connector.cli.main", "doctor"]


def run(*options: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, **more.pop("env", {})}
    return subprocess.run([*DOCTOR, *options], cwd=TOP, env=env, stderr=subprocess.PIPE, timeout=60, **more)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_full_disk_is_one_line_and_exit_1(options: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*options, stdout=full)
    assert done.returncode == 1
    assert done.stderr == b"auditns: No space left on device\n"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_closed_stdout(options: tuple[str, ...]) -> None:
    done = run(*options, preexec_fn=lambda: os.close(1))
    assert (done.returncode in (0, 1), done.stderr) == (True, b"")


def test_closed_stderr() -> None:
    done = run("--nonsense", preexec_fn=lambda: os.close(2), stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_encoding_that_lacks_the_letters(options: tuple[str, ...], encoding: str) -> None:
    done = run(*options, stdout=subprocess.PIPE, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode in (0, 1), done.stderr) == (True, b"")
    assert done.stdout
