"""A kernel without NS_GET_ID and without tracepoints, under QEMU: where perf tells nothing, or not all, no answer is
wrong, and host root is served."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.model.runtimes import derive_contid
from tests.kernel import guest_words as words
from tests.kernel import qemu
from tests.kernel.programs import contids, event_of

pytestmark = pytest.mark.kernel
RUNS = ("nm", "audit", "auto")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """The text of each run, and what else the guest has told, by name."""
    kernel = qemu.nm_kernel()
    image = tmp_path_factory.mktemp("guest") / "initramfs"
    root = qemu.python_root(Path(__file__).with_name("guest_fallbacks.py"), ["unshare", "true"])
    qemu.with_dependencies(root)
    root.write(image)
    text: dict[str, str] = defaultdict(str)
    found = {}
    for line in qemu.boot(kernel, image).splitlines():
        if line.startswith("@@{"):
            one = json.loads(line[2:])
            if "line" in one:
                text[one["line"]] += one["text"]
            else:
                found[one["run"]] = one
    return {name: whole.encode() for name, whole in text.items()}, found


def said(text: bytes, word: str) -> list[str]:
    """The contids of the one exec with that word."""
    lines = event_of(text, f'a0="{words.TRUE}" a1="{word}"')
    assert lines, word
    return contids(lines)


@pytest.mark.parametrize("run", RUNS)
def test_two_user_namespaces_never_share_an_identifier(told: Any, run: str) -> None:
    text = told[0][run]
    for kind in ("user", "short"):
        found = [said(text, f"{kind}-{number}") for number in range(words.TIMES)]
        assert all(len(one) == 1 for one in found), kind
        sure = [one[0] for one in found if one != ["?"]]
        assert len(set(sure)) == len(sure), kind
    infos = [line for line in text.splitlines() if b"type=NS_INFO " in line]
    serials = defaultdict(set)
    for kind in ("user", "short"):
        for number in range(words.TIMES):
            stamp = re.search(rb"msg=audit\([0-9.:]+\)", event_of(text, f'a1="{kind}-{number}"')[0])
            assert stamp is not None
            for line in infos:
                serial = re.search(rb" userns=([0-9a-f]+)", line)
                if stamp[0] in line and serial is not None:
                    serials[serial[1]].add((kind, number))
    assert all(len(users) == 1 for users in serials.values()), serials


@pytest.mark.parametrize("run", RUNS)
def test_one_that_moves_itself_into_a_containers_cgroup_is_the_containers(told: Any, run: str) -> None:
    text = told[0][run]
    container = [str(derive_contid("docker", words.HEX))]
    assert said(text, "moved-self") in (container, ["?"])
    assert said(text, "inside-self") == container
    assert said(text, "net") == said(text, "last") == []


@pytest.mark.parametrize("run", RUNS)
def test_host_root_sets_and_gets_identifiers(told: Any, run: str) -> None:
    asked = told[1][f"{run}-asked"]
    assert asked["set"] == [0, ""]
    assert asked["get"] == ["4711\n", ""]
    assert asked["host"] == "unset\n"
    assert "EXDEV" in asked["again"] or "EBUSY" in asked["again"]


@pytest.mark.parametrize("run", ["nm", "audit"])
def test_a_source_that_was_not_chosen_tells_nothing(told: Any, run: str) -> None:
    text = told[0][run]
    made = [line for line in text.splitlines() if b"type=NS_CHANGE " in line and b" type=40000000 " in line]
    made = [line for line in made if b" reason=exit " not in line]
    pids = [re.search(rb" pid=(\d+)", line) for line in made]
    assert len({found[1] for found in pids if found}) == len(made) > 0
