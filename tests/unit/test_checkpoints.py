"""Containers that are dumped and restored: CRIU's image, and what is told of both."""

import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.emit.container_op import container_op
from auditns_connector.model.apply.checkpoints import MOST_DUMPS, MOST_GONE
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.restore_requests import checked, requests_of
from auditns_connector.model.outputs import ContainerOp
from auditns_connector.registration.criu_image import Image, image_of, run_id
from auditns_connector.registration.oci_state import request_of
from auditns_connector.vocabulary import frames as f
from tests.unit.test_registry import Registering
from tests.unit.world import HEX, MS, REAL, contid

RUN, OTHER_RUN = "ccbec4b9-277a-4570-9401-e131cf9ff0c4", "00000000-1111-2222-3333-444444444444"
#: what CRIU 4.2 has written for a container of runc, but for the UUID
HEAD = bytes.fromhex("1631 3158 4e00 0000 0802 1001 1a18 0801 1001 1801 2001 2801 3002 3803 4004 4806"
                     "5007 5808 6005 2001 2801 3000 5800 6200 6a24")  # fmt: skip
INIT = 200


def inventory(run: str = RUN) -> bytes:
    return HEAD + run.encode()


def test_the_uuid_of_a_dump_is_read() -> None:
    assert run_id(inventory()) == RUN
    # later images have the magic of all images in front
    assert run_id(bytes.fromhex("19435654") + inventory()) == RUN
    message = inventory()[8:]
    more = b"\x70\x01" + b"\x79" + bytes(8) + b"\x7d" + bytes(4)  # fields that may come
    assert run_id(inventory()[:4] + struct.pack("<I", len(message + more)) + message + more) == RUN


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x16\x31\x31\x58", inventory()[:-1], inventory()[4:], inventory(RUN.upper()), inventory(RUN[:-1] + "g"),
        inventory("\n" * 36), HEAD[:4] + b"\xff\xff\xff\xff" + HEAD[8:], b"\x16\x31\x31\x58\4\0\0\0\xff\xff\xff\xff",
        b"\x16\x31\x31\x58\2\0\0\0\x6a\x24", b"\x16\x31\x31\x58\1\0\0\0\x6b",
        inventory()[:8] + b"\x0b" + inventory()[9:],
        b"\x16\x31\x31\x58\x0c\0\0\0\x08" + b"\x80" * 11,
    ],
)  # fmt: skip
def test_what_is_no_such_image(data: bytes) -> None:
    assert run_id(data) == ""


@given(st.binary(max_size=200), st.integers(0, 90))
def test_any_bytes_have_an_answer(data: bytes, cut: int) -> None:
    for text in (data, inventory()[:cut] + data):
        assert re.fullmatch("(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?", run_id(text))


