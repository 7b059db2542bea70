"""A host of Debian with systemd and cgroup v2 as a guest under QEMU: its disk, its kernel, one boot.

The disk holds Debian's packages alone; the tests and our package come on a second one, what was found goes back on a
third. ``python -m tests.kernel.systemd_host FOLDER`` makes disk and kernel once, for runs with AUDITNS_SYSTEMD_HOST =
FOLDER. KVM is used where it works, else software emulation, which takes ten times as long. AUDITNS_SYSTEMD_STEPS =
rootless,nspawn does these parts of the work alone, which shortens the wait for who mends one of them.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.kernel.images import add_file
from tests.kernel.support import need_root, need_tool

VARIABLE: Final = "AUDITNS_SYSTEMD_HOST"
STEPS: Final = "AUDITNS_SYSTEMD_STEPS"
RELEASE: Final = "trixie"
PACKAGES: Final = (
    "linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "systemd-container", "dbus", "dbus-user-session",
    "libpam-systemd", "udev", "kmod", "apparmor", "auditd", "iptables", "docker.io", "docker-cli", "docker-buildx",
    "containerd", "containernetworking-plugins", "runc", "crun", "podman", "catatonit", "uidmap", "passt",
    "busybox-static", "python3", "python3-cffi-backend", "python3-structlog", "python3-pyroute2", "python3-pytest",
    "python3-grpcio",
)  # fmt: skip
#: in the root, after the packages. What listens to audit is started by the tests; the rest starts by itself
_CUSTOMIZE: Final = """set -e
useradd --create-home --shell /bin/bash us
systemctl disable auditd.service audit-rules.service 2>/dev/null || systemctl disable auditd.service
systemctl mask serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service
echo /dev/vda / ext4 defaults 0 0 >/etc/fstab
echo host >/etc/hostname
: >/etc/machine-id
"""
_UNIT: Final = """[Unit]
Description=What the host wants to know
After=multi-user.target docker.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
StandardOutput=journal+console
StandardError=inherit
ExecStart=/bin/sh -c 'mkdir /root/tests && tar -xf /dev/vdc -C /root/tests && cd /root/tests \
&& PYTHONPATH=.:/root/tests/package exec python3 -B -m tests.kernel.guest_systemd'
"""
#: seconds: what a boot and all that is done in it may take under emulation on a busy machine
_PATIENCE: Final = 3000.0
#: a host that is a guest itself may refuse to set what a CPU says of its own weaknesses
_CPU: Final = "max,arch-capabilities=off"
_EMULATED: Final = "tcg,thread=multi"
#: how often a boot is tried that ends before its first process
_BOOTS: Final = 3
_BEGUN: Final = "auditns: "
_DISK: Final = "8G"
_RESULTS: Final = 1 << 29


class Host(NamedTuple):
    """Files of a host that has not been booted."""

    disk: Path
    kernel: Path
    initrd: Path


def build(folder: Path) -> Host:
    """Make the host's files in ``folder``."""
    need_root()
    need_tool("mmdebstrap", "mke2fs")
    root = folder / "root"
    unit = folder / "truth.service"
    unit.write_text(_UNIT)
    script = folder / "customize"
    script.write_text(_CUSTOMIZE)
    hooks = (f"copy-in {unit} /etc/systemd/system", f"copy-in {script} /root", 'chroot "$1" sh /root/customize')
    _checked(
        "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", f"--include={','.join(PACKAGES)}",
        *(f"--customize-hook={hook}" for hook in hooks), RELEASE, str(root),
    )  # fmt: skip
    found = Host(folder / "disk", folder / "kernel", folder / "initrd")
    for name, target in (("vmlinuz", found.kernel), ("initrd.img", found.initrd)):
        (path,) = root.glob(f"boot/{name}-*")
        shutil.copy(path, target)
    _checked("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(found.disk), _DISK)
    shutil.rmtree(root)
    return found


def made(folder: Path) -> Host:
    """The host's files: those of an earlier run where VARIABLE names its folder, else made in ``folder``."""
    named = os.environ.get(VARIABLE)
    if named:
        return Host(*(Path(named, name) for name in ("disk", "kernel", "initrd")))
    return build(folder)


def boot(host: Host, package: Path, folder: Path) -> Mapping[str, Any]:
    """Run it to its end with the deb ``package``; what it has found, and its console as "console"."""
    need_tool("qemu-system-x86_64")
    disks = folder / "results", folder / "tests"
    with disks[0].open("wb") as results:
        results.truncate(_RESULTS)
    _write_tests(disks[1], package)
    console = folder / "console"
    line = (
        "root=/dev/vda rw console=ttyS0 panic=-1 quiet loglevel=3 audit=1 mitigations=off no_timer_check "
        "systemd.wants=truth.service systemd.show_status=no"
    )
    drives = [
        word for path, more in ((host.disk, "snapshot=on"), (disks[0], "cache=unsafe"), (disks[1], "readonly=on"))
        for word in ("-drive", f"file={path},format=raw,if=virtio,{more}")
    ]  # fmt: skip
    command = [
        "qemu-system-x86_64", "-M", "pc", "-accel", accelerator(host.kernel), "-cpu", _CPU, "-smp", "2",
        "-m", "3072", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", str(host.kernel),
        "-initrd", str(host.initrd), *drives, "-serial", f"file:{console}", "-append", line,
    ]  # fmt: skip
    for _ in range(_BOOTS):
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE)
            said = done.stderr[-2000:]
        except subprocess.TimeoutExpired:
            said = "it did not end"
        told = console.read_text(errors="replace")
        # two emulated CPUs, one of which runs what the other one writes: now and then the kernel finds a half written
        # instruction (int3 in sched_clock_cpu, static keys). That is before any process is there
        if "Kernel panic" not in told or _BEGUN in told:
            break
    assert "@@DONE" in told, told[-8000:] + said
    with tarfile.open(disks[0], "r|") as archive:
        files = {member.name: (archive.extractfile(member) or sys.stdin.buffer).read() for member in archive}
    found: dict[str, Any] = json.loads(files.pop("found.json"))
    for name, text in files.items():
        found[f"{name} text"] = text
    return {**found, "console": told}


def accelerator(kernel: Path) -> str:
    """KVM where a kernel begins under it: a host that is a guest itself may have the device and not what it takes."""
    command = [
        "qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-cpu", _CPU, "-m", "256", "-nodefaults", "-no-user-config",
        "-display", "none", "-no-reboot", "-kernel", str(kernel), "-append",
        "console=ttyS0 panic=-1", "-serial", "stdio",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return _EMULATED
    return "kvm" if b"Linux version" in done.stdout else _EMULATED


def _write_tests(path: Path, package: Path) -> None:
    """The disk with the tests, the package itself, and what of it the tests need before it is installed."""
    top = Path(__file__).parents[2]
    with tarfile.open(path, "w") as archive:
        for name in ("tests/__init__.py", "tests/kernel"):
            archive.add(top / name, name, filter=_source)
        archive.add(package, package.name)
        add_file(archive, "steps", os.environ.get(STEPS, "").encode())
        unpacked = path.with_name("unpacked")
        _checked("dpkg-deb", "--extract", str(package), str(unpacked))
        archive.add(unpacked / "usr/lib/auditns/auditns_connector", "package/auditns_connector")
        shutil.rmtree(unpacked)


def _source(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith(("__pycache__", ".pyc")) else member


def _checked(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    print(build(place))
