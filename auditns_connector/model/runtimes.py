r"""Which container runtime made a cgroup, by the cgroup's path alone.

Pure and total: any string has an answer, most have "none". The table RUNTIMES is all there is to know; its paths are
tried in order at every ``/`` of the path, each matches whole components only, and what it matched is not looked
at again. So a path may hold several containers, the outermost first (Docker in Docker, Podman in LXC).

Whole components, never substrings: a runtime's monitor (``libpod-conmon-ID.scope``, ``crio-conmon-ID``,
``lxc.monitor.NAME``), a mount unit (``docker-ID.mount``) and a service with a runtime's name
(``docker-agent.service``) are the host's own. Plain runc and crun use whatever path they are given: unless a
component is a full 64-digit id nothing is recognised, and the namespaces decide (a sandbox) or a hook.

Sources of the shapes: cadvisor ``container/docker``, falcosecurity/libs ``container_engine``, elastic/beats
``gosigar_cid_provider.go``, cri-o ``systemd_linux.go``, moby/buildkit ``executor/oci/spec.go``, amazon-ecs-agent
``task_linux.go``, datadog-agent ``pkg/util/cgroups``, lxc ``src/lxc/cgroups/cgfsng.c``, systemd-nspawn(1); runc,
crun, podman, lxc and nspawn also seen at work.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, NamedTuple

UNSET: Final = 0xFFFFFFFFFFFFFFFF
#: of a pod's container whose runtime its path does not tell
KUBERNETES: Final = "kubernetes"
_HEX: Final = "[0-9a-f]{64}"
#: units that hold processes: slices hold units alone (systemd.unit(5), systemd.slice(5))
_UNIT: Final = re.compile(r"/([A-Za-z0-9:_.\\@-]{1,250}\.(?:service|scope|mount|socket|swap))(?=/|$)")
_POD: Final = "[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"


class Runtime(NamedTuple):
    """What one path says. ``id`` is the runtime's own identifier, unescaped."""

    runtime: str
    id: str
    #: the name people know it by, where the path tells it (LXC, nspawn, Garden, BPM); else ""
    name: str = ""
    #: what groups it with others: Kubernetes pod uid (with dashes), Podman pod id, ECS task id; else ""
    pod_uid: str = ""


class Path(NamedTuple):
    """A shape of a container's cgroup: ``pattern`` is its part of the path after a "/", with one group, the id;
    ``marker`` is a pattern too, of something that no such path is without and that is cheap to look for."""

    pattern: str
    marker: str = _HEX


class RuntimeRow(NamedTuple):
    """A runtime, but for how its files are read (sources/runtimefiles.py)."""

    name: str
    paths: tuple[Path, ...]
    #: like a container's cgroup, but none
    not_containers: tuple[Path, ...] = ()
    #: its ids are names that people have given, and may be used again inside
    named: bool = False
    #: several runtimes make such paths: which one it is, the files say
    shared: bool = False
    #: value of the annotation io.container.manager
    manager: str = ""
    #: found in the path of its bundles
    bundle: str = ""
    #: prefix of annotations that it alone sets
    annotations: str = ""
    #: readers of its files (sources/runtimefiles.py) for a container's name and image; the first that finds any is it
    files: tuple[str, ...] = ()
    #: the same for a container that a user has started without being root
    files_of_users: tuple[str, ...] = ()


