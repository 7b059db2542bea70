"""CONTAINER_INFO as an event of its own: when, with what, and at the beginning of each log file."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.attribution.text_answers import TextAnswers
from auditns_connector.audittext import own_records as text
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.config.options import FileOutput
from auditns_connector.emit.render import Renderer
from auditns_connector.model.logins import ONE
from auditns_connector.pipeline import container_records
from auditns_connector.pipeline.container_records import ContainerRecords, give_headers
from auditns_connector.pipeline.filters import EventFilter
from auditns_connector.pipeline.lifecycle_budget import LifecycleBudget
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.sinks.base import no_lost_line
from auditns_connector.sinks.file import FileSink
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.vocabulary import frames as f
from tests.unit.world import HEX, MS, World, contid

POD = "11111111-2222-3333-4444-555555555555"
PATH = f"/kubepods/besteffort/pod{POD}/{HEX}"
#: labels with all that could end a list, or the record
LABELS = {"a": "b", "k,=": 'v%:"\n', "ü": ""}


def records(w: World, name: str = "raw", **more: Any) -> StandaloneRecords:
    return StandaloneRecords(w.model, EventSerials(None), [name], **more)


def told(w: World, records: StandaloneRecords, name: str = "raw") -> list[str]:
    outputs, w.model.outputs = w.model.outputs, []
    return b"".join(bytes(blocks[name]) for blocks in records.format_outputs(outputs)).decode().splitlines()


def named(w: World, at: float, names: dict[str, str], labels: dict[str, str] | None = None, path: str = PATH) -> None:
    (key,) = [c.key for c in w.model.containers.by_key.values() if path in c.places.values()]
    request = {"op": "names", "key": key, "names": names, "labels": labels or {}}
    w.put(f.K_REGISTER, at, f.S_CONTROL, payload=json.dumps(request).encode())


def started(w: World, who: int, at: float, path: str = PATH, **namespaces: int) -> None:
    """A runtime's process moves itself, and makes the first one of the container."""
    w.fork(1, who, at)
    w.attach(who, path, at + 1)
    w.fork(who, who + 1, at + 2, **namespaces)
    w.exec(who + 1, at + 3)


def fields(line: str) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in line.split())


def test_a_container_is_told_when_it_is_seen_and_when_it_has_names() -> None:
    w = World()
    n = records(w)
    started(w, 10, 100, pid=901)
    (seen,) = told(w, n)
    assert seen == (
        f'type=CONTAINER_INFO msg=audit(1700000000.101:{1 << 31}): reason=seen contid={contid(HEX)} kind=runtime '
        f'ctr-id="{HEX}" pod-uid="{POD}" since=1700000000.101 pid=11 start=102000000'
    )  # fmt: skip
    names = {"runtime": "containerd", "name": "app", "image": "nginx:1", "pod": "web-0", "namespace": "shop"}
    named(w, 110, names, LABELS)
    (line,) = told(w, n)
    assert line.endswith(
        f' reason=named contid={contid(HEX)} kind=runtime runtime="containerd" ctr-id="{HEX}" ctr-name="app" '
        f'pod="web-0" pod-ns="shop" image="nginx:1" pod-uid="{POD}" '
        f'labels="a=b,k%2C%3D=v%25%3A%22%0A,%C3%BC=" since=1700000000.101 pid=11 start=102000000'
    )  # fmt: skip
    assert not told(w, n)


@pytest.mark.parametrize(
    ("path", "told_by_files", "runtime"),
    [
        (PATH, "containerd", "containerd"),
        (f"/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/cri-containerd-{HEX}.scope", "", "containerd"),
        (PATH, "crio", "crio"),
        (f"/kubepods.slice/crio-{HEX}.scope", "", "crio"),
        (PATH, "docker", "docker"),
        (f"/docker/{HEX}", "docker", "docker"),
        (f"/system.slice/docker-{HEX}.scope", "docker", "docker"),
        (f"/of/mine/{HEX}", "docker", "docker"),
        (f"/of/mine/{HEX}", "", "oci"),
        (PATH, "", ""),
        (f"/docker/{HEX}", "podman", "docker"),  # where the path alone tells, nobody else is asked
        (PATH, "evil", ""),
        (PATH, "kubernetes", ""),
    ],
)
def test_one_container_has_one_word_for_its_runtime(path: str, told_by_files: str, runtime: str) -> None:
    w = World()
    started(w, 10, 100, path)
    named(w, 110, {"runtime": told_by_files, "name": "n"}, path=path)
    (container,) = w.model.containers.by_key.values()
    assert container.runtime == runtime
    assert container.contid == int(contid(HEX))


