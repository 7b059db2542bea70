"""A short workload whose truth is known on other kernels than this host's: no answer is wrong and none is missing."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.model.apply.dispatch import Model
from tests import peers
from tests.kernel import qemu
from tests.kernel.programs import contids, event_of, events
from tests.kernel.support import unmet

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
    root = qemu.python_root(Path(__file__).with_name("guest_truth.py"), ["unshare", "nsenter", "true"])
    qemu.with_dependencies(root)
    root.write(path)
    return path


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_is_wrong_and_nothing_is_missing(kernel: Callable[[], Path], image: Path) -> None:
    console = qemu.boot(kernel(), image, timeout=400)
    found: list[dict[str, Any]] = [json.loads(line[2:]) for line in console.splitlines() if line.startswith("@@{")]
    runs = {run["run"]: run for run in found if run["run"] != "line"}
    text = "".join(run["text"] for run in found if run["run"] == "line").encode()
    assert runs["listen"]["status"] == 0, runs["listen"]

    def said(word: str, times: int = TIMES) -> list[list[str]]:
        """The containers told of each exec of ``true`` with that word, where they are not said to be unknown."""
        exec_ = f'a0="/usr/bin/true" a1="{word}"'.encode()
        told = [contids(lines) for lines in events(text).values() if any(exec_ in line for line in lines)]
        assert len(told) == times, word
        return [one for one in told if one != ["?"]]

    for word, times in (("host", TIMES), ("last", TIMES), ("setuid", 2 * TIMES)):
        assert not any(said(word, times)), word
    for word in ("sandbox", "setuid-inside"):
        told = said(word)
        assert all(len(one) == 1 for one in told), word
        assert len({one[0] for one in told}) == len(told), word
    assert said("host")
    assert said("sandbox")
    if "user" not in Model().containers.sandbox_types:
        assert not any(said("user"))
    asked = runs["asked"]
    assert asked["set"][0] == 0, asked
    assert re.search(r"\b4711\b", asked["get"])
    assert said("registered") == [["4711"]] * TIMES
    assert "4711" in asked["tree"]
    assert {row["type"] for row in json.loads(asked["ns"])["namespaces"]} >= {"pid", "user", "mnt", "net"}
    assert runs["stream"]["made"][0] == 0, runs["stream"]
    assert "web" in runs["stream"]["list"]
    assert not event_of(text, "type=CONTAINER_LOST")