#: tried in this order where a part of a path may be of several
RUNTIMES: Final = (
    RuntimeRow(
        # before Docker: its containers are Docker's, in a task
        "ecs",
        (
            Path(rf"ecs/(?:[^/]+/){{1,3}}?({_HEX})"),
            Path(r"(?:ecs/(?:[^/]+/){0,3}?)?([0-9a-f]{32}-[0-9]+)", "[0-9a-f]{32}-[0-9]"),  # Fargate
            Path(rf"ecstasks-[^/]+\.slice/docker-({_HEX})\.scope"),
        ),
        files=("docker",),
    ),
    RuntimeRow(
        "docker",
        (Path(rf"docker-({_HEX})\.scope"), Path(rf"docker/({_HEX})"), Path(rf"[^/]*:docker:({_HEX})")),
        bundle=r"/moby/",
        files=("docker", "tasks"),
        files_of_users=("docker", "tasks"),
    ),
    RuntimeRow(
        "containerd",
        (
            Path(rf"(?:cri-containerd|nerdctl)-({_HEX})\.scope"),
            # a systemd-style path given to a runtime with the cgroupfs driver is taken literally
            Path(rf"[^/]*:(?:cri-containerd|nerdctl):({_HEX})"),
            Path(rf"k8s\.io/({_HEX})"),
        ),
        manager="containerd",
        bundle=r"\A/run/containerd/",
        annotations="io.kubernetes.cri.",
        files=("tasks",),
        files_of_users=("tasks",),
    ),
    RuntimeRow(
        "crio",
        (Path(rf"crio-({_HEX})(?:\.scope)?"), Path(rf"[^/]*:crio:({_HEX})")),
        manager="cri-o",
        annotations="io.kubernetes.cri-o.",
        files=("storage",),
    ),
    RuntimeRow(
        "podman",
        (
            # payload: below the unit that systemd started it as (Quadlet, podman run --cgroups=split)
            Path(rf"libpod-(?:payload-)?({_HEX})(?:\.scope)?"),
            Path(rf"[^/]*:libpod:({_HEX})"),
            Path(rf"podman-[0-9]+\.scope/({_HEX})"),
        ),
        # a pod: the container is below it, its conmon too
        not_containers=(Path(rf"libpod_parent/({_HEX})"), Path(rf"({_HEX})(?=/(?:conmon|libpod-{_HEX})(?:/|\Z))")),
        manager="libpod",
        bundle=r"/containers/storage/overlay-containers/|/libpod/",
        files=("storage",),
        files_of_users=("monitor",),
    ),
    # Docker and containerd look alike here
    RuntimeRow(KUBERNETES, (Path(rf"pod(?:{_POD})/({_HEX})"),), shared=True, files=("docker", "tasks", "storage")),
    RuntimeRow("lxc", (Path(r"lxc\.payload\.([^/]+)", "lxc"), Path(r"lxc(?:\.payload)?/([^/]+)", "lxc")), named=True),
    RuntimeRow(
        "nspawn",
        (
            # libvirt's qemu is a virtual machine; without /payload it may be one of systemd-vmspawn, or nspawn's own
            # process
            Path(r"machine-(?!qemu(?:-|\\x2d))([^/]+)\.scope(?=/payload(?:/|\Z))", "/payload"),
            Path(r"systemd-nspawn@([^/]+)\.service(?=/payload(?:/|\Z))", "/payload"),
        ),
        named=True,
    ),
    RuntimeRow(
        "buildkit",
        (
            Path(r"buildkit/([0-9a-z]{25})", "buildkit/"),
            # of the systemd driver, and what that becomes where it is taken literally
            Path(r"docker-([0-9a-z]{25})\.scope", "docker-[0-9a-z]{25}"),
            Path(r"[^/]*:docker:([0-9a-z]{25})", ":docker:[0-9a-z]{25}"),
        ),
    ),
    RuntimeRow("garden", (Path(r"garden/(?:(?:good|bad)/)?(?!(?:good|bad)(?:/|\Z))([^/]+)", "garden/"),), named=True),
    RuntimeRow(
        "bpm",
        (
            Path(
                r"bpm-((?:[^/.]|\.(?!(?:service|slice|scope|mount|socket|timer|swap|path)(?:/|\Z)))+)(?:\.scope)?",
                "bpm-",
            ),
        ),
        named=True,
    ),
    # a full id under a parent of the administrator's choice (docker --cgroup-parent, ctr, nerdctl)
    RuntimeRow("oci", (Path(rf"({_HEX})"),), shared=True, files=("docker", "tasks", "storage")),
)
BY_NAME: Final = {row.name: row for row in RUNTIMES}
_PATHS: Final = tuple(path for row in RUNTIMES for path in (*row.paths, *row.not_containers))
_NO_CONTAINERS: Final = frozenset(path for row in RUNTIMES for path in row.not_containers)
#: the runtime of each group of _pattern(), "" where it is no container
_ROW_RUNTIME: Final = (
    "",
    *(row.name if path in row.paths else "" for row in RUNTIMES for path in (*row.paths, *row.not_containers)),
)
#: a path without any of these has no container
_MAYBE: Final = re.compile("|".join(dict.fromkeys(path.marker for path in _PATHS)))
_ESCAPE: Final = re.compile(rb"\\x([0-9a-f]{2})")
#: below this a user of the host makes what cgroups it likes
_LENT: Final = re.compile(r"/user@[0-9]+\.service/")
_FULL_HEX: Final = re.compile(r"[0-9a-f]{16,}")
_DELETED: Final = " (deleted)"


# compiled where the first container is met: a host without any need not wait for it
@cache
def _pattern() -> re.Pattern[str]:
    return re.compile("/(?:" + "|".join(f"(?:{path.pattern})" for path in _PATHS) + r")(?=/|\Z)")


