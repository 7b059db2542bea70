"""PROC_EVENT_NM end to end: a kernel that has it, booted under QEMU, with the listener and real programs in it."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES
from tests.decoders import cn_decode
from tests.kernel import qemu
from tests.reference import cnproc

pytestmark = pytest.mark.kernel
Run = dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """What the guest has told, by name of the run."""
    kernel = qemu.nm_kernel()
    image = tmp_path_factory.mktemp("guest") / "initramfs"
    qemu.python_root(Path(__file__).with_name("guest_nm.py"), ["unshare"]).write(image)
    console = qemu.boot(kernel, image)
    found = [json.loads(line[2:]) for line in console.splitlines() if line.startswith("@@{")]
    return {run["run"]: run for run in found}


def in_order(run: Run, *patterns: str) -> None:
    """The lines of ``run`` match ``patterns`` in this order, with others between."""
    lines = iter(run["events"].splitlines())
    for pattern in patterns:
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, run["events"], run["said"])


def objects(run: Run) -> list[Run]:
    return [json.loads(line) for line in run["events"].splitlines()]


def test_the_probe_finds_it_and_leaves_nothing_behind(runs: dict[str, Run]) -> None:
    assert (runs["probe"]["nm"], runs["probe"]["same"]) == (True, True)


@pytest.mark.parametrize("name", ["auto", "nm"])
def test_the_example_of_the_proposal(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    pid, old, new = run["did"]["pid"], run["did"]["own"], run["did"]["inode"]
    assert run["status"] == 0
    assert old != new
    lines = run["events"].splitlines()
    child = next(int(line.rpartition("=")[2]) for line in lines if re.fullmatch(rf"fork: ppid={pid} pid=\d+", line))
    in_order(
        run,
        rf"fork: ppid=\d+ pid={pid}",
        rf"exec: pid={pid}",
        rf"ns: pid={pid} type=net reason=set old_inum={old} inum={new}",
        rf"fork: ppid={pid} pid={child}",
        rf"exec: pid={child}",
        rf"exit: pid={child}",
        rf"exit: pid={pid}",
    )
    assert "seen by PROC_EVENT_NM" in run["said"]
    assert "0 lost" in run["said"]


def test_the_same_from_perf_when_that_is_asked_for(runs: dict[str, Run]) -> None:
    run = runs["perf"]
    pid, old, new = run["did"]["pid"], run["did"]["own"], run["did"]["inode"]
    in_order(
        run,
        rf"fork: ppid=\d+ pid={pid}",
        rf"ns: pid={pid} type=net reason=unshare old_inum={old} inum={new} source=perf",
        rf"fork: ppid={pid} pid=\d+",
        rf"exit: pid={pid}",
    )
    assert "reason=set" not in run["events"]


@pytest.mark.parametrize("name", ["sandbox", "procfs"])
def test_attribution_without_perf_is_right_or_unknown(runs: dict[str, Run], name: str) -> None:
    run, told = runs[name], objects(runs[name])
    did = run["did"]
    by_pid: dict[int, set[str | None]] = {}
    for event in told:
        if "pid" in event:
            by_pid.setdefault(event["pid"], set()).add(event["contid"])
    assert by_pid[did["host"]] <= {None, "?"}
    assert None in by_pid[did["host"]]
    assert by_pid[did["outer"]] <= {None, "?"}
    assert by_pid[did["short"]] <= {None, "?"}
    sandbox = by_pid[did["inner"]] - {"?"}
    assert len(sandbox) == 1
    assert None not in sandbox
    user = by_pid[did["user"]] - {"?", None}
    assert len(user) <= 1
    assert not user & sandbox


def test_what_version_1_does_not_tell_comes_from_proc(runs: dict[str, Run]) -> None:
    changes = [event for event in objects(runs["sandbox"]) if event["event"] == "ns"]
    by_pid = {(event["pid"], event["nstype"]): event for event in changes}
    did = runs["sandbox"]["did"]
    pid = by_pid[did["outer"], "pid"]
    assert (pid["source"], pid["reason"], pid["old_inum"]) == ("nm", "set", INITIAL_INODES["pid"])
    user = by_pid[did["user"], "user"]
    assert (user["source"], user["reason"], user["old_inum"]) == ("procfs", "unknown", INITIAL_INODES["user"])
    assert user["inum"] != INITIAL_INODES["user"]


def test_proc_alone_tells_nothing_of_nm(runs: dict[str, Run]) -> None:
    sources = {event["source"] for event in objects(runs["procfs"]) if event["event"] == "ns"}
    assert sources <= {"procfs"}
    assert "/proc alone" in runs["procfs"]["said"]


def shortened(datagram: bytes) -> bytes:
    """As a kernel sends it to which only a module adds the event: the union of all others is that of mainline."""
    data = datagram[36:]
    if struct.unpack_from("<I", data)[0] == cnproc.NM:
        return datagram
    assert not any(data[40:]), "nothing stands behind what mainline sends"
    head = struct.pack("<IHHIIIIIIHH", len(datagram) - 8, *struct.unpack_from("<HHIIIIII", datagram, 4), 40, 0)
    return head + data[:40]


def test_events_of_both_lengths_are_the_same_events(runs: dict[str, Run]) -> None:
    recorded = [bytes.fromhex(datagram) for datagram in runs["raw"]["datagrams"]]
    assert {struct.unpack_from("<H", datagram, 32)[0] for datagram in recorded} == {48}
    mixed = [shortened(datagram) for datagram in recorded]
    assert {len(datagram) for datagram in mixed} == {76, 84}
    whole, counters = cn_decode(recorded)
    assert cn_decode(mixed) == (whole, counters)
    assert (counters["malformed"], counters["unknown"]) == (0, 0)
    frames = [frame for block in whole for frame in f.iter_frames(block)]
    (changed,) = [frame for frame in frames if frame.kind == f.K_NM]
    assert (changed.pid, f.NM_PAYLOAD.unpack(changed.payload)[3]) == (
        runs["raw"]["did"]["pid"], runs["raw"]["did"]["inode"],
    )  # fmt: skip
