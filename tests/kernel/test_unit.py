"""auditns.service under a real systemd: it starts where nothing of ours was before, says so, and leaves a log; and what
it takes away from the listener is nothing that the listener uses."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector import api
from auditns_connector.control.server import ask
from tests.kernel import cgroupfs
from tests.kernel.programs import Task, auditns, by_name, contids, event_of, events, ours, until
from tests.kernel.support import AuditState, need, need_tool

pytestmark = pytest.mark.kernel

UNIT = Path(__file__).parents[2] / "audisp/auditns.service"
#: in the place of the listener, which would refuse to run in a pid namespace
PROGRAM = f"""#!{os.path.realpath(sys.executable)}
import os, signal, socket, sys
with open(sys.argv[-1], "a") as log:
    print("listening:", *sys.argv[1:], file=log)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"""
TARGET = "[Unit]\nRequires=basic.target try.service\nAfter=basic.target\nAllowIsolate=yes\n"
TRY = """[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
StandardOutput=file:/told
StandardError=inherit
ExecStart=sh -c 'systemctl start auditns; echo "start $?"; systemctl is-active auditns; \
stat -c "%%a %%n" /var/log/auditns /var/log/auditns/listen.log /run/auditns; cat /var/log/auditns/listen.log; \
systemctl poweroff --force --force >/dev/null 2>&1'
"""
#: this host's files, written to in memory alone, in a mount namespace of its own
BOOT = """set -e
mount --make-rprivate /; mount -t tmpfs none "$1"; mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
rm -rf "$1"/root/etc/systemd/system/*.wants "$1/root/var/log/auditns"
cp -r "$2"/. "$1/root"
systemd-nspawn -q --register=no --keep-unit -D "$1/root" --boot systemd.unit=try.target >"$3" 2>&1 </dev/null || true
cat "$1/root/told"
"""


def test_the_service_starts_on_a_fresh_host(root: None, tmp_path: Path, token: str) -> None:
    need_tool("systemd-nspawn", "unshare")
    need(Path("/lib/systemd/systemd").exists(), "systemd")
    files, booted = tmp_path / "files", tmp_path / "booted"
    units = files / "etc/systemd/system"
    units.mkdir(parents=True)
    # nspawn's guest has the host's kernel command line, but no audit
    unit = "".join(
        line for line in UNIT.read_text().splitlines(keepends=True) if "ConditionKernelCommandLine" not in line
    )
    (units / "auditns.service").write_text(unit)
    (units / "try.service").write_text(TRY)
    (units / "try.target").write_text(TARGET)
    program = files / "usr/local/sbin/auditns"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    cgroup = f"/auditns-{token}-unit"  # nspawn would use those of the host's root, and leave them behind
    boot = [shutil.which("unshare") or "", "-m", "sh", "-c", BOOT, "sh", str(place), str(files), str(booted)]
    try:
        done = subprocess.run(cgroupfs.command_in(cgroup, boot), capture_output=True, text=True, timeout=600)
    finally:
        cgroupfs.remove_new(cgroup, [])
    assert done.returncode == 0, done.stderr + booted.read_text(errors="replace")
    assert done.stdout.splitlines() == [
        "start 0",
        "active",
        "750 /var/log/auditns",
        "640 /var/log/auditns/listen.log",
        "755 /run/auditns",
        "listening: listen --rules --format raw --quiet --output /var/log/auditns/listen.log",
    ]


#: a service manager as root's own, in a mount and a cgroup namespace, with this host's processes: a guest of its own
#: would have a pid namespace, in which the listener refuses to run. Its directories are those that the unit names.
MANAGER = """set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none "$1"; mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=/var,upperdir=$1/upper,workdir=$1/work" /var
[ -e /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing
mount -t tmpfs none /run; mkdir -p /run/systemd/system /var/systemd/user/auditns.service.d /var/lib/auditns
rm -rf /var/log/auditns; mkdir -p /var/log; chmod 700 /run
cp "$2" /var/systemd/user/auditns.service; cp "$3" /var/systemd/user/auditns.service.d/here.conf
exec /lib/systemd/systemd --user --unit=auditns.service --log-target=console --log-level=notice
"""
#: where the program is here; what older versions of systemd put elsewhere for a user's manager
HERE = """[Service]
Environment="PATH={path}" "PYTHONPATH={root}"
ReadWritePaths=/var/lib/auditns
StandardError=append:/var/told
"""


class Manager:
    """auditns.service under a service manager of its own, with all that the unit takes away."""

    def __init__(self, top: Path, token: str) -> None:
        self._top, self._cgroup = top, f"/auditns-{token}-manager"
        program = top / "bin/auditns"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m auditns_connector.cli.main "$@"\n')
        program.chmod(0o755)
        self._path = f"{program.parent}:{os.environ['PATH']}"

    @contextlib.contextmanager
    def serving(self) -> Iterator["Manager"]:
        """In the block the service is active."""
        # /tmp is another one for the service: the program must not lie there
        programs = Path("/usr/local/lib") / f"auditns-{self._top.name}"
        shutil.copytree(self._top / "bin", programs)
        here = self._top / "here.conf"
        here.write_text(HERE.format(path=self._path.replace(str(self._top / "bin"), str(programs)),
                                    root=Path(__file__).parents[2]))  # fmt: skip
        place = self._top / "place"
        place.mkdir()
        command = ["unshare", "-m", "-C", "sh", "-c", MANAGER, "sh", str(place), str(UNIT), str(here)]
        environ = {**os.environ, "XDG_RUNTIME_DIR": "/run", "XDG_CONFIG_HOME": "/var", "XDG_STATE_HOME": "/var/lib"}
        with (self._top / "manager").open("wb") as told:
            self.process = subprocess.Popen(
                cgroupfs.command_in(self._cgroup, command), stdin=subprocess.DEVNULL, stdout=told, stderr=told,
                env=environ, start_new_session=True,
            )  # fmt: skip
        try:
            until(self.active, "the service is active", 120)
            yield self
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.systemctl("stop", "auditns")
            self._end()
            shutil.rmtree(programs)

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        for folder in cgroupfs.folders(self._cgroup):
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        cgroupfs.remove_new(self._cgroup, [])

    def systemctl(self, *args: str) -> str:
        """What it answers."""
        inside = ["nsenter", "-t", str(self.process.pid), "-m", "systemctl", "--user", *args]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=120,
                              env={**os.environ, "XDG_RUNTIME_DIR": "/run"})  # fmt: skip
        return done.stdout or done.stderr

    def active(self) -> bool:
        assert self.process.poll() is None, self.told
        state = self.systemctl("is-active", "auditns").strip()
        assert state != "failed", self.systemctl("status", "auditns") + self.told
        return state == "active"

    @property
    def told(self) -> str:
        """What the manager and the service have said."""
        said = self.path("/var/told")
        return (self._top / "manager").read_text() + (said.read_text() if said.exists() else "")

    @property
    def pid(self) -> int:
        return int(self.systemctl("show", "-p", "MainPID", "--value", "auditns"))

    def path(self, name: str) -> Path:
        """A file that the service has, as it is found from here."""
        return Path(f"/proc/{self.process.pid}/root{name}")

    @property
    def log(self) -> bytes:
        return by_name(self.path("/var/log/auditns/listen.log").read_bytes())


def service(path: Path, token: str) -> Manager:
    """The unit, where this host has what it takes to run it."""
    need_tool("unshare", "nsenter", "systemctl", "auditctl")
    need(Path("/lib/systemd/systemd").exists(), "systemd")
    need(any(kind == "cgroup2" for _, kind, _ in cgroupfs.hierarchies()), "cgroup v2")
    return Manager(path, token)


def test_the_listener_works_under_all_that_the_unit_takes_away(quiet: AuditState, tmp_path: Path, token: str) -> None:
    """The filter of system calls, the capabilities, the file systems: rules, events, containers, identifiers, a log
    that is moved, a HUP, a stop."""
    sandbox = [shutil.which("unshare") or "", "--pid", "--fork", "/bin/true"]

    def told(word: str) -> list[str]:
        return contids(event_of(manager.log, f'a0="/bin/true" a1="{word}"'))

    with service(tmp_path, token).serving() as manager:
        status = Path(f"/proc/{manager.pid}/status").read_text()
        assert re.search(r"^Seccomp:\t2$", status, re.M)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
        assert os.getpriority(os.PRIO_PROCESS, manager.pid) <= -10
        for word in (f"one-{token}", f"two-{token}"):
            until(lambda: subprocess.run([*sandbox, word], check=True) and told(word), "a container is told")  # noqa: B023
        control = str(manager.path("/run/auditns/control"))
        counters = ask(control, {"v": 1, "op": "status"})["status"]
        assert counters["sources"]["perf"]
        assert counters["ns_source"] in ("perf", "nm")
        with subprocess.Popen(["sh", "-c", f"read go; exec /bin/true three-{token}"], stdin=subprocess.PIPE) as child:
            assert auditns("contid", "set", str(child.pid), "4711", "--control", control).stdout == b"4711\n"
            child.communicate(b"\n")
        until(lambda: told(f"three-{token}") == ["4711"], "the identifier is told")
        assert auditns("ns", "--json", "--control", control).returncode == 0
        assert auditns("tree", "--control", control).returncode == 0
        log = manager.path("/var/log/auditns/listen.log")
        log.rename(log.with_name("moved"))
        manager.systemctl("kill", "-s", "HUP", "auditns")
        until(log.exists, "the log is opened again")
        until(lambda: subprocess.run([*sandbox, f"four-{token}"], check=True) and told(f"four-{token}"), "it goes on")
        assert not [line for line in manager.log.splitlines() if ours(line) and b"CONTAINER_LOST" in line]
        assert "not permitted" not in manager.told, manager.told
        assert json.loads(json.dumps(counters))["privileges"]["no_new_privs"]
        manager.systemctl("stop", "auditns")
        assert AuditState.read().rules == quiet.rules, manager.systemctl("status", "auditns") + manager.told


def test_whose_a_packet_of_loopback_is(quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str) -> None:
    """The evidence that no other namespace can have logged it is had without a socket of IPv4, which the unit forbids,
    and without /proc/kallsyms, which it hides."""
    need_tool("busybox", "ip", "iptables")
    rule = ["INPUT", "-i", "lo", "-p", "icmp", "--icmp-type", "echo-request", "-j", "AUDIT", "--type", "accept"]
    with service(tmp_path, token).serving() as manager:
        control = str(manager.path("/run/auditns/control"))
        tasks += [Task(), Task(), Task("unshare", "-n")]
        for number, task in enumerate(tasks, 123451):
            api.set_contid(task.pid, number, control=control)
        assert tasks[2].run("ip link set lo up 2>&1") == ""
        subprocess.run(["iptables", "-w", "-I", *rule], check=True)

        def both() -> bool:
            subprocess.run(["busybox", "ping", "-c", "1", "127.0.0.1"], stdout=subprocess.DEVNULL, check=False)
            told = [contids(lines) for lines in events(manager.log).values() if b" daddr=127.0.0.1 " in lines[0]]
            listed = [set(",".join(ids).split(",")) for ids in told]
            return any({"123451", "123452"} <= ids and "123453" not in ids for ids in listed)

        try:
            until(both, "both containers")
        finally:
            subprocess.run(["iptables", "-w", "-D", *rule], check=True)