def test_where_the_image_is(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    image = bundle / "checkpoint" / "inventory.img"
    image.parent.mkdir(parents=True)
    assert image_of(str(bundle), "", os.getpid()) is None
    image.write_bytes(inventory())
    assert image_of(str(bundle), "", os.getpid()) == Image(RUN, image.stat().st_mtime_ns)
    assert image_of(f"{bundle}/../bundle", "/proc/self/root", os.getpid()) is not None
    state = f'{{"id": "x", "status": "stopped", "bundle": "{bundle}"}}'.encode()
    assert request_of(state, "", os.getpid())["image"]["run"] == RUN
    assert "image" not in request_of(state, None)
    # what is no file, or a huge one
    image.unlink()
    image.symlink_to(bundle / "elsewhere")
    (bundle / "elsewhere").write_bytes(inventory())
    assert image_of(str(bundle), "", os.getpid()) is None
    image.unlink()
    os.mkfifo(image)
    assert image_of(str(bundle), "", os.getpid()) is None
    image.unlink()
    with image.open("wb") as file:
        file.truncate(1 << 30)
    assert image_of(str(bundle), "", os.getpid()) is None
    assert image_of("", "", os.getpid()) is None


class Dumping(Registering):
    """A world with a registered container whose init is pid 200, begun at 10 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.start(INIT, 10)
        assert self.set(INIT, contid(HEX), 11, hook=True, new=True, rehash=True, names={"id": HEX}) == ""

    def start(self, pid: int, at: float) -> None:
        self.fork(1, pid, at, pid_=4026540000 + pid)

    def fork(self, parent: int, child: int, at: float, *, thread: int = 0, **changed: int) -> None:
        own = {"pid": changed.pop("pid_"), "mnt": 4026550000 + child} if "pid_" in changed else {}
        super().fork(parent, child, at, thread=thread, **own, **changed)

    def dumped(self, at: float, run: str = RUN, written: float | None = None, ident: str = HEX) -> None:
        moment = int((at if written is None else written) * MS) + REAL
        request = {"op": "dumped", "id": ident, "run": run, "written": moment, "caller": {"pid": 50, "uid": 0}}
        self.request(at, **request)

    def request(self, at: float, **request: Any) -> None:
        self.put(f.K_REGISTER, at, f.S_CONTROL, payload=json.dumps(request).encode())

    def told_of(self, *ops: str) -> list[tuple[str, int, str, str, str]]:
        found = [out for out in self.model.outputs if isinstance(out, ContainerOp) and out.op in ops]
        return [(out.op, out.opid, out.contid, out.old, out.run) for out in found]

    def restore(self, pid: int, at: float, run: str, ident: str = HEX) -> str:
        return self.set(
            pid, contid(ident), at, hook=True, new=True, rehash=True, names={"id": ident}, restored=run
        )  # fmt: skip


@pytest.fixture
def world() -> Dumping:
    return Dumping()


def test_a_dump_and_what_is_restored_from_it(world: Dumping) -> None:
    world.exit(INIT, 100)
    world.dumped(101)
    world.dumped(102)  # a hook that is called twice
    first = ("checkpoint", INIT, contid(HEX), contid(HEX), RUN)
    assert world.told_of("checkpoint") == [first]
    world.start(300, 200)
    assert world.restore(300, 201, RUN, ident="a" * 64) == ""
    second = ("restore", 300, contid("a" * 64), contid(HEX), RUN)
    assert world.told_of("checkpoint", "restore") == [first, second]
    assert world.told_of("set")[-1][:3] == ("set", 300, contid("a" * 64))
    assert world.who(300, 300) == contid("a" * 64)
    (out,) = [out for out in world.model.outputs if isinstance(out, ContainerOp) and out.op == "restore"]
    line = container_op(world.model, out, False)
    assert f" contid={contid('a' * 64)} old-contid={contid(HEX)} run-id={RUN} pid=50 ".encode() in line
    assert line.endswith(b" res=1\n")


def test_from_where_it_is_not_known(world: Dumping) -> None:
    world.start(300, 200)
    assert world.restore(300, 201, OTHER_RUN, ident="a" * 64) == ""
    world.start(301, 210)
    assert world.restore(301, 211, "", ident="b" * 64) == ""
    assert [told[3:] for told in world.told_of("restore")] == [("?", OTHER_RUN), ("?", "?")]


def test_an_image_that_is_older_is_of_another(world: Dumping) -> None:
    """What a container was restored from lies beside it until it ends."""
    world.dumped(100, written=9)
    world.dumped(100, ident="f" * 64)  # nobody's
    assert world.told_of("checkpoint") == []
    world.dumped(101, written=50)  # it lives on
    assert len(world.told_of("checkpoint")) == 1


def test_a_refused_set_is_no_restore(world: Dumping) -> None:
    assert world.restore(INIT, 20, RUN) == "EEXIST"
    assert world.told_of("restore") == []


def test_whose_process_may_be_a_restored_one(world: Dumping) -> None:
    may = world.model.checkpoints.may_be_restored
    processes = world.model.processes
    assert may(processes[INIT], HEX)
    assert not may(processes[INIT], "a" * 64), "it is another container's"
    assert not may(processes[50], HEX), "a process of the host that has the pid by now"
    world.start(300, 200)
    assert may(processes[300], "a" * 64), "a sandbox, until it is registered"
    world.start(301, 201)
    world.attach(301, f"/docker/{'b' * 64}", 202)
    assert may(processes[301], "b" * 64)
    assert not may(processes[301], "a" * 64)
    # restored under another name, in a cgroup that has the former one
    world.model.checkpoints.take(RUN, contid("b" * 64))
    assert may(processes[301], "a" * 64, RUN)
    assert not may(processes[301], "a" * 64, OTHER_RUN)
    world.start(302, 203)
    world.attach(302, f"/docker/{'c' * 64}", 204)
    assert not may(processes[302], "a" * 64, RUN)


def test_dumps_are_kept_and_bounded(world: Dumping) -> None:
    world.exit(INIT, 100)
    world.dumped(101)
    requests = requests_of(world.model, 1)
    (kept,) = [checked(request) for request in requests if request["op"] == "dumps"]
    again = Dumping()
    again.request(50, **kept)
    again.start(300, 200)
    assert again.restore(300, 201, RUN, ident="a" * 64) == ""
    assert again.told_of("restore")[0][3] == contid(HEX)
    with pytest.raises((ValueError, TypeError)):
        checked({"op": "dumps", "saved": 1, "dumps": [[1, 2]]})
    for number in range(MOST_DUMPS + 10):
        world.model.checkpoints.take(str(number), "1")
    assert len(world.model.checkpoints.dumps) == MOST_DUMPS
    assert RUN not in world.model.checkpoints.dumps
    assert MOST_GONE <= 4096
    replayed = Model()
    replayed.apply(b"".join(world.log))
    assert RUN in replayed.checkpoints.dumps
