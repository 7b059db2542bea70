"""The state of registrations on disk: what is believed of it, and records out of the ordinary."""

import json
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.emit.container_op import container_op
from auditns_connector.model.apply.restore_requests import requests_of
from auditns_connector.model.outputs import ContainerOp
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.registration.state_file import StateFile
from tests.unit.test_registry import SHELL, TASK, Registering
from tests.unit.world import MS


@pytest.fixture
def world() -> Registering:
    world = Registering()
    world.set(TASK, 77, 10, names={"name": "x"})
    world.ask("delegate", TASK, 11)
    world.now = 2000 * MS
    return world


@pytest.fixture
def state(tmp_path: Path, world: Registering) -> StateFile:
    found = StateFile(str(tmp_path / "control"))
    assert found.write("boot", requests_of(world.model, world.now), {(TASK, 5): "/s"}) == ""
    return found


def test_what_is_written_is_read(state: StateFile, world: Registering) -> None:
    requests, sockets, complaint = state.read("boot")
    assert (sockets, complaint) == ({(TASK, 5): "/s"}, "")
    assert requests == json.loads(json.dumps(requests_of(world.model, world.now)))
    assert [request["op"] for request in requests] == ["restore", "restored"]
    assert requests[-1]["delegates"] == [[TASK, 2 * MS, [["registered", "77"]]]]


def test_the_state_of_another_boot_is_refused(state: StateFile) -> None:
    assert state.read("other")[0] == []
    assert "of another boot" in state.read("other")[2]


def damage(path: Path, change: Any) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(v=2), lambda d: d.pop("boot_id"),
        lambda d: d.update(requests=5), lambda d: d.update(requests=[5]),
        lambda d: d["requests"][0].update(op="set"), lambda d: d["requests"][0].update(contid="x"),
        lambda d: d["requests"][0].update(members=[5]), lambda d: d["requests"][0].update(members=[["a", 1]]),
        lambda d: d["requests"][0].update(key=[5]), lambda d: d["requests"][0].update(ns=[[99, 1, 1]]),
        lambda d: d["requests"][0].update(names=[]), lambda d: d["requests"][0].pop("first"),
        lambda d: d["requests"][0].update(cg=[[5]]), lambda d: d["requests"][-1].update(loose=[{}]),
        lambda d: d["requests"][-1].update(delegates=[[1]]), lambda d: d.update(sockets=[[1, 2]]),
    ],
)  # fmt: skip
def test_damaged_state_is_refused_with_a_message(state: StateFile, tmp_path: Path, change: Any) -> None:
    damage(tmp_path / "registrations.json", change)
    requests, sockets, complaint = state.read("boot")
    assert (requests, sockets) == ([], {})
    assert "not used" in complaint


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null", b"[" * 200_000])
def test_what_is_no_state_is_refused(state: StateFile, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "registrations.json").write_bytes(content)
    assert "not used" in state.read("boot")[2]


def test_foreign_files_and_folders_are_refused(state: StateFile, tmp_path: Path) -> None:
    real = tmp_path / "registrations.json"
    real.rename(tmp_path / "elsewhere")
    real.symlink_to(tmp_path / "elsewhere")
    assert "not used" in state.read("boot")[2]
    tmp_path.chmod(0o777)
    assert "can be written by others" in state.read("boot")[2]
    assert "can be written by others" in state.write("boot", [], {})
    assert state.write("boot", [], {}) == ""  # said once


def test_the_record_of_a_set(world: Registering) -> None:
    (out, *_) = [out for out in world.model.outputs if isinstance(out, ContainerOp)]
    caller = {
        "pid": 628, "auid": 0, "uid": 0, "tty": "ttyS0", "ses": 1, "comm": "bash", "exe": "/usr/bin/bash",
        "subj": "u:r:t:s0", "privileged": True,
    }  # fmt: skip
    lines = container_op(world.model, out._replace(caller=caller), False).split(b"\n")
    assert lines[0] == (
        b"\1type=CONTAINER_OP \0 op=set opid=100 contid=77 old-contid=-1 pid=628 auid=0 uid=0 tty=ttyS0 ses=1 "
        b'subj=u:r:t:s0 comm="bash" exe="/usr/bin/bash" res=1'
    )
    assert lines[1].startswith(b"\1type=NS_INFO \0 netns=")
    assert b" dev=00:04 netino=4026531833 utsino=4026531838 " in lines[1]
    hostile = {**caller, "comm": "a b\n\x1d", "exe": '/x"\udcff', "subj": "x res=1\ntype=FAKE"}
    first = container_op(world.model, out._replace(caller=hostile, error="EPERM", nsset=None), True)
    assert first.count(b"\n") == 1
    assert first.startswith(b"\1type=UNKNOWN[1341] \0 op=set ")
    assert first.endswith(b" comm=6120620A1D exe=2F7822FF error=EPERM res=0\n")
    assert b"FAKE" not in first


def test_records_of_daemons_and_users_go_by_the_kernels_pid(world: Registering) -> None:
    bodies = [
        f"type=DAEMON_END msg=audit(1700000001.500:1): op=terminate auid=0 uid=0 ses=1 pid={TASK} subj=x res=success",
        f"type=DAEMON_START msg=audit(1700000001.501:2): op=start ver=3.0.9 auid=0 pid={SHELL} uid=0 res=success",
        f"type=SIGNAL_INFO msg=audit(1700000001.502:3): pid={TASK} uid=0",
        f"type=USER_LOGIN msg=audit(1700000001.503:4): pid={TASK} uid=0 msg='pid={SHELL} contid=9 res=success'",
        f"type=USER_CMD msg=audit(1700000001.504:5): pid={SHELL} uid=0 msg='pid={TASK} contid=77'",
    ]
    correlator = Correlator(world.model)
    enricher = Enricher(correlator, ["raw"])
    stream = TextStream()
    out = b""
    points = stream.push("".join(body + "\n" for body in bodies).encode())
    out += enricher.take(points, lambda p: correlator.answer(p, world.now)).get("raw", b"")
    points = stream.flush(eof=True)
    out += enricher.take(points, lambda p: correlator.answer(p, world.now)).get("raw", b"")
    told = [line.split(b":")[1].split(b")")[0] for line in out.splitlines() if b"type=CONTAINER_ID" in line]
    assert sorted(told) == [b"1", b"3", b"4"]
    assert out.count(b"contid=77\n") == 3
