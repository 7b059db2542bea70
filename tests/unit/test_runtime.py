"""Every shape of a cgroup path that a container runtime makes, and every trap that looks like one."""

import re

import pytest

from auditns_connector.model.runtimes import (
    BY_NAME,
    RUNTIMES,
    UNSET,
    Path,
    Runtime,
    chain,
    derive_contid,
    free_contid,
    runtime_of_bundle,
    unescape,
)  # fmt: skip
from auditns_connector.sources.runtimefiles import RuntimeFiles
from tests.innermost import recognise

ID = "4f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdef0123456789abcdef"
ID2 = "fedcba98765432100123456789abcdeffedcba98765432100123456789abcdef"
POD = "2d3a7f0e-7c4b-4d0a-9b1e-6f1c2a3b4c5d"
POD_ = POD.replace("-", "_")
STATIC = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
TASK = "5e6f70819203a4b5c6d7e8f901234567"
BUILD = "r8ot6h1y0xjm2vzk4q9w3s5ab"
USER = "/user.slice/user-1000.slice/user@1000.service"
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice"

RECOGNISED = [
    (f"/machine.slice:libpod:{ID}", Runtime("podman", ID)),
    # Docker
    (f"/docker/{ID}", Runtime("docker", ID)),
    (f"/docker/{ID}/init", Runtime("docker", ID)),
    (f"/system.slice/docker-{ID}.scope", Runtime("docker", ID)),
    (f"/system.slice/docker-{ID}.scope/init.scope", Runtime("docker", ID)),
    (f"/apps.slice/apps-web.slice/docker-{ID}.scope", Runtime("docker", ID)),
    (f"{USER}/user.slice/docker-{ID}.scope", Runtime("docker", ID)),
    (f"/system.slice:docker:{ID}", Runtime("docker", ID)),
    # Kubernetes, cgroupfs: Docker and containerd look alike
    (f"/kubepods/pod{POD}/{ID}", Runtime("kubernetes", ID, pod_uid=POD)),
    (f"/kubepods/burstable/pod{POD}/{ID}", Runtime("kubernetes", ID, pod_uid=POD)),
    (f"/kubepods/besteffort/pod{POD}/{ID}", Runtime("kubernetes", ID, pod_uid=POD)),
    (f"/kubepods/besteffort/pod{STATIC}/{ID}", Runtime("kubernetes", ID, pod_uid=STATIC)),
    # Kubernetes, systemd
    (f"{BURSTABLE}/cri-containerd-{ID}.scope", Runtime("containerd", ID, pod_uid=POD)),
    (
        f"/kubepods.slice/kubepods-pod{STATIC}.slice/cri-containerd-{ID}.scope",
        Runtime("containerd", ID, pod_uid=STATIC),
    ),
    (f"{BURSTABLE}/docker-{ID}.scope", Runtime("docker", ID, pod_uid=POD)),
    (f"{BURSTABLE}/crio-{ID}.scope", Runtime("crio", ID, pod_uid=POD)),
    (f"{BURSTABLE}/crio-{ID}.scope/container", Runtime("crio", ID, pod_uid=POD)),
    (f"/kubepods/burstable/pod{POD}/crio-{ID}", Runtime("crio", ID, pod_uid=POD)),
    # the kubelet says systemd, the runtime does cgroupfs
    (
        f"/system.slice/containerd.service/kubepods-pod{POD_}.slice:cri-containerd:{ID}",
        Runtime("containerd", ID, pod_uid=POD),
    ),
    (f"/kubepods-burstable-pod{POD_}.slice:crio:{ID}", Runtime("crio", ID, pod_uid=POD)),
    # containerd's own tools, where the id is a full one
    (f"/k8s.io/{ID}", Runtime("containerd", ID)),
    (f"/system.slice/nerdctl-{ID}.scope", Runtime("containerd", ID)),
    (f"/default/{ID}", Runtime("oci", ID)),
    (f"/{ID}", Runtime("oci", ID)),
    (f"/my-parent/{ID}", Runtime("oci", ID)),
    # Podman
    (f"/machine.slice/libpod-{ID}.scope", Runtime("podman", ID)),
    (f"/machine.slice/libpod-{ID}.scope/container", Runtime("podman", ID)),
    (f"/machine.slice/libpod-{ID}.scope/container/system.slice/a.service", Runtime("podman", ID)),
    (f"/libpod_parent/libpod-{ID}", Runtime("podman", ID)),
    (f"/system.slice/web.service/libpod-payload-{ID}", Runtime("podman", ID)),
    (f"/system.slice/web.service/libpod-payload-{ID}/container", Runtime("podman", ID)),
    (f"{USER}/app.slice/web.service/libpod-payload-{ID}", Runtime("podman", ID)),
    (f"/libpod_parent/{ID2}/libpod-{ID}", Runtime("podman", ID, pod_uid=ID2)),
    (f"/my-parent/{ID2}/libpod-{ID}", Runtime("podman", ID, pod_uid=ID2)),
    (f"/machine.slice/machine-libpod_pod_{ID2}.slice/libpod-{ID}.scope", Runtime("podman", ID, pod_uid=ID2)),
    (f"{USER}/user.slice/libpod-{ID}.scope", Runtime("podman", ID)),
    (f"{USER}/user.slice/libpod-{ID}.scope/container", Runtime("podman", ID)),
    (f"{USER}/user.slice/podman-4711.scope/{ID}", Runtime("podman", ID)),
    # LXC
    ("/lxc.payload.web", Runtime("lxc", "web", "web")),
    ("/lxc.payload.web.example.org", Runtime("lxc", "web.example.org", "web.example.org")),
    ("/lxc.payload.web.example.org/system.slice/cron.service", Runtime("lxc", "web.example.org", "web.example.org")),
    ("/lxc.payload/web", Runtime("lxc", "web", "web")),
    ("/lxc/web", Runtime("lxc", "web", "web")),
    ("/lxc/web.1/init.scope", Runtime("lxc", "web.1", "web.1")),
    ("/lxc.payload.monitor", Runtime("lxc", "monitor", "monitor")),
    (f"{USER}/lxc.payload.mine", Runtime("lxc", "mine", "mine")),
    # systemd-nspawn
    ("/machine.slice/machine-web.scope/payload", Runtime("nspawn", "web", "web")),
    (r"/machine.slice/machine-my\x2dweb.scope/payload/init.scope", Runtime("nspawn", "my-web", "my-web")),
    ("/machine.slice/systemd-nspawn@web.service/payload", Runtime("nspawn", "web", "web")),
    (r"/machine.slice/systemd-nspawn@my\x2dweb.service/payload", Runtime("nspawn", "my-web", "my-web")),
    ("/machine.slice/systemd-nspawn@my-web.service/payload", Runtime("nspawn", "my-web", "my-web")),
    (r"/machine.slice/machine-caf\xc3\xa9.scope/payload", Runtime("nspawn", "café", "café")),
    ("/machine.slice/machine-qemu2.scope/payload", Runtime("nspawn", "qemu2", "qemu2")),
    # BuildKit
    (f"/docker/buildkit/{BUILD}", Runtime("buildkit", BUILD)),
    (f"/system.slice/docker-{BUILD}.scope", Runtime("buildkit", BUILD)),
    (f"/system.slice/system.slice:docker:{BUILD}", Runtime("buildkit", BUILD)),
    (f"/system.slice/buildkit.service/buildkit/{BUILD}", Runtime("buildkit", BUILD)),
    # ECS
    (f"/ecs/{TASK}/{ID}", Runtime("ecs", ID, pod_uid=TASK)),
    (f"/ecs/my_cluster/{TASK}/{ID}", Runtime("ecs", ID, pod_uid=TASK)),
    (f"/ecstasks.slice/ecstasks-{TASK}.slice/docker-{ID}.scope", Runtime("ecs", ID, pod_uid=TASK)),
    (f"/ecs/{TASK}/{TASK}-2345678901", Runtime("ecs", f"{TASK}-2345678901", pod_uid=TASK)),
    (f"/{TASK}-2345678901", Runtime("ecs", f"{TASK}-2345678901")),
    # Cloud Foundry
    ("/garden/0f1e2d3c-4b5a", Runtime("garden", "0f1e2d3c-4b5a", "0f1e2d3c-4b5a")),
    ("/garden/good/handle", Runtime("garden", "handle", "handle")),
    ("/garden/bad/handle/init", Runtime("garden", "handle", "handle")),
    ("/system.slice/bpm-nats.scope", Runtime("bpm", "nats", "nats")),
    ("/bpm-cloud_controller.ng", Runtime("bpm", "cloud_controller.ng", "cloud_controller.ng")),
    # as the kernel shows them from elsewhere
    (f"/docker/{ID} (deleted)", Runtime("docker", ID)),
    ("/lxc.payload.web (deleted)", Runtime("lxc", "web", "web")),
    (f"/../../docker/{ID}", Runtime("docker", ID)),
]

