"""Names of containers from their runtimes' files: asked for as they come, however many, and again where they were not
there yet."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.host import runtime_metadata
from auditns_connector.host.runtime_metadata import ReaderAtOnce, RuntimeMetadata
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
