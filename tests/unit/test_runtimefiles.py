"""Names of containers out of the runtimes' own files."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from auditns_connector.sources import runtime_daemons
from auditns_connector.sources.owned_files import OwnedFiles
from auditns_connector.sources.runtime_daemons import Daemons, Monitor, monitor_of, option
from auditns_connector.sources.runtimefiles import RuntimeFiles
from tests.unit.world import HEX

NOBODY = Monitor()
OTHER = HEX[1:] + "0"
TASKS = "run/containerd/io.containerd.runtime.v2.task"
CRI = {
    "io.kubernetes.cri.container-name": "web", "io.kubernetes.cri.sandbox-name": "shop-1",
    "io.kubernetes.cri.sandbox-namespace": "prod", "io.kubernetes.cri.image-name": "nginx:1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def runtimes_umask() -> Iterator[None]:
    """What a group may write is no runtime's."""
    former = os.umask(0o022)
    yield
    os.umask(former)


def put(root: Path, path: str, what: Any) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(what if isinstance(what, str) else json.dumps(what))
    return file


def names(root: Path, runtime: str, ident: str = HEX, monitor: Monitor = NOBODY, own: bool = True) -> dict[str, str]:
    return RuntimeFiles(str(root)).names(runtime, ident, monitor, own).names


def docker(name: str = "/web", **labels: str) -> dict[str, Any]:
    return {"ID": HEX, "Name": name, "Config": {"Image": "nginx:1", "Labels": labels}}


def test_docker(tmp_path: Path) -> None:
    labels = {"io.kubernetes.pod.name": "shop-1", "io.kubernetes.pod.uid": "u-1", "tier": "front"}
    put(tmp_path, f"var/lib/docker/containers/{HEX}/config.v2.json", docker(**labels))
    found = RuntimeFiles(str(tmp_path)).names("docker", HEX, NOBODY)
    expected = {"runtime": "docker", "name": "web", "image": "nginx:1", "pod": "shop-1", "pod_uid": "u-1"}
    assert (found.names, found.labels) == (expected, labels)


def test_docker_whose_pods_are_told_by_a_kubelet_s_shim(tmp_path: Path) -> None:
    pause = {"io.kubernetes.docker.type": "podsandbox", "io.kubernetes.container.name": "POD"}
    put(tmp_path, f"var/lib/docker/containers/{HEX}/config.v2.json", docker("/k8s_POD_web", **pause))
    found = names(tmp_path, "kubernetes")
    assert (found["name"], found["role"], found["runtime"]) == ("pause", "pause", "docker")


@pytest.mark.parametrize("folder", ["", "165536.165536/", "0.0/"])
def test_docker_with_another_data_root_and_mapped_users(tmp_path: Path, folder: str) -> None:
    """--userns-remap gives each mapping a directory of its own; the configuration says where all of it is."""
    put(tmp_path, "etc/docker/daemon.json", {"data-root": "/srv/d"})
    put(tmp_path, f"srv/d/{folder}containers/{HEX}/config.v2.json", docker())
    assert names(tmp_path, "docker")["name"] == "web"


def test_a_file_of_another_container_is_not_its(tmp_path: Path) -> None:
    put(tmp_path, f"var/lib/docker/containers/{HEX}/config.v2.json", {**docker(), "ID": OTHER})
    assert names(tmp_path, "docker") == {}


def test_containerd_and_nerdctl(tmp_path: Path) -> None:
    put(tmp_path, f"{TASKS}/moby/other/config.json", {})
    put(tmp_path, f"{TASKS}/k8s.io/{HEX}/config.json", {"annotations": CRI})
    expected = {"runtime": "containerd", "name": "web", "image": "nginx:1", "pod": "shop-1", "namespace": "prod"}
    for runtime in ("containerd", "kubernetes", "oci"):
        assert names(tmp_path, runtime) == expected


