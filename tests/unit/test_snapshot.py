"""What ``auditns ns`` and ``auditns tree`` show of a model."""

import argparse
import gc
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.cli import ns, tree
from auditns_connector.control import snapshot
from auditns_connector.control.snapshot_service import Snapshots, SnapshotServer
from auditns_connector.errors import AuditnsError
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.namespace_life import HELD
from auditns_connector.pipeline.filters import join_contids
from auditns_connector.vocabulary import frames as f
from tests.unit.test_registry import TASK, Registering
from tests.unit.world import HEX, MS, World, contid

DOCKER = f"/docker/{HEX}"


def world() -> World:
    """A container of three processes, a sandbox, a namespace that is held, and a few processes of the host."""
    w = World()
    w.fork(1, 50, 900)
    w.exec(50, 901, "/usr/bin/containerd")
    w.fork(50, 100, 1000, net=11, mnt=12, pid=13)
    w.attach(100, DOCKER, 1001)
    w.exec(100, 1002, "/sbin/init")
    w.fork(100, 101, 1010)
    w.exec(101, 1011, "/bin/web server")
    w.fork(101, 102, 1012)
    w.thread(101, 103, 1013)
    w.unshare(101, 1014, tid=103, net=11, mnt=12, pid=13, uts=14)
    w.fork(1, 200, 2000, user=15)
    w.fork(1, 300, 3000, ipc=16)
    for inst in w.born():
        w.put(f.K_NSID, 3001, f.S_PROCFS, ppid=inst.index, cgroup=inst.number, arg=0x1000 + inst.number)
    gone = w.model.processes[300].state.nsset
    assert gone is not None
    w.exit(300, 3002)
    held = gone.inst[2]
    assert held is not None
    w.put(f.K_NSGONE, 3003, f.S_PROCFS, ppid=2, cgroup=held.number, arg=HELD)
    return w


@pytest.fixture
def shot() -> snapshot.Snapshot:
    return snapshot.take(world().model, 10_000 * MS, 1_700_000_010.0, live=True)


def row(found: list[dict[str, Any]], name: str, ino: int) -> dict[str, Any]:
    (one,) = [one for one in found if (one["type"], one["ino"]) == (name, ino)]
    return one


def test_it_survives_the_way_over_the_socket(shot: snapshot.Snapshot) -> None:
    parts = snapshot.pack(shot)
    assert snapshot.unpack(parts) == json.loads(json.dumps(shot))
    assert max(map(len, parts)) <= snapshot.PART


@pytest.mark.parametrize("parts", [[], ["!"], ["AAAA"], snapshot.pack({"v": 2}), snapshot.pack({}) * 2])
def test_rubbish_is_no_snapshot(parts: list[str]) -> None:
    with pytest.raises(ValueError):
        snapshot.unpack(parts)


def test_one_row_for_each_namespace(shot: snapshot.Snapshot) -> None:
    found = ns.rows(shot)
    assert len(found) == 8 + 3 + 1 + 1 + 1
    net = row(found, "net", 11)
    assert (net["processes"], net["pid"], net["comm"], net["age_s"]) == (3, 100, "init", 9.0)
    assert net["creator"] == {"pid": 50, "comm": "containerd"}
    assert [c["contid"] for c in net["containers"]] == [contid(HEX)]
    assert int(net["serial"], 16) > 0x1000
    assert row(found, "uts", 14)["processes"] == 1
    held = row(found, "ipc", 16)
    assert (held["held"], held["processes"], held["pid"]) == (True, 0, None)
    initial = [one for one in found if one["initial"]]
    assert len(initial) == 8
    assert all(one["containers"] == [] for one in initial)


def test_of_one_process_and_of_some_types(shot: snapshot.Snapshot) -> None:
    found = ns.rows(shot, 102)
    assert [one["type"] for one in found] == ["net", "uts", "ipc", "pid", "user", "mnt", "cgroup", "time"]
    assert [one["ino"] for one in found if not one["initial"]] == [11, 13, 12]
    assert len(ns.rows(shot, 101)) == 9  # a thread of it has another one
    assert {one["type"] for one in ns.rows(shot, None, frozenset(("uts", "ipc")))} == {"uts", "ipc"}
    with pytest.raises(AuditnsError, match="no process 4711"):
        ns.rows(shot, 4711)


def test_lines_of_namespaces(shot: snapshot.Snapshot) -> None:
    lines = ns.table(ns.rows(shot))
    assert lines[0].split() == [
        "SERIAL",
        "TYPE",
        "INODE",
        "PROCS",
        "PID",
        "CONTAINER",
        "POD",
        "CREATOR",
        "AGE",
        "COMMAND",
    ]
    (net,) = [line for line in lines if " net " in line and " 11 " in line]
    assert net.split()[3:] == ["3", "100", f"docker/{HEX[:12]}", "-", "50", "containerd", "9s", "init"]
    (held,) = [line for line in lines if " held " in line]
    assert " ipc " in held


