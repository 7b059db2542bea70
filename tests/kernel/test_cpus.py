"""CPUs that go and come back while events are followed, in a guest of six: what is missing meanwhile is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import peers
from tests.kernel import qemu
from tests.kernel.support import unmet

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]
CPUS = 6


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the guest has told, by name of the run."""
    try:
        kernel = peers.kernel("sid")
    except peers.NotHereError as error:
        unmet(str(error))
    image = tmp_path_factory.mktemp("guest") / "initramfs"
    root = qemu.python_root(Path(__file__).with_name("guest_cpus.py"), ["true"])
    qemu.with_dependencies(root)
    root.write(image)
    console = qemu.boot(kernel, image, cpus=CPUS)
    found = [json.loads(line[2:]) for line in console.splitlines() if line.startswith("@@{")]
    assert found[0]["cpus"] == CPUS
    return {run["run"]: run for run in found}


@pytest.mark.parametrize("run", ["all", "gone", "back", "at once", "quiet", "many"])
def test_whoever_runs_on_any_cpu_is_followed(told: dict[str, dict[str, Any]], run: str) -> None:
    found = told[run]
    assert (found["execs"], found["child"], found["open"]) == (True, True, True)
    assert found["rings"] == (CPUS - 1 if run == "gone" else CPUS)


@pytest.mark.parametrize(
    ("run", "cpus"),
    [("all", []), ("gone", []), ("back", [1]), ("at once", [2]), ("quiet", []), ("many", [1, 2, 3, 4, 5])],
)
def test_what_a_cpu_that_came_has_hidden_is_told(told: dict[str, dict[str, Any]], run: str, cpus: list[int]) -> None:
    assert told[run]["losses"] == [[cpu, 0] for cpu in cpus]
    assert told[run]["changed"] == (run not in ("all", "quiet"))
