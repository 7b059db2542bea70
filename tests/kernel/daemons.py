"""dockerd and containerd with its CRI plugin, each in folders of its own, ended by their pids; nothing is left behind.

The daemons are Debian's. Where a host does not have all capabilities (a virtual machine may lack some), a privileged
container asks for more than there is: runc is then called through a program that asks for what there is.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.kernel import cgroupfs
from tests.kernel.images import BUSY, PAUSE, save
from tests.kernel.support import need, need_root, need_tool, until

TIMEOUT: Final = 120.0
DOCKER: Final = "/usr/bin/docker"
CNI: Final = Path("/usr/lib/cni")
#: calls runc with no more capabilities than there are: argv[1] of the test's own making is runc
_SPARING: Final = """\
#!{python}
import json, os, sys

lacking = {lacking!r}


def spare(path):
    with open(path) as file:
        config = json.load(file)
    process = config.get("process", config)
    for names in (process.get("capabilities") or {{}}).values():
        names[:] = [name for name in names if name not in lacking]
    if "CAP_SYS_RESOURCE" in lacking:
        process.pop("rlimits", None)
        process.pop("oomScoreAdj", None)
    with open(path, "w") as file:
        json.dump(config, file)


for option, name in (("--bundle", "/config.json"), ("--process", "")):
    if option in sys.argv:
        spare(sys.argv[sys.argv.index(option) + 1] + name)
