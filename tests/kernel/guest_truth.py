"""What runs inside the guest of test_kernels.py: the listener, and programs that say in an argument where they are.

Only the standard library and the package itself are there. Each program is /usr/bin/true with a word; the findings go
to the console. All that is written is below /run and /tmp.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

from tests.kernel.guest_words import AUDITNS, CONTROL, OUT, TRUE, auditns, content, tell

BUSYBOX = shutil.which("busybox") or ""
TIMES = 5
#: where no event tells of moves between cgroups, /proc is asked what a program's process is in
LATER = "sleep 0.5"
SUID = "/run/suid"
BUNDLE = "/run/bundle"
#: by crun, which refuses cgroups of both versions at once: the second one is hidden from it
CRUN = ("/usr/bin/unshare", "-m", "/bin/sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"', "crun")
#: the identifiers of its containers, as Docker makes them
IDS = [f"{number:x}" + "0123456789abcdef" * 3 + "0123456789abcde" for number in range(1, TIMES + 1)]


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """``auditns listen`` during the block."""
    command = [*AUDITNS, "listen", "--rules", "--format", "raw", "--record-names", "symbolic", "--control", CONTROL]
    with open(OUT, "wb") as out, open(OUT + ".err", "wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:
        for _ in range(600):
            if os.path.exists(CONTROL) and auditns("status").returncode == 0:
                break
            time.sleep(0.1)
        yield
        for _ in range(600):
            if 'a1="last"' in content(OUT):
                break
            time.sleep(0.1)
    finally:
        process.terminate()
        tell(run="listen", status=process.wait(180), said=content(OUT + ".err"))


def children(pid: int) -> list[str]:
    """The processes whose parent is ``pid``; not every kernel tells them itself."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if int(content(f"/proc/{name}/stat").rpartition(")")[2].split()[1]) == pid:
                found.append(name)
    return found


def act(word: str, *prefix: str) -> None:
    """``true`` with ``word``, by ``prefix``, some times."""
    for _ in range(TIMES):
        subprocess.run([*prefix, TRUE, word], check=True)


def as_user(program: str, *words: str) -> None:
    """Exec by an ordinary user."""
    subprocess.run([program, *words], check=True, user=1000, group=1000, extra_groups=[])


def bundle() -> None:
    """A container's root file system, of busybox alone."""
    for folder in ("usr/bin", "proc", "sys", "dev", "etc", "run", "tmp"):
        os.makedirs(f"{BUNDLE}/root/{folder}")
    os.mkdir(f"{BUNDLE}/root/bin")
    for name in ("usr/bin/true", "bin/sh", "bin/sleep"):
        shutil.copy(BUSYBOX, f"{BUNDLE}/root/{name}")


def container(number: int) -> None:
    """One container, from its beginning to its end."""
    kinds, script = ("pid", "network", "ipc", "uts", "mount"), f"{TRUE} container-short; {LATER}; {TRUE} container; :"
    config = {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", script], "cwd": "/"},
        "root": {"path": "root"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"cgroupsPath": f"/docker/{IDS[number]}", "namespaces": [{"type": kind} for kind in kinds]},
    }
    with open(f"{BUNDLE}/config.json", "w") as file:
        json.dump(config, file)
    options = ["--cgroup-manager", "cgroupfs", "--root", "/run/crun", "run", "--no-pivot", "--bundle", BUNDLE]
    subprocess.run([*CRUN, *options, f"c{number}"], check=True, stdin=subprocess.DEVNULL)


def workload() -> None:
    """One of each kind; what became of what is not an event is told at once."""
    act("host")
    act("sandbox-short", "/usr/bin/unshare", "-fp")
    for _ in range(TIMES):
        subprocess.run(["/usr/bin/unshare", "-fp", "sh", "-c", f"{LATER}; {TRUE} sandbox; :"], check=True)
    act("user", "/usr/bin/unshare", "-U")
    bundle()
    for number in range(TIMES):
        container(number)
    os.mkdir(SUID)
    shutil.copy(BUSYBOX, f"{SUID}/sh")
    os.chmod(f"{SUID}/sh", 0o4755)
    for _ in range(TIMES):
        as_user(f"{SUID}/sh", "-c", f"{TRUE} setuid; {TRUE} setuid")
        inside = [
            "/usr/bin/unshare",
            "-fp",
            "-S",
            "1000",
            "-G",
            "1000",
            f"{SUID}/sh",
            "-c",
            f"{LATER}; {TRUE} setuid-inside; :",
        ]
        subprocess.run(inside, check=True)
    held = subprocess.Popen(["/usr/bin/unshare", "-fp", "sleep", "100"])
    while not (inner := children(held.pid)):
        time.sleep(0.05)
    set_ = auditns("contid", "set", inner[0], "4711")
    got = auditns("contid", "get", inner[0])
    for _ in range(TIMES):
        enter = ["/usr/bin/nsenter", "-t", inner[0], "-p", "sh", "-c", f"{LATER}; {TRUE} registered; :"]
        subprocess.run(enter, check=True)
    tree, ns = auditns("tree", "--json"), auditns("ns", inner[0], "--json")
    tell(run="asked", set=[set_.returncode, set_.stderr], get=got.stdout, tree=tree.stdout, ns=ns.stdout)
    made = auditns("stream", "create", "web", "--contid", "4711")
    listed = auditns("stream", "list")
    tell(run="stream", made=[made.returncode, made.stderr], list=listed.stdout)
    held.kill()
    held.wait()
    act("last")


if __name__ == "__main__":
    tell(run="kernel", release=os.uname().release)
    os.chmod("/run", 0o755)
    os.makedirs("/run/auditns", exist_ok=True)
    with listening():
        workload()
    with open(OUT) as lines:
        for line in lines:
            tell(run="line", text=line)