def test_a_shim_works_in_the_bundle_wherever_its_daemon_keeps_it(tmp_path: Path) -> None:
    """One shim serves a pod: its directory is the pause container's."""
    put(tmp_path, f"srv/state/io.containerd.runtime.v2.task/k8s.io/{HEX}/config.json", {"annotations": CRI})
    argv = ("/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", OTHER, "-address", "/srv/s")
    shim = Monitor(argv, 0, f"/srv/state/io.containerd.runtime.v2.task/k8s.io/{OTHER}")
    assert names(tmp_path, "kubernetes", monitor=shim)["name"] == "web"
    assert names(tmp_path, "kubernetes", monitor=shim._replace(cwd="/srv/elsewhere")) == {}
    assert names(tmp_path, "kubernetes", monitor=shim._replace(uid=1000)) == {}, (
        "a user's shim has no system's container"
    )


def test_a_bundle_of_dockers_says_so(tmp_path: Path) -> None:
    put(tmp_path, f"{TASKS}/moby/{HEX}/config.json", {"ociVersion": "1.0.2"})
    assert names(tmp_path, "oci") == {"runtime": "docker"}


@pytest.mark.parametrize("kind", ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"])
def test_a_pod_s_pause_container_is_called_so(tmp_path: Path, kind: str) -> None:
    put(tmp_path, f"{TASKS}/k8s.io/{HEX}/config.json", {"annotations": {kind: "sandbox"}})
    put(tmp_path, f"{TASKS}/k8s.io/{OTHER}/config.json", {"annotations": {**CRI, kind: "container"}})
    assert names(tmp_path, "containerd") == {"runtime": "containerd", "name": "pause", "role": "pause"}
    assert "role" not in names(tmp_path, "containerd", OTHER)


def test_podman_by_storage_and_by_conmon(tmp_path: Path) -> None:
    about = {"id": HEX, "names": ["web"], "image": "sha", "metadata": json.dumps({"image-name": "docker.io/nginx"})}
    put(tmp_path, "var/lib/containers/storage/overlay-containers/containers.json", [{"id": "x"}, about])
    assert names(tmp_path, "podman") == {"name": "web", "image": "docker.io/nginx"}
    bundle = f"home/u/run/{HEX}/userdata"
    put(tmp_path, f"{bundle}/config.json", {"annotations": {"io.kubernetes.pod.name": "p"}})
    argv = ("/usr/bin/conmon", "--api-version", "1", "-c", OTHER, "-b", f"/{bundle}", "-n", "mine", "--syslog")
    assert names(tmp_path, "podman", OTHER, Monitor(argv, 0)) == {"name": "mine", "pod": "p"}
    argv = (*argv[:4], "somebody else's", *argv[5:])
    assert names(tmp_path, "podman", OTHER, Monitor(argv, 0)) == {}


def test_podman_with_its_storage_elsewhere(tmp_path: Path) -> None:
    about = {"id": HEX, "names": ["web"], "metadata": json.dumps({"image-name": "docker.io/nginx"})}
    put(tmp_path, "srv/s/overlay-containers/containers.json", [about])
    argv = ("conmon", "-c", HEX, "-b", f"/srv/s/overlay-containers/{HEX}/userdata", "-n", "web")
    assert names(tmp_path, "podman", monitor=Monitor(argv, 0)) == {"name": "web", "image": "docker.io/nginx"}


def test_crio_says_who_it_is_and_what_labels_there_are(tmp_path: Path) -> None:
    annotations = {
        "io.container.manager": "cri-o", "io.kubernetes.pod.name": "p", "io.kubernetes.pod.uid": "u",
        "io.kubernetes.cri-o.Labels": json.dumps({"app": "web", "n": 5}),
    }  # fmt: skip
    put(tmp_path, f"run/containers/storage/overlay-containers/{HEX}/userdata/config.json", {"annotations": annotations})
    found = RuntimeFiles(str(tmp_path)).names("kubernetes", HEX, NOBODY)
    assert (found.names, found.labels) == ({"runtime": "crio", "pod": "p", "pod_uid": "u"}, {"app": "web"})


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", '"x"', "[" * 100_000, '{"Name": 5, "Config": []}', '[{"id": 7}, 5]',
        '{"Config": {"Labels": 7, "Image": {}}}', '{"annotations": {"io.kubernetes.pod.name": 5}}',
    ],
)  # fmt: skip
def test_files_that_make_no_sense_say_nothing(tmp_path: Path, content: str) -> None:
    put(tmp_path, f"var/lib/docker/containers/{HEX}/config.v2.json", content)
    put(tmp_path, "etc/docker/daemon.json", content)
    put(tmp_path, f"run/containerd/io.containerd.runtime.v2.task/x/{HEX}/config.json", content)
    put(tmp_path, "var/lib/containers/storage/overlay-containers/containers.json", content)
    assert [names(tmp_path, runtime) for runtime in ("docker", "kubernetes", "podman", "oci")] == [{}] * 4