def shown(shot: snapshot.Snapshot, *texts: str) -> list[str | None]:
    return [root["contid"] for root in tree.tree(snapshot.only(shot, join_contids(texts)))]


def test_some_containers_alone(shot: snapshot.Snapshot) -> None:
    sandbox = tree.tree(shot)[2]["contid"]
    docker = contid(HEX)
    assert shown(shot) == [None, docker, sandbox]
    assert shown(shot, docker) == shown(shot, f"={docker}") == shown(shot, hex(int(docker))) == [docker]
    assert shown(shot, docker, sandbox) == shown(shot, f"{docker},{sandbox}") == [docker, sandbox]
    assert shown(shot, "!=unset") == [docker, sandbox]
    assert shown(shot, "!=unset", f"!={docker}") == shown(shot, f"!=unset,{docker}") == [sandbox]
    assert shown(shot, f"{docker},{sandbox}", f"!={docker}") == [sandbox]
    assert shown(shot, "unset") == [None]
    assert shown(shot, "unknown") == shown(shot, "5") == []
    inside = snapshot.only(shot, join_contids([docker]))
    found = ns.rows(inside, inhabited=True)
    assert {one["ino"] for one in found if not one["initial"]} == {11, 12, 13, 14}
    assert [one["ino"] for one in ns.rows(inside, None, frozenset(("net",)), inhabited=True)] == [11]


def test_a_container_inside_one_that_is_not_wanted_stands_alone() -> None:
    w = Registering()
    w.set(TASK, 2, 10)
    w.ask("delegate", TASK, 11)
    w.fork(TASK, 101, 12)
    assert w.set(101, 4, 13, by=TASK) == ""
    shot = snapshot.take(w.model, 20 * MS, 1_700_000_010.0, live=True)
    assert shown(shot, "4") == ["4,^2"]
    assert shown(shot, "2") == ["2"]
    (outer,) = tree.tree(snapshot.only(shot, join_contids(["2"])))
    assert [inner["contid"] for inner in outer["containers"]] == ["4,^2"]
    assert shown(shot, "2", "!=4") == ["2"]
    assert shown(shot, "!=2,unset") == []


def test_one_that_is_not_known(shot: snapshot.Snapshot) -> None:
    shot["processes"].append([999, 0, "lost", -2, None, []])
    assert shown(shot, "unknown") == ["?"]
    assert "?" not in shown(shot, "!=unknown")
    assert shown(shot, "!=unset")[-1] == "?"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0s"), (59, "59s"), (200, "3m20s"), (7500, "2h5m"), (360000, "4d4h")]
)
def test_ages(seconds: float | None, text: str) -> None:
    assert ns.age(seconds) == text


def test_the_tree(shot: snapshot.Snapshot) -> None:
    host, docker, sandbox = tree.tree(shot)
    assert (host["contid"], host["processes"], host["namespaces"]) == (None, 2, [])
    assert (docker["contid"], docker["runtime"], docker["processes"]) == (contid(HEX), "docker", 3)
    (inside,) = docker["namespaces"]
    assert set(inside["ns"]) == {"net", "mnt", "pid"}
    assert inside["tree"] == [
        {"pid": 100, "comm": "init", "children": [
            {"pid": 101, "comm": "web server", "children": [{"pid": 102, "comm": "web server"}]}]}
    ]  # fmt: skip
    assert sandbox["kind"] == "sandbox"
    assert tree.tree(shot, everything=True)[0]["namespaces"][0]["ns"] == {}


def test_the_tree_in_lines(shot: snapshot.Snapshot) -> None:
    lines = tree.lines(tree.tree(shot))
    assert lines[0] == "host (2 processes)"
    assert lines[1] == f"docker/{HEX[:12]} (3 processes, 8s) contid={contid(HEX)}"
    assert lines[2].startswith("└─ namespaces: net=")
    assert lines[3:6] == ["   └─ 100 init", "      └─ 101 web server", "         └─ 102 web server"]
    assert lines[6].startswith("userns:[15] (1 process, ")
    plain = tree.lines(tree.tree(shot), branches=tree._PLAIN)
    assert "".join(plain).isascii()


