"""What the OCI runtime specification and those who use it call things: annotations of containers.

Sources: cri-o pkg/annotations, containerd pkg/cri/annotations, nerdctl pkg/labels, podman libpod/define/annotations.
"""

from collections.abc import Mapping
from typing import Final

#: where runtimes and orchestrators say it; the first found is taken
ANNOTATIONS: Final[dict[str, tuple[str, ...]]] = {
    "name": (
        "io.kubernetes.container.name",
        "io.kubernetes.cri.container-name",
        "io.kubernetes.cri-o.KubeName",
        "io.kubernetes.cri-o.ContainerName",
        "nerdctl/name",
        "io.container.name",
    ),
    "image": (
        "io.kubernetes.cri.image-name",
        "io.kubernetes.cri.podsandbox.image-name",
        "io.kubernetes.cri-o.ImageName",
        "io.kubernetes.cri-o.Image",
        "org.opencontainers.image.ref.name",
        "io.container.image",
    ),
    "pod": ("io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.SandboxName"),
    "namespace": (
        "io.kubernetes.pod.namespace",
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri-o.Namespace",
        "nerdctl/namespace",
    ),
    "pod_uid": ("io.kubernetes.pod.uid", "io.kubernetes.cri.sandbox-uid"),
}
#: annotations that say of what sort a container is, and the value of one that only holds a pod's namespaces
SORTS: Final = {
    "io.kubernetes.cri.container-type": "sandbox",
    "io.kubernetes.cri-o.ContainerType": "sandbox",
    "io.kubernetes.docker.type": "podsandbox",
}
PAUSE: Final = "pause"
#: labels as JSON in an annotation
LABELS: Final = ("io.kubernetes.cri-o.Labels", "nerdctl/labels")


def names_of(annotations: Mapping[str, object]) -> dict[str, str]:
    """What annotations, or labels of Docker, say of a container, by the names of model/container_names.py."""
    found = {}
    for name, keys in ANNOTATIONS.items():
        value = next((annotations[key] for key in keys if isinstance(annotations.get(key), str)), "")
        if value:
            found[name] = str(value)
    if any(annotations.get(key) == value for key, value in SORTS.items()):
        found["role"] = PAUSE
        if found.get("name") in (None, "POD"):  # nobody gave it one
            found["name"] = PAUSE
    return found