@pytest.mark.parametrize("ident", ["", "..", "../../etc", "a/b", HEX + "\n", HEX.upper(), "x" * 64])
def test_an_id_never_leads_elsewhere(tmp_path: Path, ident: str) -> None:
    files = RuntimeFiles(str(tmp_path))
    assert not files.names("docker", ident, NOBODY)
    assert files.counters["read"] == 0


def test_links_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "secret.json", {"Name": "/secret"})
    path = tmp_path / f"var/lib/docker/containers/{HEX}/config.v2.json"
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "secret.json")
    assert names(tmp_path, "docker") == {}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_can_write_is_not_believed(tmp_path: Path, mode: int) -> None:
    path = put(tmp_path, f"var/lib/docker/containers/{HEX}/config.v2.json", docker())
    assert names(tmp_path, "docker")
    path.chmod(mode)
    files = RuntimeFiles(str(tmp_path))
    assert not files.names("docker", HEX, NOBODY)
    assert files.counters["foreign"] == 1
    path.chmod(0o600)
    path.parent.chmod(0o777)
    assert names(tmp_path, "docker") == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_what_somebody_else_owns_is_not_believed(tmp_path: Path) -> None:
    """A user's daemon names whatever it likes on its command line; only that user's files count for it, and they count
    for that user's containers alone."""
    path = put(
        tmp_path, f"home/u/s/overlay-containers/{HEX}/userdata/config.json", {"annotations": {"nerdctl/name": "n"}}
    )
    argv = ("conmon", "-c", HEX, "-b", f"/{path.parent.relative_to(tmp_path)}")
    mine, root = Monitor(argv, 1000), Monitor(argv, 0)
    assert names(tmp_path, "podman", monitor=mine, own=False) == {}, "root's file, of a user's container"
    for folder in (path, path.parent):
        os.chown(folder, 1000, 1000)
    assert names(tmp_path, "podman", monitor=mine, own=False) == {"name": "n"}
    assert names(tmp_path, "podman", monitor=mine._replace(uid=1001), own=False) == {}
    assert names(tmp_path, "podman", monitor=root) == {}, "a user's file, of the system's container"
    assert names(tmp_path, "podman", monitor=mine) == {}, "a user's conmon, of the system's container"
    assert names(tmp_path, "podman", monitor=Monitor(argv), own=False) == {}, "nobody knows whose it is"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = put(tmp_path, f"var/lib/docker/containers/{HEX}/config.v2.json", docker())
    os.truncate(path, 9 << 20)
    files = RuntimeFiles(str(tmp_path))
    assert (files.names("docker", HEX, NOBODY).names, files.counters["read"]) == ({}, 0)


def test_a_pipe_in_place_of_a_file_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / f"var/lib/docker/containers/{HEX}/config.v2.json"
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert names(tmp_path, "docker") == {}