NOT_RECOGNISED = [
    "",
    "/",
    "/user.slice/user-0.slice/session-1.scope",
    "/system.slice/ssh.service",
    # monitors, which hold the container's id and are the host's
    f"/machine.slice/libpod-conmon-{ID}.scope",
    "/libpod_parent/conmon",
    f"/libpod_parent/{ID}/conmon",
    f"/libpod_parent/{ID}",
    f"/my-parent/{ID}/conmon",
    f"{USER}/user.slice/libpod-conmon-{ID}.scope",
    f"{BURSTABLE}/crio-conmon-{ID}.scope",
    f"/kubepods/burstable/pod{POD}/crio-conmon-{ID}",
    "/lxc.monitor.web",
    "/lxc.monitor.web.example.org",
    "/lxc.monitor/web",
    "/lxc.pivot",
    "/lxc",
    "/lxc.payload",
    "/lxc.payload.",
    "/machine.slice/machine-web.scope/supervisor",
    "/machine.slice/systemd-nspawn@web.service/supervisor",
    "/machine.slice/systemd-nspawn@web.service",
    "/payload",
    # virtual machines
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/payload",
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator",
    "/machine.slice/machine-qemu-1-vm.scope/payload",
    # units that only sound like it
    f"/system.slice/docker-{ID}.mount",
    f"/system.slice/var-lib-docker-overlay2-{ID}-merged.mount",
    "/system.slice/docker-agent.service",
    "/system.slice/docker.service",
    "/system.slice/containerd.service",
    "/system.slice/bpm-agent.service",
    "/bpm-things.slice",
    "/system.slice/lxc.service",
    "/system.slice/podman.service",
    f"/system.slice/crio-{ID}.service",
    # a pod's own cgroup
    BURSTABLE,
    f"/kubepods/burstable/pod{POD}",
    # no full id
    f"/docker/{ID[:-1]}",
    f"/docker/{ID}0",
    f"/docker/{ID.upper()}",
    f"/system.slice/docker-{ID[:12]}.scope",
    f"/system.slice/xdocker-{ID}.scope",
    f"/docker/{TASK}",
    f"/process_api/{TASK}",
    "/docker/buildkit",
    f"/docker/buildkit/{BUILD}x",
    f"/system.slice/docker-{BUILD}x.scope",
    f"/system.slice/docker-{BUILD}.service",
    f"/docker/{BUILD}",
    f"/ecs/{TASK}",
    "/garden",
    "/garden/good",
    "/garden/bad",
    # plain runc, crun, ctr
    "/t-runc",
    "/default/redis",
    f"{USER}/app.slice/podman-4711.scope",
]


