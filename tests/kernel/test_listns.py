"""Linux 6.19 and later, under QEMU: listns(2) gives the list at the start, what no process holds, and what a loss has
hidden; mount namespaces that open_tree(2) and fsmount(2) make begin and end as all others."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import peers
from tests.kernel import qemu
from tests.kernel.support import unmet

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What the guest has told by name, and the lines about mount namespaces."""
    try:
        kernel = peers.kernel("sid")
    except peers.NotHereError as error:
        unmet(str(error))
    image = tmp_path_factory.mktemp("guest") / "initramfs"
    root = qemu.python_root(Path(__file__).with_name("guest_listns.py"), ["unshare", "true"])
    qemu.with_dependencies(root)
    root.write(image)
    console = qemu.boot(kernel, image)
    found = [json.loads(line[2:]) for line in console.splitlines() if line.startswith("@@{")]
    runs = {run["run"]: run for run in found if run["run"] != "line"}
    assert runs["live"]["status"] == 0, runs["live"]["said"]
    return runs, [run["text"] for run in found if run["run"] == "line"]


def of(lines: list[str], serial: int) -> list[str]:
    """The kinds of records about the namespace with that id, in their order."""
    return [line.partition("type=")[2].partition(" ")[0] for line in lines if f" snum={serial:x} " in line]


def test_each_type_is_listed_whole(told: Any) -> None:
    lists = told[0]["lists"]
    assert lists["available"]
    assert lists["spent"] is None
    assert all(count > 0 and ascending and own for count, ascending, own in lists["types"].values()), lists


@pytest.mark.parametrize("run", ["alone", "live"])
def test_what_no_process_is_in_is_known_at_the_start(told: Any, run: str) -> None:
    before = told[0]["alone"]["before"]
    rows = {row["ino"]: row for row in json.loads(told[0][run]["ns"])["namespaces"]}
    for ino in before.values():
        assert rows[ino]["held"]
        assert rows[ino]["creator"] is None
        assert rows[ino]["serial"] is not None


@pytest.mark.parametrize("name", ["tree", "mount"])
def test_a_mount_namespace_begins_without_a_clone(told: Any, name: str) -> None:
    runs, lines = told
    serial = runs["live"]["made"][name]
    assert of(lines, serial) == ["NS_INIT", "NS_DEL"]
    (init,) = [line for line in lines if "type=NS_INIT " in line and f" snum={serial:x} " in line]
    assert " pid=? uid=? auid=? ses=? type=20000 old_snum=? " in init
    assert " contid=? " in init


def test_one_that_is_entered_at_once_has_begun_before(told: Any) -> None:
    runs, lines = told
    assert of(lines, runs["live"]["made"]["entered"])[:2] == ["NS_INIT", "NS_CHANGE"]


def test_one_that_somebody_has_only_passed_through_has_begun_once(told: Any) -> None:
    runs, lines = told
    assert of(lines, runs["live"]["made"]["passed"]).count("NS_INIT") == 1


def test_what_was_there_before_does_not_begin(told: Any) -> None:
    runs, lines = told
    assert "NS_INIT" not in of(lines, runs["live"]["made"]["kept"])
    assert runs["live"]["inits"] == sum("type=NS_INIT " in line for line in lines)
    made = {runs["live"]["made"][name] for name in ("tree", "mount", "entered", "passed")}
    others = [line for line in lines if "type=NS_INIT " in line and not any(f" snum={one:x} " in line for one in made)]
    assert all(" old_snum=0 " in line for line in others), others


def test_what_began_in_a_loss_is_found_behind_it(told: Any) -> None:
    loss = told[0]["loss"]
    assert loss["epoch"] > 0
    assert [one for one in loss["told"] if one[0] == loss["ino"]] == [[loss["ino"], True, True]]
    assert loss["ino"] in loss["held"]
    assert told[0]["gone"]["gone"]
