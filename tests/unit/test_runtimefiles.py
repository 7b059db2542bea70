"""Names of containers out of the runtimes' own files."""

import json
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.sources.runtimefiles import RuntimeFiles
from tests.unit.world import HEX


def put(root: Path, path: str, what: Any) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(what if isinstance(what, str) else json.dumps(what))


def test_docker(tmp_path: Path) -> None:
    config = {"Name": "/web", "Config": {"Image": "nginx:1", "Labels": {"io.kubernetes.pod.name": "shop-1"}}}
    put(tmp_path, f"var/lib/docker/containers/{HEX}/config.v2.json", config)
    found = RuntimeFiles(str(tmp_path)).names("docker", HEX, [])
    assert found == {"name": "web", "image": "nginx:1", "pod": "shop-1"}


def test_containerd_and_nerdctl(tmp_path: Path) -> None:
    top = "run/containerd/io.containerd.runtime.v2.task"
    annotations = {
        "io.kubernetes.cri.container-name": "web", "io.kubernetes.cri.sandbox-name": "shop-1",
        "io.kubernetes.cri.sandbox-namespace": "prod", "io.kubernetes.cri.image-name": "nginx:1",
    }  # fmt: skip
    put(tmp_path, f"{top}/moby/other/config.json", {})
    put(tmp_path, f"{top}/k8s.io/{HEX}/config.json", {"annotations": annotations})
    expected = {"name": "web", "image": "nginx:1", "pod": "shop-1", "namespace": "prod"}
    assert RuntimeFiles(str(tmp_path)).names("containerd", HEX, []) == expected
    assert RuntimeFiles(str(tmp_path)).names("kubernetes", HEX, []) == expected


def test_podman_by_storage_and_by_conmon(tmp_path: Path) -> None:
    about = {"id": HEX, "names": ["web"], "image": "sha", "metadata": json.dumps({"image-name": "docker.io/nginx"})}
    put(tmp_path, "var/lib/containers/storage/overlay-containers/containers.json", [{"id": "x"}, about])
    assert RuntimeFiles(str(tmp_path)).names("podman", HEX, []) == {"name": "web", "image": "docker.io/nginx"}
    bundle = f"home/u/run/{HEX}/userdata"
    put(tmp_path, f"{bundle}/config.json", {"annotations": {"io.kubernetes.pod.name": "p"}})
    other = HEX[1:] + "0"
    monitor = ["/usr/bin/conmon", "--api-version", "1", "-c", other, "-b", f"/{bundle}", "-n", "mine", "--syslog"]
    assert RuntimeFiles(str(tmp_path)).names("podman", other, monitor) == {"name": "mine", "pod": "p"}
    monitor[4] = "somebody else's"
    assert RuntimeFiles(str(tmp_path)).names("podman", other, monitor) == {}


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", '"x"', "[" * 100_000, '{"Name": 5, "Config": []}', '[{"id": 7}, 5]',
        '{"Config": {"Labels": 7, "Image": {}}}', '{"annotations": {"io.kubernetes.pod.name": 5}}',
    ],
)  # fmt: skip
def test_files_that_make_no_sense_say_nothing(tmp_path: Path, content: str) -> None:
    put(tmp_path, f"var/lib/docker/containers/{HEX}/config.v2.json", content)
    put(tmp_path, f"run/containerd/io.containerd.runtime.v2.task/x/{HEX}/config.json", content)
    put(tmp_path, "var/lib/containers/storage/overlay-containers/containers.json", content)
    files = RuntimeFiles(str(tmp_path))
    assert [files.names(name, HEX, []) for name in ("docker", "kubernetes", "podman", "oci")] == [{}] * 4


@pytest.mark.parametrize("ident", ["", "..", "../../etc", "a/b", HEX + "\n", HEX.upper(), "x" * 64])
def test_an_id_never_leads_elsewhere(tmp_path: Path, ident: str) -> None:
    files = RuntimeFiles(str(tmp_path))
    assert files.names("docker", ident, []) == {}
    assert files.counters["read"] == 0


def test_links_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "secret.json", {"Name": "/secret"})
    path = tmp_path / f"var/lib/docker/containers/{HEX}/config.v2.json"
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "secret.json")
    assert RuntimeFiles(str(tmp_path)).names("docker", HEX, []) == {}
