"""What the OCI runtime specification and those who use it call things: annotations of containers.

Sources: cri-o pkg/annotations, containerd pkg/cri/annotations, nerdctl pkg/labels, podman libpod/define/annotations.
"""

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
}
