"""What runs inside the guest of test_systemd_host.py, as a service: containers, pods and services under systemd, first
with auditns.service of the package, then with the plugin under auditd.

Each program is /bin/true with a word that says where it is; whose the words are, in which cgroups the containers were,
and what our programs have said goes to the host as an archive, written to a disk. What fails is told and does not
keep the rest from being tried.
"""

import contextlib
import io
import json
import os
import subprocess
import tarfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.kernel.cri import Kubelet
from tests.kernel.guest_engines import Engine, Workload, run, truth_of, until
from tests.kernel.images import BUSY, PAUSE, add_file, add_root, save
from tests.kernel.programs import by_name

OUT: Final = Path("/dev/vdb")
USER: Final = 1000
IMAGES: Final = Path("/home/us/images.tar")
MACHINES: Final = Path("/var/lib/machines")
CONTAINERD: Final = "unix:///run/containerd/containerd.sock"
LOGS: Final = {"listener": "/var/log/auditns/listen.log", "plugin": "/var/log/auditns/audit.log"}
#: as root's login shell would have it. A Podman that knows itself to be in a unit leaves conmon there, to end with it
SESSION: Final = (
    "setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "env", "HOME=/home/us", "USER=us",
    f"XDG_RUNTIME_DIR=/run/user/{USER}", f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{USER}/bus",
    "systemd-run", "--user", "--wait", "--pipe", "--quiet", "--collect", "--", "env", "-u", "INVOCATION_ID",
)  # fmt: skip
SERVICE: Final = ("systemd-run", "--wait", "--pipe", "--quiet", "--collect")
#: what a service may take from its processes, and still is of the host
SERVICES: Final = {
    "plain": (),
    "users": ("PrivateUsers=yes",),
    "identity": ("PrivateUsersEx=identity",),  # so systemd-run calls PrivateUsers=identity
    "dynamic": ("DynamicUser=yes",),
    "strict": ("PrivateTmp=yes", "PrivateDevices=yes", "ProtectSystem=strict", "ProtectHome=yes"),
    "network": ("PrivateNetwork=yes",),
    "all": ("PrivateUsers=yes", "PrivateNetwork=yes", "PrivateIPC=yes", "ProtectHostname=yes", "PrivateTmp=yes"),
    "user": ("User=us", "Slice=web.slice"),
    "delegate": ("Delegate=yes",),
}
QUADLET: Final = """[Container]
Image={image}
ContainerName={name}
Network=none
Exec=/bin/loop {word} 4 3600
"""
CRI: Final = """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = {systemd}
"""
NETWORK: Final = {
    "cniVersion": "0.4.0", "name": "auditns",
    "plugins": [{"type": "ptp", "ipMasq": False, "ipam": {"type": "host-local", "subnet": "10.211.55.0/24"}}],
}  # fmt: skip
DOCKER: Final = {"bridge": "none", "iptables": False, "ip6tables": False}


def docker(load: Workload) -> None:
    """Docker with the systemd driver, which is its default here."""
    engine = Engine(load, "docker", "docker")
    assert engine.call("info", "-f", "{{.CgroupDriver}} {{.CgroupVersion}}") == "systemd 2"
    engine.every_way()
    engine.exec("slice", engine.run("slice", "--cgroup-parent=web.slice"))
    folder = Path(f"/root/{load.name}-build")
    folder.mkdir()
    for label, how in (("classic", "0"), ("buildkit", "1")):
        steps = "".join(f"RUN /bin/loop {load.word(f'{label}.{step}')} 2\n" for step in range(2))
        (folder / "Dockerfile").write_text(f"FROM {BUSY}\n{steps}")
        run("docker", "build", "--network=none", "--no-cache", folder, env={"DOCKER_BUILDKIT": how})
        for step in range(2):
            load.of(f"{label}.{step}", "", 2, "some")


