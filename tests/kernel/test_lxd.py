"""Real LXD: system containers, unprivileged and privileged, entered by its exec and by nsenter."""

import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from auditns_connector import api
from auditns_connector.model.runtimes import derive_contid
from tests.kernel.daemons import TIMEOUT, Daemon
from tests.kernel.images import add_file, add_root
from tests.kernel.programs import listening, until
from tests.kernel.spoken import Truth
from tests.kernel.support import AuditState, need_tool

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]
METADATA = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: busybox\n"


class Lxd(Daemon):
    """lxd with its state in a folder of its own; containers have no network."""

    def __init__(self) -> None:
        need_tool("lxd", "lxc")
        super().__init__()
        self._env = {**os.environ, "LXD_DIR": f"{self.folder}/lxd", "HOME": str(self.folder)}
        (self.folder / "lxd").mkdir(mode=0o711)

    def command(self) -> list[str]:
        """lxd, told its folder by its environment."""
        return ["env", f"LXD_DIR={self.folder}/lxd", "lxd", "--group", "root"]

    def lxc(self, *words: str | Path, check: bool = True) -> str:
        """Run the client; its stdout."""
        command = ["lxc", *map(str, words)]
        done = subprocess.run(
            command, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
        )
        assert not check or done.returncode == 0, f"lxc {words}: {done.stderr}\n{self.log[-2000:]}"
        return done.stdout.strip()

    def answers(self) -> bool:
        """Whether the client gets the list of containers."""
        return subprocess.run(["lxc", "list"], env=self._env, capture_output=True, timeout=60).returncode == 0

    def load(self) -> None:
        """An image whose init runs /etc/start, and a place for containers."""
        archive = self.folder / "image.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            add_file(tar, "metadata.yaml", METADATA.encode())
            add_root(tar, "rootfs/")
            add_file(tar, "rootfs/sbin/init", b"#!/bin/sh\n. /etc/start\nexec /bin/sleep 100000\n", 0o755)
            add_file(tar, "rootfs/etc/start", b"until [ -e /go ]; do /bin/sleep 0.1; done\n. /go\n")
        self.lxc("image", "import", archive, "--alias", "busy")
        self.lxc("storage", "create", "default", "dir")
        self.lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")

    def launch(self, name: str, *options: str) -> int:
        """Start a container; the pid of its init."""
        self.lxc("launch", "busy", name, *options)
        told = self.lxc("info", name).splitlines()
        return next(int(line.partition(":")[2]) for line in told if line.strip().startswith("PID:"))

    def remove_containers(self) -> None:
        """Delete what there is."""
        for name in self.lxc("list", "--format", "csv", "-c", "n", check=False).split():
            self.lxc("delete", "-f", name, check=False)

    def ended_by(self) -> Sequence[str]:
        """Its containers' monitors are called as it is."""
        return (*super().ended_by(), "lxd", "[lxc monitor]")


def test_system_containers(quiet: AuditState, usable_null: None, token: str, tmp_path: Path) -> None:
    truth = Truth(token)
    word = truth.word
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener, Lxd() as lxd:
        lxd.load()
        for name, options in (("u1", ()), ("p1", ("-c", "security.privileged=true"))):
            pid = lxd.launch(name, *options)
            lxd.lxc("exec", name, "--", "/bin/true", word(f"{name}.exec", 0))
            lxd.lxc("exec", name, "--", "/bin/loop", word(f"{name}.loop"), "3")
            subprocess.run(["nsenter", "-t", str(pid), "-a", "/bin/true", word(f"{name}.nsenter", 0)], check=True)
            start = Path(f"/proc/{pid}/root/go")
            start.write_text(f"/bin/loop {word(f'{name}.init')} 3\n")
            wanted = str(derive_contid("lxc", name))
            for what, count in (("exec", 1), ("loop", 3), ("nsenter", 1), ("init", 3)):
                truth.which(f"{name}.{what}", lambda found, wanted=wanted: found == wanted, count)
        until(lambda: truth.complete(listener.out), f"every exec: {truth.errors(listener.out)}")
        told = {about.get("name"): about for about in api.list_containers(control=str(listener.directory / "control"))}
        assert [told[name]["runtime"] for name in ("u1", "p1")] == ["lxc", "lxc"]
        lxd.lxc("restart", "-f", "u1")
        truth.labels["u1.init"].count = 6
        until(lambda: truth.complete(listener.out), f"its second run: {truth.errors(listener.out)}")
    assert truth.errors(listener.out) == {}
