"""Names of containers from their runtimes' files: asked for as they come, however many, and again where they were not
there yet."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.host import runtime_metadata
from auditns_connector.host.runtime_metadata import ReaderAtOnce, RuntimeMetadata
from auditns_connector.model.places import Container
from auditns_connector.sources.runtimefiles import RuntimeFiles
from tests.unit.test_runtimefiles import HEX, docker, put
from tests.unit.world import World


@pytest.fixture(autouse=True)
def runtimes_umask() -> Iterator[None]:
    """What a group may write is no runtime's."""
    former = os.umask(0o022)
    yield
    os.umask(former)


class Host:
    """What is asked of an observer."""

    def __init__(self, world: World) -> None:
        self.model = world.model
        self.fed = 0

    def feed(self, block: bytes) -> None:
        self.fed += 1
        self.model.apply(block)


class Clock:
    """Seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(runtime_metadata, "time", found)
    return found


def metadata(world: World, root: Path) -> RuntimeMetadata:
    return RuntimeMetadata(Host(world), ReaderAtOnce(RuntimeFiles(str(root))))  # type: ignore[arg-type]


def named(world: World) -> dict[str, str]:
    return {one.id: one.name for one in world.model.containers.by_key.values()}


def start(world: World, pid: int, ident: str, at: float) -> None:
    world.fork(1, pid, at)
    world.attach(pid, f"/docker/{ident}", at + 0.1)


def config(root: Path, ident: str, content: object) -> None:
    put(root, f"var/lib/docker/containers/{ident}/config.v2.json", content)


def about(ident: str, name: str) -> dict[str, object]:
    return {**json.loads(json.dumps(docker())), "ID": ident, "Name": f"/{name}"}


def test_a_thousand_that_come_at_once_are_all_named(tmp_path: Path, clock: Clock) -> None:
    world, idents = World(), [f"{number:064x}" for number in range(1, 1001)]
    for number, ident in enumerate(idents):
        config(tmp_path, ident, about(ident, f"c{number}"))
        start(world, 2000 + number, ident, 10 + number)
    names, rounds = metadata(world, tmp_path), 0
    while rounds < 100 and not all(named(world).values()):
        names.tick()
        rounds += 1
    assert named(world) == {ident: f"c{number}" for number, ident in enumerate(idents)}
    assert rounds == 20, "fifty at a time, so that nobody waits for all of them"


@pytest.mark.parametrize("half", ['{"Name": "/we', "", "\0" * 100])
def test_a_file_that_is_half_written_is_read_again(tmp_path: Path, clock: Clock, half: str) -> None:
    world = World()
    start(world, 200, HEX, 10)
    config(tmp_path, HEX, half)
    names = metadata(world, tmp_path)
    names.tick()
    assert named(world) == {HEX: ""}
    config(tmp_path, HEX, about(HEX, "web"))
    names.tick()
    assert named(world) == {HEX: ""}, "not every time"
    clock.now += 1
    names.tick()
    assert named(world) == {HEX: "web"}


def test_who_never_has_a_name_is_not_asked_for_without_end(tmp_path: Path, clock: Clock) -> None:
    world, files = World(), RuntimeFiles(str(tmp_path))
    start(world, 200, HEX, 10)
    names = RuntimeMetadata(Host(world), ReaderAtOnce(files))  # type: ignore[arg-type]
    due = 0
    for _ in range(10_000):
        clock.now += 1
        due += names.ask_due()
    assert due == 5


def test_an_identifier_that_is_used_again_has_the_new_names(tmp_path: Path, clock: Clock) -> None:
    world = World()
    names = metadata(world, tmp_path)
    for number, pid in ((1, 200), (2, 300)):
        config(tmp_path, HEX, about(HEX, f"web{number}"))
        start(world, pid, HEX, number * 1000)
        names.tick()
        living = [one for one in world.model.containers.by_key.values() if one.live]
        assert [one.name for one in living] == [f"web{number}"]
        world.exit(pid, number * 1000 + 500)
        clock.now += 60


def test_containers_of_many_processes_are_asked_about_without_an_object_of_any(tmp_path: Path, clock: Clock) -> None:
    world, at = World(), 10.0
    for container in range(60):
        pid = 2000 + 100 * container
        start(world, pid, f"{container + 1:064x}", at)
        for child in range(1, 40):
            at += 0.1
            world.fork(pid, pid + child, at)
        at += 1
        if container % 3 == 0:
            world.exit(pid, at)
    model = world.model
    containers = list(model.containers.by_key.values())
    objects = len(model.table.held), len(model.table._packed)
    found = runtime_metadata.first_processes(Host(world), containers)  # type: ignore[arg-type]
    assert (len(model.table.held), len(model.table._packed)) == objects
    assert objects[0] + objects[1] < 200
    living = model.table.living_in(containers)
    for container in containers:
        inside = [process for process in living if process.state.container is container]
        assert len(inside) >= 39
        assert found[container] == min(inside, key=lambda process: (process.start, process.place)).pid


def test_only_those_that_are_new_are_asked_for_in_a_round(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, looked = World(), list[str]()
    for number in range(300):
        start(world, 2000 + number, f"{number + 1:064x}", 10 + number)
    names = metadata(world, tmp_path)
    while names.ask_due():
        continue
    nameless = runtime_metadata._nameless

    def look(container: Container) -> bool:
        looked.append(container.id)
        return nameless(container)

    monkeypatch.setattr(runtime_metadata, "_nameless", look)
    ident = f"{1000:064x}"
    config(tmp_path, ident, about(ident, "new"))
    start(world, 5000, ident, 1000)
    names.each_round()
    assert named(world)[ident] == "new"
    assert looked == [ident]
    names.each_round()
    assert looked == [ident]