def podman(load: Workload) -> None:
    """Podman of root, with crun and runc, in a pod, and as a unit of systemd."""
    engine = Engine(load, "podman", "podman")
    assert engine.call("info", "-f", "{{.Host.CgroupManager}} {{.Host.CgroupsVersion}}") == "systemd v2"
    engine.every_way()
    engine.exec("runc", engine.run("runc", "--runtime=runc"))
    pod = f"{load.name}-pod"
    engine.call("pod", "create", "--name", pod, "--network=none")
    name = ["--name", f"{load.name}-member", "--pod", pod]
    ident = engine.call("run", "-d", *name, BUSY, "/bin/loop", load.word("podman.pod"), "4", "3600").split()[-1]
    load.place("podman.pod", ident, engine.pid(ident))
    load.of("podman.pod", ident, 4)
    engine.exec("pod", ident)


def quadlet(load: Workload) -> None:
    """A container that is a unit: systemd starts it, in a cgroup below the unit's."""
    name, engine = f"{load.name}-quadlet", Engine(load, "podman", "podman")
    folder = Path("/etc/containers/systemd")
    folder.mkdir(parents=True, exist_ok=True)
    text = QUADLET.format(image=BUSY, name=name, word=load.word("podman.quadlet"))
    (folder / f"{name}.container").write_text(text)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", f"{name}.service")
    ident = engine.call("inspect", "-f", "{{.Id}}", name)
    load.place("podman.quadlet", ident, engine.pid(ident))
    load.of("podman.quadlet", ident, 4)
    engine.exec("quadlet", ident)


def rootless(load: Workload) -> None:
    """Podman of a user, by his own service manager."""
    engine = Engine(load, "rootless", *SESSION, "podman")
    assert engine.call("info", "-f", "{{.Host.CgroupManager}} {{.Host.CgroupsVersion}}") == "systemd v2"
    engine.every_way(health=False)


def services(load: Workload) -> None:
    """Whatever a service is deprived of, it is the host's; but for a pid namespace of its own."""
    for label, properties in SERVICES.items():
        words = [f"/bin/true {load.word(f'service.{label}', n)}" for n in range(3)]
        more = [word for one in properties for word in ("-p", one)]
        run(*SERVICE, *more, "--", "/bin/sh", "-c", "; ".join([*words, ":"]))
        load.host(f"service.{label}", 3)
    run("systemd-run", "--scope", "--quiet", "--collect", "--", "/bin/true", load.word("service.scope", 0))
    run(*SESSION, "/bin/true", load.word("service.session", 0))
    load.host("service.scope")
    load.host("service.session")
    word = load.word("service.pids", 0)
    run(*SERVICE, "-p", "PrivatePIDs=yes", "--", "/bin/sh", "-c", f"/bin/true {word}; :")
    load.of("service.pids", "", 1, "some")


def machine(name: str, init: str = "") -> Path:
    """A root for systemd-nspawn."""
    top = MACHINES / name
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add_root(archive)
        for path in ("etc/os-release", "usr/lib/os-release"):
            add_file(archive, path, b"ID=auditns-test\n")
        if init:
            add_file(archive, "sbin/init", f"#!/bin/sh\n{init}\n".encode(), 0o755)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        archive.extractall(top, filter="fully_trusted")
    return top


def nspawn(load: Workload) -> None:
    """systemd-nspawn from a shell, and as the unit that machinectl starts."""
    box, unit = f"{load.name}-box", f"{load.name}-unit"
    command = ["systemd-nspawn", "--quiet", "-D", str(machine(box)), "-M", box, "--console=pipe", "/bin/loop"]
    said = MACHINES / f"{box}.said"
    with said.open("wb") as out:
        words = [*command, load.word("nspawn.box"), "4", "3600"]
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    machine(unit, f"/bin/loop {load.word('nspawn.unit')} 4\nexec /bin/sleep 3600")
    run("systemctl", "start", f"systemd-nspawn@{unit}.service")
    for label, name in (("nspawn.box", box), ("nspawn.unit", unit)):
        show = ["machinectl", "show", name, "-p", "Leader", "--value"]
        try:
            until(lambda show=show: run(*show, check=False).isdigit(), f"{name} is there")
        except TimeoutError as error:
            raise RuntimeError(f"{error}: {said.read_text()} {run('machinectl', 'list')}") from error
        leader = run(*show)
        load.place(label, name, leader)
        load.of(label, name, 4, "nspawn")
        run("nsenter", "-t", leader, "-a", "/bin/true", load.word(f"{label}.nsenter", 0))
        load.of(f"{label}.nsenter", name, 1, "nspawn")