@pytest.mark.parametrize(("path", "expected"), RECOGNISED, ids=[path for path, _ in RECOGNISED])
def test_recognised(path: str, expected: Runtime) -> None:
    assert recognise(path) == expected
    assert chain(path) == [expected]


@pytest.mark.parametrize("path", NOT_RECOGNISED)
def test_not_recognised(path: str) -> None:
    assert recognise(path) is None
    assert chain(path) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/docker/{ID}/docker/{ID2}", [("docker", ID), ("docker", ID2)]),
        (f"/system.slice/docker-{ID}.scope/system.slice/docker-{ID2}.scope", [("docker", ID), ("docker", ID2)]),
        (f"/docker/{ID}/kubelet/kubepods/pod{POD}/{ID2}", [("docker", ID), ("kubernetes", ID2)]),
        ("/lxc.payload.a.b/lxc.payload.c", [("lxc", "a.b"), ("lxc", "c")]),
        ("/lxc.payload.a/lxc.payload.a", [("lxc", "a"), ("lxc", "a")]),
        (f"/lxc.payload.a/system.slice/docker-{ID}.scope", [("lxc", "a"), ("docker", ID)]),
        (f"/docker/{ID}/libpod_parent/libpod-{ID2}", [("docker", ID), ("podman", ID2)]),
        (
            "/machine.slice/machine-a.scope/payload/machine.slice/machine-b.scope/payload",
            [("nspawn", "a"), ("nspawn", "b")],
        ),
        (f"/docker/{ID}/buildkit/{BUILD}", [("docker", ID), ("buildkit", BUILD)]),
        # the monitor of a nested container is in the outer one
        (f"/docker/{ID}/machine.slice/libpod-conmon-{ID2}.scope", [("docker", ID)]),
        # one container, seen through a cgroup namespace mounted into itself
        (f"/docker/{ID}/docker/{ID}", [("docker", ID)]),
    ],
)
def test_nested(path: str, expected: list[tuple[str, str]]) -> None:
    assert [found[:2] for found in chain(path)] == expected
    assert [found[:2] for found in chain(path)][-1] == (recognise(path) or ("",))[:2]


