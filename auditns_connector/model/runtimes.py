r"""Which container runtime made a cgroup, told from the cgroup's path alone.

Pure and total: any string has an answer, most have "none". The table below is all there is to know; its rows are
tried in order at every ``/`` of the path, a row matches whole components only, and what it matched is not looked
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
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

UNSET: Final = 0xFFFFFFFFFFFFFFFF
_HEX: Final = "[0-9a-f]{64}"
_POD: Final = "[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"


class Runtime(NamedTuple):
    """What one path says. ``id`` is the runtime's own identifier, unescaped."""

    runtime: str
    id: str
    #: the name people know it by, where the path tells it (LXC, nspawn, Garden, BPM); else ""
    name: str = ""
    #: what groups it with others: Kubernetes pod uid (with dashes), Podman pod id, ECS task id; else ""
    pod: str = ""


#: (runtime, its part of the path after a "/", with one group: the id). A row without a runtime is no container.
_TABLE: Final[tuple[tuple[str, str], ...]] = (
    # ECS before Docker: its containers are Docker's, in a task
    ("ecs", rf"ecs/(?:[^/]+/){{1,3}}?({_HEX})"),
    ("ecs", r"(?:ecs/(?:[^/]+/){0,3}?)?([0-9a-f]{32}-[0-9]+)"),  # Fargate
    ("ecs", rf"ecstasks-[^/]+\.slice/docker-({_HEX})\.scope"),
    ("docker", rf"docker-({_HEX})\.scope"),
    ("docker", rf"docker/({_HEX})"),
    ("docker", rf"[^/]*:docker:({_HEX})"),
    ("containerd", rf"(?:cri-containerd|nerdctl)-({_HEX})\.scope"),
    # a systemd-style path given to a runtime with the cgroupfs driver is taken literally
    ("containerd", rf"[^/]*:(?:cri-containerd|nerdctl):({_HEX})"),
    ("containerd", rf"k8s\.io/({_HEX})"),
    ("crio", rf"crio-({_HEX})(?:\.scope)?"),
    ("crio", rf"[^/]*:crio:({_HEX})"),
    ("podman", rf"libpod-({_HEX})(?:\.scope)?"),
    ("podman", rf"[^/]*:libpod:({_HEX})"),
    ("podman", rf"podman-[0-9]+\.scope/({_HEX})"),
    # a Podman pod: the container is below it, its conmon too
    ("", rf"libpod_parent/({_HEX})"),
    ("", rf"({_HEX})(?=/(?:conmon|libpod-{_HEX})(?:/|\Z))"),
    # Docker and containerd look alike here
    ("kubernetes", rf"pod(?:{_POD})/({_HEX})"),
    ("lxc", r"lxc\.payload\.([^/]+)"),
    ("lxc", r"lxc(?:\.payload)?/([^/]+)"),
    # libvirt's qemu is a virtual machine; without /payload it may be one of systemd-vmspawn, or nspawn's own process
    ("nspawn", r"machine-(?!qemu(?:-|\\x2d))([^/]+)\.scope(?=/payload(?:/|\Z))"),
    ("nspawn", r"systemd-nspawn@([^/]+)\.service(?=/payload(?:/|\Z))"),
    ("buildkit", r"buildkit/([0-9a-z]{25})"),
    ("garden", r"garden/(?:(?:good|bad)/)?(?!(?:good|bad)(?:/|\Z))([^/]+)"),
    ("bpm", r"bpm-((?:[^/.]|\.(?!(?:service|slice|scope|mount|socket|timer|swap|path)(?:/|\Z)))+)(?:\.scope)?"),
    # a full id under a parent of the administrator's choice (docker --cgroup-parent, ctr, nerdctl)
    ("oci", rf"({_HEX})"),
)
_NAMED: Final = frozenset(("lxc", "nspawn", "garden", "bpm"))
_ROW_RUNTIME: Final = ("", *(runtime for runtime, _ in _TABLE))
#: cheap and necessary: a path without any of these has no container
_MAYBE: Final = re.compile(rf"{_HEX}|[0-9a-f]{{32}}-[0-9]|lxc|/payload|buildkit/|garden/|bpm-")
_ESCAPE: Final = re.compile(rb"\\x([0-9a-f]{2})")
#: below this a user of the host makes what cgroups it likes
_LENT: Final = re.compile(r"/user@[0-9]+\.service/")
_FULL_HEX: Final = re.compile(r"[0-9a-f]{16,}")
_DELETED: Final = " (deleted)"


# compiled where the first container is met: a host without any need not wait for it
@cache
def _pattern() -> re.Pattern[str]:
    return re.compile("/(?:" + "|".join(f"(?:{part})" for _, part in _TABLE) + r")(?=/|\Z)")


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
    [Runtime(runtime='lxc', id='web.example', name='web.example', pod='')]
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
        name = ident if runtime in _NAMED else ""
        here = Runtime(runtime, ident, name, _pod(path[base : match.end()]))
        # a full id names one container wherever it stands; a given name may be used again inside
        if name or not any(outer.id == ident for outer, _ in found):
            found.append((here, path[: match.end()]))
        base = match.end()
    return found


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
