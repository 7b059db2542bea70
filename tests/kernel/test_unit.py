"""auditns.service under a real systemd: it starts where nothing of ours was before, says so, and leaves a log."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel import cgroupfs
from tests.kernel.support import need, need_tool

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
        done = subprocess.run(cgroupfs.command_in(cgroup, boot), capture_output=True, text=True, timeout=120)
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
