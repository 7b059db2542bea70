"""A short workload whose truth is known on other kernels than this host's, and on this one: no answer is wrong and none
is missing."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.runtimes import derive_contid
from tests import peers
from tests.kernel import guest_truth, guest_words, qemu
from tests.kernel.programs import contids, event_of, events
from tests.kernel.support import need_tool, unmet

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.kernel
TIMES = 5


def debian(suite: str) -> Callable[[], Path]:
    """The kernel of a suite of Debian's."""

    def image() -> Path:
        try:
            return peers.kernel(suite)
        except peers.NotHereError as error:
            unmet(str(error))

    return image


KERNELS = [
    pytest.param(qemu.nm_kernel, id="proc-event-nm"),
    *(pytest.param(debian(suite), id=suite, marks=pytest.mark.nightly) for suite in peers.KERNELS),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's root file system."""
    path = tmp_path_factory.mktemp("guest") / "initramfs"
    root = qemu.python_root(Path(__file__).with_name("guest_truth.py"), ["unshare", "nsenter", "true", "crun"])
    qemu.with_dependencies(root)
    root.write(path)
    return path


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_is_wrong_and_nothing_is_missing(kernel: Callable[[], Path], image: Path) -> None:
    judge(qemu.boot(kernel(), image))


@pytest.mark.nightly
@pytest.mark.usefixtures("kernel_lock")
def test_nothing_is_wrong_and_nothing_is_missing_here() -> None:
    """The same without a guest: what it writes is seen by it alone."""
    need_tool("unshare", "busybox", "crun")
    prepare = 'mount -t tmpfs -o mode=755 none /run && mount -t tmpfs none /tmp && exec "$@"'
    here = [sys.executable, "-m", guest_truth.__name__]
    done = subprocess.run(["unshare", "-m", "sh", "-c", prepare, "sh", *here], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    judge(done.stdout)


def judge(console: str) -> None:
    """Hold what the listener has said against what was done."""
    found: list[dict[str, Any]] = [json.loads(line[2:]) for line in console.splitlines() if line.startswith("@@{")]
    runs = {run["run"]: run for run in found if run["run"] != "line"}
    text = "".join(run["text"] for run in found if run["run"] == "line").encode()
    assert runs["listen"]["status"] == 0, runs["listen"]

    # without tracepoints nobody tells of moves between cgroups: who is gone before /proc was asked is unknown
    told_all = "tracefs is not mounted" not in runs["listen"]["said"]

    def said(word: str, times: int = TIMES, *, lasting: bool = False) -> list[list[str]]:
        """The containers told of each exec of ``true`` with that word, where they are not said to be unknown; by
        programs that are ``lasting``, or that nothing is hidden of, they never are."""
        exec_ = f'a0="{guest_words.TRUE}" a1="{word}"'.encode()
        told = [contids(lines) for lines in events(text).values() if any(exec_ in line for line in lines)]
        assert len(told) == times, word
        known = [one for one in told if one != ["?"]]
        assert len(known) == times or not (told_all or lasting), (word, told)
        return known

    for word, times in (("host", TIMES), ("last", TIMES), ("setuid", 2 * TIMES)):
        assert not any(said(word, times)), word
    for word in ("sandbox", "sandbox-short", "setuid-inside"):
        told = said(word, lasting=word != "sandbox-short")
        assert all(len(one) == 1 for one in told), word
        assert len({one[0] for one in told}) == len(told), word
    if "user" not in Model().containers.sandbox_types:
        assert not any(said("user"))
    of_docker = [[str(derive_contid("docker", number))] for number in guest_truth.IDS]
    assert said("container", lasting=True) == of_docker
    assert all(one in of_docker for one in said("container-short"))
    asked = runs["asked"]
    assert asked["set"][0] == 0, asked
    assert re.search(r"\b4711\b", asked["get"])
    assert said("registered", lasting=True) == [["4711"]] * TIMES
    assert "4711" in asked["tree"]
    assert {row["type"] for row in json.loads(asked["ns"])["namespaces"]} >= {"pid", "user", "mnt", "net"}
    assert runs["stream"]["made"][0] == 0, runs["stream"]
    assert "web" in runs["stream"]["list"]
    assert not event_of(text, "type=CONTAINER_LOST")