os.execvp("runc", ["runc", *sys.argv[1:]])
"""


class Daemon:
    """A daemon with its state below a new folder, :attr:`folder`. Use as a context; what it starts ends with it."""

    #: cgroups that it makes for its containers
    cgroups: Sequence[str] = ()

    def __init__(self) -> None:
        need_root()
        self.folder = Path(tempfile.mkdtemp(prefix="auditns-d-", dir="/var/tmp"))
        self.folder.chmod(0o711)
        self.process: subprocess.Popen[bytes] | None = None
        self._before = {top: cgroupfs.folders(top) for top in self.cgroups}

    def __enter__(self):  # type: ignore[no-untyped-def]
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until(self._serves, f"{self.command()[0]} to serve: {self.log[-2000:]}", TIMEOUT, 0.05)

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-4000:]
        return self.answers()

    def command(self) -> list[str]:
        """Its command line."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves."""
        raise NotImplementedError

    def remove_containers(self) -> None:
        """Remove all containers, as far as it can."""

    def close(self) -> None:
        """End it, and whatever it has started."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._clean)
            if self.process is not None and self.process.poll() is None:
                stack.callback(self._end, self.process)
                self.remove_containers()

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _clean(self) -> None:
        for pid in self._helpers():
            for child in _children(pid):
                _kill(child)
            _kill(pid)
        until(lambda: not self._helpers(), f"what was started below {self.folder} to end", TIMEOUT)
        for top, before in self._before.items():
            cgroupfs.remove_new(top, before)
        unmount_below(self.folder)
        shutil.rmtree(self.folder)

    def _helpers(self) -> list[int]:
        """Shims and other daemons that were started for this one: their command lines name its folder."""
        found, programs = [], tuple(name.encode() for name in self.ended_by())
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    named = os.path.basename(words[0]).startswith(programs)
                    if named and any(bytes(self.folder) in word for word in words):
                        found.append(int(entry.name))
        return found

    def ended_by(self) -> Sequence[str]:
        """How the names of the programs begin that it starts, and that outlive it where it did not end well."""
        return ("containerd", "dockerd")

    def sparing_runc(self) -> Path | None:
        """The program to call in place of runc, where this host lacks capabilities; ``None`` where it has all."""
        from auditns_connector.vocabulary.capabilities import NUMBERS

        status = Path("/proc/self/status").read_text()
        bounding = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")), 16)
        lacking = sorted(name for name, number in NUMBERS.items() if not bounding >> number & 1)
        if not lacking:
            return None
        path = self.folder / "runc-sparing"
        path.write_text(_SPARING.format(python=sys.executable, lacking=lacking))
        path.chmod(0o755)
        return path


class Dockerd(Daemon):
    """dockerd with more ``options`` and daemon.json ``config``. ``data``: its data root; None: below :attr:`folder`,
    "": it is not told. ``subordinate``: names that have subordinate ids."""

    cgroups = ("/docker",)

    def __init__(
        self, options: Sequence[str] = (), config: Mapping[str, Any] | None = None, *, data: str | None = None,
        subordinate: Sequence[str] = (),
    ) -> None:  # fmt: skip
        need_tool("dockerd", "containerd", "runc")
        need(os.access(DOCKER, os.X_OK), f"the command {DOCKER}")
        super().__init__()
        data = f"{self.folder}/data" if data is None else data
        self._options = [*options, *(["--data-root", data] if data else [])]
        self._config, self._subordinate = dict(config or {}), list(subordinate)
        self._runtimes = dict(self._config.pop("runtimes", {}))

    def command(self) -> list[str]:
        """dockerd, in a mount namespace of its own where /etc/subuid has to name somebody."""
        top = self.folder
        sparing = self.sparing_runc()
        if sparing is not None:
            self._runtimes["sparing"] = {"path": str(sparing)}
        config = {"deprecated-key-path": f"{top}/key.json", "runtimes": self._runtimes, **self._config}
        (top / "daemon.json").write_text(json.dumps(config))
        words = ["dockerd", "--config-file", f"{top}/daemon.json", "--exec-root", f"{top}/exec"]
        words += ["--pidfile", f"{top}/pid", "-H", f"unix://{top}/sock", "--bridge=none", "--iptables=false"]
        words += ["--ip6tables=false", *self._options]
        if not self._subordinate:
            return words
        names = top / "subordinate"
        names.write_text("".join(f"{name}:200000:65536\n" for name in self._subordinate))
        binds = "".join(f"mount --bind {names} /etc/sub{kind}; " for kind in ("uid", "gid"))
        return ["unshare", "-m", "sh", "-c", f'{binds}exec "$@"', "sh", *words]

    def docker(self, *words: str | Path, check: bool = True, **env: str) -> str:
        """Run the command line client; its stdout without the last newline."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "DOCKER_BUILDKIT": "0", **env}
        done = subprocess.run(
            [DOCKER, "-H", f"unix://{self.folder}/sock", *map(str, words)],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"docker {words}: {done.stderr}\n{self.log[-2000:]}"
        return done.stdout.strip()

    def answers(self) -> bool:
        """Whether the client gets the server's version."""
        return self.docker("version", "-f", "{{.Server.Version}}", check=False) != ""

    def load(self, **config: Any) -> None:
        """Load :data:`BUSY`."""
        archive = self.folder / "image.tar"
        save(archive, {BUSY: {"Env": ["PATH=/bin"], **config}})
        self.docker("load", "-q", "-i", archive)

    def run(self, *words: str, name: str = "", detach: bool = True) -> str:
        """``docker run`` with the options and the command ``words`` of :data:`BUSY`; the container's full id."""
        before = [*(["-d"] if detach else []), *(["--name", name] if name else [])]
        network = [] if any(word.startswith("--net") for word in words) else ["--network=none"]
        if "--privileged" in words and (self.folder / "runc-sparing").exists():
            before += ["--runtime", "sparing"]
        return self.docker("run", *before, *network, *words)

    def remove_containers(self) -> None:
        """As root of this daemon would."""
        for ident in self.docker("ps", "-aq", check=False).split():
            self.docker("unpause", ident, check=False)
            self.docker("rm", "-f", "-v", ident, check=False)

    def pid(self, name: str) -> int:
        """The first process of a container."""
        return int(self.docker("inspect", "-f", "{{.State.Pid}}", name))


class Containerd(Daemon):
    """containerd with its CRI plugin. ``more`` are lines of config.toml; ``pause`` is what a pause container runs."""

    cgroups = ("/kubepods", "/k8s.io")

    def __init__(self, pause: Sequence[str], more: str = "") -> None:
        need_tool("containerd", "ctr", "runc")
        need(CNI.is_dir() and (CNI / "ptp").exists(), "network plugins (containernetworking-plugins)")
        super().__init__()
        self._pause, self._more = list(pause), more

    @property
    def socket(self) -> str:
        """Where it serves."""
        return f"{self.folder}/sock"

    def command(self) -> list[str]:
        """containerd with a configuration of its own."""
        top, sparing = self.folder, self.sparing_runc()
        network = {
            "cniVersion": "0.4.0", "name": "auditns",
            "plugins": [{
                "type": "ptp", "ipMasq": False,
                "ipam": {"type": "host-local", "dataDir": f"{top}/ipam", "subnet": "10.211.55.0/24"},
            }],
        }  # fmt: skip
        (top / "cni").mkdir(exist_ok=True)
        (top / "cni/10-auditns.conflist").write_text(json.dumps(network))
        cri = '[plugins."io.containerd.grpc.v1.cri"'
        runc = f"{cri}.containerd.runtimes.runc"
        binary = f'    BinaryName = "{sparing}"\n' if sparing is not None else ""
        (top / "config.toml").write_text(
            f'version = 2\nroot = "{top}/root"\nstate = "{top}/state"\n[grpc]\n  address = "{self.socket}"\n'
            f'{cri}]\n  sandbox_image = "{PAUSE}"\n  restrict_oom_score_adj = true\n  disable_apparmor = true\n'
            f'{cri}.cni]\n  bin_dir = "{CNI}"\n  conf_dir = "{top}/cni"\n'
            f'{runc}]\n  runtime_type = "io.containerd.runc.v2"\n{runc}.options]\n{binary}{self._more}'
        )
        return ["containerd", "--config", f"{top}/config.toml"]

    def ctr(self, *words: str | Path, check: bool = True) -> str:
        """Run ctr in the namespace of Kubernetes; its stdout."""
        command = ["ctr", "-a", self.socket, "-n", "k8s.io", *map(str, words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def answers(self) -> bool:
        """Whether ctr gets the server's version."""
        return "Server:" in self.ctr("version", check=False)

    def load(self) -> None:
        """Load :data:`BUSY` and :data:`PAUSE`."""
        archive = self.folder / "images.tar"
        save(archive, {BUSY: {"Env": ["PATH=/bin"]}, PAUSE: {"Entrypoint": self._pause}})
        self.ctr("image", "import", archive)

    def remove_containers(self) -> None:
        """Kill what a test has left."""
        for ident in self.ctr("task", "ls", "-q", check=False).split():
            self.ctr("task", "rm", "-f", ident, check=False)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []  # it has gone


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def unmount_below(top: Path) -> None:
    """Unmount all that is mounted below ``top``, the last first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for where in reversed(mounts):
        if where.startswith(f"{top}/"):
            subprocess.run(["umount", "-l", where], check=False, capture_output=True)
