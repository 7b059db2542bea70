"""Start real containers under every runtime this machine has, and remove all they leave behind.

::

    with Runtimes(tmp_path) as runtimes:
        container = runtimes.start("runc")             # its init runs `sleep 600`
        container.exec(["id"])                         # a process entering it, waited for
        runtimes.run("bwrap", ["sh", "-c", "id; id"])  # foreground, until its init ends
        container.stop()                               # or at the end of the block

The root file system is busybox with its links in /bin. Needs root. Every name holds the token of the run, so
that parallel runs do not meet. Nothing here takes the lock of ``support.kernel_lock``.
"""

import contextlib
import itertools
import json
import os
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.kernel import cgroupfs
from tests.kernel.support import need_root, need_tool, until

#: what :meth:`Runtimes.start` knows, with the commands each needs
TOOLS: Final = {
    "runc": ("runc",),
    "crun": ("crun", "unshare", "umount"),
    "podman": ("podman", "runc", "conmon"),
    "lxc": ("lxc-start", "lxc-stop", "lxc-info", "lxc-attach"),
    "nspawn": ("systemd-nspawn", "nsenter"),
    "bwrap": ("bwrap", "nsenter"),
    "unshare": ("unshare", "nsenter"),
}
NAMES: Final = tuple(TOOLS)
SLEEP: Final = ("sleep", "600")
#: seconds, for a busy machine
TIMEOUT: Final = 120.0
PATH: Final = "/bin"

#: crun refuses a hybrid set-up: hide the v2 part from it in a mount namespace of its own
_CRUN: Final = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"', "crun")
_ULIMITS: Final = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


