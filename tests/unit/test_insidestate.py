"""What is known of processes inside containers, after a restart and at the head of a rotated journal."""

import json
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.attribution.exec_match import find_exec
from auditns_connector.host.observer import Observer
from auditns_connector.journal.files import JournalWriter
from auditns_connector.model.apply import inner_ids_state as insidestate
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.namespace_life import nsid
from auditns_connector.model.apply.restore_requests import checked, requests_of
from auditns_connector.model.process import Login
from auditns_connector.sources.idmaps import idmap_frame
from auditns_connector.streams.view import Viewer
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER, INITIAL_INODES_618, PID, USER
from tests.unit.test_streams_view import CG, Scene
from tests.unit.world import MS, World

NS = {**INITIAL_INODES_618, "mnt": 6001, "pid": 5001, "user": 7001}


def login(scene: Scene, pid: int, at: float, uid: int = 1000) -> None:
    scene.put(f.K_LOGIN, at, f.S_CONTROL, pid=pid, tid=pid, arg=uid | 5 << 32)


def again(scene: Scene, *procs: dict[str, Any], at: float) -> World:
    """Another program that begins at ``at``: it scans what is there (``procs``), and is told the rest."""
    world = World()
    requests = json.loads(json.dumps(requests_of(scene.model, int(at * MS))))
    for about in procs:
        world.proc(cg=CG, ns=NS, at=at, **about)
    for request in requests:
        payload = json.dumps(checked(request)).encode()
        world.put(f.K_REGISTER, at, f.S_CONTROL, payload=payload)
    return world


@pytest.fixture
def scene() -> Scene:
    scene = Scene(user=7001)
    scene.model.inside.kept = True
    return scene


SHELL = {"pid": 200, "ppid": 1, "start": 20, "nspid": [200, 1], "comm": "sh"}


def test_logins_outlive_a_restart(scene: Scene) -> None:
    for child in (201, 202):
        scene.fork(200, child, 40)
    login(scene, 201, 50)
    scene.fork(201, 203, 60)
    children = [{"pid": pid, "ppid": 200, "start": 40, "nspid": [pid, pid - 199]} for pid in (201, 202)]
    grandchild = {"pid": 203, "ppid": 201, "start": 60, "nspid": [203, 4]}
    late = {"pid": 204, "ppid": 201, "start": 95, "nspid": [204, 5]}
    model = again(scene, SHELL, *children, grandchild, late, at=90).model
    logins = {pid: model.processes[pid].state.login for pid in (200, 201, 202, 203, 204)}
    # who made 204 nobody saw: its parent, or one of another login that left it to it
    assert logins == {200: None, 201: Login(1000, 5), 202: None, 203: Login(1000, 5), 204: None}
    assert [state.login for state in model.processes[201].states(0, 49 * MS)] == [None]  # not before it


def test_an_orphan_of_the_outage_is_not_its_new_parents(scene: Scene) -> None:
    login(scene, 200, 50)
    orphan = {"pid": 204, "ppid": 200, "start": 95, "nspid": [204, 5]}
    unclear = {"pid": 205, "ppid": 200, "start": 89, "nspid": [205, 6]}
    model = again(scene, SHELL, orphan, unclear, at=90).model
    assert [model.processes[pid].state.login for pid in (200, 204, 205)] == [Login(1000, 5), None, None]


def test_another_holder_of_the_number_has_no_login(scene: Scene) -> None:
    scene.fork(200, 201, 40)
    login(scene, 201, 50)
    model = again(scene, SHELL, {"pid": 201, "ppid": 200, "start": 400, "nspid": [201, 2]}, at=500).model
    assert model.processes[201].state.login is None


def test_a_follower_takes_a_login_at_its_time(scene: Scene) -> None:
    scene.fork(200, 201, 40)
    login(scene, 201, 50)
    (request,) = insidestate.requests(scene.model, 70 * MS, only=[scene.model.processes[201]])
    other = Scene()
    other.fork(200, 201, 40)
    other.fork(201, 202, 45)
    other.fork(201, 203, 75)  # before the message has come
    other.unshare(201, 60, mnt=6002)
    other.fork(201, 204, 76)
    other.exec(204, 76.5, "/bin/x")
    other.exit(204, 77)
    insidestate.restore(other.model, other.model.inside, request)
    logins = {pid: other.model.processes[pid].state.login for pid in (201, 202, 203, 204)}
    assert logins == {201: Login(1000, 5), 202: None, 203: Login(1000, 5), 204: Login(1000, 5)}
    assert find_exec(other.model, 204, 201, [76 * MS], 90 * MS, b"/bin/x", b"x").login == Login(1000, 5)
    assert find_exec(other.model, 204, 201, [76 * MS], 90 * MS, b"/bin/x", b"x").login == Login(1000, 5)
    assert [state.login for state in other.model.processes[201].states(41 * MS, 41 * MS)] == [None]
    insidestate.restore(other.model, other.model.inside, {**request, "logins": [[201, 40 * MS, 7, 7, 0]]})
    assert other.model.processes[201].state.login == Login(1000, 5)  # once only


