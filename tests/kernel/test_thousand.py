"""A thousand containers at once: every exec is its container's, and what is asked about them is whole."""

import concurrent.futures
import contextlib
import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kernel import cgroupfs
from tests.kernel.programs import auditns, by_name, listening
from tests.kernel.spoken import Truth
from tests.kernel.support import AuditState, need_tool, until

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]
COUNT: Final = 1000
#: started, entered and ended so many at a time
TOGETHER: Final = 8
#: execs of its own that each does
TIMES: Final = 3
#: crun refuses a host that has both versions of cgroups: all of them live in a mount namespace without the second one
WITHOUT_V2: Final = "umount /sys/fs/cgroup/unified 2>/dev/null; exec sleep infinity"


class Crowd:
    """Containers of crun in one root file system, below ``top``, by their ids."""

    def __init__(self, top: Path, truth: Truth) -> None:
        self.top, self.truth = top, truth
        self.ids = [secrets.token_hex(32) for _ in range(COUNT)]
        self._root = top / "root"
        for folder in ("bin", "proc", "dev", "sys", "tmp"):
            (self._root / folder).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", self._root / "bin/busybox")
        for name in ("sh", "true", "sleep"):
            (self._root / "bin" / name).symlink_to("busybox")
        self._place = subprocess.Popen(["unshare", "-m", "sh", "-c", WITHOUT_V2], stdin=subprocess.DEVNULL)
        until(lambda: Path(f"/proc/{self._place.pid}/comm").read_text() == "sleep\n", "the mount namespace")
        self._crun = ["nsenter", "-t", str(self._place.pid), "-m", "crun", "--root", str(top / "state")]

    def call(self, *words: str) -> None:
        """One command of crun's."""
        with (self.top / "told").open("ab") as told:
            done = subprocess.run(
                [*self._crun, *words], stdin=subprocess.DEVNULL, stdout=told, stderr=told, timeout=120
            )
        assert done.returncode == 0, (words, (self.top / "told").read_text()[-2000:])

    def all(self, do: Callable[[str], None]) -> None:
        """Do it to each, several at a time."""
        with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(do, self.ids))

    def start(self, ident: str) -> None:
        """One that runs programs, and goes on."""
        label = self.label(ident)
        words = [f"/bin/true {self.truth.word(label, number)}" for number in range(TIMES)]
        kinds = ("pid", "network", "ipc", "uts", "mount")
        config: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/",
                "args": ["/bin/sh", "-c", "; ".join([*words, "exec /bin/sleep 3600"])],
            },
            "root": {"path": str(self._root), "readonly": True},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"cgroupsPath": f"/docker/{ident}", "namespaces": [{"type": kind} for kind in kinds]},
        }  # fmt: skip
        bundle = self.top / ident
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(config))
        self.call("run", "-d", "--bundle", str(bundle), ident)
        self.truth.of(label, ident, TIMES)

    def enter(self, ident: str) -> None:
        """A program in one."""
        label = f"{self.label(ident)}.exec"
        self.call("exec", ident, "/bin/true", self.truth.word(label, 0))
        self.truth.of(label, ident, 1)

    def end(self, ident: str) -> None:
        """Kill one and remove it."""
        self.call("delete", "-f", ident)

    def label(self, ident: str) -> str:
        return f"c{self.ids.index(ident)}"

    def close(self) -> None:
        """End all that is left."""
        for folder in (self.top / "state").glob("*"):
            with contextlib.suppress(AssertionError):
                self.end(folder.name)
        self._place.kill()
        self._place.wait()


@pytest.fixture
def crowd(quiet: AuditState, tmp_path: Path, token: str) -> Iterator[Crowd]:
    need_tool("crun", "busybox", "unshare", "nsenter")
    before = cgroupfs.folders("/docker")
    made = Crowd(tmp_path / "crowd", Truth(token))
    yield made
    made.close()
    cgroupfs.remove_new("/docker", before)


def objects(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def nodes(tree: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in tree:
        yield node
        yield from nodes(node.get("containers", ()))


def test_a_thousand_containers_at_once(crowd: Crowd, tmp_path: Path) -> None:
    log, truth, ids = tmp_path / "log", crowd.truth, set(crowd.ids)

    def text() -> bytes:
        return by_name(log.read_bytes())

    def listed() -> set[str]:
        return {about["id"] for about in objects(ask("contid", "list", "--json")) if "id" in about} & ids

    with listening(tmp_path / "l", "--rules", "--format", "raw", "--output", log) as listener:
        control = listener.directory / "control"

        def ask(*words: str) -> bytes:
            done = auditns(*words, "--control", control)
            assert done.returncode == 0, done.stderr
            return done.stdout

        crowd.all(crowd.start)
        crowd.all(crowd.enter)
        subprocess.run(["/bin/true", truth.word("host", 0)], check=True)
        truth.of("host", "", 1)
        until(lambda: truth.complete(text()), "every exec", timeout=120, pause=1)
        assert listed() == ids
        tree = list(nodes(json.loads(ask("tree", "--json"))["tree"]))
        assert ids <= {node.get("id") for node in tree}
        told = objects(auditns("containers", "--json", log).stdout)
        assert ids <= {about.get("id") for about in told}
        crowd.all(crowd.end)
        until(lambda: not listed(), "the end of all", timeout=120, pause=1)
        status = json.loads(ask("status", "--json"))
    assert truth.errors(text()) == {}
    assert b"type=CONTAINER_LOST" not in text()
    assert "lost" not in status or not status["lost"]
