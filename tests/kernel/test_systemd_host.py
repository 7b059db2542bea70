"""A host as most are: systemd, cgroup v2, the systemd driver of every engine, our package. One boot of a guest, in
which first auditns.service and then the plugin under auditd tell of the same work."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from auditns_connector.model.runtimes import derive_contid
from tests.kernel import systemd_host
from tests.kernel.guest_engines import truth_of
from tests.kernel.images import BUSY
from tests.kernel.programs import by_name
from tests.kernel.test_packages import built

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]
PHASES = ("listener", "plugin")
PARTS = ("docker", "classic", "buildkit", "podman", "rootless", "service", "nspawn", "pods", "last")
#: the user's own part of the tree
HIS = r"/user\.slice/user-1000\.slice/user@1000\.service"
POD = "[0-9a-f_]+"
#: where systemd puts the containers of each engine; {id} is the runtime's
PLACES = {
    "docker": r"/system\.slice/docker-{id}\.scope",
    "docker.slice": r"/web\.slice/docker-{id}\.scope",
    "podman": r"/machine\.slice/libpod-{id}\.scope(/container)?",
    "podman.pod": r"/machine\.slice/machine-libpod_pod_[0-9a-f]{{64}}\.slice/libpod-{id}\.scope(/container)?",
    "podman.quadlet": r"/system\.slice/\w+-quadlet\.service/libpod-payload-{id}(/container)?",
    "rootless": HIS + r"/user\.slice/libpod-{id}\.scope(/container)?",
    "nspawn.box": r"/machine\.slice/machine-\w+\\x2dbox\.scope/payload",
    "nspawn.unit": r"/machine\.slice/systemd-nspawn@\w+(-|\\x2d)unit\.service/payload",
    "docker.cgroupfs": "/docker/{id}",
    "podman.cgroupfs": "/libpod_parent/libpod-{id}",
    "pods.cgroupfs": r"/kubepods/besteffort/pod[0-9a-f-]+/{id}",
}  # fmt: skip
QUALITY = {"pods.db": "burstable", "pods.kube": "burstable", "pods.exact": ""}
RUNTIMES = {"docker": "docker", "podman": "podman", "rootless": "podman", "pods": "containerd", "nspawn": "nspawn"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What the guest has found."""
    folder = tmp_path_factory.mktemp("host")
    return systemd_host.boot(systemd_host.made(folder), built("deb"), folder)


@pytest.fixture(autouse=True)
def complete(found: Mapping[str, Any], request: pytest.FixtureRequest) -> None:
    """Where some steps were done alone, only claims about single parts say anything."""
    if found["steps"] and "part" not in request.fixturenames:
        pytest.skip("a part of the work")


def text(found: Mapping[str, Any], phase: str) -> bytes:
    """What our program has written."""
    return by_name(found[f"{phase} text"])


def test_everything_was_done(found: Mapping[str, Any]) -> None:
    assert found["failed"] == ""
    assert {phase: found[phase]["failed"] for phase in PHASES} == {phase: {} for phase in PHASES}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("phase", PHASES)
def test_every_exec_is_its_containers(found: Mapping[str, Any], phase: str, part: str) -> None:
    said = [row for row in found[phase]["truth"] if row[0].partition(".")[0] == part]
    if found["steps"] and not said:
        pytest.skip("a part of the work")
    assert said
    assert truth_of(phase, said).errors(text(found, phase)) == {}


@pytest.mark.parametrize("phase", PHASES)
def test_steps_of_a_build_are_containers_of_their_own(found: Mapping[str, Any], phase: str) -> None:
    said = [row for row in found[phase]["truth"] if row[0].startswith(("classic.", "buildkit."))]
    truth = truth_of(phase, said)
    truth.read(text(found, phase))
    told = [set(expected.found) for expected in truth.labels.values()]
    assert [len(one) for one in told] == [1] * 4
    assert len(set().union(*told)) == 4


def slice_of(label: str) -> str:
    """A container's cgroup in the slices of its pod's quality of service."""
    qos = QUALITY.get(label, "besteffort")
    if not qos:
        return rf"/kubepods\.slice/kubepods-pod{POD}\.slice/cri-containerd-{{id}}\.scope"
    inner = rf"kubepods-{qos}"
    return rf"/kubepods\.slice/{inner}\.slice/{inner}-pod{POD}\.slice/cri-containerd-{{id}}\.scope"


@pytest.mark.parametrize("phase", PHASES)
def test_containers_are_where_systemd_puts_them(found: Mapping[str, Any], phase: str) -> None:
    """What is tested here is what people have."""
    places = found[phase]["places"]
    assert {label.partition(".")[0] for label in places} == set(RUNTIMES)
    for label, (ident, path) in places.items():
        kind = label.partition(".")[0]
        pattern = PLACES.get(label) or (slice_of(label) if kind == "pods" else PLACES[kind])
        pattern = pattern.format(id=ident)
        assert re.fullmatch(pattern, path), (label, path)