def test_the_word_of_a_path_is_still_taken_by_filters() -> None:
    w = World()
    started(w, 10, 100)
    named(w, 110, {"runtime": "containerd"})
    (container,) = w.model.containers.by_key.values()
    for word, wanted in (("kubernetes", True), ("containerd", True), ("docker", False), ("oci", False)):
        assert EventFilter(runtimes=[word]).tells(w.model.containers, 1300, 1, container) is wanted


def test_a_sandbox_is_told_once_it_has_a_number() -> None:
    """Its number is made of its namespace's serial, which no line of ours may ask for."""
    w = World()
    n = records(w)
    w.fork(1, 20, 100, pid=901)
    assert not told(w, n)
    assert n.containers.waits
    (container,) = w.model.containers.by_key.values()
    assert container.sandbox is not None
    assert container.sandbox.serial is None
    number = w.model.containers.text(container)
    (line,) = told(w, n)
    assert (fields(line)["reason"], fields(line)["contid"], fields(line)["kind"]) == ("seen", number, "sandbox")
    assert fields(line)["pid"] == "20"
    assert not n.containers.waits


def test_a_sandbox_that_ends_without_a_number_is_nothing_to_tell() -> None:
    w = World()
    n = records(w)
    w.fork(1, 20, 100, pid=901)
    told(w, n)
    w.exit(20, 110)
    assert not told(w, n)
    assert not n.containers.waits


def test_those_that_anybody_can_make_are_limited_and_counted() -> None:
    w = World()
    n = records(w, budget=LifecycleBudget(each=10, total=1000))
    for i in range(30):
        w.fork(1, 100 + i, 100 + i, pid=901 + i)
        w.model.containers.text(w.model.processes[100 + i].state.container)
    lines = told(w, n)
    assert len(lines) == 10
    rest = b"".join(bytes(blocks["raw"]) for blocks in n.late(2_000_000_000)).decode()
    assert fields(rest)["source"] == "lifecycle"
    assert fields(rest)["count"] == "20"
    assert len(ContainerRecords(w.model).present(False)) == 30, "the next log file has them all"


def test_the_system_s_own_are_not_limited() -> None:
    w = World()
    n = records(w, budget=LifecycleBudget(each=1, total=1))
    for i in range(30):
        ident = f"{i:064x}"[::-1]
        w.fork(1, 100 + i, 100)
        w.attach(100 + i, f"/docker/{ident}", 101)
    assert len(told(w, n)) == 30


def test_a_filter_holds_for_them_too() -> None:
    w = World()
    n = records(w, wanted=EventFilter(runtimes=["podman"]))
    started(w, 10, 100, f"/docker/{HEX}")
    assert not told(w, n)
    assert n.header("raw")() == b""


def test_as_json_it_says_what_is_known_of_the_container() -> None:
    w = World()
    n = records(w, "json", renderer=Renderer(Correlator(w.model)))
    started(w, 10, 100)
    named(w, 110, {"runtime": "containerd", "name": "app", "pod": "web-0", "role": "pause"}, LABELS)
    last = json.loads(told(w, n, "json")[-1])
    assert last["container"] == {
        "kind": "runtime", "runtime": "containerd", "id": HEX, "name": "app", "pod": "web-0", "pod_uid": POD,
        "role": "pause", "labels": LABELS,
    }  # fmt: skip
    assert last["records"][0]["reason"] == "named"


def test_labels_are_bounded_and_whole() -> None:
    w = World()
    started(w, 10, 100)
    named(w, 110, {"name": "n"}, {"a" * 600: "x", "b" * 600: "y", "c": "z", **{f"k{i}": "" for i in range(100)}})
    (container,) = w.model.containers.by_key.values()
    assert list(container.labels)[:2] == ["a" * 600, "c"]
    assert len(container.labels) == 64
    written = text.labels(container.labels)
    assert written is not None
    assert len(written) < 1200