@cache
def _grouped() -> re.Pattern[str]:
    return re.compile(
        rf"pod(?P<k8s>{_POD})(?:\.slice)?(?=[/:])|libpod_pod_(?P<podman>{_HEX})\.slice/|/(?P<parent>{_HEX})/libpod-"
        r"|/ecs/(?:[^/]+/)??(?P<ecs>[^/]+)/[^/]+\Z|/ecstasks-(?P<slice>[^/]+)\.slice/"
    )


def hash64(text: bytes) -> int:
    """64 bits of BLAKE2b."""
    from hashlib import blake2b  # which brings all of OpenSSL with it

    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def chain(path: str) -> list[Runtime]:
    """All containers of a cgroup path (``/proc/PID/cgroup``'s third field), the outermost first. A cgroup removed under
    its process counts as before.

    >>> chain("/lxc.payload.web.example/system.slice/cron.service")
    [Runtime(runtime='lxc', id='web.example', name='web.example', pod_uid='')]
    """
    return [found for found, _ in places(path)]


def lent(place: str) -> bool:
    """Whether ``place``, the path of a container's cgroup, is in a part of the tree that is given to a user."""
    return _LENT.search(place) is not None


def places(path: str) -> list[tuple[Runtime, str]]:
    """As :func:`chain`, each with the path of the container's own cgroup."""
    if not _MAYBE.search(path):
        return []
    path = path.removesuffix(_DELETED)
    found: list[tuple[Runtime, str]] = []
    base = 0
    for match in _pattern().finditer(path):
        row = match.lastindex
        assert row is not None
        runtime = _ROW_RUNTIME[row]
        if not runtime:
            continue
        ident = match[row]
        if runtime == "nspawn":
            ident = unescape(ident)
        name = ident if BY_NAME[runtime].named else ""
        here = Runtime(runtime, ident, name, _pod(path[base : match.end()]))
        # a full id names one container wherever it stands; a given name may be used again inside
        if name or not any(outer.id == ident for outer, _ in found):
            found.append((here, path[: match.end()]))
        base = match.end()
    return found


def unit_of(path: str) -> str:
    """The systemd unit that has the cgroup ``path`` or one above it, the innermost; "" where there is none."""
    found = _UNIT.findall(path)
    return str(found[-1]) if found else ""


def runtime_of_bundle(annotations: Mapping[str, object], bundle: str) -> str:
    """The name of the runtime that a bundle's ``annotations`` and path tell of, as :func:`chain` names it; "oci" where
    nothing tells."""
    manager = annotations.get("io.container.manager")
    rows = (
        *(row for row in RUNTIMES if row.manager and row.manager == manager),
        *(row for row in RUNTIMES if row.bundle and re.search(row.bundle, bundle)),
        *(row for row in RUNTIMES if row.annotations and any(key.startswith(row.annotations) for key in annotations)),
    )
    return rows[0].name if rows else "oci"


def derive_contid(runtime: str, ident: str) -> int:
    """The 64-bit container identifier of a runtime's own id; never 0 or 2^64-1 (unset).

    The first 16 digits of a hexadecimal id as a number, so that it can be read off it; else BLAKE2b of ``runtime/id``.
    """
    if _FULL_HEX.fullmatch(ident):
        contid = int(ident[:16], 16)
        if contid not in (0, UNSET):
            return contid
    text = f"{runtime}/{ident}"
    return free_contid(hash64(_bytes(text)), text)


def free_contid(contid: int, who: object, taken: Callable[[int], bool] = lambda contid: False) -> int:
    """``contid``, or a rehash of it where it is none (0, 2^64-1) or ``taken``.

    ``who`` says whom it is for, and goes into the hash: nobody else must come by that number when it has to be given
    up again.
    """
    while contid in (0, UNSET) or taken(contid):
        contid = hash64(_bytes(f"{contid}/{who}"))
    return contid


def unescape(name: str) -> str:
    r"""Undo systemd's ``\xNN`` escapes of a unit name; bytes that are not UTF-8 become surrogates.

    A "-" stays: systemd reads it as "/", which no machine name holds, so it can only stand for itself.
    """
    raw = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), _bytes(name))
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: not from the kernel, still an answer
        return text.encode("utf-8", "surrogatepass")


def _pod(part: str) -> str:
    last = ""
    for match in _grouped().finditer(part):
        last = match["k8s"].replace("_", "-") if match["k8s"] else match[match.lastgroup or 0]
    return last