@contextlib.contextmanager
def kubelet(systemd: bool = True) -> Iterator[Kubelet]:
    """The CRI of the system's containerd with that driver."""
    config = CRI.format(pause=PAUSE, systemd=str(systemd).lower())
    path = Path("/etc/containerd/config.toml")
    if path.read_text() != config:
        path.write_text(config)
        run("systemctl", "restart", "containerd")
    run("ctr", "-n", "k8s.io", "image", "import", IMAGES)
    with Kubelet(CONTAINERD.removeprefix("unix://"), "/var/log/pods", systemd=systemd) as asked:
        yield asked


def pods(load: Workload) -> None:
    """Pods of a kubelet whose driver is systemd's."""
    with kubelet() as asked:
        for label, options in (
            ("web", {}), ("db", {"qos": "burstable"}), ("exact", {"qos": "guaranteed"}), ("agent", {"host": True}),
            ("kube", {"qos": "burstable", "static": True, "host": True}), ("shared", {"shared_pid": True}),
            ("driver", {"privileged": True}),
        ):  # fmt: skip
            pod = asked.pod(f"{load.name}-{label}", **options)
            ident = asked.start(pod, label, ["/bin/loop", load.word(f"pods.{label}"), "4", "3600"])
            load.of(f"pods.{label}", ident, 4)
            for number in range(2):
                asked.exec(ident, ["/bin/true", load.word(f"pods.{label}.exec", number)])
            load.of(f"pods.{label}.exec", ident, 2)
            (pid,) = _tasks(ident)
            load.place(f"pods.{label}", ident, pid)
        load.look()


def _tasks(ident: str) -> list[str]:
    lines = [line.split() for line in run("ctr", "-n", "k8s.io", "task", "ls").splitlines()]
    return [words[1] for words in lines if words[0] == ident]


def again(load: Workload) -> None:
    """What has started before our program has."""
    if load.name == "listener":
        run("systemctl", "restart", "auditns")
    else:
        run("systemctl", "kill", "-s", "HUP", "auditd")
    for label, engine in (("docker.plain", ["docker"]), ("podman.plain", ["podman"])):
        ident, _ = load.places[label]
        run(*engine, "exec", ident, "/bin/true", load.word(f"{label}.again", 0))
        load.of(f"{label}.again", ident, 1)


def cgroupfs(load: Workload) -> None:
    """The same containers with the other driver are called the same."""
    Path("/etc/docker/daemon.json").write_text(json.dumps({**DOCKER, "exec-opts": ["native.cgroupdriver=cgroupfs"]}))
    run("systemctl", "restart", "docker")
    for kind, command in (("docker", ["docker"]), ("podman", ["podman", "--cgroup-manager=cgroupfs"])):
        engine = Engine(load, kind, *command)
        engine.exec("cgroupfs", engine.run("cgroupfs"))
    with kubelet(systemd=False) as asked:
        pod = asked.pod(f"{load.name}-cgroupfs")
        ident = asked.start(pod, "cgroupfs", ["/bin/loop", load.word("pods.cgroupfs"), "4", "3600"])
        load.of("pods.cgroupfs", ident, 4)
        load.place("pods.cgroupfs", ident, _tasks(ident)[0])
        load.look()


def clean(load: Workload) -> None:
    """End what is still there."""
    for kind, command in (("docker", ["docker"]), ("podman", ["podman"]), ("rootless", [*SESSION, "podman"])):
        Engine(load, kind, *command).remove_all()
    for name in run("machinectl", "list", "--no-legend").split("\n"):
        if name:
            run("machinectl", "terminate", name.split()[0])


def work(load: Workload, steps: Sequence[Callable[[Workload], None]]) -> None:
    """All steps, or those that are wanted alone, and wait for what is written of them."""
    wanted = wanted_steps()
    for step in steps:
        if not wanted or step.__name__ in (*wanted, "look"):
            load.attempt(step)
    run("/bin/true", load.word("last", 0))
    load.host("last")
    log = Path(LOGS[load.name])
    truth = truth_of(load.name, load.truth)
    with contextlib.suppress(TimeoutError):
        until(lambda: truth.complete(by_name(log.read_bytes())), "every exec", 60)
    load.attempt(clean)