def test_a_log_file_that_follows_another_one_begins_with_the_living(tmp_path: Path) -> None:
    w = World()
    n = records(w)
    started(w, 10, 100, f"/docker/{HEX}")
    started(w, 20, 100, f"/docker/{HEX[::-1]}")
    w.exit(20, 110)
    w.exit(21, 110)
    told(w, n)
    path = tmp_path / "log"
    sink = FileSink(FileOutput(path=str(path), group="", max_size=2000, keep=9), no_lost_line)
    give_headers({"raw": [sink]}, n)
    for i in range(60):
        sink.write(b"%058d\n" % i)
        assert sink.flush(10)
    assert path.read_text().count("reason=present") == 1
    files = [path.read_bytes(), *(other.read_bytes() for other in sorted(tmp_path.glob("log.*")))]
    assert len(files) > 1
    assert files[-1].startswith(b"0" * 58), "the first one has its containers when they are seen"
    for data in files[:-1]:
        first = data.splitlines()[0].decode()
        assert fields(first)["reason"] == "present"
        assert fields(first)["contid"] == contid(HEX)
        assert len(data) <= 2000
    path.rename(tmp_path / "old")
    sink.reopen()
    sink.write(b"x\n")
    assert sink.flush(10)
    assert re.match(rb"type=CONTAINER_INFO .* reason=present .*\nx\n", path.read_bytes())
    sink.close(5)
    serials = re.findall(r"audit\([0-9.]+:(\d+)\)", b"".join(p.read_bytes() for p in tmp_path.iterdir()).decode())
    assert len(set(serials)) == len(serials), "no two events have one serial"


def test_a_log_file_that_was_emptied_begins_anew(tmp_path: Path) -> None:
    w = World()
    n = records(w)
    started(w, 10, 100, f"/docker/{HEX}")
    path = tmp_path / "log"
    sink = FileSink(FileOutput(path=str(path), group=""), no_lost_line)
    give_headers({"raw": [sink]}, n)
    sink.write(b"x\n")
    assert sink.flush(10)
    path.write_bytes(b"")
    while b"reason=present" not in path.read_bytes():
        time.sleep(0.05)
    sink.close(5)


def test_what_the_text_says_of_it_is_read_back() -> None:
    w = World()
    n = records(w)
    started(w, 10, 100)
    named(w, 110, {"runtime": "containerd", "name": "app", "pod": "web-0", "namespace": "shop"})
    stream = TextStream(whole=True)
    line = told(w, n)[-1].encode() + b"\n"
    stream.put(line)
    stream.part()
    alone = TextAnswers().alone(stream.flush(eof=True), World().model.containers)
    assert len(alone) == 1
    container = alone[0].state.container
    assert container is not None
    found = (container.runtime, container.name, container.pod, container.namespace, container.pod_uid)
    assert found == ("containerd", "app", "web-0", "shop", POD)


def test_an_entry_is_told_once_when_the_text_of_its_time_has_been_read() -> None:
    """Whoever logged in before it is known by then; it is told though the container has ended in the meantime."""
    w = World()
    w.fork(1, 100, 10)
    w.attach(100, f"/docker/{HEX}", 11)
    w.fork(1, 300, 20)
    w.attach(300, f"/docker/{HEX}", 30)
    told_by = records(w)

    def lines(read: float) -> list[str]:
        outputs, w.model.outputs = w.model.outputs, []
        blocks = told_by.format_outputs(outputs, int(read * MS))
        return b"".join(bytes(block["raw"]) for block in blocks).decode().splitlines()

    assert [fields(line)["reason"] for line in lines(109)] == ["seen"]
    assert told_by.containers.waits
    assert told_by.containers.due == 110 * MS
    w.put(f.K_LOGINS, 5, f.S_AUDIT, pid=300, arg=1_700_000_000_000, cgroup=5, payload=ONE.pack(300, 1000, 7))
    assert lines(109.9) == []
    w.exit(300, 60)
    w.exit(100, 61)
    (line,) = lines(110)
    assert (fields(line)["reason"], fields(line)["entry-auid"], fields(line)["entry-ses"]) == ("entry", "1000", "7")
    assert not told_by.containers.waits
    assert told_by.containers.due == 0


def test_more_entries_than_may_wait_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_records, "_MOST_WAITING", 2)
    w = World()
    w.fork(1, 100, 10)
    w.attach(100, f"/docker/{HEX}", 11)
    for pid in range(300, 305):
        w.fork(1, pid, 20)
        w.attach(pid, f"/docker/{HEX}", 30)
    told_by = records(w)
    outputs, w.model.outputs = w.model.outputs, []
    blocks = told_by.format_outputs(outputs, 31 * MS)
    lines = b"".join(bytes(block["raw"]) for block in blocks).decode().splitlines()
    assert [fields(line)["reason"] for line in lines] == ["seen", "entry", "entry", "entry"]
