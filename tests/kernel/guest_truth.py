"""What runs inside the guest of test_kernels.py: the listener, and programs that say in an argument where they are.

Only the standard library and the package itself are there. Each program is /usr/bin/true with a word; the findings go
to the console.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

TRUE = "/usr/bin/true"
AUDITNS = [sys.executable, "-m", "auditns_connector.cli.main"]
CONTROL = "/run/control"
OUT = "/tmp/out"
TIMES = 5


def tell(**found: object) -> None:
    """One line for the host to read."""
    print("@@" + json.dumps(found), flush=True)


def content(path: str) -> str:
    """All of a file."""
    with open(path, errors="replace") as file:
        return file.read()


def auditns(*words: str) -> subprocess.CompletedProcess[str]:
    """One command of ours, asking the listener."""
    return subprocess.run([*AUDITNS, *words, "--control", CONTROL], capture_output=True, text=True, timeout=120)


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
        tell(run="listen", status=process.wait(60), said=content(OUT + ".err"))


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


def workload() -> None:
    """One of each kind; what became of what is not an event is told at once."""
    act("host")
    act("sandbox", "/usr/bin/unshare", "-fp")
    act("user", "/usr/bin/unshare", "-U")
    os.mkdir("/suid")
    shutil.copy("/bin/busybox", "/suid/sh")
    os.chmod("/suid/sh", 0o4755)
    for _ in range(TIMES):
        as_user("/suid/sh", "-c", f"{TRUE} setuid; {TRUE} setuid")
        inside = ["/usr/bin/unshare", "-fp", "-S", "1000", "-G", "1000", "/suid/sh", "-c", f"{TRUE} setuid-inside; :"]
        subprocess.run(inside, check=True)
    held = subprocess.Popen(["/usr/bin/unshare", "-fp", "sleep", "100"])
    while not (inner := children(held.pid)):
        time.sleep(0.05)
    set_ = auditns("contid", "set", inner[0], "4711")
    got = auditns("contid", "get", inner[0])
    act("registered", "/usr/bin/nsenter", "-t", inner[0], "-p")
    tree, ns = auditns("tree", "--json"), auditns("ns", inner[0], "--json")
    tell(run="asked", set=[set_.returncode, set_.stderr], get=got.stdout, tree=tree.stdout, ns=ns.stdout)
    made = auditns("stream", "create", "web", "--contid", "4711")
    listed = auditns("stream", "list")
    tell(run="stream", made=[made.returncode, made.stderr], list=listed.stdout)
    held.kill()
    held.wait()
    act("last")


tell(run="kernel", release=os.uname().release)
os.chmod("/run", 0o755)
os.makedirs("/run/auditns", exist_ok=True)
with listening():
    workload()
with open(OUT) as lines:
    for line in lines:
        tell(run="line", text=line)