@pytest.mark.parametrize("phase", PHASES)
def test_each_is_called_by_its_names(found: Mapping[str, Any], phase: str) -> None:
    told = found[phase]["told"]
    for label, (ident, _) in found[phase]["places"].items():
        kind = label.partition(".")[0]
        about = told.get(ident, {})
        assert about.get("runtime") == RUNTIMES[kind], (label, about)
        if kind != "nspawn":
            assert about.get("image") == BUSY, (label, about)
        name = label.rpartition(".")[2]
        wanted = {"nspawn": f"{phase}-{name}", "pods": name}.get(kind, f"{phase}-{kind}-{name}")
        wanted = {"podman.pod": f"{phase}-member", "podman.quadlet": f"{phase}-quadlet"}.get(label, wanted)
        assert about.get("name") == wanted, (label, about)


def test_the_runtime_is_the_same_word_with_both_drivers(found: Mapping[str, Any]) -> None:
    said = found["listener"]
    for kind in ("docker", "podman", "pods"):
        words = {
            said["told"][ident]["runtime"]
            for label, (ident, _) in said["places"].items()
            if label.partition(".")[0] == kind
        }
        assert f"{kind}.cgroupfs" in said["places"]
        assert words == {RUNTIMES[kind]}


def test_the_service_of_the_package_is_ready_watched_and_well(found: Mapping[str, Any]) -> None:
    said = found["listener"]
    for when in ("started", "ended"):
        shown = said[when]
        assert (shown["Type"], shown["ActiveState"], shown["SubState"]) == ("notify", "active", "running"), shown
        assert shown["NRestarts"] == "0"
        assert shown["WatchdogUSec"] == "2min"
    # it has said that it is alive, long after it was started
    alive = int(said["ended"]["WatchdogTimestampMonotonic"]) - int(said["ended"]["ExecMainStartTimestampMonotonic"])
    assert alive > 0
    assert said["ended"]["MainPID"] != said["started"]["MainPID"], "it was started again on purpose"
    assert said["status"]["text"].startswith("ok"), said["status"]["text"][:300]
    assert (said["stopped"]["ActiveState"], said["stopped"]["Result"]) == ("inactive", "success")


def losses(found: Mapping[str, Any], phase: str, *, before: bool) -> list[bytes]:
    """The CONTAINER_LOST records before the workload began, or since."""
    said = text(found, phase)
    begun = said.index(f"{phase}-docker".encode())
    part = said[:begun] if before else said[begun:]
    return [line for line in part.splitlines() if b"type=CONTAINER_LOST " in line]


def test_the_plugin_is_well(found: Mapping[str, Any]) -> None:
    """The kernel keeps some of what it has audited before auditd is there: what is missing between these is told."""
    said = found["plugin"]
    assert "audisp-auditns" in said["auditd"]
    early = [match for line in losses(found, "plugin", before=True) if (match := re.search(rb" count=(\d+) ", line))]
    missing = sum(int(match[1]) for match in early)
    verdict = f"lost: {missing} audit records before they came here" if missing else "ok"
    assert said["status"]["text"].startswith(verdict), said["status"]["text"][:300]


@pytest.mark.parametrize("phase", PHASES)
def test_no_record_is_lost_but_what_a_restart_costs(found: Mapping[str, Any], phase: str) -> None:
    """A guest that is emulated may come late to its rings (perf): what that costs is asked of every exec."""
    told = [line for line in losses(found, phase, before=False) if b" source=perf " not in line]
    restarted = [line for line in told if b" source=restart " in line]
    assert told == restarted
    assert len(restarted) <= (phase == "listener"), "it was started again on purpose"


@pytest.mark.parametrize("phase", PHASES)
def test_who_came_in_through_a_daemon_came_from_its_unit(found: Mapping[str, Any], phase: str) -> None:
    # truth.service runs the workload: its nsenter comes from there
    for label, units in (
        ("docker.plain", {"containerd.service", "truth.service"}), ("pods.web", {"containerd.service"}),
    ):  # fmt: skip
        ident, _ = found[phase]["places"][label]
        contid = derive_contid("", ident)
        lines = [
            line for line in text(found, phase).splitlines()
            if b"reason=entry " in line and b" contid=%d " % contid in line
        ]  # fmt: skip
        told = {match[1].decode() for line in lines for match in re.finditer(rb'entry-unit="([^"]*)"', line)}
        assert told == units, (label, told, lines[:3])