class Container:
    """One container. ``pid``: its init as the host sees it (0: gone already); ``id``: what its runtime calls it."""

    def __init__(self, runtime: str, name: str) -> None:
        self.runtime = runtime
        self.name = name
        self.id = name
        self.pid = 0
        self.exec_prefix: Sequence[str] = ()
        self.cleanup = contextlib.ExitStack()

    def exec(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``argv`` inside, as the runtime's own exec does (nsenter where it has none); waits for its end."""
        return _call([*self.exec_prefix, *argv], check=check, timeout=timeout)

    def popen(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """The same, not waited for and without output; the caller reaps it."""
        return subprocess.Popen(
            [*self.exec_prefix, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def cgroups(self) -> dict[str, str]:
        """/proc/PID/cgroup of its init: hierarchy id to path."""
        lines = Path(f"/proc/{self.pid}/cgroup").read_text(errors="surrogateescape").splitlines()
        return {line.split(":", 2)[0]: line.split(":", 2)[2] for line in lines}

    def wait(self, timeout: float = TIMEOUT) -> None:
        """Until its init is gone or a zombie."""
        until(lambda: not cgroupfs.lives(self.pid), f"{self.runtime} container {self.name} to end", timeout, 0.002)

    def stop(self) -> None:
        """Kill it and remove what it made. Harmless when done already."""
        self.cleanup.close()


class Runtimes:
    """Starts containers below ``directory`` (made when absent; its removal is the caller's)."""

    def __init__(self, directory: Path, *, token: str = "") -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.token = token or secrets.token_hex(4)
        self.containers: list[Container] = []
        self._serial = itertools.count(1)
        self._cleanup = contextlib.ExitStack()
        self._podman_state: Path | None = None
        #: hooks (OCI: stage to list) and annotations for the containers of runc and crun started from now on
        self.hooks: dict[str, list[dict[str, object]]] = {}
        self.annotations: dict[str, str] = {}
        #: further mounts (OCI), and the network namespace to join ("": one of its own), for those started from now on
        self.mounts: list[dict[str, object]] = []
        self.network = ""
        #: further options of podman, before and behind "run"
        self.podman_global: list[str] = []
        self.podman_run: list[str] = []

    def __enter__(self) -> "Runtimes":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop every container that is still there, the last started first."""
        with self._cleanup, contextlib.ExitStack() as stack:
            for container in self.containers:
                stack.callback(container.stop)
            self.containers = []

    def start(
        self, runtime: str, argv: Sequence[str] = SLEEP, *, name: str = "", cgroup: str | None = None
    ) -> Container:
        """Start ``argv`` as the init of a new container and return once it exists.

        ``cgroup``: the path to run in, so that any path shape can be had for real; None: what the runtime
        takes by itself. For runc and crun it is the container's, for podman and lxc unused, for the others that
        of the launcher (nspawn adds ``/payload``). bwrap's ``pid`` is bwrap's own init, ``argv`` is its child.
        A missing tool skips, or fails when forced.
        """
        need_root()
        need_tool("busybox", *TOOLS[runtime])
        container = Container(runtime, name or f"auditns-{self.token}-{runtime}-{next(self._serial)}")
        top = self.directory / container.name
        container.cleanup.callback(shutil.rmtree, top, ignore_errors=True)
        self.containers.append(container)
        _make_rootfs(top)
        starter: Callable[[Container, Path, Sequence[str], str | None], None] = getattr(self, f"_{runtime}")
        try:
            starter(container, top, argv, cgroup)
        except BaseException:
            container.stop()
            raise
        return container

    def run(
        self, runtime: str, argv: Sequence[str], *, name: str = "", cgroup: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Start a container on ``argv``, wait for its end, remove it. For many short commands: ``sh -c``."""
        container = self.start(runtime, argv, name=name, cgroup=cgroup)
        try:
            container.wait(timeout)
        finally:
            container.stop()
            self.containers.remove(container)

    def _oci(self, command: Sequence[str], container: Container, top: Path, argv: Sequence[str], cgroup: str) -> None:
        name = container.name
        bundle = self.directory / f"{name}.bundle"
        bundle.mkdir()
        container.cleanup.callback(shutil.rmtree, bundle)
        config = _oci_config(top, argv, cgroup) | {"hooks": self.hooks, "annotations": self.annotations}
        config["mounts"] = [*config["mounts"], *self.mounts]
        if self.network:
            config["linux"]["namespaces"][1]["path"] = self.network
        (bundle / "config.json").write_text(json.dumps(config))
        top_group = cgroupfs.first(cgroup)
        container.cleanup.callback(cgroupfs.remove_new, top_group, cgroupfs.folders(top_group))
        base = [*command, "--root", str(self.directory / f"{container.runtime}.state")]
        container.cleanup.callback(_call, [*base, "delete", "-f", name], check=False)
        pid_file = bundle / "pid"
        _call([*base, "run", "-d", "--bundle", str(bundle), "--pid-file", str(pid_file), name])
        container.pid = int(pid_file.read_text())
        container.exec_prefix = [*base, "exec", name]

    def _runc(self, container: Container, top: Path, argv: Sequence[str], cgroup: str | None) -> None:
        self._oci(("runc",), container, top, argv, cgroup or f"/{container.name}")

    def _crun(self, container: Container, top: Path, argv: Sequence[str], cgroup: str | None) -> None:
        self._oci(_CRUN, container, top, argv, cgroup or f"/{container.name}")

    def _podman(self, container: Container, top: Path, argv: Sequence[str], cgroup: str | None) -> None:
        if self._podman_state is None:
            # podman takes no run root of more than 50 characters
            self._podman_state = Path(tempfile.mkdtemp(prefix="auditns-"))
            self._cleanup.callback(_remove_tree, self._podman_state)
        state = self._podman_state
        base = ["podman", "--root", f"{state}/root", "--runroot", f"{state}/run", "--tmpdir", f"{state}/tmp"]
        base += ["--runtime", "runc", "--cgroup-manager", "cgroupfs", *self.podman_global]
        container.cleanup.callback(cgroupfs.remove_new, "/libpod_parent", cgroupfs.folders("/libpod_parent"))
        container.cleanup.callback(_call, [*base, "rm", "-f", "-t", "0", container.name], check=False)
        network = f"ns:{self.network}" if self.network else "none"
        options = ["-d", *_ULIMITS, "--network", network, "--name", container.name, *self.podman_run]
        options += ["--rootfs", str(top)]
        container.id = _call([*base, "run", *options, *argv]).stdout.decode().split()[-1]
        container.pid = int(_call([*base, "inspect", "-f", "{{.State.Pid}}", container.name]).stdout)
        container.exec_prefix = [*base, "exec", container.name]

    def _lxc(self, container: Container, top: Path, argv: Sequence[str], cgroup: str | None) -> None:
        state = self.directory / "lxc.state"
        state.mkdir(exist_ok=True)
        (top / "init").write_text(f"#!/bin/sh\nexport PATH={PATH}\nexec {shlex.join(argv)}\n")
        (top / "init").chmod(0o755)
        settings = {
            "lxc.uts.name": "lxc",
            "lxc.rootfs.path": f"dir:{top}",
            "lxc.net.0.type": "empty",
            "lxc.init.cmd": "/init",
            "lxc.mount.auto": "proc",
            "lxc.autodev": "0",
            "lxc.tty.max": "0",
        }
        config = top.with_suffix(".conf")
        config.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        container.cleanup.callback(config.unlink)
        where = ["-P", str(state), "-n", container.name]
        container.cleanup.callback(cgroupfs.remove_new, "/lxc.pivot", cgroupfs.folders("/lxc.pivot"))
        container.cleanup.callback(_call, ["lxc-stop", "-k", *where], check=False)
        _call(["lxc-start", *where, "-d", "-f", str(config)])
        # no pid, and an error, when it has ended already
        container.pid = int(_call(["lxc-info", *where, "-pH"], check=False).stdout.strip() or 0)
        container.exec_prefix = ["lxc-attach", *where, "-v", f"PATH={PATH}", "--"]

    def _nspawn(self, container: Container, top: Path, argv: Sequence[str], cgroup: str | None) -> None:
        # it would use /payload and /supervisor of the root cgroup, shared by all and left behind
        container.cleanup.callback(cgroupfs.remove, Path("/run/systemd/nspawn/propagate") / container.name)
        command = ["systemd-nspawn", "--register=no", "--keep-unit", "-q", "-D", str(top), "-M", container.name]
        command += ["--setenv", f"PATH={PATH}", f"/bin/{argv[0]}", *argv[1:]]
        self._launch(container, command, cgroup or f"/{container.name}", ("mnt", "pid"), "muinpC")

    def _bwrap(self, container: Container, top: Path, argv: Sequence[str], cgroup: str | None) -> None:
        command = ["bwrap", "--bind", str(top), "/", "--proc", "/proc", "--dev", "/dev", "--unshare-all"]
        self._launch(container, [*command, "--setenv", "PATH", PATH, *argv], cgroup, ("pid",), "muinpUC")

    def _unshare(self, container: Container, top: Path, argv: Sequence[str], cgroup: str | None) -> None:
        command = ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--net", "--mount-proc", "-R", str(top)]
        command += ["busybox", "env", f"PATH={PATH}", *argv]
        self._launch(container, command, cgroup, ("pid",), "muinp")

    def _launch(
        self, container: Container, command: Sequence[str], cgroup: str | None, kinds: Sequence[str], enter: str
    ) -> None:
        """Start ``command``, which stays as the parent of the container's init; know that by its namespaces."""
        if cgroup:
            top_group = cgroupfs.first(cgroup)
            container.cleanup.callback(cgroupfs.remove_new, top_group, cgroupfs.folders(top_group))
            command = cgroupfs.command_in(cgroup, command)
        output = container.cleanup.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it lives as long as the container
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        container.cleanup.callback(_end, process)

        def begun() -> bool:
            container.pid = next((pid for pid in _children(process.pid) if _inside(pid, kinds)), 0)
            return container.pid != 0 or process.poll() is not None

        until(begun, f"{container.runtime} container {container.name} to start", TIMEOUT, 0.002)
        if container.pid:
            fd = os.pidfd_open(container.pid)
            container.cleanup.callback(os.close, fd)
            container.cleanup.callback(_kill, fd)
            flags = [f"-{letter}" for letter in enter]
            entered = ["nsenter", "-t", str(container.pid), *flags, "-r", "-w", "/bin/env", f"PATH={PATH}"]
            container.exec_prefix = entered
        elif process.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}: {output.read()!r}")


def _make_rootfs(top: Path) -> None:
    for folder in ("bin", "proc", "sys", "dev", "tmp", "etc", "root", "run", "var", "usr"):
        (top / folder).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, top / "bin/busybox")
    for applet in _call([busybox, "--list"]).stdout.decode().split():
        if applet != "busybox":
            (top / "bin" / applet).symlink_to("busybox")
    make_null(top)
    (top / "etc/os-release").write_text("ID=auditns-test\n")


def make_null(top: Path) -> None:
    """The null device in a root file system: LXC gives its standard streams mode 0700 unless they are this very device,
    and would leave the host's /dev/null to root alone."""
    path = top / "dev/null"
    os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
    path.chmod(0o666)


def _oci_config(top: Path, argv: Sequence[str], cgroup: str) -> dict[str, Any]:
    kinds = ("pid", "network", "ipc", "uts", "mount")
    return {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": list(argv), "env": [f"PATH={PATH}"], "cwd": "/"},
        "root": {"path": str(top)},
        "hostname": "oci",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"cgroupsPath": cgroup, "namespaces": [{"type": kind} for kind in kinds]},
    }


def _call(
    command: Sequence[str], *, check: bool = True, timeout: float = TIMEOUT
) -> subprocess.CompletedProcess[bytes]:
    # a daemon left behind (conmon, lxc's monitor) would hold a pipe open for ever: output goes to files
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=timeout).returncode
        out.seek(0)
        err.seek(0)
        done = subprocess.CompletedProcess(command, code, out.read(), err.read())
    if check and code != 0:
        raise RuntimeError(f"{shlex.join(command)} ended with {code}: {done.stdout!r} {done.stderr!r}")
    return done


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _inside(pid: int, kinds: Sequence[str]) -> bool:
    """Whether ``pid`` has namespaces of ``kinds`` other than ours, and has got to its own program."""
    try:
        comm = Path(f"/proc/{pid}/comm").read_text()
        if comm.startswith(("(sd-", "systemd-nspawn", "unshare")):
            return False
        if comm == "bwrap\n" and not _children(pid):
            return False  # its init still builds the root file system
        return all(os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}") for kind in kinds)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _remove_tree(top: Path) -> None:
    """Remove a folder; mounts below it too, and what a late ``podman container cleanup`` still puts there."""
    deadline = time.monotonic() + TIMEOUT
    while top.exists():
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if line.split()[1].startswith(f"{top}/"):
                _call(["umount", "-l", line.split()[1]], check=False)
        shutil.rmtree(top, ignore_errors=True)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{top} cannot be removed")


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Reap a launcher whose container was killed; kill it when it does not end by itself."""
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
