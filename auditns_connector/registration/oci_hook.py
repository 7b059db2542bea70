"""``auditns oci-hook``: a container runtime calls it as createRuntime, prestart or poststop hook.

It reads the container's state (JSON, OCI runtime specification, "State") on stdin and registers the container. It must
never break a container's start: whatever goes wrong is one warning on stderr and exit code 0, and DEADLINE after its
own start it gives up. So nothing is imported here that takes time, and a child does the work: it can be left at any
moment, also in the middle of a long document.
"""

import os
import sys
from typing import Any, Final

from auditns_connector.state.paths import CONTROL

#: milliseconds from the start of the process, Python's own included, after which it gives up
DEADLINE: Final = 160
#: milliseconds it tries at least, however long Python took to start
LEAST: Final = 10
MAX_STATE: Final = 4 << 20
MAX_CONFIG: Final = 4 << 20
MAX_VALUE: Final = 600
MAX_WAIT: Final = 50
#: the module signal takes a while to import
_SIGKILL: Final = 9

#: where runtimes and orchestrators say it, the first found is taken
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
_MANAGERS: Final = {"libpod": "podman", "cri-o": "crio", "containerd": "containerd"}


class Trouble(Exception):
    """Why the container is not registered."""


def runtime_of(annotations: dict[str, Any], bundle: str) -> str:
    """The runtime, as it is recognised from a cgroup path too; "oci" where nothing tells."""
    manager = _MANAGERS.get(str(annotations.get("io.container.manager", "")))
    if manager:
        return manager
    if "/moby/" in bundle:
        return "docker"
    if "/containers/storage/overlay-containers/" in bundle or "/libpod/" in bundle:
        return "podman"
    if bundle.startswith("/run/containerd/") or any(key.startswith("io.kubernetes.cri.") for key in annotations):
        return "containerd"
    return "crio" if any(key.startswith("io.kubernetes.cri-o.") for key in annotations) else "oci"


def request_of(state: Any, config: Any) -> dict[str, Any] | None:
    """The request for the control socket; ``None`` for a state that has nothing to say. Raises :class:`Trouble`."""
    if not isinstance(state, dict) or not isinstance(state.get("id"), str) or not state["id"]:
        raise Trouble("stdin is not the state of a container")
    if state.get("status") == "stopped" or not state.get("pid"):
        return {"v": 1, "op": "contid-stopped", "id": state["id"][:MAX_VALUE]}
    pid = state["pid"]
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 1 << 31:
        raise Trouble("the state has no usable pid")
    annotations: dict[str, Any] = {}
    for source in (config, state):
        found = source.get("annotations") if isinstance(source, dict) else None
        if isinstance(found, dict):
            annotations.update(found)
    bundle = state.get("bundle") if isinstance(state.get("bundle"), str) else ""
    names = {"runtime": runtime_of(annotations, str(bundle)), "id": state["id"][:MAX_VALUE]}
    for name, keys in ANNOTATIONS.items():
        value = next((annotations[key] for key in keys if isinstance(annotations.get(key), str)), "")
        if value:
            names[name] = value[:MAX_VALUE]
    return {"v": 1, "op": "contid-hook", "pid": pid, "names": names}


def _read(fd: int, limit: int) -> bytes:
    data = b""
    while len(data) <= limit:
        more = os.read(fd, 65536)
        if not more:
            return data
        data += more
    raise Trouble("what it reads is too large")


def _config(state: Any) -> Any:
    """The bundle's config.json, as far as it can be had: it only adds names."""
    from json import loads

    bundle = state.get("bundle") if isinstance(state, dict) else None
    if not isinstance(bundle, str) or not bundle.startswith("/"):
        return {}
    try:
        fd = os.open(f"{bundle}/config.json", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return loads(_read(fd, MAX_CONFIG))
        finally:
            os.close(fd)
    except (OSError, ValueError, RecursionError, Trouble):
        return {}


def register(control: str) -> int:
    """Do the work; returns how long to wait then (milliseconds). Raises :class:`Trouble`, OSError."""
    from json import dumps, loads
    from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

    try:
        state = loads(_read(0, MAX_STATE))
    except (ValueError, RecursionError):
        raise Trouble("stdin is not JSON") from None
    request = request_of(state, _config(state))
    with socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC) as sock:
        try:
            sock.connect(control)
        except (FileNotFoundError, ConnectionRefusedError):
            raise Trouble(f"nobody serves {control}: neither auditns listen nor the plugin is running") from None
        sock.send(dumps(request).encode())
        data = sock.recv(65536)
    try:
        answer = loads(data)
        accepted = answer["ok"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Trouble(f"{control} gave no answer that makes sense") from None
    if not accepted:
        raise Trouble(f"refused: {answer.get('error')}: {answer.get('message')}")
    wait = answer.get("wait_ms")
    return wait if isinstance(wait, int) and 0 < wait <= MAX_WAIT else 0


def _age() -> float:
    """Seconds since this process was started, up to one clock tick too many."""
    from time import CLOCK_BOOTTIME, clock_gettime

    try:
        with open("/proc/self/stat", "rb") as file:
            started = int(file.read().rpartition(b") ")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0.0  # no /proc: it counts from here
    return max(0.0, clock_gettime(CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))


def _work(control: str, writer: int) -> None:
    """The child: one line is its answer, "ok" and milliseconds, or why not. A runtime reads stderr to its end, and is
    not to wait for a child that was left."""
    for fd in {1, 2} - {writer}:
        os.closerange(fd, fd + 1)  # it may be closed already
    try:
        said = f"ok {register(control)}"
    except (Trouble, OSError) as error:
        said = str(error)
    except Exception as error:  # whatever it is, the container starts
        said = f"{type(error).__name__}: {error}"
    os.write(writer, said.encode("utf-8", "replace")[:4096])


def _watched(control: str, seconds: float) -> str | None:
    """What the child says; ``None`` when it says nothing in time."""
    from select import select

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _work(control, writer)
        finally:
            os._exit(0)
    os.close(writer)
    if not select([reader], [], [], seconds)[0]:
        os.kill(child, _SIGKILL)
        return None
    return os.read(reader, 4096).decode("utf-8", "replace") or "it has ended"


def main(argv: list[str]) -> int:
    """``argv``: what follows "oci-hook". Returns the exit code."""
    from time import sleep

    control, strict, deadline = CONTROL, False, DEADLINE
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--control", "--timeout"):
            value = value if equals else next(words, "")
            if name == "--control":
                control = value
            elif value.isdecimal() and int(value) > 0:
                deadline = int(value)
        elif word == "--strict":
            strict = True
        else:
            return _end(f"{word!r} is not an option of it (see auditns oci-hook --help)", strict)
    try:
        said = _watched(control, max(deadline / 1000 - _age(), LEAST / 1000))
    except OSError as error:  # no process, no descriptor left
        return _end(str(error), strict)
    if said is None:
        return _end(f"no answer within {deadline} ms", strict)
    word, _, wait = said.partition(" ")
    if word != "ok":
        return _end(said, strict)
    # audit's stamps are coarse: only after this can no event of the container be taken for one before its id
    sleep(int(wait) / 1000)
    return 0


def _end(why: str, strict: bool) -> int:
    # os.write: nothing of Python's is needed, not even its stderr
    text = "auditns: oci-hook: " + "".join(c if c.isprintable() else "?" for c in why)
    consequence = "start refused" if strict else "its identifier will be a derived one"
    try:
        os.write(2, f"{text}; the container is not registered ({consequence})\n".encode("utf-8", "replace"))
    except OSError:
        return int(strict)  # nobody listens
    return int(strict)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