def test_what_a_runtime_sets_up_is_not_taken_for_the_containers_after_a_restart() -> None:
    scene = Scene(own=False, user=7001)
    scene.model.inside.kept = True
    init = {**SHELL, "comm": "c"}
    scene.model.processes[200].comm = b"c"
    assert scene.model.processes[200].own_since is None
    assert again(scene, init, at=90).model.processes[200].own_since is None
    assert again(scene, {**init, "comm": "nginx"}, at=90).model.processes[200].own_since == 20 * MS
    scene.exec(200, 80, "/bin/c")
    assert again(scene, init, at=90).model.processes[200].own_since == 20 * MS


@pytest.mark.parametrize(
    "change",
    [
        {"logins": [[1, 2, 3, 4]]},
        {"logins": [[1, 2, -3, 4, 5]]},
        {"logins": 7},
        {"setup": [[1, 2, 3]]},
        {"setup": None},
    ],
)
def test_a_damaged_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        checked({"op": "inside", "saved": 1, "logins": [], "setup": [], **change})


def test_many_are_told_in_pieces(scene: Scene) -> None:
    for pid in range(1000, 1000 + insidestate.MAX_NAMED + 5):
        scene.fork(200, pid, 40)
        login(scene, pid, 50)
    found = insidestate.requests(scene.model, 60 * MS)
    assert [len(request["logins"]) for request in found] == [insidestate.MAX_NAMED, 5]


# -- a replay that begins in the middle


def test_a_rotated_journal_numbers_namespaces_by_their_inodes(scene: Scene) -> None:
    """What comes behind the rotation is about the same namespaces, whatever their numbers are there."""
    scene.map("[[0, 100000, 1000]]", "[[0, 200000, 1000]]")
    scene.fork(200, 201, 40)
    scene.inside(201, 2, 40)
    login(scene, 201, 50)
    live, now = scene.model, 90 * MS
    world = World()
    world.proc(1, 0, ns={"uts": 99_001, "pid": 99_002, "user": 99_003})  # counts namespaces on
    world.proc(**SHELL, cg=CG, ns=NS, at=90)
    world.proc(pid=201, ppid=200, start=40, nspid=[201, 2], cg=CG, ns=NS, at=90)
    head = [nsid(inst, serial, now) for serial, inst in live.namespaces.serials.items()]
    head += [idmap_frame(inst, maps._asdict(), now) for inst, maps in live.inside.current_maps()]
    head += [
        f.pack(f.K_REGISTER, f.S_CONTROL, now, payload=json.dumps(r).encode()) for r in requests_of(live, now)
    ]  # fmt: skip
    world.model.apply(b"".join(head))
    tail = [
        f.pack(f.K_FORK, f.S_PERF, 95 * MS, pid=202, tid=202, ppid=201, ptid=201),
        f.pack(
            f.K_INSIDE, f.S_PERF, 95 * MS, pid=202, tid=202, ppid=3, ptid=3, cgroup=scene.number(PID, 5001), arg=5001
        ),
    ]
    for model in (live, world.model):
        model.apply(b"".join(tail))
    numbers = [model.namespaces.current[PID][5001].number for model in (live, world.model)]
    assert numbers[0] != numbers[1]
    for model in (live, world.model):
        viewer, ns = Viewer(model, lambda pid, user_ns: False), model.namespaces.current[PID][5001]
        assert [viewer.number(pid, ns, 89 * MS, 10**12) for pid in (200, 201, 202, 1)] == [1, 2, 3, 0]
        assert [model.processes[pid].state.login for pid in (200, 201, 202)] == [None, Login(1000, 5), Login(1000, 5)]
        maps = viewer.id_map(model.namespaces.current[USER][7001], 200)
        assert maps is not None
        assert maps.uid == ((0, 100000, 1000),)


def test_the_head_of_a_rotated_journal_has_maps_and_logins(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalWriter(str(path), max_size=1)
    observer = Observer(Model(), perf=None, connector=None, ns_source="procfs", journal=journal)
    observer.start()
    inst = observer.model.namespaces.current[USER][INITIAL_INODES_618["user"]]
    maps = {"uid": [[0, 0, 4294967295]], "gid": [[0, 0, 4294967295]]}
    observer.feed(idmap_frame(inst, maps, observer.sync()))
    pid = next(iter(observer.model.processes))
    observer.feed(f.pack(f.K_LOGIN, f.S_CONTROL, observer.sync(), pid=pid, tid=pid, arg=1000))
    observer.mark(observer.sync(), [7])
    observer.close()
    found = list(f.iter_frames(path.read_bytes()))
    (told,) = [frame for frame in found if frame.kind == f.K_IDMAP]
    assert (told.arg, json.loads(told.payload.rstrip(b"\0"))) == (inst.ino, maps)
    ops = [json.loads(frame.payload.rstrip(b"\0")) for frame in found if frame.kind == f.K_REGISTER]
    assert [op["logins"][0][:1] for op in ops if op["op"] == "inside"] == [[pid]]
    assert ALL_ORDER[inst.index] == "user"