def test_nothing_from_outside_reaches_the_terminal_raw() -> None:
    w = World()
    w.fork(1, 50, 900, uts=11)
    w.put(f.K_COMM, 901, pid=50, tid=50, payload=b"a\x1b[2Jb\n\0")
    shot = snapshot.take(w.model, 1000 * MS, 1.0, live=True)
    text = "\n".join([*ns.table(ns.rows(shot)), *tree.lines(tree.tree(shot, everything=True))])
    assert "\x1b" not in text
    assert "a\\x1b[2Jb\\n" in text


def test_deep_families_are_no_trouble() -> None:
    w = World()
    for n in range(3000):
        w.fork(n + 100 - 1 if n else 1, n + 100, 1000 + n)
    shot = snapshot.take(w.model, 10_000 * MS, 1.0, live=True)
    roots = tree.tree(shot, everything=True)
    assert len(tree.lines(roots)) == 3000 + 3
    assert json.dumps(roots).count('"pid"') == 3000 + 1


def options(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"all": False, "follow": True, "interval": 1.0, "json": False, **more})


@pytest.mark.parametrize("as_json", [False, True])
def test_following_shows_what_changes_alone(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    w = world()
    rounds = 0

    def take() -> snapshot.Snapshot:
        return snapshot.take(w.model, (10_000 + rounds) * MS, 1.0 + rounds, live=True)

    def wait(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            w.fork(101, 104, 9000)
        if rounds == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tree.follow(take, options(json=as_json), wait)
    out = capsys.readouterr().out
    if as_json:
        assert [json.loads(line)["tree"][1]["processes"] for line in out.splitlines()] == [3, 4]
    else:
        assert out.count("host (2 processes)") == 2
        assert "\x1b" not in out


def test_following_on_a_terminal_fits_it_also_when_it_is_made_smaller(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    w, sizes = world(), iter([(80, 24), (80, 24), (20, 4), (20, 4)])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda **_: os.terminal_size(next(sizes)))

    def take() -> snapshot.Snapshot:
        return snapshot.take(w.model, 10_000 * MS, 1.0, live=True)

    with pytest.raises(StopIteration):
        tree.follow(take, options(), lambda seconds: None)
    _, wide, narrow = capsys.readouterr().out.split("\x1b[H\x1b[J")
    assert len(narrow.splitlines()) == 3 < len(wide.splitlines())
    assert all(len(line) < 20 for line in narrow.splitlines())
    assert "more lines" in narrow.splitlines()[-1]


# -- over the control socket


class _Observer:
    def __init__(self, w: World) -> None:
        self.model = w.model

    def sync_within(self) -> int:
        return 10_000 * MS


def server(w: World) -> SnapshotServer:
    observer: Any = _Observer(w)
    return SnapshotServer(observer)


def test_parts_are_of_one_snapshot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(snapshot, "PART", 200)
    serving = server(world())
    asked: list[dict[str, Any]] = []
    nobody: Any = None

    def ask(path: str, request: dict[str, Any], timeout: float = 5.0) -> dict[str, Any]:
        asked.append(request)
        if len(asked) == 3:
            serving.answer({"op": "snapshot"}, nobody, nobody)  # somebody else asks
        return serving.answer(request, nobody, nobody)

    monkeypatch.setattr("auditns_connector.control.server.ask", ask)
    source = Snapshots(str(tmp_path / "control"))
    assert source.take()["processes"]
    assert [request["op"] for request in asked] == ["snapshot"] * len(asked)
    assert sum("id" not in request for request in asked) == 2
    assert not source.alone


@pytest.mark.parametrize("request_", [{"id": 9}, {"id": 1, "part": 99}, {"id": 1, "part": -1}, {"id": 1, "part": "x"}])
def test_what_is_not_kept_is_refused(request_: dict[str, Any]) -> None:
    nobody: Any = None
    serving = server(world())
    serving.answer({"op": "snapshot"}, nobody, nobody)
    assert serving.answer({"op": "snapshot", **request_}, nobody, nobody)["error"] == "ESTALE"


def test_where_nobody_serves_proc_is_read(tmp_path: Path) -> None:
    import os

    source = Snapshots(str(tmp_path / "control"))
    shot = source.take()
    assert source.alone
    assert not shot["live"]
    found = ns.rows(shot, os.getpid())
    assert {one["type"]: one["ino"] for one in found}["uts"] == os.stat("/proc/self/ns/uts").st_ino


def test_scans_leave_nothing_behind(tmp_path: Path) -> None:
    """Whoever follows the tree where nobody serves scans again and again."""

    def held() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), sum(isinstance(each, Model) for each in gc.get_objects())

    source = Snapshots(str(tmp_path / "nobody"))
    source.take()
    before = held()
    for _ in range(3):
        assert source.take()["processes"]
    assert held() == before