@pytest.mark.parametrize(
    ("argv", "config", "expected"),
    [
        (("dockerd",), {}, "/var/lib/docker"),
        (("dockerd", "--data-root", "/srv/a"), {"data-root": "/srv/b"}, "/srv/a"),
        (("dockerd", "--data-root=/srv/a"), {}, "/srv/a"),
        (("dockerd", "-g", "/srv/a"), {}, "/srv/a"),
        (("dockerd", "--config-file", "/etc/own.json"), {"data-root": "/srv/b"}, "/srv/b"),
        (("dockerd", "--config-file=/etc/own.json"), {"graph": "/srv/b"}, "/srv/b"),
        (("dockerd", "--config-file=/etc/own.json"), {"data-root": 7}, "/var/lib/docker"),
        (("dockerd", "--data-root", "relative"), {}, None),
        (("dockerd", "--data-root"), {}, "/var/lib/docker"),
    ],
)
def test_where_a_daemon_keeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], config: dict[str, Any], expected: str | None
) -> None:
    put(tmp_path, "etc/own.json", config)
    put(tmp_path, "proc/17/comm", "dockerd\n")
    put(tmp_path, "proc/18/comm", "dockerd-x\n")
    monkeypatch.setattr(runtime_daemons, "process", {17: Monitor(argv, 0)}.__getitem__)
    monkeypatch.setattr(runtime_daemons, "on_host", lambda pid: True)
    roots = Daemons(OwnedFiles(str(tmp_path)), str(tmp_path / "proc")).docker_roots(0)
    assert roots == list(dict.fromkeys([*([expected] if expected else []), "/var/lib/docker"]))


def test_a_user_s_daemon_is_not_asked_about_the_system_s_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "proc/17/comm", "dockerd\n")
    monkeypatch.setattr(runtime_daemons, "process", lambda pid: Monitor(("dockerd", "--data-root", "/home/u/d"), 1000))
    daemons = Daemons(OwnedFiles(str(tmp_path)), str(tmp_path / "proc"))
    assert daemons.docker_roots(0) == ["/var/lib/docker"]
    assert daemons.docker_roots(1000) == ["/home/u/d"]
    assert daemons.docker_roots(1001) == []


def test_a_daemon_inside_a_container_says_nothing_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "proc/17/comm", "dockerd\n")
    monkeypatch.setattr(runtime_daemons, "process", lambda pid: Monitor(("dockerd", "--data-root", "/srv/evil"), 0))
    monkeypatch.setattr(runtime_daemons, "on_host", lambda pid: False)
    assert Daemons(OwnedFiles(str(tmp_path)), str(tmp_path / "proc")).docker_roots(0) == ["/var/lib/docker"]


def test_processes_are_not_searched_for_daemons_with_each_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand containers may come at once, and a host have as many processes."""
    now, searched = [1000.0], list[int]()

    def process(pid: int) -> Monitor:
        searched.append(pid)
        return Monitor(("dockerd", "-g", "/a"))

    monkeypatch.setattr(runtime_daemons, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(runtime_daemons, "on_host", lambda pid: True)
    monkeypatch.setattr(
        runtime_daemons, "process", lambda pid: searched.append(pid) or Monitor(("dockerd", "-g", "/a"))
    )
    put(tmp_path, "proc/17/comm", "dockerd\n")
    daemons = Daemons(OwnedFiles(str(tmp_path)), str(tmp_path / "proc"))
    for _ in range(50):
        assert daemons.docker_roots(-1) == ["/a"]
    assert searched == [17]
    put(tmp_path, "proc/18/comm", "dockerd\n")
    now[0] += 1
    daemons.docker_roots(-1)
    assert sorted(searched) == [17, 17, 18]


def test_the_parent_of_a_process_as_it_is() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = monitor_of(child.pid)
        child.communicate(b"\n")
    assert (found.uid, found.cwd) == (os.geteuid(), os.getcwd())
    assert monitor_of(1 << 22) == Monitor()


def test_options_of_command_lines() -> None:
    words = ("x", "-a", "1", "--b=2", "-c")
    assert [option(words, name) for name in ("-a", "--b", "-c", "-d")] == ["1", "2", "", ""]
