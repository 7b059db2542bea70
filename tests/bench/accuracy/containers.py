"""Containers for the workloads, made for speed: one root file system a runtime, the truth program as init.

Many thousand containers a run are not to be had with a copy of busybox and a ``sleep`` each; the general starters are
in ``tests/kernel/runtimes.py``.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kernel.runtimes import make_null
from tests.kernel.support import until

from .privileged import make_variants

#: every runtime, with the commands it needs
RUNTIMES: Final = {
    "runc": ("runc",),
    "crun": ("crun", "unshare"),
    "podman": ("podman", "runc"),
    "lxc": ("lxc-start", "lxc-attach", "lxc-stop"),
    "nspawn": ("systemd-nspawn",),
    "bwrap": ("bwrap",),
    "unshare": ("unshare",),
}
#: those whose own 64-hex id says what the contid has to be
IDENTIFIED: Final = ("podman",)
CGROUP2: Final = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
TIMEOUT: Final = 300.0
#: crun refuses hybrid cgroups: hide the v2 part from it in a mount namespace of its own
_CRUN: Final = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"', "crun")
_LIMITS: Final = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
_PODMAN_OPTIONS: Final = ("--network", "none", "--cap-add", "all", "--security-opt", "seccomp=unconfined")
_CAPABILITIES: Final = [
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"),
        *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE", "SYS_ADMIN", "NET_ADMIN"),
    )
]
_LXC: Final = (
    "lxc.net.0.type = empty\nlxc.mount.auto = proc:rw\nlxc.autodev = 0\nlxc.tty.max = 0\nlxc.pty.max = 1\n"
    "lxc.rootfs.path = dir:{root}\nlxc.uts.name = lxc\nlxc.init.cwd = /\n"
)


class WorkloadError(Exception):
    """A command of a workload failed: the truth of its run is not known."""


def call(command: Sequence[str | Path], **options: object) -> None:
    """Run ``command`` to its end; WorkloadError with its output when it fails."""
    # output to a file: a daemon left behind (conmon, lxc's monitor) would hold a pipe open
    with open(os.memfd_create("output", os.MFD_CLOEXEC), "w+b") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=TIMEOUT, check=False, **options
        )  # type: ignore[call-overload]
        if done.returncode != 0:
            output.seek(0)
            raise WorkloadError(f"{' '.join(map(str, command))} ended with {done.returncode}: {output.read()!r}")


def cgroup2() -> Path:
    """Where cgroup v2 is mounted."""
    for path in map(Path, CGROUP2):
        if (path / "cgroup.controllers").exists():
            return path
    raise WorkloadError("no cgroup v2 is mounted")


@dataclass(slots=True)
class PidHandle:
    """A running container: what to put before a command to run it inside, the pid of its init, its 64-hex id."""

    enter: list[str]
    pid: int
    ident: str


class Containers:
    """Starts containers on the truth program, everything below ``directory`` but the runtimes' state.

    That goes below ``state``: podman refuses a long path.
    """

    def __init__(self, directory: Path, truth: Path, state: Path) -> None:
        self.directory = directory
        self.truth = truth
        self.state = state
        self._serial = itertools.count(1)
        self._roots: dict[str, Path] = {}
        self._lock = threading.Lock()

    @staticmethod
    def available() -> list[str]:
        """The runtimes whose commands are installed."""
        return [name for name, tools in RUNTIMES.items() if all(map(shutil.which, tools))]

    def root(self, name: str) -> Path:
        """The root file system of that name, made at first use; its truth log is /truth.log."""
        with self._lock:
            if name not in self._roots:
                top = self.directory / "roots" / name
                for folder in ("bin", "proc", "sys", "dev", "tmp", "etc", "run", "usr", "var"):
                    (top / folder).mkdir(parents=True)
                shutil.copy(self.truth, top / "truth")
                busybox = shutil.which("busybox")
                if busybox:
                    shutil.copy(busybox, top / "bin/busybox")
                    (top / "bin/sh").symlink_to("busybox")
                make_null(top)
                make_variants(top, self.truth)
                (top / "truth.log").touch()
                (top / "truth.log").chmod(0o666)
                (top / "etc/os-release").write_text("ID=auditns-truth\n")
                self._roots[name] = top
            return self._roots[name]

    def logs(self) -> list[Path]:
        """The truth logs of all root file systems that have one."""
        return [log for top in self._roots.values() if (log := top / "truth.log").exists()]

    def run(self, runtime: str, argv: Sequence[str]) -> str:
        """Run ``argv`` as a container's init to its end; return the runtime's 64-hex id of it ("" where none)."""
        name = self._name()
        if runtime in ("runc", "crun"):
            call([*self._oci(runtime), "run", "--bundle", self._bundle(runtime, name, argv), name])
            return ""
        if runtime == "podman":
            cidfile = self.directory / f"{name}.cid"
            options = ["--rm", "--cidfile", str(cidfile), *_PODMAN_OPTIONS, *_LIMITS]
            call([*self._podman(), "run", *options, "--rootfs", str(self.root("podman")), *argv])
            return cidfile.read_text().strip()
        if runtime == "lxc":
            config = self._lxc_config(name)
            call(["lxc-start", "-P", self._state("lxc"), "-n", name, "-F", "-f", config, "--", *argv])
            return ""
        call([*self._simple(runtime, runtime), *argv])
        return ""

    @contextlib.contextmanager
    def held(self, runtime: str, hold: Sequence[str], ready: str) -> Iterator[PidHandle]:
        """A container whose init is ``hold`` (truth mode=hold, which makes the file ``ready`` in its root) and stays
        until the end of the block."""
        name = self._name()
        root_name = f"{runtime}-{name}" if runtime == "nspawn" else runtime
        flag = self.root(root_name) / ready.lstrip("/")
        with contextlib.ExitStack() as stack:
            if runtime in ("runc", "crun"):
                base, pid_file = self._oci(runtime), self.directory / f"{name}.pid"
                stack.callback(call, [*base, "delete", "-f", name])
                call([*base, "run", "-d", "--pid-file", pid_file, "--bundle", self._bundle(runtime, name, hold), name])
                held = PidHandle([*base, "exec", name], int(pid_file.read_text()), "")
            elif runtime == "podman":
                base = self._podman()
                pid_file, cidfile = self.directory / f"{name}.pid", self.directory / f"{name}.cid"
                options = [
                    "-d",
                    "--name",
                    name,
                    "--cidfile",
                    str(cidfile),
                    "--pidfile",
                    str(pid_file),
                    *_PODMAN_OPTIONS,
                ]
                stack.callback(call, [*base, "rm", "-f", "-t", "0", name])
                call([*base, "run", *options, *_LIMITS, "--rootfs", str(self.root("podman")), *hold])
                held = PidHandle([*base, "exec", name], int(pid_file.read_text()), cidfile.read_text().strip())
            elif runtime == "lxc":
                where = ["-P", str(self._state("lxc")), "-n", name]
                stack.callback(call, ["lxc-stop", "-k", *where])
                call(["lxc-start", *where, "-d", "-f", self._lxc_config(name), "--", *hold])
                told = subprocess.run(["lxc-info", *where, "-pH"], capture_output=True, check=True)
                held = PidHandle(["lxc-attach", *where, "--"], int(told.stdout), "")
            else:
                with (self.directory / f"{name}.output").open("wb") as output:
                    process = subprocess.Popen(
                        [*self._simple(runtime, root_name), *hold],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                    )
                stack.callback(process.wait)
                stack.callback(process.kill)
                until(flag.exists, f"{runtime} container {name}")
                pid = _innermost(process.pid)
                stack.callback(_kill, pid)
                held = PidHandle(["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-r"], pid, "")
            until(flag.exists, f"{runtime} container {name}")
            yield held

    @contextlib.contextmanager
    def cgroup(self, path: str) -> Iterator[Path]:
        """A cgroup of v2 at ``path``, made with its parents; what was made is removed at the end."""
        top = cgroup2()
        made = []
        folder = top
        for part in path.strip("/").split("/"):
            folder = folder / part
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        try:
            yield folder
        finally:
            for folder in reversed(made):
                # EBUSY until the last process in it is reaped
                until(lambda folder=folder: _removed(folder), f"{folder} to empty", 10)  # type: ignore[misc]

    def _name(self) -> str:
        return f"truth-{os.getpid()}-{next(self._serial)}"

    def _state(self, runtime: str) -> Path:
        state = self.state / runtime
        state.mkdir(exist_ok=True)
        return state

    def _oci(self, runtime: str) -> list[str]:
        return [*(_CRUN if runtime == "crun" else (runtime,)), "--root", str(self._state(runtime))]

    def _podman(self) -> list[str]:
        state = self._state("podman")
        base = ["podman", "--root", f"{state}/root", "--runroot", f"{state}/run", "--tmpdir", f"{state}/tmp"]
        return [*base, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]

    def _lxc_config(self, name: str) -> Path:
        config = self.directory / f"{name}.conf"
        config.write_text(_LXC.format(root=self.root("lxc")))
        return config

    def _simple(self, runtime: str, root_name: str) -> list[str]:
        root = str(self.root(root_name))
        if runtime == "bwrap":
            return ["bwrap", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--unshare-all"]
        if runtime == "nspawn":
            return ["systemd-nspawn", "--register=no", "--keep-unit", "-q", "-D", root, "-M", self._name()]
        if runtime == "unshare":
            flags = ["--fork", "--pid", "--mount", "--uts", "--ipc", "--net", "--mount-proc", "--kill-child"]
            return ["unshare", *flags, "-R", root]
        raise WorkloadError(f"no runtime {runtime}")

    def _bundle(self, runtime: str, name: str, argv: Sequence[str]) -> Path:
        kinds = ("pid", "network", "ipc", "uts", "mount")
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": list(argv),
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            },
            "root": {"path": str(self.root(runtime))},
            "hostname": "oci",
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"cgroupsPath": f"/{name}", "namespaces": [{"type": kind} for kind in kinds]},
        }
        bundle = self.directory / f"{name}.bundle"
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(config))
        return bundle


def _innermost(pid: int) -> int:
    """The last of the chain of first children of ``pid``: the init a launcher waits for."""
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return pid
        pid = int(children[0])


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 9)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
