"""Each runtime really starts, runs what it is told, and leaves nothing behind."""

import os
import secrets
from pathlib import Path

import pytest

from auditns_connector.model.runtimes import Runtime
from tests.innermost import recognise
from tests.kernel import cgroupfs
from tests.kernel.runtimes import NAMES, Runtimes


@pytest.mark.parametrize("runtime", NAMES)
def test_start_exec_stop(runtimes: Runtimes, runtime: str) -> None:
    container = runtimes.start(runtime)

    assert os.readlink(f"/proc/{container.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    assert container.exec(["sh", "-c", "echo $((6 * 7))"]).stdout.strip() == b"42"
    inner = container.exec(["readlink", "/proc/self/ns/pid"]).stdout.strip().decode()
    assert inner == os.readlink(f"/proc/{container.pid}/ns/pid")

    container.stop()
    container.wait()
    left = [str(path) for path in cgroupfs.folders("/") if container.name in str(path) or container.id in str(path)]
    assert left == []


@pytest.mark.parametrize("runtime", NAMES)
def test_the_hosts_null_device_stays_as_it_was(runtimes: Runtimes, runtime: str) -> None:
    before = os.stat("/dev/null")
    container = runtimes.start(runtime)
    container.exec(["true"])
    container.stop()
    after = os.stat("/dev/null")
    assert (oct(after.st_mode), after.st_uid, after.st_gid) == (oct(before.st_mode), before.st_uid, before.st_gid)


@pytest.mark.parametrize("runtime", NAMES)
def test_run_a_command_to_its_end(runtimes: Runtimes, runtime: str, tmp_path: Path) -> None:
    runtimes.run(runtime, ["sh", "-c", "true; exec true"])
    assert list(tmp_path.glob("auditns-*")) == []


FULL_ID = secrets.token_hex(32)
POD = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


@pytest.mark.parametrize("runtime", ["podman", "lxc"])
def test_recognised_by_the_path_its_runtime_chose(runtimes: Runtimes, runtime: str) -> None:
    container = runtimes.start(runtime)
    found = {recognise(path) for path in container.cgroups().values()}
    name = container.name if runtime == "lxc" else ""
    assert found == {Runtime(runtime, container.id, name)}


@pytest.mark.parametrize("runtime", ["runc", "crun", "nspawn", "bwrap", "unshare"])
def test_not_recognised_by_path(runtimes: Runtimes, runtime: str) -> None:
    assert {recognise(path) for path in runtimes.start(runtime).cgroups().values()} == {None}


@pytest.mark.parametrize(
    ("runtime", "cgroup", "expected"),
    [
        ("runc", f"/docker/{FULL_ID}", Runtime("docker", FULL_ID)),
        ("crun", f"/machine.slice/libpod-{FULL_ID}.scope/container", Runtime("podman", FULL_ID)),
        ("runc", f"/kubepods/burstable/pod{POD}/{FULL_ID}", Runtime("kubernetes", FULL_ID, pod_uid=POD)),
        (
            "nspawn",
            rf"/machine.slice/machine-my\x2d{FULL_ID[:8]}.scope",
            Runtime("nspawn", *2 * (f"my-{FULL_ID[:8]}",)),
        ),
        ("bwrap", f"/libpod_parent/libpod-conmon-{FULL_ID}", None),
    ],
)
def test_recognised_by_a_path_of_its_shape(
    runtimes: Runtimes, runtime: str, cgroup: str, expected: Runtime | None
) -> None:
    cgroups = runtimes.start(runtime, cgroup=cgroup).cgroups()
    assert {recognise(path) for path in cgroups.values()} - {None} == {expected} - {None}


def test_the_monitors_are_not_in_the_container(runtimes: Runtimes) -> None:
    for runtime in ("podman", "lxc"):
        container = runtimes.start(runtime)
        parent = Path(f"/proc/{container.pid}/stat").read_text().rpartition(")")[2].split()[1]
        paths = [line.split(":", 2)[2] for line in Path(f"/proc/{parent}/cgroup").read_text().splitlines()]
        assert any("mon" in path for path in paths)
        assert [recognise(path) for path in paths] == [None] * len(paths)
