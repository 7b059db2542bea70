"""A storm, and something goes wrong with the plugin meanwhile: no answer is wrong, and what is missing is told."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.state.paths import SPOOL_DIR
from auditns_connector.streams.client import control_server
from tests.bench.accuracy.auditd import Auditd
from tests.bench.accuracy.conditions import clock_steps
from tests.bench.accuracy.run import build_truth
from tests.bench.storm import load, watch
from tests.bench.storm.run import Pass, Plugin, Timing
from tests.kernel import cgroupfs
from tests.kernel.support import AuditState, need, need_tool

#: storms beside a full disk, a stopped reader, low limits: minutes each
pytestmark = [pytest.mark.kernel, pytest.mark.nightly, pytest.mark.usefixtures("usable_null")]


class Trouble(Plugin):
    """The plugin, which may be another process in the end."""

    def __init__(self) -> None:
        self.directory = Path()
        #: what :attr:`said` was before its end
        self.said_by_then = ""

    def configure(self, auditd: Auditd, directory: Path, storm: Path) -> None:
        self.directory = directory
        super().configure(auditd, directory, storm)

    def before(self, directory: Path) -> str:
        return f"exec 2>> {directory}/said"  # auditd has none for its plugins

    def at_end(self, pid: int) -> float | None:
        now = control_server(f"{self.directory}/control")
        self.said_by_then = self.said
        return watch.end(now) if now else None

    def close(self) -> None:
        """Put back what was done to the host."""

    def look(self) -> None:
        """What else is to be true in the end."""

    @property
    def said(self) -> str:
        """What it has told people."""
        return (self.directory / "said").read_text(errors="replace")


class FullDisk(Trouble):
    """The log's disk has no room left, until the storm is over."""

    output = "disk/ours.log"

    def configure(self, auditd: Auditd, directory: Path, storm: Path) -> None:
        super().configure(auditd, directory, storm)
        disk = directory / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "none", str(disk)], check=True)
        conf = directory / "auditns.toml"
        conf.write_text(conf.read_text().replace("/ours.log", "/disk/ours.log"))

    @contextlib.contextmanager
    def trouble(self, directory: Path, pid: int) -> Iterator[None]:
        yield
        subprocess.run(["mount", "-o", "remount,size=512m", str(directory / "disk")], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.directory / "disk")], check=False)


class Stopped(Trouble):
    """SIGSTOP for ten seconds."""

    @contextlib.contextmanager
    def trouble(self, directory: Path, pid: int) -> Iterator[None]:
        def stop() -> None:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(10)
            os.kill(pid, signal.SIGCONT)

        thread = threading.Thread(target=stop)
        thread.start()
        yield
        thread.join()


class Limited(Trouble):
    """No memory may be locked, and hardly a descriptor be opened, unless that is asked for."""

    def before(self, directory: Path) -> str:
        return f"{super().before(directory)}; ulimit -l 0; ulimit -S -n 20"


class NoSpool(Trouble):
    """Little memory for text, and nowhere else to put it."""

    more = "[sources]\n" + 'input_queue = ["1M", 0]\n'


class MissingSpool(Trouble):
    """Little memory for text, and the directory for more is not there."""

    more = "[sources]\n" + 'input_queue = ["1M", "64M"]\n'
    place, aside = Path(SPOOL_DIR), Path(f"{SPOOL_DIR}.aside")

    def configure(self, auditd: Auditd, directory: Path, storm: Path) -> None:
        super().configure(auditd, directory, storm)
        if self.place.exists():
            self.place.rename(self.aside)

    def close(self) -> None:
        if self.aside.exists():
            self.aside.rename(self.place)

    def look(self) -> None:
        assert self.said_by_then.count("memory alone") == 1, self.said  # auditd has started another one since


class ReadOnlySpool(MissingSpool):
    """The same where nothing can be written in the directory."""

    def configure(self, auditd: Auditd, directory: Path, storm: Path) -> None:
        super().configure(auditd, directory, storm)
        self.place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", str(self.place)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=False)
        self.place.rmdir()
        super().close()


class ClockSteps(Trouble):
    """The wall clock is set forth and back by an hour and by seconds."""

    @contextlib.contextmanager
    def trouble(self, directory: Path, pid: int) -> Iterator[None]:
        with clock_steps():
            yield


class OtherReaders(Trouble):
    """A child that reads a line now and then, and a reader of the socket that does not read at all."""

    @property
    def more(self) -> str:  # type: ignore[override]
        return (
            f'[output.child]\nenabled = true\nargv = ["{self.directory}/slow"]\nqueue = "64K"\n'
            f'[output.socket]\nenabled = true\npath = "{self.directory}/sock"\nqueue = "64K"\n'
        )

    def configure(self, auditd: Auditd, directory: Path, storm: Path) -> None:
        super().configure(auditd, directory, storm)
        slow = directory / "slow"
        slow.write_text(f"#!{sys.executable}\nimport sys, time\nfor line in sys.stdin: time.sleep(0.1)\n")
        slow.chmod(0o750)

    @contextlib.contextmanager
    def trouble(self, directory: Path, pid: int) -> Iterator[None]:
        import socket

        with socket.socket(socket.AF_UNIX) as reader:
            reader.connect(f"{directory}/sock")
            yield


class Tight(Trouble):
    """A cgroup with 128 MiB."""

    def before(self, directory: Path) -> str:
        folder = self.folder()
        folder.mkdir(exist_ok=True)
        name = "memory.limit_in_bytes" if (folder / "memory.limit_in_bytes").exists() else "memory.max"
        (folder / name).write_text(str(128 << 20))
        return f"{super().before(directory)}; echo $$ > {folder}/cgroup.procs"

    def folder(self) -> Path:
        """Below the hierarchy that has the controller."""
        for top, kind, options in cgroupfs.hierarchies():
            if "memory" in options.split(",") or (
                kind == "cgroup2" and "memory" in (top / "cgroup.subtree_control").read_text().split()
            ):
                return top / "auditns-tight"
        need(False, "a cgroup with a limit of memory")
        raise AssertionError

    def close(self) -> None:
        cgroupfs.remove(self.folder())


ALL = (FullDisk, Limited, Stopped, NoSpool, MissingSpool, ReadOnlySpool, ClockSteps, OtherReaders, Tight)


@pytest.mark.parametrize("trouble", ALL, ids=lambda one: one.__name__)
def test_nothing_is_wrong_or_missing_untold(trouble: type[Trouble], quiet: AuditState, base: Path) -> None:
    need_tool("auditd", "gcc", "runc")
    subject = trouble()
    state = base / "s"
    state.mkdir()
    seconds = 12.0 if trouble is Stopped else 3.0
    storm = load.storms(4, 200)["all"]
    try:
        result = Pass(base / "pass", state, build_truth(base), load.build(base), Timing(seconds, 0.0)).go(
            "all", storm, 200, subject
        )
    finally:
        subject.close()
    assert result.outcome is not None
    assert result.logged >= 0.995, "auditd has had to wait"
    assert result.outcome.wrong == 0, result.outcome.examples
    assert result.outcome.untold == 0, result.outcome
    assert result.caught_up is not None
    subject.look()