def test_the_pod_is_that_of_the_container_itself() -> None:
    path = f"/kubepods/pod{POD}/{ID}/docker/{ID2}"
    assert chain(path) == [Runtime("kubernetes", ID, pod_uid=POD), Runtime("docker", ID2)]


def test_contid_of_a_hexadecimal_id_is_its_first_16_digits() -> None:
    assert derive_contid("docker", ID) == 0x4F1E2D3C4B5A6978


def test_contid_of_a_name_is_a_hash_of_runtime_and_name() -> None:
    assert derive_contid("lxc", "web") == 0x18C03B52F1C24E2E
    assert derive_contid("lxc", "web") != derive_contid("nspawn", "web")
    assert derive_contid("lxc", "cafe") not in (0xCAFE, derive_contid("lxc", "web"))


def test_contids_of_one_fargate_task_differ() -> None:
    assert derive_contid("ecs", f"{TASK}-1") != derive_contid("ecs", f"{TASK}-2")


@pytest.mark.parametrize("digits", ["0" * 16, "f" * 16])
def test_contid_is_never_zero_or_unset(digits: str) -> None:
    contid = derive_contid("docker", digits + ID[16:])
    assert contid not in (0, UNSET)
    assert contid == derive_contid("docker", digits + ID[16:])


def test_a_contid_that_is_free_stays() -> None:
    assert free_contid(5, "me", {6}.__contains__) == 5


@pytest.mark.parametrize("contid", [0, 5, UNSET])
def test_a_contid_that_is_none_or_taken_is_hashed_until_one_is_free(contid: int) -> None:
    taken = {5}
    numbers = []
    for _ in range(3):
        numbers.append(free_contid(contid, "me", taken.__contains__))
        taken.add(numbers[-1])
    assert len({*numbers, 0, 5, UNSET}) == 6
    assert numbers[0] == free_contid(contid, "me", {5}.__contains__)
    assert numbers[0] != free_contid(contid, "somebody else", {5}.__contains__)


@pytest.mark.parametrize(
    ("escaped", "name"),
    [("web", "web"), (r"my\x2dweb", "my-web"), (r"\x5cx2d", r"\x2d"), (r"a\xffb", "a\udcffb"), (r"a\xZZ", r"a\xZZ")],
)
def test_unescape(escaped: str, name: str) -> None:
    assert unescape(escaped) == name


PATHS = [(row.name, path) for row in RUNTIMES for path in (*row.paths, *row.not_containers)]


@pytest.mark.parametrize(("runtime", "path"), PATHS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(PATHS)])
def test_each_shape_of_a_path_is_met_and_has_its_marker(runtime: str, path: Path) -> None:
    """A shape whose marker is not in its paths would never match, without a word."""
    pattern = re.compile(rf"/(?:{path.pattern})(?=/|\Z)")
    met = [text for text, _ in RECOGNISED if pattern.search(text)]
    met += [text for text in NOT_RECOGNISED if pattern.search(text)]
    assert met, "no example of it"
    assert all(re.search(path.marker, text) for text in met)


def test_every_reader_of_files_is_there() -> None:
    named = {reader for row in RUNTIMES for reader in (*row.files, *row.files_of_users)}
    assert named == set(RuntimeFiles()._readers)


def test_a_runtime_has_one_row() -> None:
    assert len(BY_NAME) == len(RUNTIMES)


@pytest.mark.parametrize(
    ("annotations", "bundle", "runtime"),
    [
        ({"io.container.manager": "cri-o"}, f"/run/containers/storage/overlay-containers/{ID}/userdata", "crio"),
        ({"io.container.manager": ["cri-o"]}, "", "oci"),
        ({}, f"/run/containerd/io.containerd.runtime.v2.task/moby/{ID}", "docker"),
        ({}, f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}", "containerd"),
        ({}, f"/home/run/containerd/{ID}", "oci"),
        ({"io.kubernetes.cri.sandbox-id": 1}, "/b", "containerd"),
        ({"io.kubernetes.cri-o.Name": 1}, "/b", "crio"),
        ({}, f"/var/lib/containers/storage/overlay-containers/{ID}/userdata", "podman"),
    ],
)
def test_a_bundle_tells_the_runtime(annotations: dict[str, object], bundle: str, runtime: str) -> None:
    assert runtime_of_bundle(annotations, bundle) == runtime
