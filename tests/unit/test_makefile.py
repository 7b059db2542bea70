"""`make run` and `make test` on a fresh machine: what is missing is told in one line, what is there is used."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.support import need_tool

TOP = Path(__file__).parents[2]
#: what the recipes call besides the tools they look for
COMMON = ("sh", "id", "grep", "cut", "tr", "sed", "touch", "mkdir")
OLD = "exit 1"
HEADERS = 'case "$*" in *Python.h*) exit 1 ;; esac\n'
VENV = 'case "$*" in *ensurepip*) exit 1 ;; esac\n'


class Machine:
    """A clone on a machine that has only the commands in its ``bin``."""

    def __init__(self, top: Path) -> None:
        self.bin = top / "bin"
        self.clone = top / "clone"
        self.bin.mkdir()
        self.clone.mkdir()
        for name in COMMON:
            (self.bin / name).symlink_to(shutil.which(name) or name)
        for name in ("Makefile", "setup.cfg", "setup.py", "pyproject.toml"):
            shutil.copy2(TOP / name, self.clone / name)
        (self.clone / "tests/golden").mkdir(parents=True)
        (self.clone / "tests/golden/demo").symlink_to(TOP / "tests/golden/demo")

    def command(self, name: str, text: str = "", folder: Path | None = None) -> None:
        """A command ``name`` that is this shell script."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def python(self, unlike: str = "", name: str = "python3") -> None:
        """A python that is this one, but for ``unlike``."""
        self.command(name, f'{unlike}exec {sys.executable} "$@"')

    def set_up(self, auditns: str) -> None:
        """As if it had been set up before; its ``auditns`` is this shell script."""
        folder = self.clone / ".venv/bin"
        for name in ("pip", "python"):
            self.command(name, folder=folder)
        self.command("auditns", auditns, folder)
        (self.clone / ".venv/.ready").touch()

    def make(self, target: str = "run") -> subprocess.CompletedProcess[str]:
        """``make target`` there."""
        return subprocess.run(
            [shutil.which("make") or "make", "--no-print-directory", target],
            cwd=self.clone, env={"PATH": str(self.bin), "TZ": "UTC"}, capture_output=True, text=True,
        )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    need_tool("make")
    return Machine(tmp_path)


@pytest.mark.parametrize("target", ["run", "test"])
@pytest.mark.parametrize(
    ("python", "gcc", "missing", "packages"),
    [
        (None, True, "Python 3.11 or later", "python3 python3-venv python3-dev gcc make"),
        (OLD, True, "Python 3.11 or later", "python3.11 python3.11-venv python3.11-dev gcc make"),
        (VENV, True, "venv", "python3 python3-venv python3-dev gcc make"),
        (HEADERS, True, "headers", "python3 python3-venv python3-dev gcc make"),
        ("", False, "gcc", "python3 python3-venv python3-dev gcc make"),
        (VENV, False, "venv gcc", "python3 python3-venv python3-dev gcc make"),
    ],
)
def test_what_is_missing_gets_the_line_that_installs_it(
    machine: Machine, target: str, python: str | None, gcc: bool, missing: str, packages: str
) -> None:
    machine.command("apt-get")
    if gcc:
        machine.command("gcc")
    if python is not None:
        machine.command("python3", OLD) if python == OLD else machine.python(python)
    done = machine.make(target)
    said, remedy = done.stderr.splitlines()[:2]
    assert (done.returncode, done.stdout) == (2, "")
    assert said == f"auditns needs what is not here: {missing}."
    assert remedy == f"Install it with: sudo apt-get install -y {packages}"
    assert not (machine.clone / ".venv").exists()


def test_another_package_manager_and_none(machine: Machine) -> None:
    machine.command("dnf")
    assert "sudo dnf install -y python3 python3-devel gcc make\n" in machine.make().stderr
    (machine.bin / "dnf").unlink()
    assert "\nInstall Python 3.11 or later with its venv module and headers, gcc and make.\n" in machine.make().stderr


def test_a_newer_python_beside_an_old_python3_is_taken(machine: Machine) -> None:
    machine.command("apt-get")
    machine.command("python3", OLD)
    machine.python(VENV, "python3.12")
    assert "install -y python3.12 python3.12-venv python3.12-dev gcc make\n" in machine.make().stderr


def test_setting_up_goes_on_where_it_was_interrupted(machine: Machine) -> None:
    machine.command("gcc")
    machine.python('case "$*" in "-m venv"*) echo "again: $*"; exit 7 ;; esac\n')
    machine.command("python", folder=machine.clone / ".venv/bin")  # no pip beside it yet
    assert machine.make().stdout == "again: -m venv .venv\n"


def test_without_root_the_recording_is_shown(machine: Machine) -> None:
    machine.command("gcc")
    machine.python()
    (machine.bin / "id").unlink()
    machine.command("id", "echo 1000")
    machine.set_up(f'cd {TOP}; exec {sys.executable} -m auditns_connector.cli.main "$@"')
    done = machine.make()
    assert done.returncode == 0, done.stderr
    assert "sudo make run" in done.stderr
    added = [line for line in done.stdout.splitlines() if line.startswith(("type=CONTAINER_ID", "type=UNKNOWN[1340]"))]
    assert len(added) == 1
    assert " execve cat /etc/shadow " in done.stdout


def test_with_root_the_listener_is_started(machine: Machine) -> None:
    machine.command("gcc")
    machine.python()
    (machine.bin / "id").unlink()
    machine.command("id", "echo 0")
    machine.set_up('echo "started: $*"')
    done = machine.make()
    assert (done.returncode, done.stdout, done.stderr) == (0, "started: listen --rules --format pretty\n", "")