def wanted_steps() -> list[str]:
    """The steps that are to be done; none: all."""
    return Path("steps").read_text().replace(",", " ").split()


def service() -> dict[str, str]:
    """auditns.service as systemd sees it."""
    shown = run("systemctl", "show", "auditns").splitlines()
    return dict(line.partition("=")[::2] for line in shown)


def status() -> dict[str, Any]:
    """What our program says of itself, to people and to programs."""
    return {"text": run("auditns", "status"), "counters": json.loads(run("auditns", "status", "--json"))}


def under_systemd(found: dict[str, Any]) -> None:
    """The package's service."""
    load = Workload("listener")
    run("systemctl", "enable", "--now", "auditns")
    found["started"] = service()
    work(load, [docker, podman, quadlet, rootless, services, nspawn, Workload.look, pods, again, cgroupfs])
    found |= {"ended": service(), "status": status(), **vars(load)}
    run("systemctl", "disable", "--now", "auditns")
    found["stopped"] = service()
    Path("/etc/docker/daemon.json").write_text(json.dumps(DOCKER))
    run("systemctl", "restart", "docker")


def under_auditd(found: dict[str, Any]) -> None:
    """The package's plugin."""
    load = Workload("plugin")
    conf = Path("/etc/audit/plugins.d/auditns.conf")
    conf.write_text(conf.read_text().replace("active = no", "active = yes"))
    rule = "-b 8192\n-a always,exit -F arch=b64 -S execve -S execveat -F key=auditns\n"
    Path("/etc/audit/rules.d/auditns.rules").write_text(rule)
    run("systemctl", "start", "auditd")
    run("augenrules", "--load")
    until(lambda: os.path.exists("/run/auditns/control") and run("auditns", "status", check=False), "the plugin")
    work(load, [docker, podman, quadlet, rootless, services, nspawn, Workload.look, pods, again])
    found |= {"auditd": run("systemctl", "status", "auditd", check=False), "status": status(), **vars(load)}


def set_up() -> None:
    """What an administrator does first."""
    Path("/etc/docker").mkdir(exist_ok=True)
    Path("/etc/docker/daemon.json").write_text(json.dumps(DOCKER))
    Path("/etc/cni/net.d").mkdir(parents=True, exist_ok=True)
    Path("/etc/cni/net.d/10-auditns.conflist").write_text(json.dumps(NETWORK))
    save(IMAGES, {BUSY: {"Env": ["PATH=/bin"]}, PAUSE: {"Entrypoint": ["/bin/sleep", "100000"]}})
    IMAGES.chmod(0o644)
    run("systemctl", "restart", "docker")
    run("loginctl", "enable-linger", "us")
    until(lambda: os.path.exists(f"/run/user/{USER}/bus"), "the user's manager")
    for engine in (["docker"], ["podman"], [*SESSION, "podman"]):
        run(*engine, "load", "-i", IMAGES)
    run("dpkg", "--install", *Path.cwd().glob("*.deb"))


def main() -> None:
    """All, and the archive for the host."""
    found: dict[str, Any] = {"failed": "", "steps": wanted_steps(), "listener": {}, "plugin": {}}
    try:
        set_up()
        under_systemd(found["listener"])
        under_auditd(found["plugin"])
    except Exception:
        found["failed"] = traceback.format_exc()
        print(found["failed"], flush=True)
    with OUT.open("wb") as disk, tarfile.open(fileobj=disk, mode="w|") as archive:
        add_file(archive, "found.json", json.dumps(found).encode())
        add_file(archive, "journal", run("journalctl", "-b", "-o", "short-monotonic", check=False).encode())
        for name, path in LOGS.items():
            log = Path(path)
            add_file(archive, name, log.read_bytes() if log.exists() else b"")
    print("@@DONE", flush=True)


if __name__ == "__main__":
    main()
